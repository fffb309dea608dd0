"""Pieces of arrays: slicing, gathering, padding, repeating, sorting."""

from __future__ import annotations

import numpy as np

from ..._checks import axis_of
from ._broadcast import sum_to_shape
from .registry import operator

# --- Slice: bounds were attributes up to opset 9


def _slices(shape, starts, ends, axes, steps):
    """One slice for each axis; bounds beyond an axis mean its end, as everywhere in ONNX."""
    slices = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        n = shape[axis]
        # Going down, the end before the first element is -1, which Python writes as None.
        lowest, highest = (0, n) if step > 0 else (-1, n - 1)
        start, end = (i + n if i < 0 else i for i in (start, end))
        start, end = min(max(start, 0), highest), min(max(end, lowest), highest)
        slices[axis] = slice(start, None if end < 0 else end, step) if n else slice(0)
    return tuple(slices)


@operator("Slice")
def slice_attributes(call, x, *, starts, ends, axes=None):
    """x[start:end] along axes."""
    call.saved = _slices(x.shape, starts, ends, range(len(starts)) if axes is None else axes,
                         (1,) * len(starts))
    return x[call.saved]


@operator("Slice", since=10)
def slice_inputs(call, x, starts, ends, axes=None, steps=None):
    """x[start:end:step] along axes."""
    count = len(starts)
    call.saved = _slices(x.shape, starts.tolist(), ends.tolist(),
                         range(count) if axes is None else axes.tolist(),
                         (1,) * count if steps is None else steps.tolist())
    return x[call.saved]


@slice_attributes.gradient
@slice_inputs.gradient
def slice_backward(call, grad_y, **attributes):
    grad_x = np.zeros_like(call.inputs[0])
    grad_x[call.saved] = grad_y
    return grad_x


# --- Split


def _split(call, x, axis, parts):
    call.saved = np.cumsum(parts)
    if sum(parts) != x.shape[axis]:
        raise ValueError(f"parts of {parts} do not make up an axis of {x.shape[axis]}")
    return tuple(np.split(x, call.saved[:-1], axis))


def _even_parts(size, count):
    """`count` parts of equal size but for the last, which may be smaller."""
    part = -(-size // count)
    return [part] * (count - 1) + [size - part * (count - 1)]


@operator("Split")
def split_attribute(call, x, *, axis=0, split=None):
    """x in pieces along an axis, equal ones unless given."""
    return _split(call, x, axis, split or _even_parts(x.shape[axis], len(call.node.outputs)))


@operator("Split", since=13)
def split(call, x, parts=None, *, axis=0, num_outputs=None):
    """x in pieces along an axis, equal ones unless given."""
    if parts is None:
        parts = _even_parts(x.shape[axis], num_outputs or len(call.node.outputs))
    return _split(call, x, axis, list(parts))


@split_attribute.gradient
@split.gradient
def split_backward(call, *grad_ys, axis=0, **attributes):
    return np.concatenate([np.zeros_like(y) if grad is None else grad
                           for y, grad in zip(call.outputs, grad_ys, strict=True)], axis)


# --- Gather


@operator("Gather", weights=(0,))
def gather(call, x, indices, *, axis=0):
    """The entries of an axis that the indices name; negative ones count from the end."""
    return np.take(x, indices, axis)


@gather.gradient
def gather_backward(call, grad_y, *, axis=0):
    x, indices = call.inputs
    axis = axis_of("axis", axis, x.ndim)
    grad_x = np.zeros_like(x)
    rows = np.moveaxis(grad_y.reshape(*x.shape[:axis], indices.size, *x.shape[axis + 1:]), axis, 0)
    np.add.at(np.moveaxis(grad_x, axis, 0), indices.reshape(-1), rows)
    return grad_x


@operator("GatherElements", since=11)
def gather_elements(call, x, indices, *, axis=0):
    """Along an axis, of each line the elements that the line of indices names."""
    axis = axis_of("axis", axis, x.ndim)
    call.saved = tuple(np.where(indices < 0, indices + x.shape[axis], indices) if i == axis else grid
                       for i, grid in enumerate(np.ogrid[tuple(map(slice, indices.shape))]))
    return x[call.saved]


@gather_elements.gradient
def gather_elements_backward(call, grad_y, *, axis=0):
    grad_x = np.zeros_like(call.inputs[0])
    np.add.at(grad_x, call.saved, grad_y)
    return grad_x


# --- Pad: pads were an attribute up to opset 10


def _pad(call, x, pads, value, mode):
    """Pad, or where a pad is negative cut; `pads` is a (begin, end) of each axis."""
    cuts = tuple(slice(max(-b, 0), n - max(-e, 0)) for n, (b, e) in zip(x.shape, pads, strict=True))
    pads = [(max(b, 0), max(e, 0)) for b, e in pads]
    call.saved = cuts, pads
    if mode == "constant":
        return np.pad(x[cuts], pads, constant_values=value)
    return np.pad(x[cuts], pads, mode=mode)


def _of_axes(flat, axes, rank):
    """ONNX's begins and then ends, of some axes, as a pair for each axis."""
    pads = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pads[axis] = int(flat[i]), int(flat[i + len(axes)])
    return pads


@operator("Pad")
def pad_attribute(call, x, *, pads, mode="constant", value=0.0):
    """x with borders: constant, the mirrored image ("reflect") or the edge."""
    return _pad(call, x, _of_axes(pads, range(x.ndim), x.ndim), value, mode)


@operator("Pad", since=11)
def pad(call, x, pads, value=None, axes=None, *, mode="constant"):
    """x with borders: constant, the mirrored image ("reflect"), the edge, or the other end ("wrap")."""
    axes = range(x.ndim) if axes is None else axes.tolist()
    return _pad(call, x, _of_axes(pads, axes, x.ndim), 0 if value is None else value.reshape(()), mode)


@pad_attribute.gradient
@pad.gradient
def pad_backward(call, grad_y, *, mode="constant", **attributes):
    x, (cuts, pads) = call.inputs[0], call.saved
    for axis, (begin, end) in enumerate(pads):
        size = grad_y.shape[axis] - begin - end
        if mode == "constant":
            grad_y = grad_y[(slice(None),) * axis + (slice(begin, begin + size),)]
        elif begin or end:
            # Where each element of the padded axis came from.
            source = np.pad(np.arange(size), (begin, end), mode=mode)
            lines = np.zeros((size, *np.moveaxis(grad_y, axis, 0).shape[1:]), x.dtype)
            np.add.at(lines, source, np.moveaxis(grad_y, axis, 0))
            grad_y = np.moveaxis(lines, 0, axis)
    grad_x = np.zeros_like(x)
    grad_x[cuts] = grad_y
    return grad_x


# --- Repeating


@operator("Expand", since=8)
def expand(call, x, shape):
    """x broadcast against a shape."""
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist())))


