"""say what is in a model: layers, shapes, parameters, multiply-adds, memory; or in a file of weights"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .. import io, onnx
from ..io import state_files
from ..onnx.walk import Visit, nodes, parameters, walk
from .inputs import FreeSizes, add_shape_argument, described, make_inputs
from .progress import progress
from .table import count, shape, size, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_shape_argument(parser)


def command(options: argparse.Namespace) -> None:
    """Print what is in the file."""
    if Path(options.model).suffix.lower() in state_files._FORMATS:
        _print_weights(options.model)
    else:
        _print_model(options.model, options.shape)


# --- Weights


def _print_weights(path: str) -> None:
    with progress("reading", 1, "file"):
        state = io.load(path)
    rows = [(name, *about) for name, *about in _leaves("", state)]
    arrays = [value for *_, value in rows if isinstance(value, np.ndarray)]
    cells = [(name, str(value.dtype), shape(value.shape), size(value.nbytes)) if isinstance(value, np.ndarray)
             else (name, type(value).__name__, "", "") for name, value in rows]
    print(table(("name", "type", "shape", "memory"), cells, left=2))
    print(f"\n{len(arrays)} tensors, {count(sum(a.size for a in arrays))} numbers, "
          f"{size(sum(a.nbytes for a in arrays))}")


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    """Name and value of what is no container, within containers that may lie in one another."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, (list, tuple, set)) and value and not all(_is_plain(item) for item in value):
        pairs = list(enumerate(value))
    else:
        return [(name, value)]
    return [leaf for key, item in pairs for leaf in _leaves(f"{name}.{key}" if name else str(key), item)]


def _is_plain(value: Any) -> bool:
    return not isinstance(value, (dict, list, tuple, set, np.ndarray))


# --- Models


def _print_model(path: str, shapes: list[str]) -> None:
    with progress("reading", 1, "file"):
        model = onnx.load(path)
    visits, note = _run(model, shapes)
    print(f"{path}: opset {model.graph.opset}, {len(nodes(model))} nodes")
    print(f"takes {described(model.inputs)}")
    print(f"gives {described(model.outputs)}\n")
    sizes = parameters(model)
    weights = sum(array.nbytes for array in model._initial().values())
    if not visits:
        rows = [(_label(node), node.op, count(sizes[node.outputs[0]])) for node in nodes(model)]
        print(table(("layer", "operator", "parameters"), rows, left=2))
        print(f"\n{count(sum(sizes.values()))} parameters, {size(weights)} of weights and constants")
        print(f"shapes, multiply-adds and memory: {note}")
        return
    rows = [(_label(v.node), v.node.op, " ".join(map(shape, v.shapes)), count(sizes[v.node.outputs[0]]),
             count(v.macs)) for v in visits]
    print(table(("layer", "operator", "output", "parameters", "multiply-adds"), rows, left=2))
    print(f"\n{count(sum(sizes.values()))} parameters, {count(sum(v.macs for v in visits))} multiply-adds "
          f"for {note}")
    peak = max(visit.live for visit in visits)
    print(f"memory: {size(weights)} of weights and constants, at most {size(peak)} of inputs and results")


def _run(model: onnx.OnnxModel, shapes: list[str]) -> tuple[list[Visit], str]:
    """Run the model once; return what was seen and the shapes of its inputs, or nothing and why."""
    try:
        feeds = make_inputs(model, shapes)
    except FreeSizes as error:
        return [], str(error)
    visits = []
    with progress("running", len(nodes(model)), "node") as done:
        for visit in walk(model, feeds, {}):
            visits.append(visit)
            done()
    return visits, ", ".join(f"{name} {shape(x.shape)}" for name, x in feeds.items())


def _label(node: Any) -> str:
    return node.name or node.outputs[0]
