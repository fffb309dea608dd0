"""fastnn: neural-network layers over NumPy arrays, forward and backward, at the speed of the hardware."""

from ._version import __version__
from .layers import Module, Parameter

__all__ = [
    "Module",
    "Parameter",
    "__version__",
]
