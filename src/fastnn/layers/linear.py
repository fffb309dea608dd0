"""The fully connected layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _checks, init
from .._kernels.runtime import in_default_environment
from ..functional import _fused
from ..functional.linear import add_gradients, check_input, pack_weight, prepare, product
from .module import Module, Parameter


class Linear(Module):
    """Linear map of the last axis, y = f(x W^T + b); torch.nn.Linear.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool, default True
    activation : {None, "relu", "sigmoid", "tanh"}
        f, applied by the kernel itself.
    dtype : numpy.dtype, default float32
    rng : int or numpy.random.Generator, optional
        For the initial values: W and b uniform in +-1 / sqrt(in_features).

    Attributes
    ----------
    weight : Parameter, (out_features, in_features)
    bias : Parameter, (out_features,), or None

    Examples
    --------
    >>> layer = fastnn.Linear(3, 2)
    >>> y = layer(np.ones((5, 3), np.float32))     # (5, 2)
    >>> grad_x = layer.backward(np.ones_like(y))   # (5, 3); layer.weight.grad is added to
    """

    @in_default_environment
    def __init__(self, in_features: int, out_features: int, bias: bool = True, *,
                 activation: str | None = None, dtype: Any = np.float32, rng: Any = None):
        super().__init__(dtype=dtype)
        self.in_features = _checks.integer("Linear: in_features", in_features)
        self.out_features = _checks.integer("Linear: out_features", out_features)
        self.activation = _checks.choice("Linear: activation", activation, _fused.NAMES)
        rng = init.as_generator("Linear: rng", rng)
        weight = np.empty((out_features, in_features), self.dtype)
        self.weight = Parameter(init.kaiming_uniform_(weight, a=math.sqrt(5), rng=rng))
        self.bias = None
        if _checks.flag("Linear: bias", bias):
            bound = 1 / math.sqrt(in_features)
            self.bias = Parameter(init.uniform_(np.empty(out_features, self.dtype), -bound, bound, rng=rng))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return f(x W^T + b) for x (..., in_features)."""
        if not self.recording:
            prepared = self._cache.get("prepared")
            if prepared is not None and (y := prepared(x)) is not None:
                return y
        weight = self.weight._data
        x = check_input("Linear", x, weight.shape, weight.dtype)
        panels = None if self.recording else self._panels()
        bias = None if self.bias is None else self.bias._data
        y = product(x, weight, panels, bias, self.activation)
        if not self.recording and self.activation in (None, "relu"):
            # With panels as they are when it is kept: another thread may have brought other weights.
            self._cached("prepared", lambda: prepare(self._panels(), bias, weight.shape, self.activation))
        self._save(x, y if self.activation else None)
        return y

    def _panels(self) -> Any:
        return self._cached("panels", lambda: pack_weight(self.weight._data))

    @in_default_environment
    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """Add to the gradients of weight and bias, return that of x."""
        input_grad = _checks.flag("Linear.backward: input_grad", input_grad)
        x, y = self._take()
        grads = self.weight._grad, None if self.bias is None else self.bias._grad
        return add_gradients(grad_y, x, self.weight._data, grads, self.activation, y, input_grad)

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        text = f"in_features={self.in_features}, out_features={self.out_features}"
        text += f", bias={self.bias is not None}"
        return text + (f", activation={self.activation!r}" if self.activation else "")
