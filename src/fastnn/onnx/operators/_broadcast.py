"""The gradient of broadcasting."""

from __future__ import annotations

import numpy as np


def sum_to_shape(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum over the axes along which an array of `shape` was repeated to get the shape of `grad`."""
    extra = grad.ndim - len(shape)
    axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1))
    return np.asarray(grad.sum(axes)).reshape(shape) if axes else grad
