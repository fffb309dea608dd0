"""How the nodes of a network read from an ONNX file become nodes here.

An operator that no entry of the table takes, with these attributes and constants, runs as it does in the
model: by its function in `fastnn.onnx.operators`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from .._checks import FLOATS
from ..functional._recurrence import CELLS
from ..onnx.executor import Session, Step
from ..onnx.graph import Node as OnnxNode
from ..onnx.model import OnnxModel
from ..onnx.operators import recurrent as _operators
from .graph import Graph, Input, Node


def graph_of_onnx(model: OnnxModel) -> Graph:
    """Return the graph of a model; its weights are copied."""
    session = Session(False, False, lambda key, build: build(), model._buffers(), None)
    constants = {name: np.array(array, order="C")
                 for name, array in model._static_values(session).items() if name in model._program.constant}
    graph = Graph([Input(*(value.name, value.dtype, value.shape)) for value in model.inputs.values()],
                  list(model.outputs), [], constants)
    # Values that are certainly float32 or float64: entries of the table are for these.
    floats = {name for name, array in constants.items() if array.dtype in FLOATS}
    floats.update(value.name for value in graph.inputs if value.dtype in FLOATS)
    for step in model._dynamic:
        view = _View(step.node, graph, floats)
        lowering = _LOWERINGS.get(step.node.op)
        node = None if lowering is None else lowering(view, **step.node.attributes)
        if node is None:
            certain = step.node.op in _KEEP_DTYPE and view.is_float()
        else:
            certain = step.node.op not in _ANY_DTYPE or view.is_float()
        if certain:
            floats.update(step.node.outputs)
        graph.nodes.append(_as_it_is(step, copy.deepcopy(model._rng)) if node is None else node)
    return graph


def _as_it_is(step: Step, rng: Any) -> Node:
    reads = tuple(dict.fromkeys(step.node.reads()))
    return Node("onnx", reads, step.node.outputs, {"step": copy.copy(step), "rng": rng}, str(step.node))


# Operators whose outputs have the dtype of their first input.
_KEEP_DTYPE = frozenset((
    "Slice", "Split", "Pad", "Resize", "Upsample", "Expand", "Tile", "Gather", "LRN", "PRelu", "Elu", "Selu",
    "HardSigmoid", "HardSwish", "Softplus", "Pow", "Sqrt", "Exp", "Log", "Neg", "Abs", "Sum",
    "Max", "Min", "ReduceMean", "ReduceSum", "ReduceMax", "ConvTranspose", "LayerNormalization", "MatMul",
    "Gemm", "Conv", "GlobalMaxPool", "LpPool", "InstanceNormalization", "RNN", "LSTM", "GRU", "Softmax",
    "LogSoftmax", "BatchNormalization"))
# Of the table's operators those that take any dtype and keep it; what the others give is float.
_ANY_DTYPE = frozenset(("Flatten", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout"))


class _View:
    """A node whose entry asks what its inputs are."""

    def __init__(self, node: OnnxNode, graph: Graph, floats: set[str]):
        self.node, self._graph, self._floats = node, graph, floats

    def constant(self, i: int) -> np.ndarray | None:
        """The constant that input `i` is."""
        return self._graph.constants.get(self.input(i))

    def input(self, i: int) -> str:
        return self.node.inputs[i] if i < len(self.node.inputs) else ""

    def named(self, suffix: str, array: np.ndarray) -> str:
        """A constant of the node's own."""
        name = f"{self.node.outputs[0]}:{suffix}"
        self._graph.constants[name] = array
        return name

    def add(self, op: str, *inputs: str, outputs: tuple[str, ...] | None = None, **attributes: Any) -> Node:
        return Node(op, inputs, self.node.outputs[:1] if outputs is None else outputs, attributes,
                    str(self.node))

    def is_float(self, i: int = 0) -> bool:
        """Whether input `i` is certainly float32 or float64."""
        return self.input(i) in self._floats

    def alone(self) -> bool:
        """Whether the first output is all that the node gives."""
        return not any(self.node.outputs[1:])


Lowering = Callable[..., "Node | None"]
_LOWERINGS: dict[str, Lowering] = {}


def _lowers(*ops: str) -> Callable[[Lowering], Lowering]:
    def enter(lowering: Lowering) -> Lowering:
        _LOWERINGS.update(dict.fromkeys(ops, lowering))
        return lowering

    return enter


def _is_float(array: np.ndarray | None) -> bool:
    return array is not None and array.dtype in FLOATS


# --- Products


@_lowers("Conv")
def _conv(view, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None):
    weight, bias = view.constant(1), view.constant(2)
    if not _is_float(weight) or weight.ndim not in (3, 4) or (view.input(2) and bias is None):
        return None
    rank = weight.ndim - 2
    strides, dilations = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    pads = tuple(pads or (0,) * (2 * rank))
    if auto_pad not in ("NOTSET", "VALID") or group < 1 or min(*strides, *dilations) < 1 or min(pads) < 0:
        return None
    if auto_pad == "VALID":
        pads = (0,) * (2 * rank)
    # above, left, below, right
    padding = pads if rank == 2 else (0, pads[0], 0, pads[1])
    return view.add("conv", view.input(0), view.input(1), view.input(2), "", stride=strides, padding=padding,
                     dilation=dilations, groups=group, algorithm="auto", activation=None)


