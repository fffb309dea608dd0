"""Embedding in plain NumPy."""

from __future__ import annotations

import numpy as np


def embedding(indices, weight, padding_idx=None):
    """weight[indices]."""
    return weight[np.asarray(indices)]


def embedding_backward(grad_y, indices, num_embeddings, padding_idx=None):
    """Add each row of grad_y to the row it came from."""
    grad_weight = np.zeros((num_embeddings, grad_y.shape[-1]), grad_y.dtype)
    np.add.at(grad_weight, np.asarray(indices), grad_y)
    if padding_idx is not None:
        grad_weight[padding_idx] = 0
    return grad_weight
