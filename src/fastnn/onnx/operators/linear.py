"""Matrix products."""

from __future__ import annotations

import numpy as np

from ..._checks import FLOATS
from ...functional.linear import pack_weight, product, product_gradients
from ._broadcast import sum_to_shape
from .registry import check_one_dtype, operator


@operator("Gemm", weights=(1, 2), widen=True)
def gemm(call, a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    """alpha A B + beta C, A and B transposed if so asked."""
    check_one_dtype(a, b, c)
    a = a.T if transA else a
    if a.dtype not in FLOATS:
        y = alpha * (a @ (b.T if transB else b)) + (0 if c is None else beta * c)
        return np.asarray(y).astype(a.dtype)
    # The product of a layer, x W^T, in which C, where it is a row, takes the part of the bias.
    weight = b if transB else b.T
    outputs = weight.shape[0]
    is_row = c is not None and c.shape in ((outputs,), (1, outputs)) and beta == 1 and alpha == 1
    panels = call.cached((1,), "panels", lambda: pack_weight(weight))
    _check_inner(a, weight.shape[1])
    y = product(a, weight, panels, c.reshape(-1) if is_row else None, None)
    if alpha != 1:
        y *= a.dtype.type(alpha)
    return y if c is None or is_row else y + a.dtype.type(beta) * c


@gemm.gradient
def gemm_backward(call, grad_y, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    a, b, c = (*call.inputs, None)[:3]
    a = a.T if transA else a
    scaled = grad_y if alpha == 1 else a.dtype.type(alpha) * grad_y
    grad_a, grad_b, _ = product_gradients(scaled, a, b if transB else b.T, False, call.needs[0])
    if transA and grad_a is not None:
        grad_a = grad_a.T
    return (grad_a, grad_b if transB else grad_b.T,
            None if c is None else sum_to_shape(a.dtype.type(beta) * grad_y, c.shape))


@operator("MatMul", weights=(0, 1), widen=True)
def matmul(call, a, b):
    """The matrix product, over the last two axes, the others broadcast."""
    check_one_dtype(a, b)
    if b.ndim != 2 or a.ndim < 2 or a.dtype not in FLOATS:
        return np.matmul(a, b)
    _check_inner(a, b.shape[0])
    panels = call.cached((1,), "panels", lambda: pack_weight(b.T))
    return product(a, b.T, panels, None, None)


@matmul.gradient
def matmul_backward(call, grad_y):
    a, b = call.inputs
    if b.ndim == 2 and a.ndim >= 2:
        grad_a, grad_b, _ = product_gradients(grad_y, a, b.T, False, call.needs[0])
        return grad_a, grad_b.T
    # A vector is a matrix of one row on the left, of one column on the right.
    rows, columns = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    if a.ndim == 1:
        grad_y = np.expand_dims(grad_y, -1 if b.ndim == 1 else -2)
    if b.ndim == 1:
        grad_y = np.expand_dims(grad_y, -1)
    grad_a = sum_to_shape(np.matmul(grad_y, np.swapaxes(columns, -1, -2)), rows.shape)
    grad_b = sum_to_shape(np.matmul(np.swapaxes(rows, -1, -2), grad_y), columns.shape)
    return grad_a.reshape(a.shape), grad_b.reshape(b.shape)


def _check_inner(a, inner):
    if a.shape[-1] != inner:
        raise ValueError(f"a product of {a.shape[-1]} columns and {inner} rows")
