"""How layers become nodes: a table from the classes of `fastnn.layers`, and own Modules by tracing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import layers as nn
from .graph import Builder, Graph
from .trace import Untraceable, trace

Lowering = Callable[[Builder, Any, str], Any]

_LOWERINGS: dict[type[nn.Module], Lowering] = {}


def lowers(*kinds: type[nn.Module]) -> Callable[[Lowering], Lowering]:
    """Enter a function (builder, layer, name of x) -> name of y, or names, in the table."""

    def enter(lowering: Lowering) -> Lowering:
        _LOWERINGS.update(dict.fromkeys(kinds, lowering))
        return lowering

    return enter


def graph_of(model: nn.Module) -> tuple[Graph, Any]:
    """Return the graph of a model in eval mode, and the names of its outputs in the model's own form."""
    builder = Builder()
    outputs = lower(builder, "", model, builder.input())
    builder.graph.outputs = list(flat(outputs))
    return builder.graph, outputs


def flat(names: Any) -> Any:
    """Yield the names in nested tuples."""
    if isinstance(names, tuple):
        for name in names:
            yield from flat(name)
    else:
        yield names


def lower(builder: Builder, name: str, layer: nn.Module, x: str) -> Any:
    """Append a layer under its name within the one that is being written; return its outputs."""
    outside = builder.path
    builder.path = ".".join(filter(None, (outside, name)))
    try:
        for kind in type(layer).__mro__:
            if kind in _LOWERINGS and type(layer).forward is kind.forward:
                return _LOWERINGS[kind](builder, layer, x)
        return _own(builder, layer, x)
    finally:
        builder.path = outside


def _own(builder: Builder, layer: nn.Module, x: str) -> Any:
    """A Module of somebody's own: what its `forward` does, as far as that can be followed, else as it is."""
    nodes = len(builder.graph.nodes)
    try:
        return trace(builder, layer, x, lower)
    except Untraceable as reason:
        if not builder.path:
            raise ValueError(f"freeze: {type(layer).__name__}: its forward cannot be followed: "
                             f"{reason}") from reason
        del builder.graph.nodes[nodes:]
        return _as_it_is(builder, layer, x)


def _as_it_is(builder: Builder, layer: nn.Module, x: str) -> Any:
    return builder.add("module", type(layer).__name__, x, module=copy.deepcopy(layer).eval())


def _first(names: Any) -> str:
    return names[0] if isinstance(names, tuple) else names


def _data(parameter: nn.Parameter | None) -> np.ndarray | None:
    return None if parameter is None else parameter._data


def _activate(builder: Builder, activation: Any, x: str) -> str:
    """A fused activation, by name or a Module."""
    if isinstance(activation, nn.Module):
        return _first(lower(builder, "activation", activation, x))
    return x if activation is None else builder.add("map", activation, x, activation=(activation,))


# --- Products


@lowers(nn.Conv1d, nn.Conv2d)
def _conv(builder: Builder, layer: Any, x: str) -> str:
    y = builder.add("conv", type(layer).__name__, x, builder.constant(_data(layer.weight)),
                    builder.constant(_data(layer.bias)), "", stride=layer.stride, padding=layer.padding,
                    dilation=layer.dilation, groups=layer.groups, algorithm=layer.algorithm, activation=None)
    return _activate(builder, layer.activation, y)


@lowers(nn.ConvTranspose2d)
def _conv_transpose(builder: Builder, layer: nn.ConvTranspose2d, x: str) -> str:
    return builder.add("conv_transpose", "ConvTranspose2d", x, builder.constant(_data(layer.weight)),
                       builder.constant(_data(layer.bias)), stride=layer.stride, padding=layer.padding,
                       output_padding=layer.output_padding, groups=layer.groups, dilation=layer.dilation,
                       activation=None)


@lowers(nn.Linear)
def _linear(builder: Builder, layer: nn.Linear, x: str) -> str:
    y = builder.add("linear", type(layer).__name__, x, builder.constant(_data(layer.weight)),
                    builder.constant(_data(layer.bias)), activation=None)
    return _activate(builder, layer.activation, y)


@lowers(nn.RNNOutput)
def _rnn_output(builder: Builder, layer: nn.RNNOutput, x: str) -> str:
    y = _linear(builder, layer, x)
    return y if layer.softmax is None else _first(lower(builder, "softmax", layer.softmax, y))


@lowers(nn.Embedding)
def _embedding(builder: Builder, layer: nn.Embedding, x: str) -> str:
    return builder.add("function", "Embedding", x, builder.constant(_data(layer.weight)), name="embedding",
                       operands=("indices", "weight"), arguments={"padding_idx": layer.padding_idx})


@lowers(nn.RNN, nn.LSTM, nn.GRU)
def _recurrent(builder: Builder, layer: Any, x: str) -> tuple[str, Any]:
    """The layers of the stack one by one; then the states of all, as the layer gives them."""
    kind, cell = type(layer).__name__, layer._cell
    y, states = x, []
    for index in range(layer.num_layers):
        weights = [builder.constant(array) for direction in layer._weights(index) for array in direction]
        y, *state = builder.add("recurrent", kind, y, "", "", *weights, outputs=1 + cell.states, cell=cell,
                                batch_first=layer.batch_first, reverse=False, by_direction=False)
        states.append(state)
    final = tuple(parts[0] if len(parts) == 1 else builder.add("concat", kind, *parts, axis=0)
                  for parts in zip(*states, strict=True))
    return y, final if len(final) == 2 else final[0]


# --- Normalisation


