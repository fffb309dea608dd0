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
    if training and h.size:
        h = h - h.mean(axes, keepdims=True)  # what the mean lost if it was rounded
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


def _neighbours(x, size):
    """For each channel the sum of x over the channels from c - size // 2 to c + (size - 1) // 2."""
    channels = np.arange(x.shape[1])
    distance = channels - channels[:, None]
    near = (distance >= -(size // 2)) & (distance <= (size - 1) // 2)
    return near, np.einsum("cd,nd...->nc...", near.astype(x.dtype), x)


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    """x / (k + alpha / size sum x^2)^beta, the sum over neighbouring channels."""
    _, total = _neighbours(x * x, size)
    return (x * (k + alpha / size * total) ** -beta).astype(x.dtype)


def local_response_norm_backward(grad_y, x, size, alpha=1e-4, beta=0.75, k=1.0):
    """grad_y s^-beta - 2 alpha beta / size x sum grad_y x s^(-beta - 1)."""
    near, total = _neighbours(x * x, size)
    s = k + alpha / size * total
    inner = np.einsum("cd,nc...->nd...", near.astype(x.dtype), grad_y * x * s ** (-beta - 1))
    return (grad_y * s**-beta - 2 * alpha * beta / size * x * inner).astype(x.dtype)
