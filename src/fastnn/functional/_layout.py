"""Channels-last memory: (N, C, ...) above, (N, ..., C) in the kernels' eyes; of images (N, H, W, C)."""

from __future__ import annotations

import math

import numpy as np

from .._kernels.memory import copy_in_order, empty

# Bytes that are copied between two looks for Ctrl-C: some 0.1 s.
AT_ONCE = 64 << 20

# Axes by rank, from (N, C, ...) to (N, ..., C), and back.
_LAST = {rank: (0, *range(2, rank), 1) for rank in range(2, 65)}
_BACK = {rank: (0, rank - 1, *range(1, rank - 1)) for rank in range(2, 65)}

_BYTES = np.dtype(np.uint8)


def to_channels_last(x: np.ndarray) -> np.ndarray:
    """View (N, C, H, W) as (N, H, W, C), copied only where channels are not contiguous."""
    y = x.transpose(0, 2, 3, 1)
    return y if y.strides[3] == y.itemsize or y.shape[3] == 1 else contiguous(y)


def contiguous_channels_last(x: np.ndarray) -> np.ndarray:
    """View (N, C, ...) as a contiguous (N, ..., C), copied where it is not."""
    return contiguous(x.transpose(_LAST[x.ndim]))


def contiguous(x: np.ndarray) -> np.ndarray:
    """x in C order: itself or a copy, of what is large a few images at a time, so that Ctrl-C ends it."""
    if x.flags.c_contiguous:
        return x
    y = empty(x.shape, x.dtype)
    if x.nbytes <= AT_ONCE:
        copy_in_order(y, x)
        return y
    images = max(AT_ONCE // x[0].nbytes, 1)
    for i in range(0, len(x), images):
        copy_in_order(y[i : i + images], x[i : i + images])
    return y


def memory_order(x: np.ndarray) -> list[int]:
    """The axes of x as they lie in memory, the last one with the shortest steps."""
    return sorted(range(x.ndim), key=lambda axis: -x.strides[axis])


def copy_as_it_lies(y: np.ndarray, x: np.ndarray) -> None:
    """y = x, of one shape and dtype; y is dense, in whatever order of its axes."""
    order = memory_order(y)
    copy_in_order(y.transpose(order), x.transpose(order))


def from_channels_last(y: np.ndarray) -> np.ndarray:
    """View (N, ..., C) as (N, C, ...)."""
    return y.transpose(_BACK[y.ndim])


def empty_channels_last(n: int, h: int, w: int, c: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised contiguous (N, H, W, C)."""
    return empty((n, h, w, c), dtype)


def empty_lines(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array for packed weights: it begins with a cache line, in huge pages if it is large.

    A vector that straddles two lines costs two loads, and NumPy's arrays lie 16 bytes into one. (AVX2, Zen 3,
    networks of one image: up to 2 % of their time.)
    """
    size = math.prod(shape) * dtype.itemsize
    memory = empty((size + 63,), _BYTES)
    begin = -memory.__array_interface__["data"][0] % 64
    return memory[begin : begin + size].view(dtype).reshape(shape)
