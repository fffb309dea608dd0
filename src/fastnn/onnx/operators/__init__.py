"""Operators of ONNX, one file a family; importing them fills the table."""

from . import activation, conv, elementwise, linear, norm, pooling, shape
from .registry import NEWEST, OLDEST, OPERATORS, Call, Operator, find

__all__ = ["NEWEST", "OLDEST", "OPERATORS", "Call", "Operator", "find"]
