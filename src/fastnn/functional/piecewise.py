"""Activations made of pieces, forward beside backward: a few passes of NumPy in the memory order of x."""

from __future__ import annotations

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment
from .activation import sigmoid


def _input(name, x):
    return _checks.as_float_array(f"{name}: x", x)


def _inputs(name, grad_y, x):
    """Check the arguments of a gradient."""
    x = _input(name, x)
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, None, x.dtype)
    _checks.same_shape(f"{name}: grad_y", grad_y, x.shape, "as x has")
    return grad_y, x


@in_default_environment
def elu(x, alpha=1.0):
    """Exponential linear unit (Clevert, Unterthiner and Hochreiter, 2015).

    ::

        y = x where x > 0, else alpha (e^x - 1)

    Parameters
    ----------
    x : ndarray
        Any shape.
    alpha : float, default 1

    Returns
    -------
    y : ndarray of the shape of `x`
    """
    x, alpha = _input("elu", x), _checks.real("elu: alpha", alpha)
    y = np.minimum(x, 0, out=np.empty_like(x))
    np.expm1(y, out=y)
    y *= x.dtype.type(alpha)
    np.copyto(y, x, where=x > 0)
    return y


@in_default_environment
def elu_backward(grad_y, x, alpha=1.0):
    """Gradient of `elu`, from its input.

    ::

        grad_x = grad_y where x > 0, else grad_y alpha e^x

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    alpha = _checks.real("elu_backward: alpha", alpha)
    grad_y, x = _inputs("elu_backward", grad_y, x)
    grad_x = np.minimum(x, 0, out=np.empty_like(x))
    np.exp(grad_x, out=grad_x)
    grad_x *= x.dtype.type(alpha)
    np.copyto(grad_x, 1, where=x > 0)
    grad_x *= grad_y
    return grad_x


def bounds(name, min_val, max_val):
    """Check the bounds of a hardtanh."""
    low, high = (_checks.real(f"{name}: {what}", value)
                 for what, value in (("min_val", min_val), ("max_val", max_val)))
    if low > high:
        raise ValueError(f"{name}: min_val = {low:g} is above max_val = {high:g}")
    return low, high


@in_default_environment
def hardtanh(x, min_val=-1.0, max_val=1.0):
    """x, but at least `min_val` and at most `max_val`; with 0 and 6 it is the ReLU6 of mobile networks.

    ::

        y = min(max(x, min_val), max_val)

    Parameters
    ----------
    x : ndarray
        Any shape.
    min_val, max_val : float, default -1 and 1

    Returns
    -------
    y : ndarray of the shape of `x`
    """
    low, high = bounds("hardtanh", min_val, max_val)
    x = _input("hardtanh", x)
    return np.clip(x, low, high, out=np.empty_like(x))


@in_default_environment
def hardtanh_backward(grad_y, x, min_val=-1.0, max_val=1.0):
    """Gradient of `hardtanh`, from its input; zero at the bounds, as torch has it.

    ::

        grad_x = grad_y where min_val < x < max_val, else 0

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    low, high = bounds("hardtanh_backward", min_val, max_val)
    grad_y, x = _inputs("hardtanh_backward", grad_y, x)
    grad_x = np.zeros_like(x)
    np.copyto(grad_x, grad_y, where=~((x <= low) | (x >= high)))  # NaN passes it on
    return grad_x


@in_default_environment
def hardsigmoid(x):
    """A sigmoid of three straight pieces.

    ::

        y = min(max(x / 6 + 1 / 2, 0), 1)

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    y : ndarray of the shape of `x`
    """
    x = _input("hardsigmoid", x)
    y = np.divide(x, 6, out=np.empty_like(x))
    y += x.dtype.type(0.5)
    return np.clip(y, 0, 1, out=y)


@in_default_environment
def hardsigmoid_backward(grad_y, x):
    """Gradient of `hardsigmoid`, from its input.

    ::

        grad_x = grad_y / 6 where -3 < x < 3, else 0

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    grad_x = hardtanh_backward(*_inputs("hardsigmoid_backward", grad_y, x), -3.0, 3.0)
    grad_x /= 6
    return grad_x


@in_default_environment
def hardswish(x):
    """x times its `hardsigmoid`, of MobileNetV3 (Howard et al., 2019).

    ::

        y = x min(max(x / 6 + 1 / 2, 0), 1)

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    y : ndarray of the shape of `x`
    """
    x = _input("hardswish", x)
    y = hardsigmoid(x)
    np.multiply(y, x, out=y, where=x > -3)  # not zero times minus infinity
    return y


@in_default_environment
def hardswish_backward(grad_y, x):
    """Gradient of `hardswish`, from its input.

    ::

        grad_x = grad_y (x / 3 + 1 / 2) where -3 < x < 3, grad_y where x >= 3, else 0

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    grad_y, x = _inputs("hardswish_backward", grad_y, x)
    grad_x = np.divide(x, 3, out=np.empty_like(x))
    grad_x += x.dtype.type(0.5)
    np.copyto(grad_x, 0, where=x <= -3)
    np.copyto(grad_x, 1, where=x >= 3)
    grad_x *= grad_y
    return grad_x


def softplus_numbers(name, beta, threshold):
    """Check the numbers of a softplus."""
    beta = _checks.real(f"{name}: beta", beta)
    if beta == 0:
        raise ValueError(f"{name}: beta must not be 0")
    return beta, _checks.real(f"{name}: threshold", threshold)


@in_default_environment
def softplus(x, beta=1.0, threshold=20.0):
    """A smooth ReLU.

    ::

        y = log(1 + e^(beta x)) / beta where beta x <= threshold, else x

    Parameters
    ----------
    x : ndarray
        Any shape.
    beta : float, default 1
    threshold : float, default 20

    Returns
    -------
    y : ndarray of the shape of `x`
    """
    beta, threshold = softplus_numbers("softplus", beta, threshold)
    x = _input("softplus", x)
    z = np.multiply(x, x.dtype.type(beta), out=np.empty_like(x))
    # log(1 + e^z) = max(z, 0) + log(1 + e^-|z|), without overflow.
    y = np.negative(np.abs(z), out=np.empty_like(z))  # an array of shape () stays one
    np.log1p(np.exp(y, out=y), out=y)
    y += np.maximum(z, 0)
    y /= x.dtype.type(beta)
    np.copyto(y, x, where=z > threshold)
    return y


@in_default_environment
def softplus_backward(grad_y, x, beta=1.0, threshold=20.0):
    """Gradient of `softplus`, from its input.

    ::

        grad_x = grad_y sigmoid(beta x) where beta x <= threshold, else grad_y

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    beta, threshold = softplus_numbers("softplus_backward", beta, threshold)
    grad_y, x = _inputs("softplus_backward", grad_y, x)
    z = np.multiply(x, x.dtype.type(beta), out=np.empty_like(x))
    grad_x = sigmoid(z)
    np.copyto(grad_x, 1, where=z > threshold)
    grad_x *= grad_y
    return grad_x
