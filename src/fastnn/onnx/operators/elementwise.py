"""Arithmetic and logic, element by element, with NumPy's broadcasting and in its memory order."""

from __future__ import annotations

import functools

import numpy as np

from ._broadcast import sum_to_shape
from .registry import operator

# --- Two inputs


def _to_inputs(call, *grads):
    """The gradients of broadcast inputs; each given as a function, called only where it is needed."""
    return tuple(sum_to_shape(np.asarray(grad()), x.shape) if needed else None
                 for grad, x, needed in zip(grads, call.inputs, call.needs, strict=True))


@operator("Add", weights=(0, 1))
def add(call, a, b):
    """a + b."""
    return a + b


@add.gradient
def add_backward(call, grad_y):
    return _to_inputs(call, lambda: grad_y, lambda: grad_y)


@operator("Sub", weights=(0, 1))
def sub(call, a, b):
    """a - b."""
    return a - b


@sub.gradient
def sub_backward(call, grad_y):
    return _to_inputs(call, lambda: grad_y, lambda: -grad_y)


@operator("Mul", weights=(0, 1))
def mul(call, a, b):
    """a b."""
    return a * b


@mul.gradient
def mul_backward(call, grad_y):
    a, b = call.inputs
    return _to_inputs(call, lambda: grad_y * b, lambda: grad_y * a)


@operator("Div", weights=(0, 1))
def div(call, a, b):
    """a / b; of integers towards zero, as C has it."""
    if a.dtype.kind not in "iu":
        return a / b
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


@div.gradient
def div_backward(call, grad_y):
    a, b = call.inputs
    return _to_inputs(call, lambda: grad_y / b, lambda: -grad_y * a / (b * b))


@operator("Pow")
def power(call, a, b):
    """a^b, of the dtype of a."""
    return np.power(a, b, dtype=np.result_type(a, b)).astype(a.dtype, copy=False)


@power.gradient
def power_backward(call, grad_y):
    a, b = call.inputs
    # 0^b is 0 for all b > 0, so its logarithm is not asked for.
    return _to_inputs(call, lambda: grad_y * b.astype(a.dtype) * np.power(a, (b - 1).astype(a.dtype)),
                      lambda: (grad_y * call.outputs[0] * np.log(np.where(a > 0, a, 1))).astype(b.dtype))


def _sum_of_all(xs):
    return functools.reduce(np.add, xs)


@operator("Sum")
def sum_(call, *xs):
    """The sum of any number of arrays."""
    return _sum_of_all(xs)


@sum_.gradient
def sum_backward(call, grad_y):
    return _to_inputs(call, *[lambda: grad_y] * len(call.inputs))


@operator("Max")
def max_(call, *xs):
    """The largest of any number of arrays."""
    return functools.reduce(np.maximum, xs)


@operator("Min")
def min_(call, *xs):
    """The smallest of any number of arrays."""
    return functools.reduce(np.minimum, xs)


@max_.gradient
@min_.gradient
def extreme_backward(call, grad_y):
    # The first of equals takes the gradient.
    y, free, grads = call.outputs[0], True, []
    for x in call.inputs:
        chosen = free & (np.broadcast_to(x, y.shape) == y)
        free = free & ~chosen
        grads.append(sum_to_shape(np.where(chosen, grad_y, y.dtype.type(0)), x.shape))
    return tuple(grads)


# --- One input


@operator("Sqrt")
def sqrt(call, x):
    """The square root."""
    return np.sqrt(x)


@sqrt.gradient
def sqrt_backward(call, grad_y):
    return grad_y / (2 * call.outputs[0])


@operator("Exp")
def exp(call, x):
    """e^x."""
    return np.exp(x)


@exp.gradient
def exp_backward(call, grad_y):
    return grad_y * call.outputs[0]


@operator("Log")
def log(call, x):
    """The natural logarithm."""
    return np.log(x)


@log.gradient
def log_backward(call, grad_y):
    return grad_y / call.inputs[0]


# --- Clip: bounds were attributes up to opset 10


def _clip(x, low, high):
    if low is not None:
        x = np.maximum(x, np.asarray(low).astype(x.dtype))
    return x if high is None else np.minimum(x, np.asarray(high).astype(x.dtype))


def _clip_gradient(grad_y, x, low, high):
    # At a bound the gradient passes, as in torch.
    inside = np.ones(x.shape, bool) if low is None else x >= low
    return grad_y * (inside if high is None else inside & (x <= high))


@operator("Clip")
def clip_attributes(call, x, *, min=None, max=None):
    """x, but at least min and at most max."""
    return _clip(x, min, max)


@clip_attributes.gradient
def clip_attributes_backward(call, grad_y, *, min=None, max=None):
    return _clip_gradient(grad_y, call.inputs[0], min, max)


@operator("Clip", since=11)
def clip(call, x, low=None, high=None):
    """x, but at least low and at most high."""
    return _clip(x, low, high)


@clip.gradient
def clip_backward(call, grad_y):
    x, low, high = (*call.inputs, None, None)[:3]
    return _clip_gradient(grad_y, x, low, high)
