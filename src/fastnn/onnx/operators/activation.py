"""Activations: the package's functions on float32 and float64, and what they come to on other dtypes."""

from __future__ import annotations

import numpy as np

from ... import functional as F
from ._broadcast import sum_to_shape
from .registry import operator


@operator("Relu")
def relu(call, x):
    """max(0, x), of integers too."""
    return F.relu(x) if x.dtype.kind == "f" and x.itemsize > 2 else np.maximum(x, x.dtype.type(0))


@relu.gradient
def relu_backward(call, grad_y):
    return F.relu_backward(grad_y, call.outputs[0])


@operator("LeakyRelu", widen=True)
def leaky_relu(call, x, *, alpha=0.01):
    """x where x >= 0, else alpha x."""
    return F.leaky_relu(x, alpha)


@leaky_relu.gradient
def leaky_relu_backward(call, grad_y, *, alpha=0.01):
    return F.leaky_relu_backward(grad_y, call.inputs[0], alpha)


@operator("PRelu", weights=(1,))
def prelu(call, x, slope):
    """x where x >= 0, else slope x; the slope is broadcast to x."""
    return np.where(x < 0, x * slope, x)


@prelu.gradient
def prelu_backward(call, grad_y):
    x, slope = call.inputs
    negative = x < 0
    return (np.where(negative, grad_y * slope, grad_y),
            sum_to_shape(np.where(negative, grad_y * x, x.dtype.type(0)), slope.shape))


@operator("Sigmoid", widen=True)
def sigmoid(call, x):
    """1 / (1 + e^-x)."""
    return F.sigmoid(x)


@sigmoid.gradient
def sigmoid_backward(call, grad_y):
    return F.sigmoid_backward(grad_y, call.outputs[0])


@operator("Tanh", widen=True)
def tanh(call, x):
    """The hyperbolic tangent."""
    return F.tanh(x)


@tanh.gradient
def tanh_backward(call, grad_y):
    return F.tanh_backward(grad_y, call.outputs[0])


@operator("Gelu", widen=True)
def gelu(call, x, *, approximate="none"):
    """x Phi(x)."""
    return F.gelu(x, approximate)


@gelu.gradient
def gelu_backward(call, grad_y, *, approximate="none"):
    return F.gelu_backward(grad_y, call.inputs[0], approximate)


# --- Softmax. Up to opset 12 it ran over all axes from `axis` on, as over one.


def _as_matrix(x, axis):
    axis %= x.ndim + (axis == x.ndim)
    return x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))


@operator("Softmax", widen=True)
def softmax_matrix(call, x, *, axis=1):
    """e^x / sum e^x over the axes from `axis` on."""
    return F.softmax(_as_matrix(x, axis)).reshape(x.shape)


@softmax_matrix.gradient
def softmax_matrix_backward(call, grad_y, *, axis=1):
    y = call.outputs[0]
    return F.softmax_backward(_as_matrix(grad_y, axis), _as_matrix(y, axis)).reshape(y.shape)


@operator("Softmax", since=13, widen=True)
def softmax(call, x, *, axis=-1):
    """e^x / sum e^x along one axis."""
    return F.softmax(x, axis)


@softmax.gradient
def softmax_backward(call, grad_y, *, axis=-1):
    return F.softmax_backward(grad_y, call.outputs[0], axis)


@operator("LogSoftmax", widen=True)
def log_softmax_matrix(call, x, *, axis=1):
    """x - log(sum e^x) over the axes from `axis` on."""
    return F.log_softmax(_as_matrix(x, axis)).reshape(x.shape)


@log_softmax_matrix.gradient
def log_softmax_matrix_backward(call, grad_y, *, axis=1):
    y = call.outputs[0]
    return F.log_softmax_backward(_as_matrix(grad_y, axis), _as_matrix(y, axis)).reshape(y.shape)


@operator("LogSoftmax", since=13, widen=True)
def log_softmax(call, x, *, axis=-1):
    """x - log(sum e^x) along one axis."""
    return F.log_softmax(x, axis)


@log_softmax.gradient
def log_softmax_backward(call, grad_y, *, axis=-1):
    return F.log_softmax_backward(grad_y, call.outputs[0], axis)
