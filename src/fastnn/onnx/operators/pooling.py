"""Poolings. The package's kernels take one or two axes of floats; the rest goes tap by tap through NumPy."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from ... import functional as F
from ..._checks import FLOATS
from ...functional import _pooling
from ...functional._pool_windows import Axis
from ._windows import Geometry, geometry
from .registry import operator


class _Windows(NamedTuple):
    """Windows as the kernels' tables want them; see `fastnn.functional._pool_windows`."""

    dims: int
    geometry: Geometry  # of two axes
    count_include_pad: bool

    @property
    def dilation(self):
        return self.geometry.dilation

    def axis(self, name, i, size):
        """The windows along one axis."""
        kernel, stride, dilation, begin, end, output = (numbers[i] for numbers in self.geometry)
        start = np.arange(output) * stride - begin
        skipped = -(np.minimum(start, 0) // dilation)
        taps = np.minimum(kernel - skipped, -((start + skipped * dilation - size) // dilation))
        if output < 1 or taps.min() < 1:
            raise ValueError(f"a window has no element inside spatial axis {i} of {size} elements")
        inside = -((start - size - end) // dilation)  # taps before the end of the padding
        return Axis(size, start + skipped * dilation, taps,
                    np.minimum(kernel, inside) if self.count_include_pad else taps)


def _windows(g, rank, count_include_pad=False):
    """The windows for the kernels, if they can be; one axis is a row of an image."""
    if rank == 2:
        return _Windows(2, g, count_include_pad)
    if rank == 1:
        row = Geometry((1,), (1,), (1,), (0,), (0,), (1,))
        return _Windows(1, Geometry(*(a + b for a, b in zip(row, g, strict=True))), count_include_pad)
    return None


# --- Tap by tap: any number of axes, any dtype


def _padded(x, g, value):
    """`x` with its pads, and with what windows reach beyond them."""
    pads = [(0, 0), (0, 0)]
    for size, kernel, stride, dilation, begin, end, output in zip(x.shape[2:], *g, strict=True):
        reach = (output - 1) * stride + dilation * (kernel - 1) + 1
        pads.append((begin, max(end, reach - size - begin)))
    return np.pad(x, pads, constant_values=value)


def _taps(x, g):
    """Yield, for each place in a window, the view of padded `x` that has that element of all windows."""
    for tap in itertools.product(*map(range, g.kernel)):
        yield x[(..., *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(
            tap, g.dilation, g.output, g.stride, strict=True)))]


def _scatter(parts, g, shape, dtype):
    """The sum of arrays laid where `_taps` has its views, without the padding."""
    total = _padded(np.zeros(shape, dtype), g, 0)
    for view, part in zip(_taps(total, g), parts, strict=True):
        view += part
    return total[(..., *(slice(b, b + n) for b, n in zip(g.begin, shape[2:], strict=True)))]


def _counts(shape, g, count_include_pad):
    """The number of elements in each window, of the data or of the data and the pads; at least 1."""
    ones = np.ones((1, 1, *shape[2:]))
    if count_include_pad:
        ones = np.pad(ones, [(0, 0), (0, 0), *zip(g.begin, g.end, strict=True)], constant_values=1)
        g = g._replace(begin=(0,) * len(g.begin), end=(0,) * len(g.end))
    return np.maximum(sum(_taps(_padded(ones, g, 0), g)), 1)


# --- Maximum


def _lowest(dtype):
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _max_by_taps(x, g):
    """Maxima and, for each, its flat index in its channel; the first of equals."""
    places = np.arange(int(np.prod(x.shape[2:]))).reshape(1, 1, *x.shape[2:])
    values, places = _taps(_padded(x, g, _lowest(x.dtype)), g), _taps(_padded(places, g, -1), g)
    y, indices = next(values).copy(), np.broadcast_to(next(places), (*x.shape[:2], *g.output)).copy()
    for value, place in zip(values, places, strict=True):
        # Not the padding, though the data be the lowest there is.
        better = ((value > y) | (indices < 0)) & (place >= 0)
        np.copyto(y, value, where=better)
        np.copyto(indices, place, where=better)
    if indices.min(initial=0) < 0:
        raise ValueError("a window has no element inside the input")
    return y, indices


@operator("MaxPool")
def max_pool(call, x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, dilations=None, pads=None,
             storage_order=0, strides=None):
    """The largest of each window and, as a second output, its place in the flat input."""
    g = geometry(x.shape[2:], kernel_shape, auto_pad=auto_pad, dilations=dilations, pads=pads,
                 strides=strides, ceil_mode=ceil_mode)
    windows = _windows(g, x.ndim - 2)
    if windows is None or x.dtype not in FLOATS:
        y, places = _max_by_taps(x, g)
    else:
        y, places = _pooling.max_pool("MaxPool", windows, x, call.recording or call.wants(1))
    call.saved = places
    return (y, _flat_places(places, x.shape, storage_order)) if call.wants(1) else y


def _flat_places(places, shape, storage_order):
    """Indices into the whole input, rows first or, with `storage_order`, columns first."""
    places = places.astype(np.int64)
    if storage_order:
        places = np.ravel_multi_index(np.unravel_index(places, shape[2:]), shape[2:], order="F")
    planes = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *(1,) * (len(shape) - 2))
    return np.ascontiguousarray(places + planes * int(np.prod(shape[2:])))


@max_pool.gradient
def max_pool_backward(call, grad_y, *_, **attributes):
    x, places = call.inputs[0], call.saved
    if x.ndim <= 4:
        return _pooling.max_pool_backward("MaxPool", x.ndim - 2, grad_y, places, x.shape)
    grad_x = np.zeros((x.shape[0] * x.shape[1], int(np.prod(x.shape[2:]))), x.dtype)
    rows = np.arange(len(grad_x))[:, None]
    np.add.at(grad_x, (rows, places.reshape(len(grad_x), -1)), grad_y.reshape(len(grad_x), -1))
    return grad_x.reshape(x.shape)


# --- Mean


@operator("AveragePool", widen=True)
def average_pool(call, x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, count_include_pad=0,
                 dilations=None, pads=None, strides=None):
    """The mean of each window, of the data or of the data and the pads."""
    g = geometry(x.shape[2:], kernel_shape, auto_pad=auto_pad, dilations=dilations, pads=pads,
                 strides=strides, ceil_mode=ceil_mode)
    windows = _windows(g, x.ndim - 2, bool(count_include_pad)) if max(g.dilation) == 1 else None
    call.saved = g, windows
    if windows is None:
        return sum(_taps(_padded(x, g, 0), g)) / _counts(x.shape, g, count_include_pad).astype(x.dtype)
    return _pooling.mean_pool("AveragePool", windows, x)


@average_pool.gradient
def average_pool_backward(call, grad_y, *, count_include_pad=0, **attributes):
    x, (g, windows) = call.inputs[0], call.saved
    if windows is not None:
        return _pooling.mean_pool_backward("AveragePool", windows, grad_y, x.shape)
    share = grad_y / _counts(x.shape, g, count_include_pad).astype(x.dtype)
    return _scatter(itertools.repeat(share, int(np.prod(g.kernel))), g, x.shape, x.dtype)


# --- Over all pixels


def _spatial(x):
    return tuple(range(2, x.ndim))


@operator("GlobalAveragePool", widen=True)
def global_average_pool(call, x):
    """The mean of each channel."""
    return F.global_avg_pool2d(x) if x.ndim == 4 else x.mean(_spatial(x), keepdims=True)


@global_average_pool.gradient
def global_average_pool_backward(call, grad_y):
    x = call.inputs[0]
    count = x.dtype.type(int(np.prod(x.shape[2:])))
    return np.broadcast_to(grad_y / count, x.shape)


@operator("GlobalMaxPool")
def global_max_pool(call, x):
    """The largest of each channel."""
    return x.max(_spatial(x), keepdims=True)


@global_max_pool.gradient
def global_max_pool_backward(call, grad_y):
    x = call.inputs[0]
    flat = x.reshape(*x.shape[:2], -1)
    grad_x = np.zeros_like(flat)
    np.put_along_axis(grad_x, flat.argmax(2)[..., None], grad_y.reshape(*x.shape[:2], 1), 2)
    return grad_x.reshape(x.shape)


# --- Norms


@operator("LpPool", widen=True)
def lp_pool(call, x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, dilations=None, p=2, pads=None,
            strides=None):
    """(sum |x|^p)^(1/p) of each window."""
    g = geometry(x.shape[2:], kernel_shape, auto_pad=auto_pad, dilations=dilations, pads=pads,
                 strides=strides, ceil_mode=ceil_mode)
    call.saved = g
    return np.power(sum(_taps(_padded(np.abs(x) ** p, g, 0), g)), x.dtype.type(1 / p))


@lp_pool.gradient
def lp_pool_backward(call, grad_y, *, p=2, **attributes):
    x, g, y = call.inputs[0], call.saved, call.outputs[0]
    # dy/dx = sign(x) (|x| / y)^(p - 1); of a window of zeros it is taken as zero.
    share = grad_y * np.where(y > 0, np.where(y > 0, y, 1) ** (1 - p), 0).astype(x.dtype)
    inner = _scatter(itertools.repeat(share, int(np.prod(g.kernel))), g, x.shape, x.dtype)
    return inner * np.sign(x) * np.abs(x) ** (p - 1)


@operator("GlobalLpPool", widen=True)
def global_lp_pool(call, x, *, p=2):
    """(sum |x|^p)^(1/p) of each channel."""
    return np.power((np.abs(x) ** p).sum(_spatial(x), keepdims=True), x.dtype.type(1 / p))


@global_lp_pool.gradient
def global_lp_pool_backward(call, grad_y, *, p=2):
    x, y = call.inputs[0], call.outputs[0]
    return grad_y * np.sign(x) * (np.abs(x) / np.where(y > 0, y, 1)) ** (p - 1)
