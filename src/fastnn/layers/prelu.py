"""A leaky ReLU whose slopes are learnt; torch.nn's name and arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment
from ..functional import prelu, prelu_backward
from .module import Module, Parameter


class PReLU(Module):
    """x where x >= 0, else weight[c] x: a leaky ReLU whose slopes are learnt (He et al., 2015).

    Parameters
    ----------
    num_parameters : int, default 1
        The number of channels, in dimension 1, or 1 for one slope for all.
    init : float, default 0.25
    dtype : numpy.dtype, default float32

    Attributes
    ----------
    weight : Parameter, (num_parameters,)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        self.num_parameters = _checks.integer("PReLU: num_parameters", num_parameters)
        self.weight = Parameter(np.full(num_parameters, _checks.real("PReLU: init", init), self.dtype))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return f(x)."""
        y = prelu(x, self.weight._data)
        self._save(x)
        return y

    @in_default_environment
    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Add to the gradient of the slopes, return that of x."""
        (x,) = self._take()
        grad_x, grad_weight = prelu_backward(grad_y, x, self.weight._data)
        self.weight._grad += grad_weight
        return grad_x

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        return f"num_parameters={self.num_parameters}"
