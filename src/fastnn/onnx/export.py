"""Models to ONNX files: the graph of a network, and a graph as the `onnx` package writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import layers as nn
from .._version import __version__
from ..io.atomic import replacing
from ..layers import Module
from . import export_layers, export_pooling, export_recurrent  # noqa: F401 - they fill the table of layers
from .export_graph import Builder, Size, emitter_of
from .graph import Graph, Node, Value
from .model import OnnxModel
from .reader import import_onnx

_RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)

# Protocol buffers end at 2 GiB; beyond this the arrays go to a file beside the model.
_LARGEST = 2**31 - 2**20


def save(model: Module, path: str | os.PathLike[str], input_shape: Sequence[Size] | None = None, *,
         inputs: Sequence[str] = ()) -> None:
    """Write a network as an ONNX model, as it computes in eval mode.

    Parameters
    ----------
    model : Module
        Layers of this package, alone or in Sequential, Residual and Parallel; or what `load` has read, with
        the parameters that it has now.
    path : path-like
        The file, which is replaced whole or not at all. Arrays of more than 2 GiB in all go to a second file
        beside it, of the same name with ".data" added.
    input_shape : sequence of int, str or None, optional
        The shape of the input: sizes that are fixed as numbers, others as names of one's choice or None. By
        default what the first layer expects, all else free: ("batch", 3, "height", "width"). Poolings to a
        given size, and some with ceil_mode, need the numbers.
    inputs : sequence of str, default ()
        Of a model that is a recurrent layer, the arguments of its call that are inputs of the file, too:
        "hx", which comes as "h_0" and, of the LSTM, "c_0", and "lengths", in int32. Without them the layer
        starts from zeros and takes sequences of one length.

    Raises
    ------
    ValueError
        Naming every layer that cannot be written, as a Module of one's own; or where the shapes do not fit.
    ImportError
        Without the `onnx` package.

    Notes
    -----
    The file is of opset 20. The input is called "input", the output "output"; recurrent layers that are the
    whole model also give "h_n" and, of the LSTM, "c_n". Parameters keep their names in the state dict, but
    for those of recurrent layers, which ONNX orders otherwise.

    Examples
    --------
    >>> fastnn.onnx.save(net, "net.onnx")
    >>> fastnn.onnx.save(net, "net.onnx", ("batch", 3, 224, 224))
    >>> fastnn.onnx.save(lstm, "lstm.onnx", inputs=("hx", "lengths"))
    """
    onnx = import_onnx()
    target = Path(os.fsdecode(path))
    proto = _model(onnx, graph_of(model, input_shape, inputs))
    with replacing(target) as temporary:
        if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > _LARGEST:
            _move_arrays(onnx, proto, target)
        temporary.write_bytes(proto.SerializeToString())


# --- From a model to a graph


def graph_of(model: Module, input_shape: Sequence[Size] | None = None, inputs: Sequence[str] = ()) -> Graph:
    """Return the graph of a network in eval mode; see `save`."""
    if not isinstance(model, Module):
        raise TypeError(f"onnx.save: model is a {type(model).__name__}, expected a Module")
    _check_inputs(model, inputs)
    if isinstance(model, OnnxModel):
        graph = model.graph
        return Graph(graph.inputs, graph.outputs, graph.nodes, model._initial(), graph.name, graph.opset)
    unknown = [f"{name or 'the model'} ({type(layer).__name__})" for name, layer in model.named_modules()
               if emitter_of(layer) is None]
    if unknown:
        raise ValueError("onnx.save: these layers cannot be written: " + ", ".join(unknown))
    builder = Builder(type(model).__name__)
    integers = _first_is_embedding(model)
    builder.input("input", np.int64 if integers else model.dtype, _input_shape(model, input_shape))
    x = builder.graph.inputs[0]
    if inputs:
        export_recurrent.add_arguments(builder, model, x, inputs)
    outputs = builder.run("", model, x)
    names = ("output", "h_n", "c_n")
    for name, value in zip(names, outputs if isinstance(outputs, tuple) else (outputs,), strict=False):
        # A node of its own, so that the output has a name to rely on.
        renamed = Value(name, value.dtype, value.shape)
        builder.graph.nodes.append(Node("Identity", 16, (value.name,), (name,), {}, name))
        builder.graph.outputs.append(renamed)
    _prune(builder.graph)
    return builder.graph


def _check_inputs(model: Module, inputs: Sequence[str]) -> None:
    if isinstance(inputs, str) or not all(name in ("hx", "lengths") for name in inputs):
        raise ValueError(f'onnx.save: inputs is {inputs!r}, expected names among "hx" and "lengths"')
    if inputs and not isinstance(model, _RECURRENT):
        raise ValueError(f"onnx.save: inputs are {', '.join(inputs)}, which a {type(model).__name__} does "
                         "not take; a recurrent layer by itself does")


def _prune(graph: Graph) -> None:
    """Take out what no output comes from: the states of recurrent layers within a network."""
    wanted = {value.name for value in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    graph.nodes = kept[::-1]
    graph.constants = {name: array for name, array in graph.constants.items() if name in wanted}


def _leaves(model: Module) -> Iterator[Module]:
    """The layers that the input passes first, in their order, until the rank of the input is known."""
    if isinstance(model, nn.Residual):
        yield from _leaves(model.body)
    elif isinstance(model, nn.Parallel):
        for branch in model:
            yield from _leaves(branch)
    elif isinstance(model, nn.Sequential):
        for layer in model:
            yield from _leaves(layer)
    else:
        yield model


def _first_is_embedding(model: Module) -> bool:
    return isinstance(next(_leaves(model), None), nn.Embedding)


def _expected(layer: Module) -> tuple[Size, ...] | None:
    """The shape that a layer expects of its input, if it tells."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        return ("batch", layer.in_channels, "height", "width")
    if isinstance(layer, nn.Conv1d):
        return ("batch", layer.in_channels, "length")
    if isinstance(layer, nn.BatchNorm2d):
        return ("batch", layer.num_features, "height", "width")
    if isinstance(layer, nn.Linear):
        return ("batch", layer.in_features)
    if isinstance(layer, nn.LayerNorm):
        return ("batch", *layer.normalized_shape)
    if isinstance(layer, _RECURRENT):
        return (*(("batch", "time") if layer.batch_first else ("time", "batch")), layer.input_size)
    if isinstance(layer, nn.Embedding):
        return ("batch", "length")
    return None


