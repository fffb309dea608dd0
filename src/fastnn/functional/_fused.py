"""Activations that a product applies itself: those whose derivative follows from their output."""

from __future__ import annotations

import numpy as np

from .. import _checks
from . import activation as _activation

NAMES = (None, "relu", "sigmoid", "tanh")


def forward(name: str | None, y: np.ndarray) -> np.ndarray:
    """f(y). The kernels of the products do "relu" themselves; the others are one pass over y."""
    if name is None or name == "relu":
        return y
    return _activation.sigmoid(y) if name == "sigmoid" else _activation.tanh(y)


def backward(name: str | None, grad_y: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient of what f was applied to."""
    if name is None:
        return grad_y
    if name == "relu":
        return _activation.relu_backward(grad_y, y)
    if name == "sigmoid":
        return _activation.sigmoid_backward(grad_y, y)
    return _activation.tanh_backward(grad_y, y)


def gradient(name, activation, grad_y, y, shape, dtype):
    """Check grad_y and, with an activation, y against the output's shape; return grad_y through f."""
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, len(shape), dtype)
    _checks.same_shape(f"{name}: grad_y", grad_y, shape, "as the output has")
    if _checks.choice(f"{name}: activation", activation, NAMES) is None:
        return grad_y
    y = _checks.as_float_array(f"{name}: y", y, len(shape), dtype)
    _checks.same_shape(f"{name}: y", y, shape, "as the output has")
    return backward(activation, grad_y, y)
