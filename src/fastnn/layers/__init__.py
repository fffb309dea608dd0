"""Layers: configuration, parameters and saved context around the pure functions; one file a family."""

from .module import Module, Parameter

__all__ = [
    "Module",
    "Parameter",
]
