"""The same numbers in other shapes and orders, side by side, and as shares of one."""

from __future__ import annotations

import math

import numpy as np

from ..._checks import axis_of, matrix_shape
from ..._kernels import elementwise as _elementwise
from ...layers.axes import final_steps
from .registry import Known, check_float, contiguous, empty_as, steps_of

# --- Views


def _reshaped(build, x, shape):
    """x in another shape: a view of it or, by a step, of a copy."""
    if not x.flags.c_contiguous:
        view = x.reshape(shape)
        if np.may_share_memory(view, x):
            return view
        x = contiguous(build, x)
    return x.reshape(shape)


def _kept(build, view):
    """A view of what is known is known."""
    return Known(view) if build.all_known() else view


@steps_of("flatten")
def flatten_steps(build, node, x):
    """The axes `start` to `end` as one."""
    rank, numbers = max(x.ndim, 1), (node.attributes["start"], node.attributes["end"])
    start, end = (n + rank if n < 0 else n for n in numbers)
    if not 0 <= start <= end < rank:
        raise ValueError(f"{node.label}: cannot join the dimensions {numbers[0]} to {numbers[1]} of an input "
                         f"of {x.ndim}")
    shape = (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
    return _kept(build, _reshaped(build, x, shape))


@steps_of("matrix")
def matrix_steps(build, node, x):
    """As a matrix: the axes before `axis`, and the others."""
    shape = matrix_shape(f"{node.label}: axis", x.shape, node.attributes["axis"])
    return _kept(build, _reshaped(build, x, shape))


@steps_of("transpose")
def transpose_steps(build, node, x):
    """The axes in another order, by default in reverse."""
    axes = node.attributes["axes"]
    if axes is not None and len(axes) != x.ndim:
        raise ValueError(f"{node.label}: x has {x.ndim} dimensions (shape {x.shape}), expected {len(axes)}")
    return _kept(build, x.transpose(axes))


@steps_of("last_step")
def last_step_steps(build, node, x):
    """The last step of sequences; that of each direction, beside one another."""
    check_float(node, x)
    if x.ndim not in (2, 3):
        raise ValueError(f"{node.label}: x has {x.ndim} dimensions (shape {x.shape}), expected 2 or 3")
    parts = final_steps(node.label, x, node.attributes["batch_first"], node.attributes["bidirectional"])
    if len(parts) == 1:
        return _kept(build, parts[0])
    y = build.empty((*parts[0].shape[:-1], x.shape[-1]), x.dtype)
    for half, part in zip(np.split(y, 2, -1), parts, strict=True):
        build.step(np.copyto, half, part)
    return y


@steps_of("identity")
def identity_steps(build, node, x):
    """x itself."""
    return _kept(build, x)


@steps_of("squeeze")
def squeeze_steps(build, node, x):
    """Without axes of size 1: those given, or all."""
    return _kept(build, np.squeeze(x, node.attributes["axes"]))


@steps_of("unsqueeze")
def unsqueeze_steps(build, node, x):
    """With new axes of size 1."""
    return _kept(build, np.expand_dims(x, node.attributes["axes"]))


@steps_of("reshape")
def reshape_steps(build, node, x, shape):
    """The same elements in another shape: -1 for what is left, 0 for the size that x has there."""
    keeps = not node.attributes["allowzero"]

    def sizes(numbers):
        return [x.shape[i] if n == 0 and keeps else n for i, n in enumerate(numbers.tolist())]

    if not build.known(1):
        return build.call(lambda x, numbers: x.reshape(sizes(numbers)), x, shape)[0]
    return _kept(build, _reshaped(build, x, sizes(shape)))


# --- Side by side


@steps_of("concat")
def concat_steps(build, node, *parts):
    """Arrays one after the other along an axis."""
    if node.attributes.get("joined"):
        return build.shared(node.outputs[0]).transpose(0, 3, 1, 2)
    first = parts[0]
    axis = axis_of(f"{node.label}: dim", node.attributes["axis"], first.ndim, "outputs")
    shapes = [part.shape for part in parts]
    if any(s[:axis] + s[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :] for s in shapes):
        raise ValueError(f"{node.label}: outputs of shapes {shapes} cannot be joined along dimension {axis}")
    if len({part.dtype for part in parts}) > 1:
        raise TypeError(f"{node.label}: outputs of dtypes {[str(part.dtype) for part in parts]}")
    y = empty_as(build, first, (*first.shape[:axis], sum(s[axis] for s in shapes), *first.shape[axis + 1 :]))
    begin = 0
    for part in parts:
        end = begin + part.shape[axis]
        build.step(np.copyto, y[(slice(None),) * axis + (slice(begin, end),)], part)
        begin = end
    return y


# --- Softmax


@steps_of("softmax")
def softmax_steps(build, node, x):
    """Softmax along an axis, or its logarithm."""
    check_float(node, x)
    axis = axis_of(f"{node.label}: dim", node.attributes["axis"], x.ndim)
    rows = contiguous(build, np.moveaxis(x, axis, -1))
    y = build.empty(rows.shape, x.dtype)
    matrix = (math.prod(rows.shape[:-1]), rows.shape[-1])
    build.step(_elementwise.softmax, rows.reshape(matrix), y.reshape(matrix), node.attributes["log"])
    return np.moveaxis(y, -1, axis)
