"""The linear map in plain NumPy."""

from __future__ import annotations

import numpy as np

from .conv import _FUSED


def linear(x, weight, bias=None, *, activation=None):
    """y = f(x W^T + b)."""
    z = x @ weight.T
    return _FUSED[activation][0](z if bias is None else z + bias)


def linear_backward(grad_y, x, weight, bias=None, *, activation=None, y=None, input_grad=True):
    """grad_x = grad_z W, grad_W = grad_z^T x, grad_b = sum of grad_z, over all leading axes."""
    grad_z = _FUSED[activation][1](grad_y, y)
    leading = tuple(range(x.ndim - 1))
    grad_weight = np.tensordot(grad_z, x, (leading, leading))
    grad_bias = None if bias is None else grad_z.sum(leading)
    return (grad_z @ weight if input_grad else None), grad_weight, grad_bias
