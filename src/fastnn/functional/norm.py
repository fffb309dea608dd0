"""Batch and layer normalisation, forward beside backward."""

from __future__ import annotations

import math

import numpy as np

from .. import _checks
from .._kernels import norm as _kernel
from .._kernels.memory import empty
from .._kernels.runtime import in_default_environment

# Rows whose mean is the pilot of the statistics.
_PILOT_ROWS = 64


def _rows(x):
    """(N, C, ...) as rows of channels (M, C), and the shape to go back from."""
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    return moved.reshape(-1, x.shape[1]) if x.size else moved.reshape(0, x.shape[1]), moved.shape


def _back(rows, shape):
    return np.moveaxis(rows.reshape(shape), -1, 1)


def _images(name, x, dtype=None):
    x = _checks.as_float_array(f"{name}: x", x, None, dtype)
    if x.ndim < 2:
        raise ValueError(f"{name}: x has shape {x.shape}, expected (N, C) or (N, C, ...)")
    return x


def _channels(name, x, **vectors):
    """Check that each vector has a number for each channel; no weight and no bias stay None.

    Statistics may be float64 whatever x is.
    """
    checked = []
    for what, vector in vectors.items():
        if vector is not None or what in ("mean", "var"):
            exact = what in ("mean", "var") and getattr(vector, "dtype", None) == np.float64
            vector = _checks.as_float_array(f"{name}: {what}", vector, 1, None if exact else x.dtype)
            _checks.same_shape(f"{name}: {what}", vector, (x.shape[1],), "one number a channel")
            vector = np.ascontiguousarray(vector)
        checked.append(vector)
    return checked


def _moments_about(rows, center, g=None):
    """Sums over the rows, in float64, by column: of d g, d and g for the deviations d = rows - center; of d^2
    and d without g."""
    sums = np.empty((2 if g is None else 3, rows.shape[1]))
    _kernel.column_moments(rows, center, g, sums)
    return sums


def _measured(rows):
    """Mean and biased variance of each column, in float64; NaN without rows."""
    count = rows.shape[0]
    if not count:
        nothing = np.full(rows.shape[1], np.nan)
        return nothing, nothing
    # Deviations from a pilot are small whatever the offset of the data: the mean of a block of rows.
    pilot = np.mean(rows[:_PILOT_ROWS], axis=0, dtype=np.float64).astype(rows.dtype)
    squares, deviations = _moments_about(rows, pilot) / count
    var = squares - np.square(deviations)
    if not (np.square(deviations) <= 4 * var).all():
        # A pilot that is far from the mean takes digits; then, and for NaN, once more about the mean itself.
        center = (pilot + deviations).astype(rows.dtype)
        squares, rest = _moments_about(rows, center) / count
        mean = center + rest
        lost = np.isnan(mean)  # infinity less infinity: the mean itself may well be infinite
        if lost.any():
            mean[lost] = np.mean(rows[:, lost], axis=0, dtype=np.float64)
        return mean, np.maximum(squares - np.square(rest), 0)
    return pilot + deviations, np.maximum(var, 0)


def _two_parts(mean, dtype):
    """The mean rounded to the dtype, and what it lost: None where that is nothing."""
    center = mean.astype(dtype, copy=False)
    if center is mean:
        return center, None
    return center, np.subtract(mean, center, where=np.isfinite(center), out=np.zeros_like(mean))


def _mapped(rows, mean, a, b, g=None, d=None):
    """(rows - mean) a + b, plus g d; the vectors in any dtype.

    What the mean loses when it is rounded to the dtype of the rows is the intercept's: of data far from zero
    it may be many deviations.
    """
    dtype = rows.dtype
    center, rest = _two_parts(mean, dtype)
    if rest is not None:
        b = b - rest * a
    y = empty(rows.shape, dtype)
    _kernel.column_affine(rows, center, a.astype(dtype), b.astype(dtype), g,
                          None if d is None else d.astype(dtype), y)
    return y


def _inverse_deviation(name, var, eps):
    """1 / sqrt(var + eps) in float64."""
    return 1 / np.sqrt(var.astype(np.float64) + _checks.real(f"{name}: eps", eps, 0.0))


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


