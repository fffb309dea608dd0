"""Pooling in one and two dimensions: the largest or the mean of each window, each channel by itself.

Logical shapes are torch's, (N, C, H, W) and (N, C, L), without the batch axis too; outputs lie
channels-last in memory. See ``fastnn/_kernels/pool.pyx`` for how it is computed.
"""

from __future__ import annotations

import math

import numpy as np

from .. import _checks
from . import _pooling

# --- Maximum


def _places(name, dims, indices, input_shape):
    """Check indices that may come from anywhere."""
    pixels = math.prod(_pooling.check_input_shape(name, input_shape, dims)[-dims:])
    return _checks.as_int_array(f"{name}: indices", indices, (dims + 1, dims + 2), 0, pixels)


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest of each window of an image, each channel by itself.

    ::

        y[n, c, p, q] = max_{r, s} x[n, c, p * stride + r * dilation - padding, q * stride + s * ...]

    Parameters
    ----------
    x : ndarray, (N, C, H, W) or (C, H, W)
        Images, float32 or float64, in any memory layout; channels-last is read as it lies.
    kernel_size : int or pair of int
        Taps of a window, r and s.
    stride : int or pair of int, optional
        Pixels from one window to the next; by default kernel_size.
    padding : int or pair of int, default 0
        Pixels around the image that are never the largest; at most half of kernel_size.
    dilation : int or pair of int, default 1
        Pixels from one tap to the next.
    ceil_mode : bool, default False
        Whether windows may reach past the padded image's end, as long as they begin before it.
    return_indices : bool, default False
        Whether to return the places of the maxima, too.

    Returns
    -------
    y : ndarray, (N, C, P, Q)
        Channels-last in memory; P = (H + 2 padding - dilation (kernel_size - 1) - 1) / stride + 1, rounded
        down, or up with `ceil_mode`.
    indices : ndarray of int64, (N, C, P, Q)
        With `return_indices`: h * W + w of each maximum.

    Raises
    ------
    ValueError
        If a number is out of range, or a window has no pixel of the image.
    TypeError
        If `x` is neither float32 nor float64.

    Notes
    -----
    Of equals the first in row order wins, and gets the whole gradient. A window with NaN gives NaN, its place
    that of the first NaN. The time is that of reading `x`, nearly, for windows that do not overlap.
    """
    with_indices = _checks.flag("max_pool2d: return_indices", return_indices)
    windows = _pooling.sliding("max_pool2d", 2, kernel_size, stride, padding, dilation, ceil_mode)
    y, places = _pooling.max_pool("max_pool2d", windows, x, with_indices)
    return y if places is None else (y, places.astype(np.int64, copy=False))


def max_pool2d_backward(grad_y, indices, input_shape):
    """The gradient of `max_pool2d`: each output's goes to the winner of its window.

    ::

        grad_x[n, c, h, w] = sum of the grad_y[n, c, p, q] with indices[n, c, p, q] == h * W + w

    Parameters
    ----------
    grad_y : ndarray, (N, C, P, Q) or (C, P, Q)
    indices : ndarray of int, of the same shape
        As `max_pool2d` returned them.
    input_shape : tuple of int
        The shape of `x`.

    Returns
    -------
    grad_x : ndarray of shape `input_shape`
        Channels-last in memory.
    """
    places = _places("max_pool2d_backward", 2, indices, input_shape)
    return _pooling.max_pool_backward("max_pool2d_backward", 2, grad_y, places, input_shape)


def max_pool1d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest of each window of a sequence (N, C, L) or (C, L); see `max_pool2d`."""
    with_indices = _checks.flag("max_pool1d: return_indices", return_indices)
    windows = _pooling.sliding("max_pool1d", 1, kernel_size, stride, padding, dilation, ceil_mode)
    y, places = _pooling.max_pool("max_pool1d", windows, x, with_indices)
    return y if places is None else (y, places.astype(np.int64, copy=False))


def max_pool1d_backward(grad_y, indices, input_shape):
    """The gradient of `max_pool1d`: each output's goes to the winner of its window."""
    places = _places("max_pool1d_backward", 1, indices, input_shape)
    return _pooling.max_pool_backward("max_pool1d_backward", 1, grad_y, places, input_shape)


# --- Mean


def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None):
    """The mean of each window of an image, each channel by itself.

    ::

        y[n, c, p, q] = sum_{r, s} x[n, c, p * stride + r - padding, q * stride + s - padding] / divisor

    Parameters
    ----------
    x : ndarray, (N, C, H, W) or (C, H, W)
        Images, float32 or float64, in any memory layout; channels-last is read as it lies.
    kernel_size : int or pair of int
        Pixels of a window, r and s.
    stride : int or pair of int, optional
        Pixels from one window to the next; by default kernel_size.
    padding : int or pair of int, default 0
        Zeros around the image; at most half of kernel_size.
    ceil_mode : bool, default False
        Whether windows may reach past the padded image's end, as long as they begin before it; what is
        past it is not counted.
    count_include_pad : bool, default True
        Whether the divisor, a window's number of pixels, counts those on the padding.
    divisor_override : int, optional
        The divisor, instead.

    Returns
    -------
    y : ndarray, (N, C, P, Q)
        Channels-last in memory; P = (H + 2 padding - kernel_size) / stride + 1, rounded down, or up with
        `ceil_mode`.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If `x` is neither float32 nor float64.
    """
    windows = _pooling.sliding("avg_pool2d", 2, kernel_size, stride, padding, 1, ceil_mode,
                               count_include_pad, divisor_override)
    return _pooling.mean_pool("avg_pool2d", windows, x)


