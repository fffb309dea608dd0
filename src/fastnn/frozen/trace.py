"""Follows the `forward` of somebody's own Module: its layers are called with stand-ins for arrays.

A stand-in knows what can be written as nodes: arithmetic, concatenation, transposition, flattening, and the
calls of layers. Whatever else `forward` does with it raises `Untraceable`, and the Module is then kept as it
is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from ..layers import Module, ModuleList, Parameter
from .graph import ARITHMETIC, Builder

Lower = Callable[[Builder, str, Module, str], Any]


class Untraceable(Exception):
    """The Module does what cannot be followed."""


def trace(builder: Builder, layer: Module, x: str, lower: Lower) -> Any:
    """Return the names of what ``layer.forward`` gives for the value `x`."""
    try:
        outputs = _with_stand_ins(builder, layer, "", lower).forward(Value(builder, x))
    except Exception as error:  # of any kind: code that expects arrays met something else
        raise Untraceable(str(error)) from error
    return _names(outputs)


def _with_stand_ins(builder: Builder, layer: Module, path: str, lower: Lower) -> Module:
    """A copy of a Module in eval mode whose layers record that they are called."""
    stand_ins: dict[str, Any] = {}
    for name, child in layer.named_children():
        full = f"{path}.{name}" if path else name
        stand_ins[name] = (_with_stand_ins(builder, child, full, lower) if isinstance(child, ModuleList)
                           else Layer(builder, full, child, lower))
    clone = copy.copy(layer)
    state = clone.__dict__
    state["training"] = False
    if "_layers" in state:
        state["_layers"] = stand_ins
    else:
        state.update(stand_ins)
    return clone


def _names(outputs: Any) -> Any:
    if isinstance(outputs, Value):
        return outputs.name
    if isinstance(outputs, tuple | list):
        return tuple(map(_names, outputs))
    raise Untraceable(f"an output is a {type(outputs).__name__}")


class Layer:
    """Stands for a layer."""

    def __init__(self, builder: Builder, path: str, layer: Module, lower: Lower):
        self._builder, self._path, self._layer, self._lower = builder, path, layer, lower

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, Value):
            raise Untraceable(f"{self._path} is called with a {type(x).__name__}")
        return self._values(self._lower(self._builder, self._path, self._layer, x.name))

    forward = __call__

    def _values(self, names: Any) -> Any:
        if isinstance(names, tuple):
            return tuple(map(self._values, names))
        return Value(self._builder, names)


class _Unknown:
    """What no condition can be asked about: the numbers come when the network is called."""

    def __eq__(self, other: object) -> bool:
        raise Untraceable(f"a comparison of {self._words}")

    def __bool__(self) -> bool:
        raise Untraceable(f"a condition on {self._words}")

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None  # which would tell it apart from the numbers of a set
    _words = "an array's elements"


class Size(_Unknown):
    """Stands for the size of the first axis, which is of use in `Value.reshape` alone."""

    _words = "an array's size"


class Sizes:
    """Stands for a shape, of which the size of the first axis can be asked."""

    def __getitem__(self, axis: Any) -> Size:
        if type(axis) is not int or axis != 0:
            raise Untraceable(f"the size of axis {axis}")
        return Size()

    def __len__(self) -> int:
        raise Untraceable("the number of an array's axes")

    def __iter__(self) -> Any:
        raise Untraceable("an array's sizes")


class Value(_Unknown):
    """Stands for an array."""

    def __init__(self, builder: Builder, name: str):
        self.name = name
        self._builder = builder

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise Untraceable("an array is asked for its elements")

    def _add(self, op: str, *inputs: str, **attributes: Any) -> Value:
        return Value(self._builder, self._builder.add(op, op, *inputs, **attributes))

    # --- Arithmetic

    def _operand(self, other: Any) -> str:
        if isinstance(other, Value):
            return other.name
        if isinstance(other, Parameter):
            return self._builder.constant(other._data)
        if isinstance(other, int | float | np.number | np.ndarray):
            array = np.array(other)
            if array.dtype.kind in "biuf":
                return self._builder.constant(array)
        raise Untraceable(f"arithmetic with a {type(other).__name__}")

    def _arithmetic(self, op: str, x: Any, y: Any) -> Value:
        # Which of them is a number of Python's, that takes the other's dtype, as one of NumPy's does not.
        number = next((i for i, part in enumerate((x, y)) if type(part) in (bool, int, float)), None)
        return self._add(op, self._operand(x), self._operand(y), same_shape=False, activation=None,
                         number=number)

    def __add__(self, other: Any) -> Value:
        return self._arithmetic("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return self._arithmetic("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return self._arithmetic("sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self._arithmetic("sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return self._arithmetic("mul", self, other)

    def __rmul__(self, other: Any) -> Value:
        return self._arithmetic("mul", other, self)

    def __truediv__(self, other: Any) -> Value:
        return self._arithmetic("div", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self._arithmetic("div", other, self)

    def __neg__(self) -> Value:
        return self._add("neg", self.name, activation=None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Value:
        op = next((op for op, known in ARITHMETIC.items() if known is ufunc), None)
        if op is None or method != "__call__" or kwargs:
            raise Untraceable(f"numpy.{ufunc.__name__}")
        return self._arithmetic(op, *inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Value:
        if function is not np.concatenate:
            raise Untraceable(f"numpy.{function.__name__}")
        return self._concatenate(*args, **kwargs)

    def _concatenate(self, arrays: Any, axis: int = 0) -> Value:
        return self._add("concat", *map(self._operand, arrays), axis=axis)

    # --- Shape

    @property
    def shape(self) -> Sizes:
        """The size of the first axis alone is of use here."""
        return Sizes()

    def transpose(self, *axes: Any) -> Value:
        """The axes in another order."""
        axes = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return self._add("transpose", self.name, axes=axes or None)

    @property
    def T(self) -> Value:
        """The axes in reverse."""
        return self.transpose()

    def reshape(self, *shape: Any) -> Value:
        """As a matrix of as many rows; any other shape is not followed."""
        shape = shape[0] if len(shape) == 1 else shape
        if len(shape) != 2 or not isinstance(shape[0], Size) or shape[1] != -1:
            raise Untraceable("a reshape")
        return self._add("flatten", self.name, start=1, end=-1)
