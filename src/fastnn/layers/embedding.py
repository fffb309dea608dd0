"""Embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks, init
from .._kernels.runtime import in_default_environment
from ..functional.embedding import embedding, embedding_backward, padding_row
from .module import Module, Parameter


class Embedding(Module):
    """A table of vectors, looked up by number; torch.nn.Embedding.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        The rows of the table, and their length.
    padding_idx : int, optional
        A row that is zero at first and gets no gradient.
    dtype : numpy.dtype, default float32
    rng : int or numpy.random.Generator, optional
        For the initial values, standard normal.

    Attributes
    ----------
    weight : Parameter, (num_embeddings, embedding_dim)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *,
                 dtype: Any = np.float32, rng: Any = None):
        super().__init__(dtype=dtype)
        self.num_embeddings = _checks.integer("Embedding: num_embeddings", num_embeddings)
        self.embedding_dim = _checks.integer("Embedding: embedding_dim", embedding_dim)
        table = init.normal_(np.empty((num_embeddings, embedding_dim), self.dtype),
                             rng=init.as_generator("Embedding: rng", rng))
        self.padding_idx = padding_row("Embedding", padding_idx, num_embeddings)
        if self.padding_idx is not None:
            table[self.padding_idx] = 0
        self.weight = Parameter(table)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the rows for the integers x: (*x.shape, embedding_dim)."""
        y = embedding(x, self.weight._data, self.padding_idx)
        self._save(x)
        return y

    @in_default_environment
    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> None:
        """Add to the gradient of the table; integers have none, so None is returned."""
        (x,) = self._take()
        grad_y = _checks.as_float_array("Embedding.backward: grad_y", grad_y, None, self.dtype)
        if grad_y.shape[-1:] != (self.embedding_dim,):  # one of width 1 would spread over all columns
            raise ValueError(f"Embedding.backward: grad_y has shape {grad_y.shape}, expected embedding_dim = "
                             f"{self.embedding_dim} columns")
        self.weight._grad += embedding_backward(grad_y, x, self.num_embeddings, self.padding_idx)

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
