"""Sums, means, extremes and norms over axes; where the extremes are."""

from __future__ import annotations

import numpy as np

from ..._checks import axis_of
from .registry import operator


def _lowest(dtype):
    """What the largest of nothing is."""
    return False if dtype.kind == "b" else np.iinfo(dtype).min if dtype.kind in "iu" else dtype.type(-np.inf)


def _highest(dtype):
    return True if dtype.kind == "b" else np.iinfo(dtype).max if dtype.kind in "iu" else dtype.type(np.inf)


def _mean(x, axes):
    return x.mean(axes, keepdims=True)


def _sum(x, axes):
    return x.sum(axes, dtype=x.dtype, keepdims=True)


def _log_sum_exp(x, axes):
    top = x.max(axes, keepdims=True, initial=-np.inf)
    safe = np.where(np.isfinite(top), top, 0)  # of nothing, or of an infinity
    total = np.exp(x - safe).sum(axes, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(total) + safe


def _log_sum(x, axes):
    with np.errstate(divide="ignore"):
        return np.log(_sum(x, axes))


def _share_of_extremes(grad, x, y, axes):
    chosen = x == y
    return grad * chosen / chosen.sum(axes, keepdims=True)  # evenly among equals, as torch.amax


def _product_of_the_others(grad, x, y, axes):
    zero = x == 0
    zeros = zero.sum(axes, keepdims=True)
    others = np.where(zero, 1, x).prod(axes, keepdims=True)
    return grad * np.where(zeros == 0, others / np.where(zero, 1, x), others * (zero & (zeros == 1)))


# Of each: the function, and the gradient of x from that of y (axes kept), x, y and the axes.
_REDUCTIONS = {
    "ReduceSum": (_sum, lambda g, x, y, axes: g),
    "ReduceMean": (_mean, lambda g, x, y, axes: g * x.dtype.type(y.size / max(x.size, 1))),
    "ReduceMax": (lambda x, axes: x.max(axes, keepdims=True, initial=_lowest(x.dtype)), _share_of_extremes),
    "ReduceMin": (lambda x, axes: x.min(axes, keepdims=True, initial=_highest(x.dtype)), _share_of_extremes),
    "ReduceProd": (lambda x, axes: x.prod(axes, dtype=x.dtype, keepdims=True), _product_of_the_others),
    "ReduceL1": (lambda x, axes: _sum(np.abs(x), axes), lambda g, x, y, axes: g * np.sign(x)),
    "ReduceL2": (lambda x, axes: np.sqrt(_sum(np.square(x), axes)),
                 lambda g, x, y, axes: g * x / np.where(y == 0, 1, y)),
    "ReduceSumSquare": (lambda x, axes: _sum(np.square(x), axes), lambda g, x, y, axes: 2 * g * x),
    "ReduceLogSum": (_log_sum, lambda g, x, y, axes: g / np.exp(y)),
    "ReduceLogSumExp": (_log_sum_exp, lambda g, x, y, axes: g * np.exp(x - y)),
}
# The opset in which the axes became an input.
_AXES_INPUT = {"ReduceSum": 13}


def _reduce(call, x, axes, keepdims, function):
    axes = tuple(range(x.ndim)) if axes is None else tuple(axis_of("axis", axis, x.ndim) for axis in axes)
    y = np.asarray(function(x, axes)).astype(x.dtype, copy=False)
    call.saved = y, axes
    return y if keepdims else y.squeeze(axes)


def _gradient(call, grad_y, gradient):
    x, (y, axes) = call.inputs[0], call.saved
    return np.broadcast_to(gradient(grad_y.reshape(y.shape), x, y, axes), x.shape).astype(x.dtype, copy=False)


def _register(name, function, gradient):
    def by_attribute(call, x, *, axes=None, keepdims=1):
        return _reduce(call, x, axes, keepdims, function)

    def by_input(call, x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        if axes is None or not axes.size:
            return _reduce(call, x, () if noop_with_empty_axes else None, keepdims, function)
        return _reduce(call, x, axes.tolist(), keepdims, function)

    def backward(call, grad_y, **attributes):
        return _gradient(call, grad_y, gradient)

    operator(name)(by_attribute).gradient(backward)
    operator(name, since=_AXES_INPUT.get(name, 18))(by_input).gradient(backward)


for _name, _pair in _REDUCTIONS.items():
    _register(_name, *_pair)


# --- Places


def _place(x, axis, keepdims, last, find):
    if last:
        y = x.shape[axis] - 1 - find(np.flip(x, axis), axis, keepdims=bool(keepdims))
    else:
        y = find(x, axis, keepdims=bool(keepdims))
    return np.asarray(y).astype(np.int64, copy=False)


@operator("ArgMax")
def arg_max(call, x, *, axis=0, keepdims=1, select_last_index=0):
    """Where the largest is along an axis: the first of equals or the last."""
    return _place(x, axis, keepdims, select_last_index, np.argmax)


@operator("ArgMin")
def arg_min(call, x, *, axis=0, keepdims=1, select_last_index=0):
    """Where the smallest is along an axis: the first of equals or the last."""
    return _place(x, axis, keepdims, select_last_index, np.argmin)


@operator("CumSum", since=11)
def cum_sum(call, x, axis, *, exclusive=0, reverse=0):
    """Running sums along an axis, from the end with `reverse`, without the element itself if `exclusive`."""
    return _running_sum(x, int(axis), exclusive, reverse)


@cum_sum.gradient
def cum_sum_backward(call, grad_y, *, exclusive=0, reverse=0):
    return _running_sum(grad_y, int(call.inputs[1]), exclusive, not reverse)


def _running_sum(x, axis, exclusive, reverse):
    x = np.flip(x, axis) if reverse else x
    if exclusive:  # by a shift: y - x would lose the digits below those of a large x
        y = np.zeros_like(x)
        np.moveaxis(y, axis, 0)[1:] = np.cumsum(np.moveaxis(x, axis, 0)[:-1], 0, dtype=x.dtype)
    else:
        y = np.cumsum(x, axis, dtype=x.dtype)
    return np.flip(y, axis) if reverse else y
