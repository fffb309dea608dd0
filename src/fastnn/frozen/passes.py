"""What is changed in a graph before it is planned: scales into filters, activations and sums into epilogues.

All of it follows from the graph and the ranks of its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..functional.conv import may_go_by_strips
from .graph import ARITHMETIC, Graph, Node

# What a product's step does itself, after its sums.
_PRODUCTS = ("conv", "linear")
_WITH_ACTIVATION = (*_PRODUCTS, "conv_transpose", "layer_norm", "scale", "neg", *ARITHMETIC)


def optimise(graph: Graph, ranks: Sequence[int]) -> Graph:
    """Return a graph that gives the same with fewer passes over memory, for inputs of these ranks."""
    graph = Graph(graph.inputs, graph.outputs, [replace(node) for node in graph.nodes], dict(graph.constants))
    remove_dead(graph)
    fold_scales(graph, ranks)
    fold_biases(graph)
    fuse_activations(graph)
    fuse_sums(graph)
    fuse_activations(graph)
    join_in_place(graph, ranks)
    chain(graph)
    return graph


def remove_dead(graph: Graph) -> None:
    """Take out nodes of which nobody reads an output."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    graph.nodes = kept[::-1]


def ranks_of(graph: Graph, ranks: Sequence[int]) -> dict[str, int | None]:
    """The number of axes of each value; None where that does not follow."""
    known: dict[str, int | None] = {name: array.ndim for name, array in graph.constants.items()}
    known.update(zip((value.name for value in graph.inputs), ranks, strict=True))
    for node in graph.nodes:
        rank = known.get(node.inputs[0]) if node.inputs else None
        if rank is not None and node.op == "flatten":
            start, end = (axis % max(rank, 1) for axis in (node.attributes["start"], node.attributes["end"]))
            rank -= max(end - start, 0)
        elif rank is not None and node.op == "last_step":
            rank -= 1
        elif node.op == "matrix":
            rank = 2
        elif node.op in ARITHMETIC:
            both = [known.get(name) for name in node.inputs]
            rank = None if None in both else max(both)
        elif rank is None and node.op == "conv":
            rank = known.get(node.inputs[1])
        elif node.op not in ("conv", "conv_transpose", "linear", "layer_norm", "scale", "map", "neg", "prelu",
                             "pool", "concat", "transpose", "softmax", "identity"):
            rank = None
        known.update(dict.fromkeys(node.outputs, rank))
    return known


def _makers(graph: Graph) -> dict[str, Node]:
    return {name: node for node in graph.nodes for name in node.outputs}


def fold_scales(graph: Graph, ranks: Sequence[int]) -> None:
    """A batch norm after a product: scale the product's filters, shift its bias.

    ::

        scale_k (sum w_k x + bias_k) + shift_k = sum (scale_k w_k) x + (scale_k bias_k + shift_k)
    """
    makers, uses, known = _makers(graph), graph.uses(), ranks_of(graph, ranks)
    kept = []
    for node in graph.nodes:
        product = makers.get(node.inputs[0]) if node.op == "scale" else None
        if product is None or not _can_scale(graph, node, product, uses, known):
            kept.append(node)
            continue
        _, scale, shift = (graph.constants.get(name) for name in node.inputs)
        x, weight, bias = product.inputs[:3]
        w = graph.constants[weight]
        b = graph.constants[bias] if bias else np.zeros(len(w), w.dtype)
        folded_weight = (w * scale.reshape(-1, *[1] * (w.ndim - 1))).astype(w.dtype)
        names = f"{node.outputs[0]}:weight", f"{node.outputs[0]}:bias"
        graph.constants.update(zip(names, (folded_weight, (b * scale + shift).astype(w.dtype)), strict=True))
        product.inputs = (x, *names, *product.inputs[3:])
        product.outputs = node.outputs
        product.covers += node.covers
        makers[node.outputs[0]] = product
    graph.nodes = kept
    _drop_unused_constants(graph)


