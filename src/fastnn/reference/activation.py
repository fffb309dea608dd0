"""Activation functions in plain NumPy."""

from __future__ import annotations

import math

import numpy as np

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _normal_cdf(x):
    return (_erfc(-x / math.sqrt(2)) / 2).astype(x.dtype)  # of erf, the sum with 1 would lose the tail


def relu(x):
    """max(0, x)."""
    return np.where(x <= 0, np.zeros_like(x), x)


def relu_backward(grad_y, y):
    """grad_y where y > 0, else 0."""
    return np.where(y <= 0, np.zeros_like(y), grad_y)


def active_share(y):
    """The share of y > 0."""
    return float(np.mean(y > 0)) if y.size else float("nan")


def leaky_relu(x, negative_slope=0.01):
    """x where x >= 0, else negative_slope x."""
    return np.where(x < 0, (negative_slope * x).astype(x.dtype), x)


def leaky_relu_backward(grad_y, x, negative_slope=0.01):
    """grad_y where x > 0, else negative_slope grad_y."""
    return np.where(x > 0, grad_y, (negative_slope * grad_y).astype(x.dtype))


def _spread(weight, x):
    """The slopes, in a shape that spreads over the channels of x."""
    return weight.reshape(-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else weight.reshape((1,) * x.ndim)


def prelu(x, weight):
    """x where x >= 0, else weight[c] x, the channels c in dimension 1."""
    return np.where(x < 0, _spread(weight, x) * np.where(x < 0, x, 0), x)


def prelu_backward(grad_y, x, weight):
    """grad_y where x > 0, else weight[c] grad_y; and the sum of grad_y x over x < 0."""
    products = np.where(x < 0, grad_y * x, np.zeros_like(x))
    axes = tuple(axis for axis in range(x.ndim) if axis != 1 or weight.size == 1)
    grad_x = np.where(x > 0, grad_y, _spread(weight, x) * grad_y)
    return grad_x, products.sum(axes).reshape(weight.shape)


def sigmoid(x):
    """1 / (1 + e^-x) by e^-|x|, which does not overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, np.ones_like(x)) / (1 + small)


def sigmoid_backward(grad_y, y):
    """grad_y y (1 - y)."""
    return grad_y * y * (1 - y)


def tanh(x):
    """The hyperbolic tangent."""
    return np.tanh(x)


def tanh_backward(grad_y, y):
    """grad_y (1 - y^2)."""
    return grad_y * (1 - y * y)


def gelu(x, approximate="none"):
    """x Phi(x), or its approximation by tanh."""
    if approximate == "none":
        return x * _normal_cdf(x)
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def gelu_backward(grad_y, x, approximate="none"):
    """grad_y (Phi(x) + x phi(x)), or the derivative of the approximation."""
    if approximate == "none":
        return grad_y * (_normal_cdf(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return grad_y * ((1 + t) / 2 + x * (1 - t * t) * inner / 2)


def silu(x):
    """x sigmoid(x)."""
    return x * sigmoid(x)


def silu_backward(grad_y, x):
    """grad_y s (1 + x (1 - s)), s = sigmoid(x)."""
    s = sigmoid(x)
    return grad_y * s * (1 + x * (1 - s))


def softmax(x, dim=-1):
    """e^x / sum e^x along `dim`."""
    e = np.exp(x - x.max(dim, keepdims=True)) if x.size else x
    return e / e.sum(dim, keepdims=True)


def softmax_backward(grad_y, y, dim=-1):
    """y (grad_y - sum(grad_y y))."""
    return y * (grad_y - (grad_y * y).sum(dim, keepdims=True))


def log_softmax(x, dim=-1):
    """x - log(sum e^x) along `dim`."""
    shifted = x - x.max(dim, keepdims=True) if x.size else x
    return shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))


def log_softmax_backward(grad_y, y, dim=-1):
    """grad_y - e^y sum(grad_y)."""
    return grad_y - np.exp(y) * grad_y.sum(dim, keepdims=True)