def avg_pool2d_backward(grad_y, input_shape, kernel_size, stride=None, padding=0, ceil_mode=False,
                        count_include_pad=True, divisor_override=None):
    """The gradient of `avg_pool2d`: each output's is spread evenly over its window.

    ::

        grad_x[n, c, h, w] = sum of grad_y[n, c, p, q] / divisor over the windows p, q that cover h, w

    Parameters
    ----------
    grad_y : ndarray, (N, C, P, Q) or (C, P, Q)
    input_shape : tuple of int
        The shape of `x`.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As `avg_pool2d` saw them.

    Returns
    -------
    grad_x : ndarray of shape `input_shape`
        Channels-last in memory.
    """
    windows = _pooling.sliding("avg_pool2d_backward", 2, kernel_size, stride, padding, 1, ceil_mode,
                               count_include_pad, divisor_override)
    return _pooling.mean_pool_backward("avg_pool2d_backward", windows, grad_y, input_shape)


def avg_pool1d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """The mean of each window of a sequence (N, C, L) or (C, L); see `avg_pool2d`."""
    windows = _pooling.sliding("avg_pool1d", 1, kernel_size, stride, padding, 1, ceil_mode,
                               count_include_pad)
    return _pooling.mean_pool("avg_pool1d", windows, x)


def avg_pool1d_backward(grad_y, input_shape, kernel_size, stride=None, padding=0, ceil_mode=False,
                        count_include_pad=True):
    """The gradient of `avg_pool1d`: each output's is spread evenly over its window."""
    windows = _pooling.sliding("avg_pool1d_backward", 1, kernel_size, stride, padding, 1, ceil_mode,
                               count_include_pad)
    return _pooling.mean_pool_backward("avg_pool1d_backward", windows, grad_y, input_shape)


def adaptive_avg_pool2d(x, output_size):
    """The means of P x Q windows that cover an image evenly, each channel by itself.

    ::

        y[n, c, p, q] = mean of x[n, c, h, w],   floor(p H / P) <= h < ceil((p + 1) H / P), w alike

    Parameters
    ----------
    x : ndarray, (N, C, H, W) or (C, H, W)
        Images, float32 or float64, in any memory layout; channels-last is read as it lies.
    output_size : int, None or pair of them
        P and Q; None keeps the image's size.

    Returns
    -------
    y : ndarray, (N, C, P, Q)
        Channels-last in memory.

    Raises
    ------
    ValueError
        If a size is below 1, or the image has no pixels.
    TypeError
        If `x` is neither float32 nor float64.
    """
    windows = _pooling.adaptive("adaptive_avg_pool2d", 2, output_size)
    return _pooling.mean_pool("adaptive_avg_pool2d", windows, x)


def adaptive_avg_pool2d_backward(grad_y, input_shape):
    """The gradient of `adaptive_avg_pool2d`: each output's is spread evenly over its window.

    Parameters
    ----------
    grad_y : ndarray, (N, C, P, Q) or (C, P, Q)
    input_shape : tuple of int
        The shape of `x`.

    Returns
    -------
    grad_x : ndarray of shape `input_shape`
        Channels-last in memory.
    """
    name = "adaptive_avg_pool2d_backward"
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, (3, 4))
    windows = _pooling.adaptive(name, 2, grad_y.shape[-2:], "a size of grad_y")
    return _pooling.mean_pool_backward(name, windows, grad_y, input_shape)


def adaptive_avg_pool1d(x, output_size):
    """The means of windows that cover a sequence (N, C, L) evenly; see `adaptive_avg_pool2d`."""
    windows = _pooling.adaptive("adaptive_avg_pool1d", 1, output_size)
    return _pooling.mean_pool("adaptive_avg_pool1d", windows, x)


def adaptive_avg_pool1d_backward(grad_y, input_shape):
    """The gradient of `adaptive_avg_pool1d`: each output's is spread evenly over its window."""
    name = "adaptive_avg_pool1d_backward"
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, (2, 3))
    windows = _pooling.adaptive(name, 1, grad_y.shape[-1:], "a size of grad_y")
    return _pooling.mean_pool_backward(name, windows, grad_y, input_shape)


def global_avg_pool2d(x):
    """The mean of each channel of an image, (N, C, H, W) to (N, C, 1, 1): `adaptive_avg_pool2d` to size 1."""
    return _pooling.mean_pool("global_avg_pool2d", _pooling.Adaptive(2, (1, 1)), x)


def global_avg_pool2d_backward(grad_y, input_shape):
    """The gradient of `global_avg_pool2d`: grad_y / (H W) at every pixel."""
    windows = _pooling.Adaptive(2, (1, 1))
    return _pooling.mean_pool_backward("global_avg_pool2d_backward", windows, grad_y, input_shape)


def global_avg_pool1d(x):
    """The mean of each channel of a sequence, (N, C, L) to (N, C, 1): `adaptive_avg_pool1d` to size 1."""
    return _pooling.mean_pool("global_avg_pool1d", _pooling.Adaptive(1, (1, 1)), x)


def global_avg_pool1d_backward(grad_y, input_shape):
    """The gradient of `global_avg_pool1d`: grad_y / L at every pixel."""
    windows = _pooling.Adaptive(1, (1, 1))
    return _pooling.mean_pool_backward("global_avg_pool1d_backward", windows, grad_y, input_shape)
