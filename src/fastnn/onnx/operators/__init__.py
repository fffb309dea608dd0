"""Operators of ONNX, one file a family; importing them fills the table."""

from . import (
    activation,
    control,
    conv,
    detection,
    elementwise,
    index,
    linear,
    norm,
    pooling,
    recurrent,
    reduce,
    resize,
    shape,
)
from .registry import NEWEST, OLDEST, OPERATORS, Call, Operator, find

__all__ = ["NEWEST", "OLDEST", "OPERATORS", "Call", "Operator", "find"]
