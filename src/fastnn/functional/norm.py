"""Batch and layer normalisation, forward beside backward."""

from __future__ import annotations

import math

import numpy as np

from .. import _checks
from .._kernels import norm as _kernel
from .._kernels.memory import empty
from .._kernels.runtime import in_default_environment
from ._layout import contiguous_channels_last, from_channels_last


def _images(name, x, dtype=None):
    x = _checks.as_float_array(f"{name}: x", x, None, dtype)
    if x.ndim < 2:
        raise ValueError(f"{name}: x has shape {x.shape}, expected (N, C) or (N, C, ...)")
    return x


def _channels(name, x, mean, var, weight, bias):
    """Check that each vector has a number for each channel; no weight and no bias stay None.

    Statistics may be float64 whatever x is.
    """
    shape, of = (x.shape[1],), "one number a channel"
    return (_vector(name, "mean", mean, _exact_or(mean, x.dtype), shape, of),
            _vector(name, "var", var, _exact_or(var, x.dtype), shape, of),
            *_affine(name, weight, bias, x.dtype, shape, of))


def _exact_or(statistic, dtype):
    return _checks.FLOAT64 if getattr(statistic, "dtype", None) == np.float64 else dtype


def _affine(name, weight, bias, dtype, shape, of):
    """Check the weight and the bias, either of which may be None."""
    return (None if weight is None else _vector(name, "weight", weight, dtype, shape, of),
            None if bias is None else _vector(name, "bias", bias, dtype, shape, of))


def _vector(name, what, vector, dtype, shape, of):
    # What needs nothing is told first, four times a call: (1, 8, 4, 4) in eval mode 7.9 -> 6.8 us.
    if (type(vector) is not np.ndarray or vector.dtype is not dtype or vector.shape != shape
            or not vector.flags.aligned):
        vector = _checks.as_float_array(f"{name}: {what}", vector, len(shape), dtype)
        _checks.same_shape(f"{name}: {what}", vector, shape, of)
    return vector if vector.flags.c_contiguous else np.ascontiguousarray(vector)


def _measured(x):
    """Mean and biased variance of each channel of x (N, ..., C), in float64; NaN without rows."""
    mean, var = np.empty((2, x.shape[-1]))
    if not x.size:
        mean[:] = var[:] = np.nan
    elif not _kernel.statistics(x, mean, var):
        return _measured_about(x.reshape(-1, x.shape[-1]), mean)
    return mean, var


@in_default_environment
def _measured_about(rows, mean):
    """Once more, about the mean itself: a pilot that is far from it took digits; so for NaN."""
    center = mean.astype(rows.dtype)
    sums = np.empty((2, rows.shape[1]))
    _kernel.column_moments(rows, center, None, sums)
    squares, rest = sums / len(rows)
    mean = center + rest
    lost = np.isnan(mean)  # infinity less infinity: the mean itself may well be infinite
    if lost.any():
        mean[lost] = np.mean(rows[:, lost], axis=0, dtype=np.float64)
    return mean, np.maximum(squares - np.square(rest), 0)


@in_default_environment
def batch_norm_stats(x):
    """Mean and (biased) variance of each channel, over all other axes.

    Parameters
    ----------
    x : ndarray, (N, C) or (N, C, ...)

    Returns
    -------
    mean, var : ndarray, (C,)
        NaN where there is no element.

    Notes
    -----
    One pass over deviations from the mean of the first rows, a second where that was far from the mean.
    Sums are taken in blocks of 64 in the dtype of `x` and in float64 across blocks.
    """
    x = _images("batch_norm_stats", x)
    mean, var = exact_stats(x)
    return mean.astype(x.dtype), var.astype(x.dtype)


def exact_stats(x):
    """`batch_norm_stats` in float64, which `batch_norm` takes, too; x is checked."""
    return _measured(contiguous_channels_last(x))


def batch_norm(x, mean, var, weight=None, bias=None, eps=1e-5):
    """Normalise each channel.

    ::

        y = (x - mean) / sqrt(var + eps) * weight + bias

    Parameters
    ----------
    x : ndarray, (N, C) or (N, C, ...)
    mean, var : ndarray, (C,)
        Of the batch (`batch_norm_stats`), or running ones; of the dtype of x or float64, in which the mean
        of numbers far from zero keeps its digits.
    weight, bias : ndarray, (C,), optional
    eps : float, default 1e-5

    Returns
    -------
    y : ndarray of the shape of `x`
        Channels-last in memory.
    """
    x = _images("batch_norm", x)
    mean, var, weight, bias = _channels("batch_norm", x, mean, var, weight, bias)
    images = contiguous_channels_last(x)
    y = empty(images.shape, x.dtype)
    _kernel.batch_norm(images, mean, var, weight, bias, _checks.real("batch_norm: eps", eps, 0.0), y)
    return from_channels_last(y)


