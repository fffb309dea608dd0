"""PReLU: a leaky ReLU whose slope is learnt."""

from __future__ import annotations

import numpy as np

from .. import _checks
from .._kernels import elementwise as _kernel
from .._kernels.memory import empty
from .._kernels.runtime import in_default_environment
from ._elementwise import apply
from ._layout import contiguous_channels_last, from_channels_last

# Numbers of a row, at least: short rows are taken several at once, so that vectors are full.
_LONG_ROW = 64


def _check(name, x, weight):
    x = _checks.as_float_array(f"{name}: x", x)
    weight = _checks.as_float_array(f"{name}: weight", weight, 1, x.dtype)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.size not in (1, channels):
        raise ValueError(f"{name}: weight has {weight.size} elements, expected 1 or those of dimension 1, "
                         f"{channels} (x has shape {x.shape})")
    return x, weight


def slope_rows(channels, weight):
    """The slopes [rows, channels] of the numbers of a row, or of so many rows if they are short."""
    slopes = np.empty((-(-_LONG_ROW // max(channels, 1)), channels), weight.dtype)
    slopes[:] = weight
    return slopes


@in_default_environment
def prelu(x, weight):
    """Parametric rectified linear unit (He, Zhang, Ren and Sun, 2015).

    ::

        y = x where x >= 0, else weight[c] x

    Parameters
    ----------
    x : ndarray
        Any shape; the channels c are dimension 1.
    weight : ndarray, (channels,) or (1,)
        One slope a channel, or one for all.

    Returns
    -------
    y : ndarray of the shape of `x`, channels last in memory, or with one slope as `x` lies
    """
    x, weight = _check("prelu", x, weight)
    if weight.size == 1:
        return apply(_kernel.LEAKY_RELU, x, weight[0])
    last = contiguous_channels_last(x)
    y = empty(last.shape, x.dtype)
    _kernel.prelu(last, slope_rows(len(weight), weight), y)
    return from_channels_last(y)


@in_default_environment
def prelu_backward(grad_y, x, weight):
    """Gradient of `prelu`.

    ::

        grad_x = grad_y where x > 0, else weight[c] grad_y
        grad_weight[c] = sum of grad_y x over x < 0

    Parameters
    ----------
    grad_y : ndarray of the shape of `x`
    x, weight : ndarray
        What the forward pass saw.

    Returns
    -------
    grad_x : ndarray of the shape of `x`, channels last in memory
    grad_weight : ndarray of the shape of `weight`
    """
    x, weight = _check("prelu_backward", x, weight)
    grad_y = _checks.as_float_array("prelu_backward: grad_y", grad_y, None, x.dtype)
    _checks.same_shape("prelu_backward: grad_y", grad_y, x.shape, "as x has")
    shape = x.shape
    if x.ndim < 2:  # of one channel
        x, grad_y = x.reshape(-1, 1), grad_y.reshape(-1, 1)
    last, slopes = contiguous_channels_last(x), slope_rows(x.shape[1], weight)
    grad_x = empty(last.shape, x.dtype)
    sums = empty((_kernel.prelu_blocks(x.size, slopes.size), *slopes.shape), x.dtype)
    _kernel.prelu_backward(contiguous_channels_last(grad_y), last, slopes, grad_x, sums)
    grad_weight = sums.sum((0, 1), np.float64)
    if weight.size == 1:
        grad_weight = grad_weight.sum(keepdims=True)
    return from_channels_last(grad_x).reshape(shape), grad_weight.astype(x.dtype)
