"""Parameters and the flat buffers they are views of.

    FlatBuffer.data   [ conv.weight | conv.bias | linear.weight | linear.bias ]     one 1-D array
    FlatBuffer.grad   [      "      |     "     |       "       |      "      ]     another
                        Parameter.data and .grad are views of a piece of each

An optimizer step, the norm of all gradients or a reduction over machines is then one pass over one array.
A Parameter is born in a buffer of its own; `flatten` moves several into a common one, `coalesce` finds the
longest runs that lie side by side.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import _checks


class FlatBuffer:
    """A 1-D array of parameters and one of their gradients, with the modules that hold copies of them.

    In eval mode a module may cache what it has worked out of its parameters (packed weights).  It enters
    itself by `register`, and whoever writes calls `drop_caches`.  Threads may do either at any time, without
    a lock, which a forked child might find taken for good.
    """

    __slots__ = ("data", "grad", "readers")

    def __init__(self, size: int, dtype: np.dtype):
        self.data = np.empty(size, dtype)
        self.grad = np.zeros(size, dtype)
        self.readers: list[weakref.ref[Any]] = []

    def drop_caches(self) -> None:
        """Make every module forget what it has worked out of these parameters."""
        if self.readers:
            readers, self.readers = self.readers, []
            for reader in readers:  # and whoever enters this list meanwhile
                if (module := reader()) is not None:
                    module._drop_cache()

    def register(self, module: Any) -> None:
        """Have `module` forget what it is about to work out when these parameters change."""
        reader, entered = weakref.ref(module), None
        while entered is not self.readers:  # the list was taken away before the module was in it, perhaps
            entered = self.readers
            entered.append(reader)


class Parameter:
    """An array that is trained, and its gradient.

    Parameters
    ----------
    data : array_like of float32 or float64
        The initial value, which is copied.

    Attributes
    ----------
    data : ndarray
        The value, a view of the flat buffer.  Written in place (``p.data[...] = 0``) or by assignment, which
        copies into it.  While the owning module is in eval mode the array handed out is read-only, because
        the module may keep packed copies; assignment works in both modes.
    grad : ndarray
        The gradient, of the same shape; ``backward`` adds to it.
    name : str
        The attribute it was first registered under, as "weight".

    Notes
    -----
    Layers read ``_data`` and add to ``_grad``, which spares them a property's cost.  Views taken from `data`
    and `grad` go stale when the parameter moves to another flat buffer: take them afresh.  A view taken in
    training mode can be written to in eval mode, too, and the module's packed copies do not see it.
    """

    __slots__ = ("__weakref__", "_buffer", "_data", "_grad", "_offset", "_readonly", "name")

    def __init__(self, data: Any):
        data = _checks.as_float_array("Parameter: data", data)
        self.name = ""
        self._readonly = False
        self._enter(FlatBuffer(data.size, data.dtype), 0, data, None)

    def _enter(self, buffer: FlatBuffer, offset: int, data: np.ndarray, grad: np.ndarray | None) -> None:
        """Copy `data` and `grad` into the buffer, then become views of it."""
        piece = slice(offset, offset + data.size)
        new_data = buffer.data[piece].reshape(data.shape)
        new_grad = buffer.grad[piece].reshape(data.shape)
        new_data[...] = data
        if grad is not None:
            new_grad[...] = grad
        # Only now: a thread that runs the layer meanwhile sees the old array or the new one, both filled.
        self._data, self._grad, self._buffer, self._offset = new_data, new_grad, buffer, offset

    def _move(self, buffer: FlatBuffer, offset: int) -> None:
        before = self._buffer
        self._enter(buffer, offset, self._data, self._grad)
        before.drop_caches()  # only now: what is worked out meanwhile, of the old array, goes too

    def _read_by(self, module: Any) -> None:
        buffer = None
        while buffer is not self._buffer:  # another thread moved the parameter meanwhile
            buffer = self._buffer
            buffer.register(module)

    @property
    def data(self) -> np.ndarray:
        if not self._readonly:
            return self._data
        view = self._data.view()
        view.flags.writeable = False
        return view

    @data.setter
    def data(self, value: Any) -> None:
        if value is not self._data:  # `p.data += 1` assigns the array to itself
            self._data[...] = self._checked("", value)
        self._buffer.drop_caches()

    @property
    def grad(self) -> np.ndarray:
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not self._grad:
            self._grad[...] = self._checked(".grad", value)

    def _checked(self, what: str, value: Any) -> np.ndarray:
        name = (self.name or "Parameter") + what
        array = _checks.as_float_array(name, value)
        # A list has no dtype of its own; an array's, or a tensor's, is never changed without being asked.
        if hasattr(value, "dtype") and array.dtype != self.dtype:
            raise TypeError(f"{name} is {self.dtype}, got {array.dtype}; convert it with .astype")
        _checks.same_shape(name, array, self.shape)
        return array

    shape = property(lambda self: self._data.shape)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    dtype = property(lambda self: self._data.dtype)

    def zero_grad(self) -> None:
        """Set the gradient to zero."""
        self._grad.fill(0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"Parameter({self.name or 'unnamed'}, shape={self.shape}, {self.dtype})"

    # A copy or a pickle takes its own piece of the buffer along, not the rest of the network's.
    def __getstate__(self) -> tuple[Any, ...]:
        grad = self._grad.copy() if self._grad.any() else None
        return self.name, self._readonly, self._data.copy(), grad

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.name, self._readonly, data, grad = state
        self._enter(FlatBuffer(data.size, data.dtype), 0, data, grad)


def _runs(params: Iterable[Parameter]) -> list[tuple[FlatBuffer, int, int]]:
    """Return the (buffer, start, stop) of the longest pieces that follow each other in `params`."""
    runs: list[tuple[FlatBuffer, int, int]] = []
    buffer, start, stop = None, 0, 0
    for p in params:
        if p._buffer is buffer and p._offset == stop:
            stop += p._data.size
            continue
        if buffer is not None:
            runs.append((buffer, start, stop))
        buffer, start = p._buffer, p._offset
        stop = start + p._data.size
    if buffer is not None:
        runs.append((buffer, start, stop))
    return runs


def coalesce(params: Iterable[Parameter]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the parameters as few long 1-D arrays: a (data, grad) pair for each run that lies side by side.

    The pairs, laid end to end, hold the elements of `params` in order, however the runs are cut, so that an
    optimizer can keep its own state in one array in the same order.  Whoever asks is about to write, so
    caches made from these parameters are dropped.  Ask again before every step: a parameter may have moved
    to another buffer since, and the old arrays would be nobody's.
    """
    pairs = []
    for buffer, start, stop in _runs(params):
        buffer.drop_caches()
        pairs.append((buffer.data[start:stop], buffer.grad[start:stop]))
    return pairs


def flatten(params: Iterable[Parameter]) -> None:
    """Give the parameters of each dtype one flat buffer, in order, unless they already are one run of one."""
    by_dtype: dict[np.dtype, list[Parameter]] = {}
    for p in params:
        by_dtype.setdefault(p._data.dtype, []).append(p)
    for dtype, group in by_dtype.items():
        if len(_runs(group)) > 1:
            buffer, offset = FlatBuffer(sum(p.size for p in group), dtype), 0
            for p in group:
                p._move(buffer, offset)
                offset += p.size