def batch_norm_backward(grad_y, x, mean, var, weight=None, bias=None, eps=1e-5, *, training=True):
    """Gradients of `batch_norm` with respect to x, weight and bias.

    ::

        h = (x - mean) / sqrt(var + eps),  g = grad_y weight
        grad_x = (g - mean(g) - h mean(g h)) / sqrt(var + eps)      training: mean and var came from x
        grad_x = g / sqrt(var + eps)                                else: they are constants
        grad_weight = sum grad_y h          grad_bias = sum grad_y

    In training h is about the mean of x as it is; what `mean` lost when it was rounded to the dtype is found
    again.

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    grad_weight, grad_bias : ndarray, (C,), or None where there is no weight or bias
    """
    name = "batch_norm_backward"
    x = _images(name, x)
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, x.ndim, x.dtype)
    _checks.same_shape(f"{name}: grad_y", grad_y, x.shape, "as x has")
    mean, var, weight, bias = _channels(name, x, mean, var, weight, bias)
    training = _checks.flag(f"{name}: training", training)
    images = contiguous_channels_last(x)
    grad_x = empty(images.shape, x.dtype)
    grads = np.empty((2, x.shape[1]))
    _kernel.batch_norm_backward(contiguous_channels_last(grad_y), images, mean, var, weight,
                                _checks.real(f"{name}: eps", eps, 0.0), training, grad_x, grads)
    grad_weight, grad_bias = _rounded(grads, x.dtype)
    return (from_channels_last(grad_x), None if weight is None else grad_weight,
            None if bias is None else grad_bias)


@in_default_environment
def _rounded(x, dtype):
    return x.astype(dtype)


def track(running, found, rate, factor=1.0):
    """running += rate (factor found - running), in place; `found` in float64, of the shape of `running`."""
    running = _checks.as_float_array("running statistics", running, 1)
    _checks.same_shape("running statistics", running, found.shape)
    _kernel.track(running, found, rate, factor)


def normalized_sizes(name, normalized_shape):
    """`normalized_shape` as a tuple of sizes."""
    sizes = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    return tuple(_checks.integer(f"{name}: normalized_shape", n) for n in sizes)


def check_ending(name, x, shape, dtype=None):
    """`x` as a contiguous array whose last axes have this shape."""
    x = _checks.as_float_array(f"{name}: x", x, None, dtype)
    if not shape or x.shape[-len(shape):] != shape:
        raise ValueError(f"{name}: x has shape {x.shape}, which does not end in normalized_shape = {shape}")
    return np.ascontiguousarray(x)


def _rows_shape(x, shape):
    """The shape of x with the normalised axes made one, (..., n)."""
    return x.shape if len(shape) == 1 else (*x.shape[:-len(shape)], math.prod(shape))


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise over the last axes (Ba, Kiros and Hinton, 2016).

    ::

        y = (x - mean) / sqrt(var + eps) * weight + bias      mean and var over the last axes

    Parameters
    ----------
    x : ndarray, (..., *normalized_shape)
    normalized_shape : int or tuple of int
    weight, bias : ndarray of shape normalized_shape, optional
    eps : float, default 1e-5
    """
    shape = normalized_sizes("layer_norm", normalized_shape)
    return normalize_rows("layer_norm", check_ending("layer_norm", x, shape), shape, weight, bias, eps)


def normalize_rows(name, x, shape, weight, bias, eps):
    """`layer_norm` of what `check_ending` gave."""
    weight, bias = _affine(name, weight, bias, x.dtype, shape, "as normalized_shape says")
    y = empty(_rows_shape(x, shape), x.dtype)
    _kernel.layer_norm(x, weight, bias, _checks.real(f"{name}: eps", eps, 0.0), y)
    return y if len(shape) == 1 else y.reshape(x.shape)


def layer_norm_backward(grad_y, x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Gradients of `layer_norm` with respect to x, weight and bias.

    ::

        h = (x - mean) / sqrt(var + eps),  g = grad_y weight
        grad_x = (g - mean(g) - h mean(g h)) / sqrt(var + eps)
        grad_weight = sum over rows of grad_y h          grad_bias = sum over rows of grad_y
    """
    name = "layer_norm_backward"
    shape = normalized_sizes(name, normalized_shape)
    x = check_ending(name, x, shape)
    weight, bias = _affine(name, weight, bias, x.dtype, shape, "as normalized_shape says")
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, x.ndim, x.dtype)
    _checks.same_shape(f"{name}: grad_y", grad_y, x.shape, "as x has")
    grad_x = empty(_rows_shape(x, shape), x.dtype)
    grads = np.empty((2, grad_x.shape[-1]))
    _kernel.layer_norm_backward(np.ascontiguousarray(grad_y), x, weight,
                                _checks.real(f"{name}: eps", eps, 0.0), grad_x, grads)
    grad_weight, grad_bias = grads.astype(x.dtype)
    return (grad_x.reshape(x.shape), None if weight is None else grad_weight.reshape(shape),
            None if bias is None else grad_bias.reshape(shape))
