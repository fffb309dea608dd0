"""Layers: configuration, parameters and saved context around the pure functions; one file a family."""

from .containers import ModuleList, Parallel, Residual, Sequential
from .module import Module, Parameter
from .shape import Flatten, Identity

__all__ = [
    "Flatten",
    "Identity",
    "Module",
    "ModuleList",
    "Parallel",
    "Parameter",
    "Residual",
    "Sequential",
]
