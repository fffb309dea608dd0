"""fastnn: neural-network layers over NumPy arrays, forward and backward, at the speed of the hardware."""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from . import functional, init, io
from ._config import empty_cache, num_threads, show_config
from ._kernels.runtime import get_num_threads, set_num_threads
from ._version import __version__
from .init import manual_seed
from .io import load, save
from .layers import *  # noqa: F403 - layers/__init__.py lists them
from .layers import __all__ as _layers

__all__ = [
    "__version__", "empty_cache", "functional", "get_num_threads", "init", "io", "load", "losses",
    "manual_seed", "num_threads", "optim", "save", "set_num_threads", "show_config", "training",
]
__all__ += _layers


# Imported when they are first asked for: training takes a sixth of the time of an import, and inference does
# without; few need onnx, and it is many small modules.
_LATE = ("losses", "onnx", "optim", "training")
if _TYPE_CHECKING:
    from . import losses, optim, training


def __getattr__(name: str) -> _Any:
    if name in _LATE:
        import importlib

        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
