"""Activations: the package's functions on float32 and float64, and what they come to on other dtypes."""

from __future__ import annotations

import numpy as np

from ... import functional as F
from ..._checks import matrix_shape
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


@operator("PRelu", weights=(1,), widen=True)
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


# --- Activations that the package has no kernel for


@operator("Elu", widen=True)
def elu(call, x, *, alpha=1.0):
    """x where x > 0, else alpha (e^x - 1)."""
    return F.elu(x, alpha)


@elu.gradient
def elu_backward(call, grad_y, *, alpha=1.0):
    return F.elu_backward(grad_y, call.inputs[0], alpha)


@operator("Celu", widen=True)
def celu(call, x, *, alpha=1.0):
    """x where x > 0, else alpha (e^(x / alpha) - 1)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


@celu.gradient
def celu_backward(call, grad_y, *, alpha=1.0):
    x = call.inputs[0]
    return grad_y * np.where(x > 0, 1, np.exp(np.minimum(x, 0) / alpha))


_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


@operator("Selu", widen=True)
def selu(call, x, *, alpha=_SELU_ALPHA, gamma=_SELU_GAMMA):
    """gamma x where x > 0, else gamma alpha (e^x - 1)."""
    return np.where(x > 0, gamma * x, gamma * alpha * np.expm1(np.minimum(x, 0)))


@selu.gradient
def selu_backward(call, grad_y, *, alpha=_SELU_ALPHA, gamma=_SELU_GAMMA):
    x = call.inputs[0]
    return grad_y * np.where(x > 0, gamma, gamma * alpha * np.exp(np.minimum(x, 0)))


@operator("ThresholdedRelu", widen=True)
def thresholded_relu(call, x, *, alpha=1.0):
    """x where x > alpha, else 0."""
    return np.where(x > alpha, x, x.dtype.type(0))


@thresholded_relu.gradient
def thresholded_relu_backward(call, grad_y, *, alpha=1.0):
    return grad_y * (call.inputs[0] > alpha)


@operator("HardSigmoid", widen=True)
def hard_sigmoid(call, x, *, alpha=0.2, beta=0.5):
    """max(0, min(1, alpha x + beta))."""
    y = x * x.dtype.type(alpha)
    y += x.dtype.type(beta)
    return np.clip(y, 0, 1, out=y)


@hard_sigmoid.gradient
def hard_sigmoid_backward(call, grad_y, *, alpha=0.2, beta=0.5):
    y = call.outputs[0]
    return np.where((y > 0) & (y < 1), alpha * grad_y, grad_y.dtype.type(0))


@operator("HardSwish", since=14, widen=True)
def hard_swish(call, x):
    """x max(0, min(1, x / 6 + 1 / 2))."""
    return F.hardswish(x)


@hard_swish.gradient
def hard_swish_backward(call, grad_y):
    return F.hardswish_backward(grad_y, call.inputs[0])


@operator("Softplus", widen=True)
def softplus(call, x):
    """log(1 + e^x), without overflow."""
    return np.logaddexp(x, x.dtype.type(0))


@softplus.gradient
def softplus_backward(call, grad_y):
    return grad_y * F.sigmoid(call.inputs[0])


@operator("Softsign", widen=True)
def softsign(call, x):
    """x / (1 + |x|)."""
    return x / (1 + np.abs(x))


@softsign.gradient
def softsign_backward(call, grad_y):
    return grad_y / np.square(1 + np.abs(call.inputs[0]))


@operator("Mish", widen=True)
def mish(call, x):
    """x tanh(log(1 + e^x))."""
    return x * np.tanh(np.logaddexp(x, x.dtype.type(0)))


@mish.gradient
def mish_backward(call, grad_y):
    x = call.inputs[0]
    t = np.tanh(np.logaddexp(x, x.dtype.type(0)))
    return grad_y * (t + x * (1 - t * t) * F.sigmoid(x))


@operator("Swish", since=24, widen=True)
def swish(call, x, *, alpha=1.0):
    """x sigmoid(alpha x)."""
    return x * F.sigmoid(x.dtype.type(alpha) * x)


@swish.gradient
def swish_backward(call, grad_y, *, alpha=1.0):
    x = call.inputs[0]
    s = F.sigmoid(x.dtype.type(alpha) * x)
    return grad_y * (s + alpha * x * s * (1 - s))


# --- Softmax. Up to opset 12 it ran over all axes from `axis` on, as over one.


def _as_matrix(x, axis):
    return x.reshape(matrix_shape("axis", x.shape, axis))


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
