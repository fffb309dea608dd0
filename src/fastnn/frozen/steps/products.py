"""Linear, norms that were not folded into products, arithmetic of arrays."""

from __future__ import annotations

import math

import numpy as np

from ..._kernels import elementwise as _elementwise
from ..._kernels import gemm as _gemm
from ..._kernels import norm as _norm
from ...functional._elementwise import lie_alike
from ...functional.linear import checked_bias, pack_weight
from ..graph import ARITHMETIC
from .registry import activate, check_float, contiguous, dense_order, empty_as, flat, split_relu, steps_of

# --- Linear


@steps_of("linear")
def linear_steps(build, node, x, weight, bias=None):
    """The linear map of the last axis."""
    check_float(node, x, weight.dtype)
    if bias is not None:
        check_float(node, bias, weight.dtype, "bias")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"{node.label}: x has shape {x.shape}, weight expects {weight.shape[1]} features in "
                         "the last dimension")
    panels = build.cached("linear", lambda: pack_weight(weight))
    rows = contiguous(build, x).reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = build.empty((len(rows), len(weight)), x.dtype)
    relu, activation = split_relu(node.attributes["activation"])
    build.step(_gemm.linear, rows, panels, checked_bias(bias, len(weight)), y, relu)
    activate(build, activation, y)
    return y.reshape(*x.shape[:-1], len(weight))


# --- Norms


@steps_of("layer_norm")
def layer_norm_steps(build, node, x, weight=None, bias=None):
    """Each row normalised, in place where nobody else needs it."""
    given, shape = node.attributes, node.attributes["shape"]
    check_float(node, x, given["dtype"])
    if x.shape[x.ndim - len(shape):] != shape:
        raise ValueError(f"{node.label}: x has shape {x.shape}, expected {shape} at its end")
    for vector in (weight, bias):
        if vector is not None and (vector.shape != shape or vector.dtype != x.dtype):
            raise ValueError(f"{node.label}: a weight or bias has shape {vector.shape} and dtype "
                             f"{vector.dtype}, expected {shape} and {x.dtype}")
    in_place = build.overwrites(0) and x.flags.c_contiguous
    rows = contiguous(build, x).reshape(math.prod(x.shape[: x.ndim - len(shape)]), math.prod(shape))
    y = rows if in_place else build.empty(rows.shape, x.dtype)
    weight, bias = (None if v is None else v.reshape(-1) for v in (weight, bias))
    build.step(_norm.layer_norm, rows, weight, bias, given["eps"], y)
    activate(build, given["activation"], y)
    return y.reshape(x.shape)


# --- Scale and shift of channels


@steps_of("scale")
def scale_steps(build, node, x, scale, shift):
    """scale[c] x[:, c] + shift[c]."""
    check_float(node, x, node.attributes["dtype"])
    if x.ndim not in node.attributes["ranks"] or x.shape[1] != len(scale):
        raise ValueError(f"{node.label}: x has shape {x.shape}, expected {len(scale)} channels in dimension "
                         "1 of " + " or ".join(map(str, node.attributes["ranks"])))
    scale, shift = (np.ascontiguousarray(v, x.dtype) for v in (scale, shift))
    pixels = np.moveaxis(x, 1, -1)
    in_place = build.overwrites(0) and pixels.flags.c_contiguous
    pixels = contiguous(build, pixels)
    y = pixels if in_place else build.empty(pixels.shape, x.dtype)
    rows = (math.prod(pixels.shape[:-1]), len(scale))
    build.step(_norm.column_affine, pixels.reshape(rows), np.zeros_like(scale), scale, shift, None, None,
               y.reshape(rows))
    return activate(build, node.attributes["activation"], np.moveaxis(y, -1, 1))


# --- Arithmetic


@steps_of("neg")
def neg_steps(build, node, x):
    """-x."""
    y = x if build.overwrites(0) else empty_as(build, x)
    build.step(np.negative, x, y)
    return activate(build, node.attributes["activation"], y)


def _beside(number, array):
    """A number of Python's in arithmetic with an array, whose dtype it takes if that is of its kind."""
    number = number.item()
    return np.array(number, np.result_type(array.dtype, number))


def _arithmetic(ufunc):
    """The entry of a NumPy function; the kernel adds what lies alike, and applies a relu meanwhile."""

    def steps(build, node, x, y):
        number = node.attributes.get("number")
        if number is not None:
            x, y = (x, _beside(y, x)) if number else (_beside(x, y), y)
        shape = np.broadcast_shapes(x.shape, y.shape)
        if node.attributes.get("same_shape") and x.shape != y.shape:
            raise ValueError(f"{node.label}: parts of shapes {x.shape} and {y.shape} do not add up")
        dtype = ufunc(np.ones((), x.dtype), np.ones((), y.dtype)).dtype
        for i, part in enumerate((x, y)):
            if part.shape == shape and part.dtype == dtype:
                total = part if not build.known(i) and build.overwrites(i) else empty_as(build, part)
                break
        else:
            total = build.empty(shape, dtype)
        activation = node.attributes["activation"]
        if ufunc is np.add and lie_alike(x, y) and x.strides == total.strides and dense_order(x) is not None:
            relu, activation = (True, None) if activation == ("relu",) else (False, activation)
            build.step(_elementwise.add, flat(x), flat(y), relu, flat(total))
        else:
            build.step(ufunc, x, y, total)
        return activate(build, activation, total)

    return steps


for _op, _ufunc in ARITHMETIC.items():
    steps_of(_op)(_arithmetic(_ufunc))
