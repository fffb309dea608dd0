"""One-dimensional convolution: the two-dimensional one over images of height 1."""

from __future__ import annotations

from .. import _checks
from .conv import _correlate, _correlate_backward


def _flat(name, value, minimum):
    """(1-d argument) -> (2-d argument); height has the neutral value."""
    return value if isinstance(value, str) else (minimum, _checks.single(name, value, minimum))


def _signals(name, x, weight, bias):
    """Check dtypes and ranks; give a height axis to x and weight, and a batch axis to a lone signal."""
    x = _checks.as_float_array(f"{name}: x", x, (2, 3))
    weight = _checks.as_float_array(f"{name}: weight", weight, 3, x.dtype)
    if bias is not None:
        bias = _checks.as_float_array(f"{name}: bias", bias, 1, x.dtype)
    single = x.ndim == 2
    return (x[None] if single else x)[:, :, None], weight[:, :, None], bias, single


def _arguments(name, stride, padding, dilation):
    return (_flat(f"{name}: stride", stride, 1), _flat(f"{name}: padding", padding, 0),
            _flat(f"{name}: dilation", dilation, 1))


def conv1d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, activation=None,
           algorithm="auto"):
    """One-dimensional cross-correlation.

    ::

        y[n, k, q] = f( bias[k] + sum_{c, s} weight[k, c, s] x[n, c, q * stride + s * dilation - padding] )

    Parameters
    ----------
    x : ndarray, (N, C, L) or (C, L)
        Signals, float32 or float64.
    weight : ndarray, (K, C / groups, S)
    bias : ndarray, (K,), optional
    stride, dilation : int, default 1
    padding : int, "same" or "valid", default 0
    groups, activation, algorithm
        As in `conv2d`.

    Returns
    -------
    y : ndarray, (N, K, Q)
    """
    x, weight, bias, single = _signals("conv1d", x, weight, bias)
    y = _correlate("conv1d", x, weight, bias, *_arguments("conv1d", stride, padding, dilation), groups,
                   activation, algorithm)[:, :, 0]
    return y[0] if single else y


def conv1d_backward(grad_y, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *,
                    activation=None, y=None, algorithm="auto", input_grad=True):
    """Gradients of `conv1d`; arguments and returns as `conv2d_backward`, in one dimension."""
    name = "conv1d_backward"
    x, weight, bias, single = _signals(name, x, weight, bias)
    rank = 2 if single else 3
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, rank, x.dtype)[..., None, :]
    if activation is not None:
        y = _checks.as_float_array(f"{name}: y", y, rank, x.dtype)[..., None, :]
    grad_x, grad_weight, grad_bias = _correlate_backward(
        name, grad_y, x, weight, bias, *_arguments(name, stride, padding, dilation), groups, activation, y,
        algorithm, input_grad, single)
    if input_grad:
        grad_x = grad_x[0, :, 0] if single else grad_x[:, :, 0]
    return grad_x, grad_weight[:, :, 0], grad_bias
