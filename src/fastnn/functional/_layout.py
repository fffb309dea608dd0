"""Channels-last memory: (N, C, H, W) above, (N, H, W, C) in the kernels' eyes."""

from __future__ import annotations

import numpy as np

from .._kernels.memory import empty

# The kernels' fused types by the dtype of the arrays.
SPECIALISATION = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


def by_dtype(kernel):
    """The two specialisations of a fused kernel, looked up once: {dtype: function}.

    Choosing at every call, as Cython does when called with plain arguments, costs microseconds.
    """
    return {dtype: kernel[name] for dtype, name in SPECIALISATION.items()}


def to_channels_last(x: np.ndarray) -> np.ndarray:
    """View (N, C, H, W) as (N, H, W, C), copied only where channels are not contiguous."""
    y = x.transpose(0, 2, 3, 1)
    return y if y.strides[3] == y.itemsize or y.shape[3] == 1 else np.ascontiguousarray(y)


def contiguous_channels_last(x: np.ndarray) -> np.ndarray:
    """View (N, C, H, W) as a contiguous (N, H, W, C), copied where it is not."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def from_channels_last(y: np.ndarray) -> np.ndarray:
    """View (N, H, W, C) as (N, C, H, W)."""
    return y.transpose(0, 3, 1, 2)


def empty_channels_last(n: int, h: int, w: int, c: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised contiguous (N, H, W, C)."""
    return empty((n, h, w, c), dtype)