@in_default_environment
def exact_stats(x):
    """`batch_norm_stats` in float64, which `batch_norm` takes, too; x is checked."""
    return _measured(_rows(x)[0])


@in_default_environment
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
    mean, var, weight, bias = _channels("batch_norm", x, mean=mean, var=var, weight=weight, bias=bias)
    scale = _inverse_deviation("batch_norm", var, eps)
    if weight is not None:
        scale = scale * weight
    if bias is None:
        bias = np.zeros_like(mean)
    rows, shape = _rows(x)
    return _back(_mapped(rows, mean, scale, bias), shape)


@in_default_environment
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
    mean, var, weight, bias = _channels(name, x, mean=mean, var=var, weight=weight, bias=bias)
    inverse = _inverse_deviation(name, var, eps)
    rows, shape = _rows(x)
    grad_rows, _ = _rows(grad_y)
    center, rest = _two_parts(mean, x.dtype)
    products, deviations, totals = _moments_about(rows, center, grad_rows)
    scale = inverse if weight is None else inverse * weight
    if training:
        count = max(rows.shape[0], 1)
        rest = deviations / count  # found again, as the mean may have come in the dtype of x
    if rest is not None:
        products -= rest * totals
    if training:
        slope = -scale * np.square(inverse) * products / count
        grad_x = _mapped(rows, center, slope, -scale * totals / count - slope * rest, grad_rows, scale)
    else:
        none = np.zeros_like(center)
        grad_x = _mapped(grad_rows, none, scale, none)
    grad_weight = None if weight is None else (products * inverse).astype(x.dtype)
    return _back(grad_x, shape), grad_weight, None if bias is None else totals.astype(x.dtype)


def normalized_sizes(name, normalized_shape):
    """`normalized_shape` as a tuple of sizes."""
    sizes = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    return tuple(_checks.integer(f"{name}: normalized_shape", n) for n in sizes)


def _normalized(name, x, normalized_shape, weight, bias):
    """Check the arguments of layer norm; arrays come back contiguous, vectors flat."""
    x = _checks.as_float_array(f"{name}: x", x)
    shape = normalized_sizes(name, normalized_shape)
    if not shape or x.shape[-len(shape):] != shape:
        raise ValueError(f"{name}: x has shape {x.shape}, which does not end in normalized_shape = {shape}")
    vectors = []
    for what, vector in (("weight", weight), ("bias", bias)):
        if vector is not None:
            vector = _checks.as_float_array(f"{name}: {what}", vector, len(shape), x.dtype)
            _checks.same_shape(f"{name}: {what}", vector, shape, "as normalized_shape says")
            vector = np.ascontiguousarray(vector)
        vectors.append(vector)
    return np.ascontiguousarray(x), shape, *vectors


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
    x, shape, weight, bias = _normalized("layer_norm", x, normalized_shape, weight, bias)
    y = empty(_rows_shape(x, shape), x.dtype)
    _kernel.layer_norm(x, weight, bias, _checks.real("layer_norm: eps", eps, 0.0), y)
    return y if len(shape) == 1 else y.reshape(x.shape)


def layer_norm_backward(grad_y, x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Gradients of `layer_norm` with respect to x, weight and bias.

    ::

        h = (x - mean) / sqrt(var + eps),  g = grad_y weight
        grad_x = (g - mean(g) - h mean(g h)) / sqrt(var + eps)
        grad_weight = sum over rows of grad_y h          grad_bias = sum over rows of grad_y
    """
    name = "layer_norm_backward"
    x, shape, weight, bias = _normalized(name, x, normalized_shape, weight, bias)
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, x.ndim, x.dtype)
    _checks.same_shape(f"{name}: grad_y", grad_y, x.shape, "as x has")
    grad_x = empty(_rows_shape(x, shape), x.dtype)
    grads = np.empty((2, grad_x.shape[-1]))
    _kernel.layer_norm_backward(np.ascontiguousarray(grad_y), x, weight,
                                _checks.real(f"{name}: eps", eps, 0.0), grad_x, grads)
    grad_weight, grad_bias = grads.astype(x.dtype)
    return (grad_x.reshape(x.shape), None if weight is None else grad_weight.reshape(shape),
            None if bias is None else grad_bias.reshape(shape))