# The layers that take any shape and keep it, behind which the first that tells may stand.
_SHAPELESS = (nn.Identity, nn.Dropout, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.Hardtanh, nn.Hardsigmoid,
              nn.Hardswish, nn.Softplus, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.LocalResponseNorm)


def _input_shape(model: Module, given: Sequence[Size] | None) -> tuple[Size, ...]:
    if given is not None:
        shape = tuple(given)
        for size in shape:
            if size is not None and not isinstance(size, str) and (
                    isinstance(size, bool) or not isinstance(size, int) or size < 1):
                raise ValueError(f"onnx.save: input_shape is {shape}, expected positive sizes, names or None")
        return shape
    for layer in _leaves(model):
        if (shape := _expected(layer)) is not None:
            return shape
        if not isinstance(layer, _SHAPELESS):
            break
    raise ValueError("onnx.save: the first layer does not tell the shape of its input; give input_shape, "
                     'for example ("batch", 3, 224, 224)')


# --- From a graph to the package's form


def _model(onnx: Any, graph: Graph) -> Any:
    opset = onnx.helper.make_opsetid("", graph.opset)
    return onnx.helper.make_model(
        _graph(onnx, graph, graph.opset), opset_imports=[opset], producer_name="fastnn",
        producer_version=__version__, ir_version=onnx.helper.find_min_ir_version_for([opset]))


def _graph(onnx: Any, graph: Graph, opset: int) -> Any:
    return onnx.helper.make_graph(
        [_node(onnx, node, opset) for node in graph.nodes], graph.name or "graph",
        [_value(onnx, value) for value in graph.inputs], [_value(onnx, value) for value in graph.outputs],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name)
         for name, array in graph.constants.items()])


def _node(onnx: Any, node: Node, opset: int) -> Any:
    proto = onnx.helper.make_node(node.op, node.inputs, node.outputs, node.name)
    types = onnx.defs.get_schema(node.op, opset).attributes
    for name, value in node.attributes.items():
        if isinstance(value, Graph):
            value = _graph(onnx, value, opset)
        elif isinstance(value, np.ndarray):
            value = onnx.numpy_helper.from_array(value)
        # By the schema's type: a float may be whole, and a list empty.
        kind = onnx.AttributeProto.AttributeType.Value(types[name].type.name)
        proto.attribute.append(onnx.helper.make_attribute(name, value, attr_type=kind))
    return proto


def _value(onnx: Any, value: Value) -> Any:
    if value.dtype is None:
        return onnx.helper.make_empty_tensor_value_info(value.name)
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(value.name, kind, value.shape)


def _move_arrays(onnx: Any, proto: Any, target: Path) -> None:
    """Write the arrays to a file beside the model, and leave in the model where they are."""
    beside = target.with_name(target.name + ".data")
    with replacing(beside) as temporary:
        onnx.external_data_helper.convert_model_to_external_data(proto, location=temporary.name)
        onnx.external_data_helper.write_external_data_tensors(proto, os.fspath(target.parent))
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = beside.name
