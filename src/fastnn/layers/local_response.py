"""Normalisation by neighbouring channels; torch.nn's name and arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from ..functional import local_response as F
from .activation import _FromInput


class LocalResponseNorm(_FromInput):
    """Each channel divided by (k + alpha / size sum x^2)^beta, the sum over `size` neighbouring channels.

    Parameters
    ----------
    size : int
    alpha, beta, k : float, default 1e-4, 0.75, 1
    """

    _function = staticmethod(F.local_response_norm)
    _gradient = staticmethod(F.local_response_norm_backward)
    _names = ("size", "alpha", "beta", "k")

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *,
                 dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        name = "LocalResponseNorm"
        self.size = _checks.integer(f"{name}: size", size)
        self.alpha, self.beta = _checks.real(f"{name}: alpha", alpha), _checks.real(f"{name}: beta", beta)
        self.k = _checks.real(f"{name}: k", k)
