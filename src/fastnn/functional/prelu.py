"""PReLU: a leaky ReLU whose slope is learnt."""

from __future__ import annotations

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment


def _check(name, x, weight):
    """Return x, and the weight in a shape that spreads over x."""
    x = _checks.as_float_array(f"{name}: x", x)
    weight = _checks.as_float_array(f"{name}: weight", weight, 1, x.dtype)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.size not in (1, channels):
        raise ValueError(f"{name}: weight has {weight.size} elements, expected 1 or those of dimension 1, "
                         f"{channels} (x has shape {x.shape})")
    return x, weight.reshape(-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else weight.reshape((1,) * x.ndim)


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
    y : ndarray of the shape of `x`
    """
    x, slope = _check("prelu", x, weight)
    y = x.copy("K")
    np.multiply(x, slope, out=y, where=x < 0)
    return y


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
    grad_x : ndarray of the shape of `x`
    grad_weight : ndarray of the shape of `weight`
    """
    x, slope = _check("prelu_backward", x, weight)
    grad_y = _checks.as_float_array("prelu_backward: grad_y", grad_y, None, x.dtype)
    _checks.same_shape("prelu_backward: grad_y", grad_y, x.shape, "as x has")
    grad_x = grad_y.copy("K")
    np.multiply(grad_y, slope, out=grad_x, where=~(x > 0))
    # In C order, so that the order of the sum does not depend on the memory of x.
    products = np.multiply(grad_y, x, out=np.zeros(x.shape, x.dtype), where=x < 0)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1 or slope.size == 1)
    return grad_x, products.sum(axes, dtype=np.float64).astype(x.dtype).reshape(slope.size)
