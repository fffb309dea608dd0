"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._random import own_generator
from ..functional.dropout import dropout_mask, masked
from .module import Module


class Dropout(Module):
    """In training mode set each element to zero with probability p and scale the rest by 1 / (1 - p).

    In eval mode the identity. torch.nn.Dropout; Srivastava et al., 2014.

    Parameters
    ----------
    p : float, default 0.5
    inplace : bool
        torch's, without effect.
    dtype : numpy.dtype, default float32
        Taken as by every layer, without meaning here: float32 and float64 are both accepted.
    rng : int or numpy.random.Generator, optional
        For the masks. None is the package's generator, also for copies and pickles of the layer.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, *, dtype: Any = np.float32, rng: Any = None):
        super().__init__(dtype=dtype)
        _checks.flag("Dropout: inplace", inplace)
        self.p = _checks.real("Dropout: p", p, 0.0, 1.0)
        self._rng = own_generator("Dropout: rng", rng)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return x times a new mask, or in eval mode x itself."""
        x = _checks.as_float_array("Dropout: x", x)
        if not self.training:
            self._save(None, x.shape, x.dtype)
            return x
        mask = dropout_mask(x.shape, self.p, self._rng, x.dtype)
        self._save(mask, x.shape, x.dtype)
        return masked(x, mask)

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return grad_y times the mask of the last call, if it had one."""
        mask, shape, dtype = self._take()
        grad_y = _checks.as_float_array("Dropout.backward: grad_y", grad_y, None, dtype)
        _checks.same_shape("Dropout.backward: grad_y", grad_y, shape, "as the output has")
        return grad_y if mask is None else masked(grad_y, mask)

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        return f"p={self.p}"
