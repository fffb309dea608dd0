"""From an ONNX file to a `Graph`; the only place that needs the `onnx` package."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from .dtypes import NAMES, dtype_of
from .graph import Graph, Node, Value
from .operators import NEWEST, OLDEST, find
from .operators.shape import constant_of

_DOMAINS = ("", "ai.onnx")


def import_onnx() -> Any:
    """The `onnx` package, or an ImportError that says what to install."""
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.inliner
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError("fastnn.onnx needs the onnx package to read and write files: "
                          "pip install 'fastnn-kernels[onnx]'") from error
    return onnx


def read_graph(source: Any) -> Graph:
    """Read a model.

    Parameters
    ----------
    source : str, os.PathLike, bytes or onnx.ModelProto
        A file, with external data in files beside it, or a file's contents.

    Raises
    ------
    ValueError
        If it is not a model; or, naming all that is in the way, if it uses operators, opsets or kinds of
        values that are unknown here.
    """
    onnx = import_onnx()
    model, what = _parse(onnx, source)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    opset = _opset(model, what)
    faults = _faults(onnx, model.graph, opset)
    if faults:
        raise ValueError(f"onnx.load: {what} cannot be run here: " + "; ".join(faults))
    graph = _graph(onnx, model.graph, opset)
    _check_names(graph, what, set())
    return graph


def _parse(onnx: Any, source: Any) -> tuple[Any, str]:
    """The model as the onnx package has it, and a name for it in messages."""
    from google.protobuf.message import DecodeError

    what = "the model"
    try:
        if isinstance(source, onnx.ModelProto):
            model = source
        elif isinstance(source, bytes | bytearray | memoryview):
            model = onnx.load_model_from_string(bytes(source))
        elif isinstance(source, str | os.PathLike):
            what = str(source)
            model = onnx.load(os.fspath(source))
        else:
            raise TypeError(f"onnx.load: got a {type(source).__name__}, expected a path or bytes")
    except DecodeError as error:
        raise ValueError(f"onnx.load: {what} is not an ONNX model") from error
    if not (model.ir_version and model.opset_import and model.graph.output):
        raise ValueError(f"onnx.load: {what} is not an ONNX model")
    return model, what


def _opset(model: Any, what: str) -> int:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = int(versions.get("", versions.get("ai.onnx", OLDEST)))
    if opset > NEWEST:
        raise ValueError(f"onnx.load: {what} uses opset {opset}, expected {OLDEST} to {NEWEST}")
    return opset


def _walk(onnx: Any, graph: Any) -> Any:
    """Yield a graph and those in its nodes' attributes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.type in (
                    onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) else ():
                yield from _walk(onnx, inner)


def _faults(onnx: Any, graph: Any, opset: int) -> list[str]:
    """All that keeps a model from being run, in words."""
    unknown: Counter[str] = Counter()
    faults = []
    for part in _walk(onnx, graph):
        for node in part.node:
            operator = find(node.op_type, opset) if node.domain in _DOMAINS else None
            if operator is None:
                unknown[f"{node.domain}.{node.op_type}" if node.domain not in _DOMAINS else node.op_type] += 1
                continue
            strange = sorted({a.name for a in node.attribute} - operator.attributes)
            if strange:
                faults.append(f"{node.op_type} node {node.name or node.output[0]!r} has attributes unknown "
                              f"here, {', '.join(strange)}")
        for value in [*part.input, *part.output]:
            kind = value.type.WhichOneof("value")
            if kind not in ("tensor_type", None):
                faults.append(f"{value.name!r} is a {kind.removesuffix('_type')}, not a tensor")
        faults += [f"the type {onnx.TensorProto.DataType.Name(n)}" for n in _types(part) if n not in NAMES]
        if part.sparse_initializer:
            faults.append("it has sparse tensors")
    if unknown:
        words = (f"{name} ({count})" if count > 1 else name for name, count in sorted(unknown.items()))
        old = f" (in opset {opset}, older than {OLDEST})" if opset < OLDEST else ""
        faults.insert(0, f"operators unknown here{old}: " + ", ".join(words))
    return list(dict.fromkeys(faults))


def _types(graph: Any) -> Iterator[int]:
    """ONNX's numbers of all dtypes that a graph names."""
    yield from (value.type.tensor_type.elem_type or 1 for value in [*graph.input, *graph.output])
    yield from (tensor.data_type for tensor in graph.initializer)
    for node in graph.node:
        yield from (a.t.data_type for a in node.attribute if a.name == "value" and a.HasField("t"))
        yield from (a.i for a in node.attribute if a.name == "to" and node.op_type == "Cast")


def _graph(onnx: Any, proto: Any, opset: int) -> Graph:
    constants = {t.name: _array(onnx, t) for t in proto.initializer}
    # Before version 4 of the format initializers had to be listed among the inputs.
    inputs = [_value(onnx, v) for v in proto.input if v.name not in constants]
    nodes = []
    for node in (_node(onnx, n, opset) for n in proto.node):
        if node.op == "Constant":  # an array like those of the initializers: some writers put all weights so
            constants[node.outputs[0]] = constant_of(node.attributes)
        else:
            nodes.append(node)
    return Graph(inputs, [_value(onnx, v) for v in proto.output], nodes, constants, proto.name, opset)


def _node(onnx: Any, proto: Any, opset: int) -> Node:
    operator = find(proto.op_type, opset)
    attributes = {a.name: _attribute(onnx, a, opset) for a in proto.attribute}
    return Node(proto.op_type, operator.since, tuple(proto.input), tuple(proto.output), attributes,
                proto.name)


def _attribute(onnx: Any, proto: Any, opset: int) -> Any:
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return _array(onnx, value)
    if isinstance(value, onnx.GraphProto):
        return _graph(onnx, value, opset)
    if isinstance(value, int | float):
        return value
    return tuple(item.decode() if isinstance(item, bytes) else item for item in value)


def _array(onnx: Any, proto: Any) -> np.ndarray:
    if onnx.external_data_helper.uses_external_data(proto):
        raise ValueError(f"onnx.load: the tensor {proto.name!r} lies in a file beside the model; "
                         "give the model's path, not its bytes")
    try:
        return onnx.numpy_helper.to_array(proto)
    except (ValueError, TypeError) as error:
        raise ValueError(f"onnx.load: the tensor {proto.name!r} cannot be read: {error}") from error


def _value(onnx: Any, proto: Any) -> Value:
    tensor = proto.type.tensor_type
    dtype = dtype_of(tensor.elem_type) if tensor.elem_type else None
    shape = None
    if tensor.HasField("shape"):
        # Some writers put -1 or 0 where a size is free.
        shape = tuple(d.dim_param or (d.dim_value if d.dim_value > 0 else None) for d in tensor.shape.dim)
    return Value(proto.name, dtype, shape)


def _check_names(graph: Graph, what: str, outer: set[str]) -> None:
    """Raise ValueError where a value is read that nobody has written by then."""
    known = {*outer, *graph.constants, *(value.name for value in graph.inputs)}
    for node in graph.nodes:
        for name in filter(None, node.inputs):
            if name not in known:
                raise ValueError(f"onnx.load: {what}: {node} reads {name!r}, which no node before it gives")
        for inner in node.subgraphs():
            _check_names(inner, what, known)
        known.update(node.outputs)
    for value in graph.outputs:
        if value.name not in known:
            raise ValueError(f"onnx.load: {what}: no node gives the output {value.name!r}")


