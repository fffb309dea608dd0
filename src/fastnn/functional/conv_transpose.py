"""Transposed convolution: the gradient of a convolution's input, as a layer of its own."""

from __future__ import annotations

import numpy as np

from .. import _checks
from .._kernels import conv_backward as _kernel
from .._kernels.runtime import in_default_environment
from . import _fused
from ._layout import contiguous_channels_last, empty_channels_last, from_channels_last
from ._window import transposed_window
from .conv import _bias_gradient, _images, convolve, pack_filters


def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed two-dimensional convolution ("deconvolution").

    ::

        y[n, k, p * stride + r * dilation - padding, q * ...] += weight[c, k, r, s] x[n, c, p, q]

    and bias[k] once: the gradient of `conv2d` with respect to its input.

    Parameters
    ----------
    x : ndarray, (N, C, H, W) or (C, H, W)
        float32 or float64.
    weight : ndarray, (C, K / groups, R, S)
    bias : ndarray, (K,), optional
    stride, dilation : int or pair of int, default 1
    padding : int or pair of int, default 0
        Taken off the output's border.
    output_padding : int or pair of int, default 0
        Added to the output's size below and to the right; smaller than stride or dilation.
    groups : int, default 1

    Returns
    -------
    y : ndarray, (N, K, P, Q)
        P = (H - 1) stride - 2 padding + dilation (R - 1) + output_padding + 1; channels-last in memory.

    Raises
    ------
    ValueError
        If shapes do not fit one another, or a number is out of range.
    TypeError
        If a dtype is neither float32 nor float64, or dtypes are mixed.
    """
    name = "conv_transpose2d"
    x, weight, bias, single = _images(name, x, weight, bias)
    window = transposed_window(name, x, weight, bias, stride, padding, output_padding, groups, dilation)
    y = transpose(x, weight, bias, window)
    return y[0] if single else y


@in_default_environment
def transpose(x, weight, bias, window):
    """The checked arguments' transposed convolution; the window is that of what it transposes."""
    y = empty_channels_last(x.shape[0], *window.output, weight.shape[1] * window.groups, x.dtype)
    _kernel.backward_input(contiguous_channels_last(x), np.ascontiguousarray(weight), y, window.kernel)
    if bias is not None:
        y += bias
    return from_channels_last(y)


def conv_transpose2d_backward(grad_y, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1,
                              dilation=1, *, input_grad=True):
    """Gradients of `conv_transpose2d` with respect to x, weight and bias.

    grad_x is the convolution of grad_y with `weight`, grad_weight[c, k, r, s] the sum over pixels of
    x[n, c, p, q] grad_y[n, k, p * stride + r * dilation - padding, q * ...].

    Returns
    -------
    grad_x : ndarray of the shape of `x`, or None if not `input_grad`
    grad_weight : ndarray of the shape of `weight`
    grad_bias : ndarray, (K,), or None without a bias
    """
    name = "conv_transpose2d_backward"
    x, weight, bias, single = _images(name, x, weight, bias)
    window = transposed_window(name, x, weight, bias, stride, padding, output_padding, groups, dilation)
    input_grad = _checks.flag(f"{name}: input_grad", input_grad)
    shape = (x.shape[0], weight.shape[1] * window.groups, *window.output)[single:]
    grad_y = _fused.gradient(name, None, grad_y, None, shape, x.dtype)
    grad_x, *grads = transpose_gradients(grad_y[None] if single else grad_y, x, weight, bias is not None,
                                         window, input_grad)
    return grad_x[0] if single and input_grad else grad_x, *grads


def transpose_gradients(grad_y, x, weight, has_bias, window, input_grad):
    """The checked arguments' gradients of x, weight and bias."""
    rows = contiguous_channels_last(grad_y)  # the one copy for all gradients
    grad_x = None
    if input_grad:
        back = window._replace(output=x.shape[2:])
        packed = pack_filters(weight, back, tile=0)
        grad_x = convolve(from_channels_last(rows), packed, None, x.shape[1], back, None)
    grad_weight = np.empty(weight.shape, x.dtype)
    _kernel.backward_weight(contiguous_channels_last(x), rows, grad_weight, window.kernel)
    return grad_x, grad_weight, _bias_gradient(rows) if has_bias else None
