"""The linear map of a fully connected layer, and its gradients."""

from __future__ import annotations

import math

import numpy as np

from .. import _checks
from .._kernels import gemm as _gemm
from .._kernels import unpacked as _unpacked
from .._kernels.memory import empty
from . import _fused
from ._layout import empty_lines


def pack_weight(weight: np.ndarray) -> np.ndarray:
    """Pack (out, in) in the form that `product` reads; once for many calls by a layer in eval mode."""
    panels = empty_lines((_gemm.panel_size(*weight.shape, weight.itemsize),), weight.dtype)
    _gemm.pack_weight(np.ascontiguousarray(weight), panels)
    return panels


def _rows(x):
    """View x (..., n) as contiguous (M, n); copied only where it is not. n may be 0, so no -1 for M."""
    return np.ascontiguousarray(x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1]))


def checked_bias(bias, out_features):
    """A bias as the kernel reads it, or None; a layer's can have been assigned."""
    if bias is not None and bias.shape != (out_features,):
        raise ValueError(f"a linear map: bias has shape {bias.shape}, expected {(out_features,)}")
    return None if bias is None else np.ascontiguousarray(bias)


def product(x, weight, panels, bias, activation):
    """The checked arguments' linear map: x (..., in), y (..., out).

    `panels` are those of `weight`, or None where packing them for this call alone would not pay.
    """
    dtype, out_features = x.dtype, weight.shape[0]
    rows = _rows(x)
    y = empty((rows.shape[0], out_features), dtype)
    bias = checked_bias(bias, out_features)
    if panels is None:
        _unpacked.linear(rows, np.ascontiguousarray(weight), bias, y, activation == "relu")
    else:
        _gemm.linear(rows, panels, bias, y, activation == "relu")
    y = _fused.forward(activation, y)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], out_features)


def prepare(panels, bias, weight_shape, activation):
    """`product` with as little as can be left to do for a contiguous matrix; f is None or "relu"."""
    n, k = weight_shape
    bias = checked_bias(bias, n)
    return _gemm.Prepared(panels, bias, k, n, activation == "relu")


def check_input(name, x, weight_shape, dtype=None):
    """`x` as an array of (..., in)."""
    x = _checks.as_float_array(f"{name}: x", x, None, dtype)
    if x.ndim == 0 or x.shape[-1] != weight_shape[1]:
        found = x.shape[-1] if x.ndim else "no"
        raise ValueError(f"{name}: x has {found} features (shape {x.shape}), weight expects "
                         f"{weight_shape[1]} (weight.shape[1])")
    return x


def _arguments(name, x, weight, bias):
    weight = _checks.as_float_array(f"{name}: weight", weight, 2)
    x = check_input(name, x, weight.shape, weight.dtype)
    if bias is not None:
        bias = _checks.as_float_array(f"{name}: bias", bias, 1, weight.dtype)
        _checks.same_shape(f"{name}: bias", bias, (weight.shape[0],), "one number an output")
    return x, weight, bias


def linear(x, weight, bias=None, *, activation=None):
    """Linear map of the last axis.

    ::

        y = f(x W^T + b)

    Parameters
    ----------
    x : ndarray, (..., in)
        float32 or float64.
    weight : ndarray, (out, in)
    bias : ndarray, (out,), optional
    activation : {None, "relu", "sigmoid", "tanh"}
        f.

    Returns
    -------
    y : ndarray, (..., out)

    Raises
    ------
    ValueError
        If shapes do not fit one another.
    TypeError
        If a dtype is neither float32 nor float64, or dtypes are mixed.
    """
    x, weight, bias = _arguments("linear", x, weight, bias)
    _checks.choice("linear: activation", activation, _fused.NAMES)
    return product(x, weight, None, bias, activation)


def linear_backward(grad_y, x, weight, bias=None, *, activation=None, y=None, input_grad=True):
    """Gradients of `linear` with respect to x, weight and bias.

    ::

        grad_z = grad_y * f'(z)          f' from y; z is what f was applied to
        grad_x = grad_z W        grad_W = sum over rows of grad_z^T x        grad_b = sum of grad_z

    Parameters
    ----------
    grad_y : ndarray, (..., out)
    x, weight, bias, activation
        As `linear` saw them.
    y : ndarray, (..., out), optional
        What `linear` returned; needed with an activation.
    input_grad : bool, default True
        Whether to compute grad_x.

    Returns
    -------
    grad_x : ndarray of the shape of `x`, or None
    grad_weight : ndarray of the shape of `weight`
    grad_bias : ndarray, (out,), or None without a bias
    """
    name = "linear_backward"
    x, weight, bias = _arguments(name, x, weight, bias)
    input_grad = _checks.flag(f"{name}: input_grad", input_grad)
    grad_z = _fused.gradient(name, activation, grad_y, y, (*x.shape[:-1], weight.shape[0]), x.dtype)
    return product_gradients(grad_z, x, weight, bias is not None, input_grad)


def add_gradients(grad_y, x, weight, grads, activation, y, input_grad):
    """`linear_backward` of what a layer saved, added to `grads`, those of weight and bias or None; grad_x."""
    shape = (*x.shape[:-1], weight.shape[0])
    grad_z = _fused.gradient("linear_backward", activation, grad_y, y, shape, x.dtype)
    return product_gradients(grad_z, x, weight, grads[1] is not None, input_grad, grads)[0]


def product_gradients(grad_z, x, weight, has_bias, input_grad, into=None):
    """The checked arguments' gradients; `into` has those of weight and bias, to add to: a layer's.

    Adding in the kernel saves an array of the weight's size, and two ways through memory.
    """
    dtype = x.dtype
    rows, grad_rows = _rows(x), _rows(grad_z)
    grad_weight, total = (np.empty(weight.shape, dtype), None) if into is None else into
    if not weight.size:  # no features, or no outputs: sums of nothing, but for the bias
        grad_x = np.zeros(x.shape, dtype) if input_grad else None
        grad_bias = grad_rows.sum(0) if has_bias else None
    else:
        grad_x = empty(rows.shape, dtype) if input_grad else None
        grad_bias = np.empty(weight.shape[0], dtype) if has_bias else None
        _unpacked.linear_backward(grad_rows, rows, np.ascontiguousarray(weight), grad_x, grad_weight,
                                  grad_bias, into is not None)
        grad_x = grad_x.reshape(x.shape) if input_grad else None
    if total is not None:
        total += grad_bias
    return grad_x, grad_weight, grad_bias