@expand.gradient
def expand_backward(call, grad_y):
    return sum_to_shape(grad_y, call.inputs[0].shape)


@operator("Tile")
def tile(call, x, repeats):
    """x repeated along each axis."""
    return np.tile(x, repeats)


@tile.gradient
def tile_backward(call, grad_y):
    x, repeats = call.inputs
    pairs = [n for r, size in zip(repeats.tolist(), x.shape, strict=True) for n in (r, size)]
    return grad_y.reshape(pairs).sum(tuple(range(0, 2 * x.ndim, 2)))


# --- Sorting


def _top(call, x, k, axis, largest=1):
    n = x.shape[axis]
    if not 0 <= k <= n:
        raise ValueError(f"k = {k} of an axis of {n}")
    if largest:
        # Turned round before and after, a stable sort keeps the first of equals first.
        order = np.flip(n - 1 - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    call.saved = indices = np.take(order, np.arange(k), axis)
    return np.take_along_axis(x, indices, axis), indices.astype(np.int64, copy=False)


@operator("TopK")
def top_k_attribute(call, x, *, k, axis=-1):
    """The k largest along an axis in falling order, and their places."""
    return _top(call, x, k, axis)


@operator("TopK", since=10)
def top_k(call, x, k, *, axis=-1, largest=1, sorted=1):
    """The k largest (or smallest) along an axis in order, and their places; of equals the first."""
    return _top(call, x, int(k.reshape(())), axis, largest)


@top_k_attribute.gradient
@top_k.gradient
def top_k_backward(call, grad_values, *_, axis=-1, **attributes):
    grad_x = np.zeros_like(call.inputs[0])
    if grad_values is not None:
        np.put_along_axis(grad_x, call.saved, grad_values, axis)
    return grad_x


# --- Indices as values


@operator("NonZero", since=9)
def non_zero(call, x):
    """The indices of what is not zero, (rank, count)."""
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64)


@operator("Range", since=11)
def range_(call, start, limit, delta):
    """start, start + delta, ... up to, but not, limit."""
    start, limit, delta = (v.reshape(()) for v in (start, limit, delta))
    count = max(int(np.ceil((limit - start) / delta)), 0)
    return (start + np.arange(count) * delta).astype(start.dtype)


@operator("OneHot", since=9)
def one_hot(call, indices, depth, values, *, axis=-1):
    """The second value where a new axis counts the index, else the first."""
    depth = int(depth.reshape(()))
    places = np.arange(depth)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = depth
    hot = np.expand_dims(np.mod(indices, depth), axis) == places.reshape(shape)
    inside = np.expand_dims((indices >= -depth) & (indices < depth), axis)
    return np.where(hot & inside, values[1], values[0])


@operator("Trilu", since=14)
def trilu(call, x, k=None, *, upper=1):
    """The triangle of a matrix above (or below) its k-th diagonal; the rest is zero."""
    k = 0 if k is None else int(k.reshape(()))
    return np.triu(x, k) if upper else np.tril(x, k)


@trilu.gradient
def trilu_backward(call, grad_y, *, upper=1):
    return trilu.forward(call, grad_y, *call.inputs[1:], upper=upper)
