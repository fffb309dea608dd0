"""Activation functions, forward beside backward."""

from __future__ import annotations

import numpy as np

from .. import _checks
from .._kernels import elementwise as _kernel
from .._kernels.memory import empty
from .._kernels.runtime import in_default_environment
from ._elementwise import apply, apply_gradient
from ._layout import contiguous


def relu(x):
    """Rectified linear unit.

    ::

        y = max(0, x)

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    y : ndarray of the shape of `x`, with its memory layout where that is dense

    Notes
    -----
    Cheap, without a vanishing gradient for x > 0, and sparse: see `active_share`. NaN stays NaN.
    """
    return apply(_kernel.RELU, _checks.as_float_array("relu: x", x))


def relu_backward(grad_y, y):
    """Gradient of `relu`, from its output; the derivative at 0 is 0.

    ::

        grad_x = grad_y where y > 0, else 0

    Parameters
    ----------
    grad_y : ndarray of the shape of `y`
    y : ndarray
        The output of the forward pass.

    Returns
    -------
    grad_x : ndarray of the shape of `y`
    """
    return apply_gradient("relu_backward", _kernel.RELU, grad_y, y, saved_name="y")


@in_default_environment
def active_share(y):
    """The share of the units of `y`, the output of relu, that are active (> 0); NaN of an empty array."""
    y = _checks.as_float_array("active_share: y", y)
    return float(np.count_nonzero(y > 0) / y.size) if y.size else float("nan")


@in_default_environment
def leaky_relu(x, negative_slope=0.01):
    """Rectified linear unit that leaks (Maas, Hannun and Ng, 2013).

    ::

        y = x where x >= 0, else negative_slope x

    Parameters
    ----------
    x : ndarray
        Any shape.
    negative_slope : float, default 0.01

    Returns
    -------
    y : ndarray of the shape of `x`, with its memory layout where that is dense
    """
    slope = _checks.real("leaky_relu: negative_slope", negative_slope)
    return apply(_kernel.LEAKY_RELU, _checks.as_float_array("leaky_relu: x", x), slope)


@in_default_environment
def leaky_relu_backward(grad_y, x, negative_slope=0.01):
    """Gradient of `leaky_relu`, from its input.

    ::

        grad_x = grad_y where x > 0, else negative_slope grad_y

    Parameters
    ----------
    grad_y : ndarray of the shape of `x`
    x : ndarray
        The input of the forward pass.
    negative_slope : float, default 0.01

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    slope = _checks.real("leaky_relu_backward: negative_slope", negative_slope)
    return apply_gradient("leaky_relu_backward", _kernel.LEAKY_RELU, grad_y, x, slope)


def sigmoid(x):
    """Logistic function, without overflow for any x.

    ::

        y = 1 / (1 + e^-x)

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    y : ndarray of the shape of `x`, with its memory layout where that is dense
    """
    return apply(_kernel.SIGMOID, _checks.as_float_array("sigmoid: x", x))


def sigmoid_backward(grad_y, y):
    """Gradient of `sigmoid`, from its output.

    ::

        grad_x = grad_y y (1 - y)

    Parameters
    ----------
    grad_y : ndarray of the shape of `y`
    y : ndarray
        The output of the forward pass.

    Returns
    -------
    grad_x : ndarray of the shape of `y`
    """
    return apply_gradient("sigmoid_backward", _kernel.SIGMOID, grad_y, y, saved_name="y")


def tanh(x):
    """Hyperbolic tangent.

    ::

        y = (e^x - e^-x) / (e^x + e^-x)

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    y : ndarray of the shape of `x`, with its memory layout where that is dense
    """
    return apply(_kernel.TANH, _checks.as_float_array("tanh: x", x))


def tanh_backward(grad_y, y):
    """Gradient of `tanh`, from its output.

    ::

        grad_x = grad_y (1 - y^2)

    Parameters
    ----------
    grad_y : ndarray of the shape of `y`
    y : ndarray
        The output of the forward pass.

    Returns
    -------
    grad_x : ndarray of the shape of `y`
    """
    return apply_gradient("tanh_backward", _kernel.TANH, grad_y, y, saved_name="y")


def _gelu_op(name, approximate):
    _checks.choice(f"{name}: approximate", approximate, ("none", "tanh"))
    return _kernel.GELU if approximate == "none" else _kernel.GELU_TANH


def gelu(x, approximate="none"):
    """Gaussian error linear unit (Hendrycks and Gimpel, 2016); Phi is the normal distribution function.

    ::

        y = x Phi(x)                                                    approximate="none"
        y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2           approximate="tanh"

    Parameters
    ----------
    x : ndarray
        Any shape.
    approximate : {"none", "tanh"}, default "none"

    Returns
    -------
    y : ndarray of the shape of `x`, with its memory layout where that is dense

    Notes
    -----
    From about x = -13.25 down, in float64 -37.65, Phi and the density, there below 5e-38 and 3e-307, are 0.
    """
    return apply(_gelu_op("gelu", approximate), _checks.as_float_array("gelu: x", x))


def gelu_backward(grad_y, x, approximate="none"):
    """Gradient of `gelu`, from its input; phi is the normal density.

    ::

        grad_x = grad_y (Phi(x) + x phi(x))                             approximate="none"
        t = tanh(u),  u = sqrt(2 / pi) (x + 0.044715 x^3)
        grad_x = grad_y (1 + t + x (1 - t^2) du/dx) / 2                 approximate="tanh"

    Parameters
    ----------
    grad_y : ndarray of the shape of `x`
    x : ndarray
        The input of the forward pass.
    approximate : {"none", "tanh"}, default "none"

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    op = _gelu_op("gelu_backward", approximate)
    return apply_gradient("gelu_backward", op, grad_y, x)


