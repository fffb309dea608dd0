"""Arithmetic and logic, element by element, with NumPy's broadcasting and in its memory order."""

from __future__ import annotations

import functools
import math

import numpy as np

from ... import functional as F
from ._broadcast import sum_to_shape
from .registry import operator

# --- Two inputs. Of sums and products a constant may be a bias or a scale, which is trained; what is
# subtracted or divided by is as a rule the mean and deviation of the data, or a number of a formula.


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


@operator("Sub")
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


@operator("Div")
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
    # a^0 is 1 for all a, whatever a^-1 is; 0^b is 0 for all b > 0, so its logarithm is not asked for.
    less_one = (np.where(b, b, 1) - 1).astype(a.dtype)
    return _to_inputs(call, lambda: grad_y * b.astype(a.dtype) * np.power(a, less_one),
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


@operator("Mean")
def mean(call, *xs):
    """The mean of any number of arrays."""
    return _sum_of_all(xs) / xs[0].dtype.type(len(xs))


@mean.gradient
def mean_backward(call, grad_y):
    share = grad_y / grad_y.dtype.type(len(call.inputs))
    return _to_inputs(call, *[lambda: share] * len(call.inputs))


@operator("Mod")
def mod(call, a, b, *, fmod=0):
    """The remainder of a / b, with the sign of b or, with `fmod`, of a."""
    return np.fmod(a, b) if fmod else np.mod(a, b)


@mod.gradient
def mod_backward(call, grad_y, *, fmod=0):
    a, b = call.inputs
    return _to_inputs(call, lambda: grad_y, lambda: -grad_y * (np.trunc(a / b) if fmod else np.floor(a / b)))


@operator("Where")
def where(call, condition, a, b):
    """a where the condition holds, else b."""
    return np.where(condition, a, b)


@where.gradient
def where_backward(call, grad_y):
    condition, a, b = call.inputs
    zero = grad_y.dtype.type(0)
    return (None, sum_to_shape(np.where(condition, grad_y, zero), a.shape),
            sum_to_shape(np.where(condition, zero, grad_y), b.shape))


# --- Comparisons and logic: booleans, which have no gradient


def _compare(function, call, a, b):
    return function(a, b)


for _name, _function in {
    "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}.items():
    operator(_name)(functools.partial(_compare, _function))


@operator("Not", since=1)
def not_(call, x):
    """Not x."""
    return np.logical_not(x)


@operator("IsNaN")
def is_nan(call, x):
    """Whether each element is NaN."""
    return np.isnan(x)


@operator("IsInf")
def is_inf(call, x, *, detect_negative=1, detect_positive=1):
    """Whether each element is infinite, of the signs asked for."""
    return np.isinf(x) & ((bool(detect_negative) & (x < 0)) | (bool(detect_positive) & (x > 0)))


# --- One input. Of each function its derivative, from x and y.


# Of erf(x) / x, in powers of x^2, the highest first; below 0.1 the next one would add 1e-16 of it.
_ERF_SERIES = [2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1))
               for n in range(5, -1, -1)]


def _erf(x):
    """The error function, from the package's gelu: x Phi(x) = x (1 + erf(x / sqrt 2)) / 2."""
    wide = x.astype(np.float64)
    small = np.abs(wide) < 0.1
    # From 6 on erf rounds to 1; of infinity the quotient is NaN.
    z = np.where(small, 1, np.clip(wide, -6, 6)) * math.sqrt(2)
    y = np.asarray(2 * F.gelu(z) / z - 1)
    near = wide[small]  # where the difference has few digits left
    y[small] = near * np.polyval(_ERF_SERIES, near * near)
    return y.astype(x.dtype)


_FUNCTIONS = {
    "Abs": (np.abs, lambda x, y: np.sign(x)),
    "Neg": (np.negative, lambda x, y: -np.ones_like(x)),
    "Reciprocal": (lambda x: x.dtype.type(1) / x, lambda x, y: -y * y),
    "Sqrt": (np.sqrt, lambda x, y: x.dtype.type(0.5) / y),
    "Exp": (np.exp, lambda x, y: y),
    "Log": (np.log, lambda x, y: 1 / x),
    "Erf": (_erf, lambda x, y: x.dtype.type(2 / math.sqrt(math.pi)) * np.exp(-x * x)),
    "Sin": (np.sin, lambda x, y: np.cos(x)),
    "Cos": (np.cos, lambda x, y: -np.sin(x)),
    "Tan": (np.tan, lambda x, y: 1 + y * y),
    "Asin": (np.arcsin, lambda x, y: 1 / np.sqrt(1 - x * x)),
    "Acos": (np.arccos, lambda x, y: -1 / np.sqrt(1 - x * x)),
    "Atan": (np.arctan, lambda x, y: 1 / (1 + x * x)),
    "Sinh": (np.sinh, lambda x, y: np.cosh(x)),
    "Cosh": (np.cosh, lambda x, y: np.sinh(x)),
    "Asinh": (np.arcsinh, lambda x, y: 1 / np.sqrt(x * x + 1)),
    "Acosh": (np.arccosh, lambda x, y: 1 / np.sqrt(x * x - 1)),
    "Atanh": (np.arctanh, lambda x, y: 1 / (1 - x * x)),
    # Steps, whose derivative is zero.
    "Sign": (np.sign, None),
    "Floor": (np.floor, None),
    "Ceil": (np.ceil, None),
    "Round": (np.rint, None),
}


def _register(name, function, derivative):
    def forward(call, x):
        return function(x)

    def backward(call, grad_y):
        return grad_y * derivative(call.inputs[0], call.outputs[0])

    op = operator(name)(forward)
    if derivative is not None:
        op.gradient(backward)


for _name, _pair in _FUNCTIONS.items():
    _register(_name, *_pair)


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
    # What the bounds cut off is their own.
    below = None if low is None else np.where(x < low, grad_y, 0).sum(dtype=x.dtype)
    above = None if high is None else np.where(x > high, grad_y, 0).sum(dtype=x.dtype)
    return _clip_gradient(grad_y, x, low, high), below, above
