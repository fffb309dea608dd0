"""Layers that change the shape of an array, or nothing at all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _checks
from ..functional._layout import contiguous
from .module import Module


class Flatten(Module):
    """Join the dimensions from `start_dim` to `end_dim` into one.

    (N, C, H, W) becomes (N, C * H * W), in the order of the logical shape whatever the memory's order.

    Parameters
    ----------
    start_dim, end_dim : int, optional
        First and last dimension to join; negative ones count from the end.
    dtype : numpy.dtype, optional
        Taken as by every layer, without meaning here: any array is accepted.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        self.start_dim = _checks.integer("Flatten: start_dim", start_dim, minimum=-_checks.MAX_SIZE)
        self.end_dim = _checks.integer("Flatten: end_dim", end_dim, minimum=-_checks.MAX_SIZE)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return `x` with the dimensions joined; a view of it where its memory allows."""
        x = _checks.plain_array("Flatten: x", x, "numbers")
        shape = x.shape
        start, end = self._axes(x.ndim)
        self._save(shape)
        if start <= 1 < end and x.strides[1] == x.itemsize and math.prod(shape[2 : end + 1]) > 1:
            x = contiguous(x)  # as it has to be: its memory is channels-last
        return x.reshape(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])

    def _axes(self, ndim: int) -> tuple[int, int]:
        """The first and the last axis to join in an input of `ndim` dimensions."""
        rank = max(ndim, 1)  # a scalar becomes one element
        start = _checks.axis_of("Flatten: start_dim", self.start_dim, rank)
        end = _checks.axis_of("Flatten: end_dim", self.end_dim, rank)
        if start > end:
            raise ValueError(
                f"Flatten: start_dim {self.start_dim} comes after end_dim {self.end_dim} "
                f"in an input of {ndim} dimensions"
            )
        return start, end

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return the gradient in the input's shape."""
        (shape,) = self._take()
        grad_y = _checks.plain_array("Flatten.backward: grad_y", grad_y, "numbers")
        if grad_y.size != math.prod(shape):
            raise ValueError(
                f"Flatten.backward: grad_y has shape {grad_y.shape}, which does not fit the input's {shape}"
            )
        return grad_y.reshape(shape)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """Return the input: y = x.  Arguments are accepted and ignored, to stand in for any layer."""

    def __init__(self, *args: Any, dtype: Any = np.float32, **kwargs: Any):
        super().__init__(dtype=dtype)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return `x`."""
        return x

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return `grad_y`."""
        return grad_y