@lowers(nn.BatchNorm1d, nn.BatchNorm2d)
def _batch_norm(builder: Builder, layer: Any, x: str) -> str:
    if not layer.track_running_stats:
        return _as_it_is(builder, layer, x)  # by the batch, in eval mode too
    scale = 1 / np.sqrt(layer.running_var.astype(np.float64) + layer.eps)
    shift = -layer.running_mean * scale
    if layer.affine:
        scale, shift = scale * layer.weight._data, shift * layer.weight._data + layer.bias._data
    # float64 until they meet the filters that they are folded into
    return builder.add("scale", type(layer).__name__, x, builder.constant(scale), builder.constant(shift),
                       dtype=layer.dtype, ranks=layer.ranks, activation=None)


@lowers(nn.LayerNorm)
def _layer_norm(builder: Builder, layer: nn.LayerNorm, x: str) -> str:
    return builder.add("layer_norm", "LayerNorm", x, builder.constant(_data(layer.weight)),
                       builder.constant(_data(layer.bias)), shape=layer.normalized_shape, eps=layer.eps,
                       dtype=layer.dtype, activation=None)


# --- Activations


@lowers(nn.ReLU, nn.Sigmoid, nn.Tanh, nn.SiLU)
def _map(builder: Builder, layer: nn.Module, x: str) -> str:
    return builder.add("map", type(layer).__name__, x, activation=(type(layer).__name__.lower(),))


@lowers(nn.LeakyReLU)
def _leaky_relu(builder: Builder, layer: nn.LeakyReLU, x: str) -> str:
    return builder.add("map", "LeakyReLU", x, activation=("leaky_relu", layer.negative_slope))


@lowers(nn.GELU)
def _gelu(builder: Builder, layer: nn.GELU, x: str) -> str:
    return builder.add("map", "GELU", x,
                       activation=("gelu" if layer.approximate == "none" else "gelu_tanh",))


@lowers(nn.Hardtanh)
def _hardtanh(builder: Builder, layer: nn.Hardtanh, x: str) -> str:
    return builder.add("map", type(layer).__name__, x, activation=("clip", layer.min_val, layer.max_val))


@lowers(nn.ELU, nn.Hardsigmoid, nn.Hardswish, nn.Softplus)
def _piecewise(builder: Builder, layer: Any, x: str) -> str:
    return builder.add("map", type(layer).__name__, x,
                       activation=(type(layer)._function.__name__, *layer._numbers()))


@lowers(nn.LocalResponseNorm)
def _response_norm(builder: Builder, layer: nn.LocalResponseNorm, x: str) -> str:
    return builder.add("function", "LocalResponseNorm", x, name=type(layer)._function.__name__,
                       operands=("x",), arguments={name: getattr(layer, name) for name in layer._names})


@lowers(nn.PReLU)
def _prelu(builder: Builder, layer: nn.PReLU, x: str) -> str:
    if layer.weight.size == 1:
        return builder.add("map", "PReLU", x, activation=("leaky_relu", float(layer.weight._data[0])))
    return builder.add("prelu", "PReLU", x, builder.constant(_data(layer.weight)), by_channel=True)


@lowers(nn.Softmax, nn.LogSoftmax)
def _softmax(builder: Builder, layer: nn.Softmax, x: str) -> str:
    return builder.add("softmax", type(layer).__name__, x, axis=layer.dim,
                       log=isinstance(layer, nn.LogSoftmax))


# --- Pooling


@lowers(nn.MaxPool1d, nn.MaxPool2d)
def _max_pool(builder: Builder, layer: Any, x: str) -> Any:
    if layer.return_indices:
        return _as_it_is(builder, layer, x)
    return builder.add("pool", type(layer).__name__, x, kind="max", windows=layer._windows)


@lowers(nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.GlobalAvgPool1d,
        nn.GlobalAvgPool2d)
def _mean_pool(builder: Builder, layer: Any, x: str) -> str:
    return builder.add("pool", type(layer).__name__, x, kind="mean", windows=layer._windows)


# --- Shapes


@lowers(nn.Identity, nn.Dropout)
def _nothing(builder: Builder, layer: nn.Module, x: str) -> str:
    return x


@lowers(nn.Flatten)
def _flatten(builder: Builder, layer: nn.Flatten, x: str) -> str:
    return builder.add("flatten", "Flatten", x, start=layer.start_dim, end=layer.end_dim)


@lowers(nn.LastStep)
def _last_step(builder: Builder, layer: nn.LastStep, x: str) -> str:
    return builder.add("last_step", "LastStep", x, batch_first=layer.batch_first,
                       bidirectional=layer.bidirectional)


@lowers(nn.Permute)
def _permute(builder: Builder, layer: nn.Permute, x: str) -> str:
    return builder.add("transpose", "Permute", x, axes=layer.dims)


# --- Containers


@lowers(nn.Sequential)
def _sequential(builder: Builder, layer: nn.Sequential, x: str) -> str:
    for name, child in layer.named_children():
        x = _first(lower(builder, name, child, x))
    return x


@lowers(nn.Residual)
def _residual(builder: Builder, layer: nn.Residual, x: str) -> str:
    around = x if layer.shortcut is None else _first(lower(builder, "shortcut", layer.shortcut, x))
    y = _first(lower(builder, "body", layer.body, x))
    return _activate(builder, layer.activation,
                     builder.add("add", "Residual", y, around, same_shape=True, activation=None))


@lowers(nn.Parallel)
def _parallel(builder: Builder, layer: nn.Parallel, x: str) -> str:
    branches = [_first(lower(builder, name, branch, x)) for name, branch in layer.named_children()]
    if layer.merge == "concat":
        return builder.add("concat", "Parallel", *branches, axis=layer.dim)
    y = branches[0]
    for branch in branches[1:]:
        y = builder.add("add", "Parallel", y, branch, same_shape=True, activation=None)
    return y
