"""fastnn: neural-network layers over NumPy arrays, forward and backward, at the speed of the hardware."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import functional, init, layers
from ._config import empty_cache, num_threads, show_config
from ._kernels.runtime import get_num_threads, set_num_threads
from ._late import late as _late
from ._version import __version__
from .init import manual_seed

__all__ = [
    "__version__", "empty_cache", "functional", "get_num_threads", "init", "io", "load", "losses",
    "manual_seed", "num_threads", "optim", "save", "set_num_threads", "show_config", "training",
]
__all__ += layers.__all__

if _TYPE_CHECKING:
    from . import io, losses, optim, training
    from .io import load, save
    from .layers import *  # noqa: F403 - layers/__init__.py lists them
else:
    # Inference without files does without these, a third of the time of an import; few need onnx, and it is
    # many small modules. Most layers are there at once, see layers/__init__.py.
    __getattr__, __dir__ = _late(globals(), {
        "io": ("load", "save"), "layers": layers.__all__, "losses": (), "onnx": (), "optim": (),
        "training": (),
    })
