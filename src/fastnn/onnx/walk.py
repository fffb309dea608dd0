"""A model run a node at a time: for who wants to see shapes, times and memory on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .executor import Session, Step, Values
from .graph import Node
from .model import OnnxModel, _checked


class Visit(NamedTuple):
    """A node that has just run.

    Attributes
    ----------
    shapes : tuple of tuple of int
        Of its outputs.
    macs : int
        Multiplications with an addition, those of convolutions, products of matrices and recurrent layers.
    seconds : float
    live : int
        Bytes of the arrays that the run holds at this moment, inputs included, weights not.
    """

    node: Node
    shapes: tuple[tuple[int, ...], ...]
    macs: int
    seconds: float
    live: int


def nodes(model: OnnxModel) -> list[Node]:
    """The nodes that each run runs, in order: not those that follow from constants alone."""
    return [step.node for step in model._dynamic]


def parameters(model: OnnxModel) -> dict[str, int]:
    """The number of parameters by node, by the name of its first output; each counts once, where first read.

    A parameter that is transposed or reshaped on its way counts where that ends.
    """
    origins = {name: {name} for name in model._trained}
    counted: set[str] = set()
    sizes = {}
    for step in model._program.steps:
        read = set().union(*(origins.get(name, set()) for name in step.node.reads()))
        if step.static:
            origins.update(dict.fromkeys(step.node.outputs, read))
            continue
        sizes[step.node.outputs[0]] = sum(
            getattr(model, model._attributes[name]).size for name in read - counted)
        counted |= read
    return sizes


def walk(model: OnnxModel, feeds: Mapping[str, Any], outputs: dict[str, np.ndarray]) -> Iterator[Visit]:
    """Run a model in eval mode on inputs by name, yielding after each node; in the end fill `outputs`."""
    values: Values = {name: _checked(value, feeds[name]) for name, value in model.inputs.items()}
    session = Session(False, False, model._cached, model._buffers(), model._rng)
    known = model._cached("values", lambda: model._static_values(session))
    own = set(values)
    values = {**known, **values}
    for step in model._dynamic:
        read = [values[name] if name else None for name in step.node.inputs]
        start = time.perf_counter()
        step.run(values, session)
        seconds = time.perf_counter() - start
        given = [values[name] for name in step.node.outputs if name]
        own.update(name for name in step.node.outputs if name)
        live = sum(values[name].nbytes for name in own)
        yield Visit(step.node, tuple(y.shape for y in given), _macs(step, read, given), seconds, live)
        own.difference_update(step.dead)
        for name in step.dead:
            values.pop(name, None)
    outputs.update((name, values[name]) for name in model.outputs)


def _macs(step: Step, inputs: list[Any], outputs: list[np.ndarray]) -> int:
    op = step.node.op
    if op in ("Conv", "ConvTranspose"):
        # Of a convolution for each output, of a transposed one for each input.
        positions = outputs[0] if op == "Conv" else inputs[0]
        return positions.size * math.prod(inputs[1].shape[1:])
    if op == "Gemm":
        return outputs[0].size * inputs[0].shape[0 if step.node.attributes.get("transA") else 1]
    if op == "MatMul":
        return outputs[0].size * inputs[0].shape[-1]
    if op in ("RNN", "LSTM", "GRU"):
        sequence = inputs[0].shape[0] * inputs[0].shape[1]
        return sequence * (inputs[1].size + inputs[2].size)
    return 0
