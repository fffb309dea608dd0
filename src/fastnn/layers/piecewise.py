"""Activations made of pieces; torch.nn's names and arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from ..functional import piecewise as F
from .activation import _FromInput


class ELU(_FromInput):
    """x where x > 0, else alpha (e^x - 1).

    Parameters
    ----------
    alpha : float, default 1
    """

    _function, _gradient = staticmethod(F.elu), staticmethod(F.elu_backward)
    _names = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False, *, dtype: Any = np.float32):
        super().__init__(inplace, dtype=dtype)
        self.alpha = _checks.real("ELU: alpha", alpha)


class Hardtanh(_FromInput):
    """x, but at least `min_val` and at most `max_val`; no gradient at the bounds and beyond.

    Parameters
    ----------
    min_val, max_val : float, default -1 and 1
    """

    _function, _gradient = staticmethod(F.hardtanh), staticmethod(F.hardtanh_backward)
    _names = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False, *,
                 dtype: Any = np.float32):
        super().__init__(inplace, dtype=dtype)
        self.min_val, self.max_val = F.bounds("Hardtanh", min_val, max_val)


class ReLU6(Hardtanh):
    """min(max(x, 0), 6), of mobile networks."""

    def __init__(self, inplace: bool = False, *, dtype: Any = np.float32):
        super().__init__(0.0, 6.0, inplace, dtype=dtype)

    def extra_repr(self) -> str:
        """Return nothing: there is no configuration."""
        return ""


class Hardsigmoid(_FromInput):
    """min(max(x / 6 + 1 / 2, 0), 1)."""

    _function, _gradient = staticmethod(F.hardsigmoid), staticmethod(F.hardsigmoid_backward)


class Hardswish(_FromInput):
    """x min(max(x / 6 + 1 / 2, 0), 1)."""

    _function, _gradient = staticmethod(F.hardswish), staticmethod(F.hardswish_backward)


class Softplus(_FromInput):
    """log(1 + e^(beta x)) / beta; x itself where beta x is above `threshold`.

    Parameters
    ----------
    beta : float, default 1
    threshold : float, default 20
    """

    _function, _gradient = staticmethod(F.softplus), staticmethod(F.softplus_backward)
    _names = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        self.beta, self.threshold = F.softplus_numbers("Softplus", beta, threshold)
