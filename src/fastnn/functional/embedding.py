"""Embedding: rows of a table, by their numbers."""

from __future__ import annotations

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment


def padding_row(name, padding_idx, rows):
    """`padding_idx` counted from the front, or None."""
    if padding_idx is None:
        return None
    padding_idx = _checks.integer(f"{name}: padding_idx", padding_idx, -rows)
    if padding_idx >= rows:
        raise ValueError(f"{name}: padding_idx {padding_idx} is not a row of {rows}")
    return padding_idx % rows


def embedding(indices, weight, padding_idx=None):
    """y[...] = weight[indices[...]].

    Parameters
    ----------
    indices : ndarray of integers, any shape
    weight : ndarray, (num_embeddings, embedding_dim)
    padding_idx : int, optional
        A row whose gradient is zero; the forward pass does not look at it.

    Returns
    -------
    y : ndarray, (*indices.shape, embedding_dim)

    Raises
    ------
    ValueError
        If an index is not a row of the table.
    """
    weight = _checks.as_float_array("embedding: weight", weight, 2)
    indices = _checks.as_int_array("embedding: indices", indices, None, 0, weight.shape[0])
    padding_row("embedding", padding_idx, weight.shape[0])
    return np.take(weight, indices, axis=0)


@in_default_environment
def embedding_backward(grad_y, indices, num_embeddings, padding_idx=None):
    """grad_weight[i] = sum of grad_y over the places where indices = i; zero for padding_idx.

    Repeated indices are added in the order of `indices`: equal bits every time.
    """
    name = "embedding_backward"
    num_embeddings = _checks.integer(f"{name}: num_embeddings", num_embeddings)
    indices = _checks.as_int_array(f"{name}: indices", indices, None, 0, num_embeddings)
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, indices.ndim + 1)
    _checks.same_shape(f"{name}: grad_y", grad_y, (*indices.shape, grad_y.shape[-1]), "as the output has")
    grad_weight = np.zeros((num_embeddings, grad_y.shape[-1]), grad_y.dtype)
    flat = indices.reshape(-1)
    if flat.size:
        # Sorted by row, the places of each lie together and are summed at once.
        order = np.argsort(flat, kind="stable")
        rows, first = np.unique(flat[order], return_index=True)
        grad_weight[rows] = np.add.reduceat(grad_y.reshape(flat.size, -1)[order], first, axis=0)
    padding = padding_row(name, padding_idx, num_embeddings)
    if padding is not None:
        grad_weight[padding] = 0
    return grad_weight
