"""Activation layers; torch.nn's names and arguments.

The keyword `dtype` is taken as by every layer, without meaning here: float32 and float64 are both accepted.
So is torch's `inplace`: the output is always a new array, and what `backward` needs stays whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from ..functional import activation as F
from .module import Module


class _FromOutput(Module):
    """An activation whose derivative follows from its output, the only thing saved."""

    _function: Any
    _gradient: Any

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return f(x)."""
        y = type(self)._function(x)
        self._save(y)
        return y

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return grad_y f'(x)."""
        (y,) = self._take()
        return type(self)._gradient(grad_y, y)


class _FromInput(Module):
    """A function whose derivative follows from its input, the only thing saved.

    The names of its numbers are those of the attributes that hold them.
    """

    _function: Any
    _gradient: Any
    _names: tuple[str, ...] = ()

    def __init__(self, inplace: bool = False, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        _checks.flag(f"{type(self).__name__}: inplace", inplace)

    def _numbers(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._names])

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return f(x)."""
        y = type(self)._function(x, *self._numbers())
        self._save(x)
        return y

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return the gradient of x."""
        (x,) = self._take()
        return type(self)._gradient(grad_y, x, *self._numbers())

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)


class ReLU(_FromOutput):
    """max(0, x): cheap, without a vanishing gradient where x > 0, and sparse; derivative 0 at 0.

    Attributes
    ----------
    active_share : float
        The share of units with y > 0 in the last call in training mode; NaN before it. Until the next one,
        or the end of `fit`, the layer holds on to that call's output.
    """

    _function = staticmethod(F.relu)
    _gradient = staticmethod(F.relu_backward)
    _last: np.ndarray | float = float("nan")    # the last output, or its share

    def __init__(self, inplace: bool = False, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        _checks.flag("ReLU: inplace", inplace)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return max(0, x)."""
        y = super().forward(x)
        if self.recording:
            self.__dict__["_last"] = y
        return y

    @property
    def active_share(self) -> float:
        """The share of active units in the last call in training mode."""
        return F.active_share(self._last) if isinstance(self._last, np.ndarray) else self._last

    def _forget(self) -> None:
        super()._forget()
        self.__dict__["_last"] = self.active_share

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_last", None)
        return state


class Sigmoid(_FromOutput):
    """1 / (1 + e^-x)."""

    _function = staticmethod(F.sigmoid)
    _gradient = staticmethod(F.sigmoid_backward)


class Tanh(_FromOutput):
    """(e^x - e^-x) / (e^x + e^-x)."""

    _function = staticmethod(F.tanh)
    _gradient = staticmethod(F.tanh_backward)


class LeakyReLU(_FromInput):
    """x where x >= 0, else negative_slope x.

    Parameters
    ----------
    negative_slope : float, default 0.01
    """

    _function, _gradient = staticmethod(F.leaky_relu), staticmethod(F.leaky_relu_backward)
    _names = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False, *, dtype: Any = np.float32):
        super().__init__(inplace, dtype=dtype)
        self.negative_slope = _checks.real("LeakyReLU: negative_slope", negative_slope)


class GELU(_FromInput):
    """x Phi(x), Phi the normal distribution function.

    Parameters
    ----------
    approximate : {"none", "tanh"}, default "none"
    """

    _function, _gradient = staticmethod(F.gelu), staticmethod(F.gelu_backward)
    _names = ("approximate",)

    def __init__(self, approximate: str = "none", *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        self.approximate = _checks.choice("GELU: approximate", approximate, ("none", "tanh"))


class SiLU(_FromInput):
    """x sigmoid(x), also called swish."""

    _function, _gradient = staticmethod(F.silu), staticmethod(F.silu_backward)


class Softmax(Module):
    """e^x / sum e^x along one axis.

    Parameters
    ----------
    dim : int, default -1
        The axis along which the outputs sum to 1.
    """

    _function = staticmethod(F.softmax)
    _gradient = staticmethod(F.softmax_backward)

    def __init__(self, dim: int = -1, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        self.dim = _checks.integer(f"{type(self).__name__}: dim", dim, -32)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the function along `dim`."""
        y = type(self)._function(x, self.dim)
        self._save(y)
        return y

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return the gradient of the input."""
        (y,) = self._take()
        return type(self)._gradient(grad_y, y, self.dim)

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """x - log(sum e^x) along one axis.

    Parameters
    ----------
    dim : int, default -1
        The axis along which the outputs' exponentials sum to 1.
    """

    _function = staticmethod(F.log_softmax)
    _gradient = staticmethod(F.log_softmax_backward)