@_lowers("ConvTranspose")
def _conv_transpose(view, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None,
                    output_padding=None, output_shape=None, pads=None, strides=None):
    weight, bias = view.constant(1), view.constant(2)
    if not _is_float(weight) or weight.ndim != 4 or (view.input(2) and bias is None):
        return None
    pads = tuple(pads or (0,) * 4)
    if auto_pad not in ("NOTSET", "VALID") or output_shape or pads[:2] != pads[2:] or min(pads) < 0:
        return None
    return view.add("conv_transpose", *map(view.input, range(3)), stride=tuple(strides or (1, 1)),
                    padding=pads[:2] if auto_pad == "NOTSET" else (0, 0),
                    output_padding=tuple(output_padding or (0, 0)), groups=group,
                    dilation=tuple(dilations or (1, 1)), activation=None)


@_lowers("Gemm")
def _gemm(view, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    weight, bias = view.constant(1), view.constant(2)
    if transA or not _is_float(weight) or (view.input(2) and bias is None):
        return None
    weight = np.ascontiguousarray(alpha * (weight if transB else weight.T), weight.dtype)
    name = ""
    if bias is not None:
        if bias.shape not in ((len(weight),), (1, len(weight)), (1,), ()) or bias.dtype != weight.dtype:
            return None
        vector = np.ascontiguousarray(np.broadcast_to(beta * bias.reshape(-1), len(weight)), weight.dtype)
        name = view.named("bias", vector)
    return view.add("linear", view.input(0), view.named("weight", weight), name, activation=None)


@_lowers("MatMul")
def _matmul(view):
    weight = view.constant(1)
    if not _is_float(weight) or weight.ndim != 2:
        return None
    return view.add("linear", view.input(0), view.named("weight", np.ascontiguousarray(weight.T)), "",
                     activation=None)


@_lowers("BatchNormalization")
def _batch_norm(view, *, epsilon=1e-5, momentum=0.9, spatial=1, training_mode=0):
    scale, bias, mean, var = (view.constant(i) for i in (1, 2, 3, 4))
    if training_mode or not spatial or not view.alone() or not all(map(_is_float, (scale, bias, mean, var))):
        return None
    factor = scale / np.sqrt(var.astype(np.float64) + epsilon)
    return view.add("scale", view.input(0), view.named("scale", factor),
                     view.named("shift", bias - mean * factor), dtype=scale.dtype, ranks=(2, 3, 4, 5),
                     activation=None)


@_lowers("LayerNormalization")
def _layer_norm(view, *, axis=-1, epsilon=1e-5, stash_type=1):
    weight, bias = view.constant(1), view.constant(2)
    if not view.alone() or not _is_float(weight) or weight.ndim != -axis or stash_type != 1:
        return None
    if view.input(2) and (bias is None or bias.shape != weight.shape or bias.dtype != weight.dtype):
        return None
    return view.add("layer_norm", *map(view.input, range(3)), shape=weight.shape, eps=epsilon,
                    dtype=weight.dtype, activation=None)


# --- Elementwise


@_lowers("Relu", "Sigmoid", "Tanh")
def _map(view):
    return None if not view.is_float() else view.add("map", view.input(0), activation=(view.node.op.lower(),))


@_lowers("LeakyRelu")
def _leaky_relu(view, *, alpha=0.01):
    return None if not view.is_float() else view.add("map", view.input(0), activation=("leaky_relu", alpha))


@_lowers("Elu")
def _elu(view, *, alpha=1.0):
    return view.add("map", view.input(0), activation=("elu", alpha)) if view.is_float() else None


@_lowers("HardSwish")
def _hardswish(view):
    return view.add("map", view.input(0), activation=("hardswish",)) if view.is_float() else None


@_lowers("PRelu")
def _prelu(view):
    """One slope for all is a leaky ReLU."""
    slope = view.constant(1)
    if not view.is_float() or not _is_float(slope) or not np.isfinite(slope).all():
        return None
    if slope.shape not in ((), (1,)):
        return view.add("prelu", view.input(0), view.input(1), by_channel=False)
    return view.add("map", view.input(0), activation=("leaky_relu", slope.item()))


@_lowers("Gelu")
def _gelu(view, *, approximate="none"):
    name = "gelu" if approximate == "none" else "gelu_tanh"
    return view.add("map", view.input(0), activation=(name,)) if view.is_float() else None


@_lowers("Clip")
def _clip(view, *, min=None, max=None):
    bounds = []
    if not view.is_float():
        return None
    for i, bound in ((1, min), (2, max)):
        if view.input(i):
            array = view.constant(i)
            if not _is_float(array) or array.size != 1:
                return None
            bound = array.item()
        bounds.append(bound)
    if np.isnan([b for b in bounds if b is not None]).any() or (None not in bounds and bounds[0] > bounds[1]):
        return None
    return view.add("map", view.input(0), activation=("clip", *bounds))


@_lowers("Add", "Sub", "Mul", "Div")
def _arithmetic(view):
    if not (view.is_float(0) and view.is_float(1)):
        return None
    return view.add(view.node.op.lower(), view.input(0), view.input(1), same_shape=False, activation=None)


@_lowers("Dropout", "Identity")
def _identity(view, **_):
    # An input of its own says whether dropout drops after all.
    return view.add("identity", view.input(0)) if view.alone() and not view.input(2) else None


# --- Pooling


@_lowers("GlobalAveragePool")
def _global_average(view):
    return view.add("pool", view.input(0), kind="mean", windows=None) if view.is_float() else None


@_lowers("ReduceMean")
def _reduce_mean(view, *, axes=None, keepdims=1, noop_with_empty_axes=0):
    """Over all pixels: the pooling that many files write so."""
    array = view.constant(1)
    if view.input(1):
        axes = None if array is None else tuple(array.reshape(-1).tolist())
    if not view.is_float() or not keepdims or tuple(axes or ()) not in ((2, 3), (-2, -1), (3, 2), (-1, -2)):
        return None
    return view.add("pool", view.input(0), kind="mean", windows=None, rank=4)


@_lowers("MaxPool", "AveragePool")
def _pool(view, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, count_include_pad=0, dilations=None,
          pads=None, storage_order=0, strides=None):
    rank = len(kernel_shape)
    if not view.alone() or rank not in (1, 2) or not view.is_float():
        return None
    geometry = {"auto_pad": auto_pad, "ceil_mode": ceil_mode, "dilations": dilations, "pads": pads,
                "strides": strides}
    kind = "max" if view.node.op == "MaxPool" else "mean"
    if kind == "mean" and dilations and max(dilations) > 1:
        return None
    return view.add("pool", view.input(0), kind=kind, windows=None, kernel=tuple(kernel_shape),
                     geometry=geometry, count_include_pad=bool(count_include_pad))


# --- Shapes


@_lowers("Flatten")
def _flatten(view, *, axis=1):
    return view.add("matrix", view.input(0), axis=axis)


@_lowers("Transpose")
def _transpose(view, *, perm=None):
    return view.add("transpose", view.input(0), axes=perm)


@_lowers("Reshape")
def _reshape(view, *, allowzero=0):
    return view.add("reshape", view.input(0), view.input(1), allowzero=bool(allowzero))


@_lowers("Squeeze", "Unsqueeze")
def _squeeze(view, *, axes=None):
    if view.input(1):
        array = view.constant(1)
        if array is None:
            return None
        axes = tuple(array.reshape(-1).tolist())
    return view.add(view.node.op.lower(), view.input(0), axes=axes)


@_lowers("Concat")
def _concat(view, *, axis):
    if not all(map(view.is_float, range(len(view.node.inputs)))):
        return None
    return view.add("concat", *view.node.inputs, axis=axis)


@_lowers("Softmax", "LogSoftmax")
def _softmax(view, *, axis=None):
    if view.node.since < 13 or not view.is_float():  # over all axes from this one on
        return None
    return view.add("softmax", view.input(0), axis=-1 if axis is None else axis,
                     log=view.node.op == "LogSoftmax")


# --- Recurrent layers

_KINDS = {"RNN": _operators._RNN, "LSTM": _operators._LSTM, "GRU": _operators._GRU}


@_lowers("RNN", "LSTM", "GRU")
def _recurrent(view, *, hidden_size=None, direction="forward", layout=0, activations=None,
               activation_alpha=None, activation_beta=None, clip=None, input_forget=0, linear_before_reset=0):
    w, r, b = (view.constant(i) for i in (1, 2, 3))
    if (not _is_float(w) or any(a is not None and a.dtype != w.dtype for a in (r, b)) or r is None
            or (view.input(3) and b is None) or view.input(4)):
        return None
    options = _operators._options(_KINDS[view.node.op], direction, layout, activations, activation_alpha,
                                  activation_beta, clip, input_forget=bool(input_forget),
                                  reset_after=bool(linear_before_reset))
    if layout or not options.has_kernel(None if not view.input(7) else view.input(7)):
        return None
    cell = CELLS[options.kind.name]
    weights = []
    for d, direction_weights in enumerate(_operators._torch_weights(options.kind, w, r, b)):
        for name, array in zip(("ih", "hh", "bias_ih", "bias_hh"), direction_weights, strict=True):
            weights.append("" if array is None else view.named(f"{name}{d}", np.ascontiguousarray(array)))
    outputs = (*view.node.outputs, "", "")[: 1 + cell.states]
    return view.add("recurrent", view.input(0), view.input(5), view.input(6) if cell.states == 2 else "",
                    *weights, outputs=outputs, cell=cell, batch_first=False, reverse=options.reverse,
                    by_direction=True)
