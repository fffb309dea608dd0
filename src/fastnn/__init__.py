"""fastnn: neural-network layers over NumPy arrays, forward and backward, at the speed of the hardware."""

from . import functional, init, io
from ._version import __version__
from .init import manual_seed
from .io import load, save
from .layers import Flatten, Identity, Module, ModuleList, Parallel, Parameter, Residual, Sequential

__all__ = [
    "Flatten",
    "Identity",
    "Module",
    "ModuleList",
    "Parallel",
    "Parameter",
    "Residual",
    "Sequential",
    "__version__",
    "functional",
    "init",
    "io",
    "load",
    "manual_seed",
    "save",
]
