"""How recurrent layers are written as ONNX operators: a node for each layer, both directions in one.

ONNX has other orders of gates, a bias of both kinds in one row, and states (directions, N, H) by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import layers as nn
from .export_graph import Builder, channels, emits, rank
from .graph import Value

# ONNX's gates by their place in torch's order: LSTM i f g o to i o f c, GRU r z n to z r h.
_GATES = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


def _reordered(op: str, array: np.ndarray) -> np.ndarray:
    blocks = array.reshape(len(_GATES[op]), -1, *array.shape[1:])
    return blocks[list(_GATES[op])].reshape(array.shape)


def _weights(builder: Builder, op: str, layer: Any, index: int) -> list[Value]:
    """The constants W (directions, G H, D), R (directions, G H, H) and, if there are biases, B."""
    rows = [[_reordered(op, p._data) for p in parameters] for parameters in layer._parameters_of(index)]
    arrays = [np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])]
    if layer.bias:
        arrays.append(np.stack([np.concatenate(row[2:]) for row in rows]))
    return [builder.constant(f"{name}_l{index}", array)
            for name, array in zip("WRB", arrays, strict=False)]


def add_arguments(builder: Builder, layer: Any, x: Value, names: Sequence[str]) -> None:
    """Append inputs for arguments of a recurrent layer's call: "hx" as h_0 and c_0, "lengths" by its name."""
    single = rank(x, 2, 3) == 2
    batch = () if single else (x.shape[0 if layer.batch_first else 1],)
    if "hx" in names:
        shape = (layer.num_layers * len(layer._suffixes), *batch, layer.hidden_size)
        builder.arguments["hx"] = [builder.input(name, x.dtype, shape)
                                   for name in ("h_0", "c_0")[: layer._cell.states]]
    if "lengths" in names:
        if single:
            raise ValueError("onnx.save: a single sequence, (time, features), takes no lengths")
        builder.arguments["lengths"] = [builder.input("lengths", np.dtype(np.int32), batch)]


def _initial(builder: Builder, layer: Any, single: bool) -> list[list[Value]]:
    """For each layer of the stack the states (directions, N, H) that it starts from; none for zeros."""
    count, directions = layer.num_layers, len(layer._suffixes)
    given = [builder.unsqueeze(h, 1) if single else h for h in builder.arguments.get("hx", ())]
    if count == 1:
        return [given]
    parts = [builder.add_many("Split", h, shapes=[(directions, *h.shape[1:])] * count, axis=0,
                              num_outputs=count) for h in given]
    return [list(states) for states in zip(*parts, strict=True)] if parts else [[]] * count


@emits(nn.RNN, nn.LSTM, nn.GRU)
def _recurrent(builder: Builder, layer: Any, x: Value) -> tuple[Value, ...]:
    op = next(kind.__name__ for kind in type(layer).__mro__ if kind.__name__ in _GATES)
    single = rank(x, 2, 3) == 2
    channels(x, -1, layer.input_size)
    directions, hidden = len(layer._suffixes), layer.hidden_size
    attributes: dict[str, Any] = {"hidden_size": hidden}
    if layer.bidirectional:
        attributes["direction"] = "bidirectional"
    if op == "GRU":
        attributes["linear_before_reset"] = 1
    if op == "RNN":
        attributes["activations"] = (layer.nonlinearity.capitalize(),) * directions
    y = builder.unsqueeze(x, 1) if single else builder.transpose(x, 1, 0, 2) if layer.batch_first else x
    steps, batch = y.shape[:2]
    (lengths,) = builder.arguments.get("lengths", (None,))
    states = []
    for index, initial in enumerate(_initial(builder, layer, single)):
        state_shape = (directions, batch, hidden)
        shapes = [(steps, directions, batch, hidden), state_shape, *([state_shape] if op == "LSTM" else [])]
        weights = _weights(builder, op, layer, index)
        w, r, bias = (*weights, None)[:3]
        out, *state = builder.add_many(op, y, w, r, bias, lengths, *initial, shapes=shapes, **attributes)
        states.append(state)
        # (T, directions, N, H) to (T, N, directions * H)
        out = builder.transpose(out, 0, 2, 1, 3)
        y = builder.add("Reshape", out, builder.constant("shape", np.int64([0, 0, directions * hidden])),
                        shape=(steps, batch, directions * hidden))
    final = [part[0] if len(part) == 1 else
             builder.add("Concat", *part, shape=(len(part) * directions, batch, hidden), axis=0)
             for part in zip(*states, strict=True)]
    if single:
        return builder.squeeze(y, 1), *(builder.squeeze(state, 1) for state in final)
    return builder.transpose(y, 1, 0, 2) if layer.batch_first else y, *final
