"""Layers of a few lines of NumPy, for tests of what is made of layers."""

import numpy as np

from fastnn import Module, Parameter


class PlainLinear(Module):
    """y = x @ weight.T + bias."""

    def __init__(self, in_features, out_features, *, dtype=np.float32, seed=0):
        super().__init__(dtype=dtype)
        rng = np.random.default_rng(seed)
        self.weight = Parameter(rng.normal(size=(out_features, in_features)).astype(dtype))
        self.bias = Parameter(rng.normal(size=out_features).astype(dtype))

    def forward(self, x):
        packed = self._cached("packed", lambda: self.weight._data.T.copy())
        self._save(x)
        return x @ packed + self.bias._data

    def backward(self, grad_y, *, input_grad=True):
        (x,) = self._take()
        self.weight._grad += grad_y.T @ x
        self.bias._grad += grad_y.sum(0)
        return grad_y @ self.weight._data if input_grad else None

    def extra_repr(self):
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


class PlainTanh(Module):
    """y = tanh(x); its backward knows no keyword, as a layer without parameters need not."""

    def forward(self, x):
        y = np.tanh(x)
        self._save(y)
        return y

    def backward(self, grad_y):
        (y,) = self._take()
        return grad_y * (1 - y * y)


class PlainConstant(Module):
    """y = the given array, whatever x is."""

    def __init__(self, y):
        super().__init__()
        self.y = y

    def forward(self, x):
        return self.y


class PlainCounter(Module):
    """y = x; a buffer counts the calls in training mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", np.int64(0))
        self.register_buffer("nothing", None)

    def forward(self, x):
        if self.training:
            self.calls += 1
        return x, "state"  # a tuple, as recurrent layers return

    def backward(self, grad_y):
        return grad_y


def finite_differences(function, array, step=1e-6):
    """Return the gradient by `array` of a function that reads it, by central differences.

    Of a function that gives an array it is the gradient of the sum: terms that did not change cancel exactly.
    """
    grad = np.empty_like(array)
    for index in np.ndindex(array.shape):
        old = array[index]
        array[index] = old + step
        above = function()
        array[index] = old - step
        below = function()
        array[index] = old
        grad[index] = np.sum(above - below) / (2 * step)
    return grad
