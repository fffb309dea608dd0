"""From layers to a `Graph` of ONNX operators: names, constants, and a table of how each layer is written.

A layer's entry in the table is a function (builder, layer, x) that appends nodes and returns what they give.
It sees the shape of `x` as far as that is known: a size that is free is a str or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..layers import Module, Parameter
from .graph import Graph, Node, Value
from .operators import find

OPSET = 20  # of 2023: has LayerNormalization and Gelu

Size = int | str | None
Emitter = Callable[["Builder", Any, Value], Any]

_EMITTERS: dict[type[Module], Emitter] = {}


def emits(*layers: type[Module]) -> Callable[[Emitter], Emitter]:
    """Enter a function in the table, as the way that these layers are written."""

    def enter(emitter: Emitter) -> Emitter:
        _EMITTERS.update(dict.fromkeys(layers, emitter))
        return emitter

    return enter


def emitter_of(layer: Module) -> Emitter | None:
    """How a layer is written; for a subclass with the same `forward`, as its base is."""
    for kind in type(layer).__mro__:
        if kind in _EMITTERS:
            return _EMITTERS[kind] if type(layer).forward is kind.forward else None
    return None


class Builder:
    """A graph to which layers append themselves, one after another.

    Attributes
    ----------
    graph : Graph
    path : str
        Where in the model the layer is that appends itself, as "encoder.0"; the parameters' names begin so.
    arguments : dict of str to list of Value
        What the model's call takes besides its input, where the model is a recurrent layer.
    """

    def __init__(self, name: str):
        self.graph = Graph([], [], [], {}, name, OPSET)
        self.path = ""
        self.arguments: dict[str, list[Value]] = {}
        self._used: set[str] = set()
        self._parameters: dict[int, Value] = {}

    def run(self, name: str, layer: Module, x: Value) -> Any:
        """Append a layer under a name within the one that appends itself; return its output or outputs."""
        emitter = emitter_of(layer)
        if emitter is None:
            raise ValueError(f"onnx.save: {type(layer).__name__} is not known here")
        with self._within(name):
            return emitter(self, layer, x)

    def first(self, name: str, layer: Module, x: Value) -> Value:
        """Append a layer as `run` does; return the first of its outputs, which a container passes on."""
        y = self.run(name, layer, x)
        return y[0] if isinstance(y, tuple) else y

    @contextmanager
    def _within(self, name: str) -> Iterator[None]:
        before, self.path = self.path, self._named(name)
        try:
            yield
        except ValueError as error:
            if not str(error).startswith("onnx.save"):
                raise ValueError(f"onnx.save: layer {self.path or '(the model)'}: {error}") from error
            raise
        finally:
            self.path = before

    def _named(self, name: str) -> str:
        return ".".join(filter(None, (self.path, name)))

    def _free(self, name: str) -> str:
        """The name itself, or the first like it that is not taken."""
        free, n = name, 1
        while free in self._used:
            free, n = f"{name}_{n}", n + 1
        self._used.add(free)
        return free

    def input(self, name: str, dtype: np.dtype, shape: tuple[Size, ...]) -> Value:
        """Append an input of the graph."""
        value = Value(self._free(name), np.dtype(dtype), shape)
        self.graph.inputs.append(value)
        return value

    def add(self, op: str, *inputs: Value | None, shape: tuple[Size, ...], dtype: Any = None,
            **attributes: Any) -> Value:
        """Append a node of one output; None is an input that it leaves out."""
        (y,) = self.add_many(op, *inputs, shapes=[shape], dtype=dtype, **attributes)
        return y

    def add_many(self, op: str, *inputs: Value | None, shapes: list[tuple[Size, ...]], dtype: Any = None,
                 **attributes: Any) -> list[Value]:
        """Append a node of several outputs, of these shapes and of the dtype of its first input."""
        name = self._free("/".join((self.path, op)))
        given = [value for value in inputs if value is not None]
        kind = np.dtype(dtype) if dtype is not None else given[0].dtype
        outputs = [Value(name if i == 0 else self._free(f"{name}:{i}"), kind, shape)
                   for i, shape in enumerate(shapes)]
        operator = find(op, OPSET)
        node = Node(op, operator.since if operator else OPSET,
                    tuple("" if value is None else value.name for value in inputs),
                    tuple(value.name for value in outputs), attributes, name)
        self.graph.nodes.append(node)
        return outputs

    def constant(self, name: str, array: Any) -> Value:
        """Append an array under a name of the layer's."""
        array = np.array(array)  # its own, in C order, whatever becomes of the layer's
        value = Value(self._free(self._named(name)), array.dtype, array.shape)
        self.graph.constants[value.name] = array
        return value

    def parameter(self, name: str, parameter: Parameter) -> Value:
        """Append a parameter under its name in the state dict, or find it where it is shared."""
        if id(parameter) not in self._parameters:
            self._parameters[id(parameter)] = self.constant(name, parameter._data)
        return self._parameters[id(parameter)]

    # --- Operators that many layers need

    def activate(self, activation: str | None, x: Value) -> Value:
        """Append a fused activation."""
        if activation is None:
            return x
        return self.add(activation.capitalize() if activation != "relu" else "Relu", x, shape=x.shape)

    def transpose(self, x: Value, *order: int) -> Value:
        """Append an exchange of dimensions."""
        return self.add("Transpose", x, shape=tuple(x.shape[i] for i in order), perm=order)

    def unsqueeze(self, x: Value, axis: int) -> Value:
        """Append a dimension of one element before `axis`."""
        shape = (*x.shape[:axis], 1, *x.shape[axis:])
        return self.add("Unsqueeze", x, self.constant("axes", np.int64([axis])), shape=shape)

    def squeeze(self, x: Value, axis: int) -> Value:
        """Take a dimension of one element away."""
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        return self.add("Squeeze", x, self.constant("axes", np.int64([axis])), shape=shape)

    def mean(self, x: Value, axes: tuple[int, ...]) -> Value:
        """Append the mean over dimensions, which stay with one element."""
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        return self.add("ReduceMean", x, self.constant("axes", np.int64(axes)), shape=shape, keepdims=1)


def rank(x: Value, *ranks: int) -> int:
    """The number of dimensions of `x`, one of these."""
    if len(x.shape) not in ranks:
        raise ValueError(f"its input has shape {shape_text(x.shape)}, expected "
                         + " or ".join(map(str, ranks)) + " dimensions")
    return len(x.shape)


def channels(x: Value, axis: int, count: int) -> None:
    """Check the size of one dimension of `x`, where it is known."""
    if isinstance(x.shape[axis], int) and x.shape[axis] != count:
        raise ValueError(f"its input has shape {shape_text(x.shape)}, expected {count} in dimension {axis}")


def shape_text(shape: tuple[Size, ...]) -> str:
    """A shape in words: (batch, 3, ?, ?)."""
    return "(" + ", ".join("?" if n is None else str(n) for n in shape) + ")"
