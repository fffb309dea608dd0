"""Types and branches."""

from __future__ import annotations

import numpy as np

from ..dtypes import dtype_of
from .registry import is_float, operator


def _cast(x, dtype):
    if dtype.kind == "O":
        return np.array([_text(v) for v in x.reshape(-1)], object).reshape(x.shape)
    if x.dtype.kind == "O" and dtype.kind in "iu":
        return x.astype(np.float64).astype(dtype)
    return x.astype(dtype)


def _text(value):
    """A number as the shortest text that is read back as the same."""
    return str(value)


@operator("Cast")
def cast(call, x, *, to, saturate=1, round_mode="up"):
    """x in another dtype."""
    return _cast(x, dtype_of(to))


@operator("CastLike", since=15)
def cast_like(call, x, like, *, saturate=1, round_mode="up"):
    """x in the dtype of another array."""
    return _cast(x, like.dtype)


@cast.gradient
@cast_like.gradient
def cast_backward(call, grad_y, **attributes):
    x = call.inputs[0]
    return grad_y.astype(x.dtype) if is_float(x.dtype) and is_float(grad_y.dtype) else None


@operator("If")
def if_(call, condition, *, then_branch, else_branch):
    """The name of the attribute whose graph is to be run; the executor does that."""
    if condition.size != 1:
        raise ValueError(f"the condition has shape {condition.shape}, expected one truth value")
    return "then_branch" if condition.reshape(()) else "else_branch"