def _can_scale(graph: Graph, node: Node, product: Node, uses: Any, known: Any) -> bool:
    if product.op not in _PRODUCTS or product.attributes["activation"] or uses[node.inputs[0]] > 1:
        return False
    rank = known.get(product.outputs[0])
    weight, scale = graph.constants.get(product.inputs[1]), graph.constants.get(node.inputs[1])
    bias = product.inputs[2]
    # Of what has no batch axis, or of a Linear's matrices one behind the other, axis 1 is not the channels.
    return (rank in node.attributes["ranks"] and weight is not None and rank == weight.ndim
            and scale is not None and weight.dtype == node.attributes["dtype"]
            and scale.shape == weight.shape[:1] and (not bias or bias in graph.constants))


def _drop_unused_constants(graph: Graph) -> None:
    used = graph.uses()
    graph.constants = {name: array for name, array in graph.constants.items() if used[name]}


def fold_biases(graph: Graph) -> None:
    """A vector added to what Linear gives: its bias, as exporters write it after a MatMul."""
    makers, uses = _makers(graph), graph.uses()
    kept = []
    for node in graph.nodes:
        linear, bias = _biased(graph, node, makers, uses) if node.op == "add" else (None, "")
        if linear is None:
            kept.append(node)
            continue
        linear.inputs = (*linear.inputs[:2], bias)
        linear.outputs = node.outputs
        linear.covers += node.covers
        makers[node.outputs[0]] = linear
    graph.nodes = kept


def _biased(graph: Graph, node: Node, makers: Any, uses: Any) -> tuple[Node | None, str]:
    """The Linear before a sum, and the name of what can be its bias."""
    for name, bias in (node.inputs, node.inputs[::-1]):
        linear, vector = makers.get(name), graph.constants.get(bias)
        if (linear is not None and linear.op == "linear" and uses[name] == 1 and not linear.inputs[2]
                and not linear.attributes["activation"] and vector is not None):
            weight = graph.constants.get(linear.inputs[1])
            if weight is not None and vector.shape == weight.shape[:1] and vector.dtype == weight.dtype:
                return linear, bias
    return None, ""


def fuse_activations(graph: Graph) -> None:
    """An activation after what can apply it."""
    makers, uses = _makers(graph), graph.uses()
    kept = []
    for node in graph.nodes:
        maker = makers.get(node.inputs[0]) if node.op == "map" else None
        if (maker is None or maker.op not in _WITH_ACTIVATION or maker.attributes["activation"]
                or uses[node.inputs[0]] > 1):
            kept.append(node)
            continue
        maker.attributes = {**maker.attributes, "activation": node.attributes["activation"]}
        maker.outputs = node.outputs
        maker.covers += node.covers
        makers[node.outputs[0]] = maker
    graph.nodes = kept


def fuse_sums(graph: Graph) -> None:
    """The sum of a convolution and what has been computed before it: the convolution adds it itself."""
    makers, uses = _makers(graph), graph.uses()
    place = {id(node): i for i, node in enumerate(graph.nodes)}
    gone = set()
    for i, node in enumerate(graph.nodes):
        if node.op != "add":
            continue
        able = [name for name in node.inputs if _can_add(makers.get(name)) and uses[name] == 1]
        if not able:
            continue
        # Of two the later, so that the other is there.
        name = max(able, key=lambda name: place[id(makers[name])])
        conv = makers[name]
        around = node.inputs[1 - node.inputs.index(name)]
        if around in graph.constants:
            continue
        gone.add(id(conv))
        graph.nodes[i] = makers[node.outputs[0]] = Node(
            "conv", (*conv.inputs[:3], around), node.outputs,
            {**conv.attributes, **node.attributes}, conv.label, conv.covers + node.covers)
        place[id(graph.nodes[i])] = i
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]


def _can_add(node: Node | None) -> bool:
    return (node is not None and node.op == "conv" and not node.attributes["activation"]
            and not (len(node.inputs) > 3 and node.inputs[3]))


# What a convolution's kernel applies itself: its output need not be passed over again.
_OF_KERNELS = (None, ("relu",), ("clip", 0, 6))


