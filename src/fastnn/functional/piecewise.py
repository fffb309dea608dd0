"""Activations made of pieces, forward beside backward."""

from __future__ import annotations

from .. import _checks
from .._kernels import elementwise as _kernel
from .._kernels.runtime import in_default_environment
from ._elementwise import apply, apply_gradient


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
    x = _checks.as_float_array("elu: x", x)
    return apply(_kernel.ELU, x, _checks.real("elu: alpha", alpha))


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
    return apply_gradient("elu_backward", _kernel.ELU, grad_y, x, alpha)


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
    return apply(_kernel.HARDTANH, _checks.as_float_array("hardtanh: x", x), low, high)


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
    return apply_gradient("hardtanh_backward", _kernel.HARDTANH, grad_y, x, low, high)


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
    return apply(_kernel.HARDSIGMOID, _checks.as_float_array("hardsigmoid: x", x))


def hardsigmoid_backward(grad_y, x):
    """Gradient of `hardsigmoid`, from its input.

    ::

        grad_x = grad_y / 6 where -3 < x < 3, else 0

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    return apply_gradient("hardsigmoid_backward", _kernel.HARDSIGMOID, grad_y, x)


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
    return apply(_kernel.HARDSWISH, _checks.as_float_array("hardswish: x", x))


def hardswish_backward(grad_y, x):
    """Gradient of `hardswish`, from its input.

    ::

        grad_x = grad_y (x / 3 + 1 / 2) where -3 < x < 3, grad_y where x >= 3, else 0

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    return apply_gradient("hardswish_backward", _kernel.HARDSWISH, grad_y, x)


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
    return apply(_kernel.SOFTPLUS, _checks.as_float_array("softplus: x", x), beta, threshold)


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
    return apply_gradient("softplus_backward", _kernel.SOFTPLUS, grad_y, x, beta, threshold)
