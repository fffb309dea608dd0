"""Dropout and its mask."""

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
    return _mask(shape, p, as_generator("dropout_mask: rng", rng), dtype)


def _mask(shape: tuple[int, ...], p: float, generator: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    kept = generator.random(shape, np.float32) >= p
    return np.asarray(kept * dtype.type(1 / (1 - p) if p < 1 else 0))  # an array of shape () too


@in_default_environment
def masked(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """x times its mask."""
    return np.asarray(x * mask)  # an array of shape () too


@in_default_environment
def dropout(x: np.ndarray, p: float = 0.5, training: bool = True, *, rng: Any = None,
            return_mask: bool = False) -> Any:
    """In training set each element to zero with probability p and scale the rest by 1 / (1 - p).

    ::

        y = x mask,     mask = 0 with probability p, else 1 / (1 - p)

    Parameters
    ----------
    x : ndarray of float32 or float64
    p : float, default 0.5
        Between 0 and 1; of 1 all is zero.
    training : bool, default True
        False for y = x, the same array.
    rng : int or numpy.random.Generator, optional
        For the mask; by default the package's, of `manual_seed`.
    return_mask : bool, default False

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    mask : ndarray or None
        With `return_mask`, for `dropout_backward`; None without training.

    Raises
    ------
    ValueError, TypeError
        Naming the argument that is out of range or of a wrong kind.

    References
    ----------
    Srivastava et al.: Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014.
    """
    x = _checks.as_float_array("dropout: x", x)
    p = _checks.real("dropout: p", p, 0.0, 1.0)
    training = _checks.flag("dropout: training", training)
    return_mask = _checks.flag("dropout: return_mask", return_mask)
    generator = as_generator("dropout: rng", rng)
    mask = _mask(x.shape, p, generator, x.dtype) if training else None
    y = x if mask is None else masked(x, mask)
    return (y, mask) if return_mask else y


def dropout_backward(grad_y: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """grad_y mask; grad_y itself of no mask, as without training."""
    if mask is None:
        return _checks.as_float_array("dropout_backward: grad_y", grad_y)
    mask = _checks.as_float_array("dropout_backward: mask", mask)
    grad_y = _checks.as_float_array("dropout_backward: grad_y", grad_y, None, mask.dtype)
    _checks.same_shape("dropout_backward: grad_y", grad_y, mask.shape, "as the mask has")
    return masked(grad_y, mask)
