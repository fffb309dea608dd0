"""A network to be frozen, as plain data: nodes, the names of what they read and write, and constants.

Nothing here runs. How a node runs is found by its `op` in the table of `steps`::

    op          inputs                              attributes
    conv        x, weight, bias, residual           stride, padding, dilation, groups, algorithm, activation,
                                                    perhaps same_shape, into
    chain       x, each weight and bias, residual   links (nodes "conv"), and what the last of them has
    conv_transpose  x, weight, bias                 as "conv", and output_padding
    linear      x, weight, bias                     activation
    layer_norm  x, weight, bias                     shape, eps, dtype, activation
    scale       x, scale, shift (by channel)        dtype, ranks, activation
    map         x                                   activation
    prelu       x, slope                            by_channel (or as it spreads over x)
    pool        x                                   kind, windows
    neg         x                                   activation
    add, sub, mul, div  x, y                        same_shape, activation, perhaps number: which of them is
                                                    one of Python's
    concat      x, ...                              axis
    flatten     x                                   start, end
    matrix      x                                   axis
    identity    x
    reshape     x, shape                            allowzero
    transpose, squeeze, unsqueeze  x                axes
    last_step   x                                   batch_first, bidirectional
    softmax     x                                   axis, log
    recurrent   x, h0, c0, 4 weights by direction   cell, batch_first, reverse, by_direction
    function    x, ...                              name (in fastnn.functional), operands, arguments
    module      x                                   module
    onnx        x, ...                              step, rng

An operand that is left out is "". `activation` is None or a tuple, the name of a function and its numbers:
("relu",), ("leaky_relu", 0.1), ("clip", 0.0, 6.0). A convolution with `into`, (name, first channel,
channels), writes to a part of the array that is to be that value; the "concat" that gives it has nothing left
to do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

# Operations of two arrays, as NumPy's functions.
ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}


class Input(NamedTuple):
    """What a network wants of an input: None and a str are free."""

    name: str
    dtype: np.dtype | None = None
    shape: tuple[int | str | None, ...] | None = None


@dataclass
class Node:
    """One operation.

    Attributes
    ----------
    label : str
        What it was in the network, for messages: "Conv2d layer1.0.conv1".
    covers : tuple of str
        The values that it gives or that were fused into it, by which its layers are known: as the network had
        them, one for each.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    covers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.covers:
            self.covers = tuple(filter(None, self.outputs))[:1]


@dataclass
class Graph:
    """Nodes in an order in which they can run."""

    inputs: list[Input] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def uses(self) -> Counter[str]:
        """How often each value is read, by nodes and as an output."""
        counts = Counter(name for node in self.nodes for name in node.inputs if name)
        counts.update(self.outputs)
        return counts


class Builder:
    """A graph to which nodes are appended, with names of its own for values.

    Attributes
    ----------
    path : str
        Where in the model the layer is that is being written, for labels.
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.path = ""
        self._count = 0
        self._constants: dict[int, tuple[Any, str]] = {}

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def input(self) -> str:
        """Append an input of any dtype and shape."""
        name = self._name()
        self.graph.inputs.append(Input(name))
        return name

    def constant(self, array: np.ndarray | None) -> str:
        """Append a copy of an array, or find that of the same array; "" for None."""
        if array is None:
            return ""
        if id(array) not in self._constants:
            name = self._name()
            self.graph.constants[name] = np.array(array, order="C")
            self._constants[id(array)] = array, name  # the array, so that its id stays its own
        return self._constants[id(array)][1]

    def add(self, op: str, layer: str, /, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; return the name of its output, or a tuple of them."""
        names = tuple(self._name() for _ in range(outputs))
        label = f"{layer} {self.path}".rstrip()
        self.graph.nodes.append(Node(op, inputs, names, attributes, label))
        return names[0] if outputs == 1 else names
