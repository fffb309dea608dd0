"""Dropout's mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment
from .._random import as_generator


@in_default_environment
def dropout_mask(shape: tuple[int, ...], p: float, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """An array of 0 with probability p and 1 / (1 - p) else, whose mean is 1 (Srivastava et al., 2014).

    Parameters
    ----------
    shape : tuple of int
    p : float
        Between 0 and 1; of 1 all is zero.
    rng : int or numpy.random.Generator, optional
    dtype : numpy.dtype, default float32
    """
    sizes = _checks.list_of("dropout_mask: shape", shape, object) if not isinstance(shape, int) else [shape]
    shape = tuple(_checks.integer("dropout_mask: shape", size, 0) for size in sizes)
    p = _checks.real("dropout_mask: p", p, 0.0, 1.0)
    dtype = _checks.float_dtype("dropout_mask: dtype", dtype)
    kept = as_generator("dropout_mask: rng", rng).random(shape, np.float32) >= p
    return np.asarray(kept * dtype.type(1 / (1 - p) if p < 1 else 0))  # an array of shape () too


@in_default_environment
def masked(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """x times its mask."""
    return np.asarray(x * mask)  # an array of shape () too
