"""Batch and layer normalisation in plain NumPy."""

from __future__ import annotations

import numpy as np


def _column(vector, ndim):
    return np.reshape(vector, (1, -1) + (1,) * (ndim - 2))


def batch_norm_stats(x):
    """Mean and biased variance over all axes but the channels'."""
    axes = (0, *range(2, x.ndim))
    wide = x.astype(np.float64)
    return wide.mean(axes).astype(x.dtype), wide.var(axes).astype(x.dtype)


def batch_norm(x, mean, var, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias."""
    y = (x - _column(mean, x.ndim)) / np.sqrt(_column(var, x.ndim) + eps)
    y = y if weight is None else y * _column(weight, x.ndim)
    return (y if bias is None else y + _column(bias, x.ndim)).astype(x.dtype)


def batch_norm_backward(grad_y, x, mean, var, weight=None, bias=None, eps=1e-5, *, training=True):
    """In training mean and variance are functions of x; else constants."""
    axes = (0, *range(2, x.ndim))
    inverse = 1 / np.sqrt(_column(var, x.ndim) + eps)
    h = (x - _column(mean, x.ndim)) * inverse
    g = grad_y if weight is None else grad_y * _column(weight, x.ndim)
    if training:
        g = g - g.mean(axes, keepdims=True) - h * (g * h).mean(axes, keepdims=True)
    return ((g * inverse).astype(x.dtype), None if weight is None else (grad_y * h).sum(axes),
            None if bias is None else grad_y.sum(axes))


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias, mean and var over the last axes."""
    axes = tuple(range(-np.size(normalized_shape), 0))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).astype(x.dtype)


def layer_norm_backward(grad_y, x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """grad_x = (g - mean(g) - h mean(g h)) / sqrt(var + eps)."""
    axes = tuple(range(-np.size(normalized_shape), 0))
    rest = tuple(range(x.ndim + axes[0]))
    inverse = 1 / np.sqrt(x.var(axes, keepdims=True) + eps)
    h = (x - x.mean(axes, keepdims=True)) * inverse
    g = grad_y if weight is None else grad_y * weight
    grad_x = (g - g.mean(axes, keepdims=True) - h * (g * h).mean(axes, keepdims=True)) * inverse
    return (grad_x.astype(x.dtype), None if weight is None else (grad_y * h).sum(rest),
            None if bias is None else grad_y.sum(rest))
