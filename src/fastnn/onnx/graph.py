"""A network as plain data: what a file said, and what `freeze` and the exporter take apart.

Nothing here runs, and nothing here needs the `onnx` package. A value is known by its name; "" is an input
or output that a node leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Value:
    """An input or output of a graph.

    Attributes
    ----------
    dtype : numpy.dtype or None
        None where the file does not say.
    shape : tuple of (int, str or None), or None
        A name or None for a size that is free, None for a rank that is.
    """

    name: str
    dtype: np.dtype | None
    shape: tuple[int | str | None, ...] | None


@dataclass
class Node:
    """One application of an operator.

    Attributes
    ----------
    op : str
        The operator's name, as "Conv".
    since : int
        The version of the operator: the opset in which what it does last changed.
    inputs, outputs : tuple of str
        Names of values.
    attributes : dict
        int, float, str, ndarray, tuples of them, and `Graph` for the branches of an If.
    name : str
        For messages.
    """

    op: str
    since: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def __str__(self) -> str:
        return f"{self.op} node {self.name or self.outputs[0]!r}"

    def subgraphs(self) -> Iterator[Graph]:
        """Yield the graphs among the attributes."""
        return (value for value in self.attributes.values() if isinstance(value, Graph))

    def reads(self) -> Iterator[str]:
        """Yield the names of all values that the node reads, those that its subgraphs capture included."""
        yield from filter(None, self.inputs)
        for graph in self.subgraphs():
            yield from graph.captured()


@dataclass
class Graph:
    """Nodes in an order in which they can run, and the arrays they begin with."""

    inputs: list[Value]
    outputs: list[Value]
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    name: str = ""
    opset: int = 0

    def captured(self) -> list[str]:
        """Names that a subgraph reads from the graphs around it."""
        own = {value.name for value in self.inputs} | self.constants.keys()
        own.update(name for node in self.nodes for name in node.outputs)
        read = [name for node in self.nodes for name in node.reads()]
        read += [value.name for value in self.outputs]
        return [name for name in dict.fromkeys(read) if name not in own]
