"""Single calls on almost nothing: what a call costs."""

from __future__ import annotations

import numpy as np

from .convolution import Convolutions
from .layers import Activations, Linears, Pools
from .recurrent import Recurrences
from .suite import RUNTIMES, TORCHES, Suite
from shapes import Convolution, Pool, Product, Recurrence, Rows


class Tiny(Suite):
    """Microseconds of a call in eval mode; a recurrent step is given its state and returns the next one."""

    title, unit, peers = "Tiny inputs", "us", TORCHES + RUNTIMES
    shapes = [  # noqa: RUF012 - a table
        Rows("identity", 1, 16),
        Rows("relu", 1, 16),
        Rows("softmax", 1, 10),
        Convolution(1, 1, 8, 4, 3),
        Pool("max", 1, 4, 8, 2, 2),
        Product(1, 16, 8),
        *(Recurrence(kind, 1, 1, 64, 128) for kind in ("RNN", "LSTM", "GRU")),
        *(Recurrence(kind, 1, 1, 16, 16) for kind in ("RNN", "LSTM", "GRU")),
    ]

    _families = {Rows: Activations(), Convolution: Convolutions(), Pool: Pools(), Product: Linears(),  # noqa: RUF012
                 Recurrence: Recurrences()}

    def kind(self, shape):
        return "a recurrent step" if isinstance(shape, Recurrence) else "a call"

    def fastnn(self, fn, shape, dtype=np.float32, **options):
        return self._families[type(shape)].fastnn(fn, shape, dtype, **options)

    def torch(self, torch, shape, last=False):
        return self._families[type(shape)].torch(torch, shape, last)

    def onnx(self, shape):
        return self._families[type(shape)].onnx(shape)
