"""The same elements in another shape or order; and shapes as values."""

from __future__ import annotations

import numpy as np

from ..._checks import matrix_shape
from .registry import operator


@operator("Identity", rearranges=True)
def identity(call, x):
    """x."""
    return x


@identity.gradient
def identity_backward(call, grad_y):
    return grad_y


@operator("Reshape", rearranges=True)
def reshape(call, x, shape, *, allowzero=0):
    """x in another shape: -1 for what is left, 0 for the size that x has there (unless `allowzero`)."""
    sizes = [int(n) for n in shape]
    if not allowzero:
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten", rearranges=True)
def flatten(call, x, *, axis=1):
    """x as a matrix: the axes before `axis`, and the others."""
    return x.reshape(matrix_shape("axis", x.shape, axis))


@operator("Squeeze", rearranges=True)
def squeeze_attribute(call, x, *, axes=None):
    """x without the axes given, or without all those of size 1."""
    return np.squeeze(x, axes)


@operator("Squeeze", since=13, rearranges=True)
def squeeze(call, x, axes=None):
    """x without the axes given, or without all those of size 1."""
    return np.squeeze(x, None if axes is None else tuple(axes.tolist()))


@operator("Unsqueeze", rearranges=True)
def unsqueeze_attribute(call, x, *, axes):
    """x with new axes of size 1, counted in the output."""
    return np.expand_dims(x, axes)


@operator("Unsqueeze", since=13, rearranges=True)
def unsqueeze(call, x, axes):
    """x with new axes of size 1, counted in the output."""
    return np.expand_dims(x, tuple(axes.reshape(-1).tolist()))


@reshape.gradient
@flatten.gradient
@squeeze_attribute.gradient
@squeeze.gradient
@unsqueeze_attribute.gradient
@unsqueeze.gradient
def reshape_backward(call, grad_y, **attributes):
    return grad_y.reshape(call.inputs[0].shape)


@operator("Transpose", rearranges=True)
def transpose(call, x, *, perm=None):
    """x with its axes in another order; reversed by default."""
    return x.transpose(perm)


@transpose.gradient
def transpose_backward(call, grad_y, *, perm=None):
    return grad_y.transpose(None if perm is None else np.argsort(perm))


@operator("Concat")
def concat(call, *xs, axis):
    """Arrays one after the other along an axis, in the memory order of the first."""
    return np.concatenate(xs, axis)


@concat.gradient
def concat_backward(call, grad_y, *, axis):
    ends = np.cumsum([x.shape[axis] for x in call.inputs])
    return tuple(np.split(grad_y, ends[:-1], axis))


# --- Blocks of pixels as channels, and back. The place in the block is the slower part of the channel (DCR)
# or the faster (CRD).

_BLOCKS = {"DCR": (0, 3, 4, 1, 5, 2), "CRD": (0, 1, 4, 2, 5, 3)}


def _to_space(x, size, mode):
    n, c, h, w = x.shape
    depth = c // (size * size)
    parts = (size, size, depth) if mode == "DCR" else (depth, size, size)
    return x.reshape(n, *parts, h, w).transpose(_BLOCKS[mode]).reshape(n, depth, h * size, w * size)


def _to_depth(x, size, mode):
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // size, size, w // size, size)
    return blocks.transpose(np.argsort(_BLOCKS[mode])).reshape(n, c * size * size, h // size, w // size)


@operator("DepthToSpace")
def depth_to_space(call, x, *, blocksize, mode="DCR"):
    """Channels as blocks of pixels."""
    return _to_space(x, blocksize, mode)


@depth_to_space.gradient
def depth_to_space_backward(call, grad_y, *, blocksize, mode="DCR"):
    return _to_depth(grad_y, blocksize, mode)


@operator("SpaceToDepth")
def space_to_depth(call, x, *, blocksize, mode="DCR"):
    """Blocks of pixels as channels."""
    return _to_depth(x, blocksize, mode)


@space_to_depth.gradient
def space_to_depth_backward(call, grad_y, *, blocksize, mode="DCR"):
    return _to_space(grad_y, blocksize, mode)


# --- Shapes as values


@operator("Shape")
def shape(call, x, *, start=0, end=None):
    """The shape of x, or a piece of it."""
    return np.array(x.shape[start:end], np.int64)


@operator("Size")
def size(call, x):
    """The number of elements."""
    return np.array(x.size, np.int64)


@operator("Constant")
def constant(call, *, value=None, value_float=None, value_floats=None, value_int=None, value_ints=None,
             value_string=None, value_strings=None):
    """An array that the file holds; the reader puts it among the graph's constants."""
    raise AssertionError("the reader leaves no such node")


_CONSTANT_DTYPES = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
                    "value_ints": np.int64, "value_string": object, "value_strings": object}


def constant_of(attributes):
    """The array that a Constant node holds in one of its attributes."""
    ((kind, value),) = attributes.items()
    return value if kind == "value" else np.array(value, _CONSTANT_DTYPES[kind])


@operator("ConstantOfShape")
def constant_of_shape(call, shape, *, value=None):
    """An array of one number; 0 in float32 by default."""
    value = np.zeros(1, np.float32) if value is None else value
    return np.full(tuple(shape.tolist()), value.reshape(()), value.dtype)