def silu(x):
    """Sigmoid linear unit, also called swish (Elfwing, Uchibe and Doya, 2017).

    ::

        y = x sigmoid(x)

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    y : ndarray of the shape of `x`, with its memory layout where that is dense
    """
    return apply(_kernel.SILU, _checks.as_float_array("silu: x", x))


def silu_backward(grad_y, x):
    """Gradient of `silu`, from its input.

    ::

        grad_x = grad_y s (1 + x (1 - s)),  s = sigmoid(x)

    Parameters
    ----------
    grad_y : ndarray of the shape of `x`
    x : ndarray
        The input of the forward pass.

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    return apply_gradient("silu_backward", _kernel.SILU, grad_y, x)


def _axis(name, dim, ndim):
    """`dim` counted from the front."""
    ndim = max(ndim, 1)  # a scalar is a row of one
    dim = _checks.integer(f"{name}: dim", dim, -ndim)
    if dim >= ndim:
        raise ValueError(f"{name}: dim = {dim} is out of range for {ndim} dimensions")
    return dim % ndim


def _rows(x, dim):
    """`x` in C order with the axis `dim` last; moveaxis alone takes longer than a small softmax."""
    if x.ndim == 0:
        return x.reshape(1)
    return contiguous(x if dim == x.ndim - 1 else np.moveaxis(x, dim, -1))


def _back(y, dim):
    """Undo what `_rows` did to the axes."""
    return y if dim >= y.ndim - 1 else np.moveaxis(y, -1, dim)


def _softmax_of(name, x, dim, log):
    x = _checks.as_float_array(f"{name}: x", x)
    # As it lies: half of the time of a small softmax.
    if type(dim) is int and dim == -1 and x.ndim and x.flags.c_contiguous:
        y = empty(x.shape, x.dtype)
        _kernel.softmax(x, y, log)
        return y
    dim = _axis(name, dim, x.ndim)
    moved = _rows(x, dim)
    y = empty(moved.shape, x.dtype)
    _kernel.softmax(moved, y, log)
    return _back(y, dim).reshape(x.shape)


def _softmax_gradient(name, grad_y, y, dim, log):
    y = _checks.as_float_array(f"{name}: y", y)
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, None, y.dtype)
    _checks.same_shape(f"{name}: grad_y", grad_y, y.shape, "as y has")
    dim = _axis(name, dim, y.ndim)
    moved = _rows(y, dim)
    grad_x = empty(moved.shape, y.dtype)
    _kernel.softmax_backward(_rows(grad_y, dim), moved, grad_x, log)
    return _back(grad_x, dim).reshape(y.shape)


def softmax(x, dim=-1):
    """Exponentials divided by their sum along an axis, without overflow.

    ::

        y = e^x / sum e^x

    Parameters
    ----------
    x : ndarray
        Any shape.
    dim : int, default -1
        The axis.

    Returns
    -------
    y : ndarray of the shape of `x`

    Raises
    ------
    ValueError
        If `dim` is not an axis of `x`.

    Notes
    -----
    y is 0 where e^(x - max x) is below 2^-126.5, in float64 2^-1022.5, at the end of the normal numbers.
    """
    return _softmax_of("softmax", x, dim, False)


def softmax_backward(grad_y, y, dim=-1):
    """Gradient of `softmax`, from its output; sums run along `dim`.

    ::

        grad_x = y (grad_y - sum(grad_y y))

    Parameters
    ----------
    grad_y : ndarray of the shape of `y`
    y : ndarray
        The output of the forward pass.
    dim : int, default -1
        The axis.

    Returns
    -------
    grad_x : ndarray of the shape of `y`

    Raises
    ------
    ValueError
        If `dim` is not an axis of `y`.
    """
    return _softmax_gradient("softmax_backward", grad_y, y, dim, False)


def log_softmax(x, dim=-1):
    """Logarithm of `softmax` along an axis, without overflow.

    ::

        y = x - log(sum e^x)

    Parameters
    ----------
    x : ndarray
        Any shape.
    dim : int, default -1
        The axis.

    Returns
    -------
    y : ndarray of the shape of `x`

    Raises
    ------
    ValueError
        If `dim` is not an axis of `x`.
    """
    return _softmax_of("log_softmax", x, dim, True)


def log_softmax_backward(grad_y, y, dim=-1):
    """Gradient of `log_softmax`, from its output; sums run along `dim`.

    ::

        grad_x = grad_y - e^y sum(grad_y)

    Parameters
    ----------
    grad_y : ndarray of the shape of `y`
    y : ndarray
        The output of the forward pass.
    dim : int, default -1
        The axis.

    Returns
    -------
    grad_x : ndarray of the shape of `y`

    Raises
    ------
    ValueError
        If `dim` is not an axis of `y`.
    """
    return _softmax_gradient("log_softmax_backward", grad_y, y, dim, True)
