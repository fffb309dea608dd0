"""How recurrent layers are written as ONNX operators: a node for each layer, both directions in one.

ONNX has other orders of gates, a bias of both kinds in one row, and states (directions, N, H) by layer.
"""

from __future__ import annotations

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
    states = []
    for index in range(layer.num_layers):
        state_shape = (directions, batch, hidden)
        shapes = [(steps, directions, batch, hidden), state_shape, *([state_shape] if op == "LSTM" else [])]
        weights = _weights(builder, op, layer, index)
        out, *state = builder.add_many(op, y, *weights, shapes=shapes, **attributes)
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
