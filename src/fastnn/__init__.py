"""fastnn: neural-network layers over NumPy arrays, forward and backward, at the speed of the hardware."""

import typing as _typing

from . import functional, init, layers
from ._config import empty_cache, num_threads, show_config
from ._kernels.runtime import get_num_threads, set_num_threads
from ._late import late as _names_late
from ._version import __version__
from .init import manual_seed

__all__ = [
    "__version__", "empty_cache", "functional", "get_num_threads", "init", "io", "load", "losses",
    "manual_seed", "num_threads", "optim", "save", "set_num_threads", "show_config", "training",
]
__all__ += layers.__all__

if _typing.TYPE_CHECKING:
    from . import frozen, io, losses, onnx, optim, reference, training
    from .io import load, save
    from .layers import *  # noqa: F403 - layers/__init__.py lists them
else:
    # Inference without files does without these, a third of the time of an import; few need onnx, and it is
    # many small modules. Most layers are there at once, in `layers`, which has the others come late.
    __getattr__, __dir__ = _names_late(globals(), {
        "frozen": (), "io": ("load", "save"), "layers": layers.__all__, "losses": (), "onnx": (), "optim": (),
        "reference": (), "training": (),
    })