def join_in_place(graph: Graph, ranks: Sequence[int]) -> None:
    """Images of convolutions that are joined along the channels: each convolution writes to its place."""
    makers, uses, known = _makers(graph), graph.uses(), ranks_of(graph, ranks)
    for node in graph.nodes:
        parts = [makers.get(name) for name in node.inputs]
        if node.op != "concat" or node.attributes["axis"] not in (1, -3) or not all(
                _can_join(graph, part, known) and uses[name] == 1
                for part, name in zip(parts, node.inputs, strict=True)):
            continue
        widths = [len(graph.constants[part.inputs[1]]) for part in parts]
        begin = 0
        for part, width in zip(parts, widths, strict=True):
            part.attributes = {**part.attributes, "into": (node.outputs[0], begin, sum(widths))}
            begin += width
        node.attributes = {**node.attributes, "joined": True}


def _can_join(graph: Graph, node: Node | None, known: Any) -> bool:
    return (node is not None and node.op == "conv" and known.get(node.outputs[0]) == 4
            and node.attributes["activation"] in _OF_KERNELS and node.inputs[1] in graph.constants
            and graph.constants[node.inputs[1]].ndim == 4 and not (len(node.inputs) > 3 and node.inputs[3]))


# Filters of a chain stay in L2 beside the rows that pass through it.
_CHAINED_BYTES = 512 * 1024


def chain(graph: Graph) -> None:
    """Convolutions around a depthwise one, as one node: what lies between them is computed rows by rows."""
    makers, uses = _makers(graph), graph.uses()
    runs: dict[int, list[Node]] = {}  # by its last node
    for node in graph.nodes:
        maker = makers.get(node.inputs[0]) if node.inputs else None
        run = runs.get(id(maker), [])
        if run and uses[node.inputs[0]] == 1 and _continues(graph, run, node):
            runs[id(node)] = [*runs.pop(id(maker)), node]
        elif _kind(graph, node):
            runs[id(node)] = [node]
    merged = {id(part): run for run in runs.values() if len(run) > 1 for part in run}
    kept = []
    for node in graph.nodes:
        run = merged.get(id(node), [node])
        if node is run[-1]:
            kept.append(node if len(run) == 1 else _chained(run))
    graph.nodes = kept


def _kind(graph: Graph, node: Node) -> str:
    """What part a node can take in a chain: "few" (channels, at the beginning), "depthwise", "pointwise"."""
    weight = graph.constants.get(node.inputs[1]) if node.op == "conv" else None
    if weight is None or weight.ndim != 4 or 0 in weight.shape:
        return ""
    if node.attributes["groups"] == len(weight) and weight.shape[1] == 1 < len(weight):
        return "depthwise"
    if node.attributes["groups"] > 1:
        return ""
    if weight.shape[2:] == (1, 1) and not any(_numbers(node.attributes["padding"])):
        return "pointwise"
    stride, dilation, algorithm = (node.attributes[name] for name in ("stride", "dilation", "algorithm"))
    # Strips are not chained: 3 -> 32 with stride 1, then depthwise and 1 x 1, 32 x 32 pixels 39 -> 36 us.
    by_strips = may_go_by_strips(weight.shape, stride, dilation) and algorithm == "auto"
    few = weight.shape[1] < 16 and weight.shape[3] > 1 and dilation[1] == 1 and not by_strips
    return "few" if few and algorithm != "winograd" else ""


def _numbers(padding: Any) -> tuple[int, ...]:
    """Of a padding by name, as if there were some."""
    return (1,) if isinstance(padding, str) else tuple(padding)


def _continues(graph: Graph, run: Sequence[Node], node: Node) -> bool:
    before, kind = _kind(graph, run[-1]), _kind(graph, node)
    if not kind:
        return False
    ended = any(_kind(graph, part) == "depthwise" for part in run[:-1])
    links = kind == "depthwise" if before != "depthwise" else kind == "pointwise"
    filters = sum(graph.constants[part.inputs[1]].nbytes for part in (*run, node))
    return (links and not ended and filters <= _CHAINED_BYTES and not any(run[-1].inputs[3:])
            and "into" not in run[-1].attributes and run[-1].attributes["activation"] in _OF_KERNELS)


def _chained(run: Sequence[Node]) -> Node:
    weights = tuple(name for part in run for name in part.inputs[1:3])
    last = run[-1]
    return Node("chain", (run[0].inputs[0], *weights, "".join(last.inputs[3:])), last.outputs,
                {**last.attributes, "links": run}, " + ".join(part.label for part in run),
                tuple(name for part in run for name in part.covers))
