"""Activations made of pieces, in plain NumPy."""

from __future__ import annotations

import numpy as np

from .activation import sigmoid


def elu(x, alpha=1.0):
    """x where x > 0, else alpha (e^x - 1)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype)


def elu_backward(grad_y, x, alpha=1.0):
    """grad_y where x > 0, else grad_y alpha e^x."""
    return (grad_y * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))).astype(x.dtype)


def hardtanh(x, min_val=-1.0, max_val=1.0):
    """x between its bounds."""
    return np.minimum(np.maximum(x, x.dtype.type(min_val)), x.dtype.type(max_val))


def hardtanh_backward(grad_y, x, min_val=-1.0, max_val=1.0):
    """grad_y where min_val < x < max_val, else 0."""
    return np.where((x <= min_val) | (x >= max_val), x.dtype.type(0), grad_y)


def hardsigmoid(x):
    """x / 6 + 1 / 2 between 0 and 1."""
    return np.minimum(np.maximum(x / 6 + x.dtype.type(0.5), 0), 1).astype(x.dtype)


def hardsigmoid_backward(grad_y, x):
    """grad_y / 6 where -3 < x < 3, else 0."""
    return np.where((x <= -3) | (x >= 3), x.dtype.type(0), grad_y / 6)


def hardswish(x):
    """x times its hardsigmoid."""
    return np.where(x <= -3, x.dtype.type(0), np.where(x <= -3, 0, x) * hardsigmoid(x)).astype(x.dtype)


def hardswish_backward(grad_y, x):
    """The slope is 0, x / 3 + 1 / 2, 1."""
    return np.where(x <= -3, 0, grad_y * np.where(x >= 3, 1, x / 3 + 0.5)).astype(x.dtype)


def softplus(x, beta=1.0, threshold=20.0):
    """log(1 + e^(beta x)) / beta, or x where that is large."""
    return np.where(beta * x > threshold, x, np.logaddexp(beta * x, 0) / beta).astype(x.dtype)


def softplus_backward(grad_y, x, beta=1.0, threshold=20.0):
    """grad_y sigmoid(beta x), or grad_y where that is large."""
    return (grad_y * np.where(beta * x > threshold, 1, sigmoid(beta * x))).astype(x.dtype)
