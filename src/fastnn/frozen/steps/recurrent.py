"""One recurrent layer, in one direction or both, over whole sequences."""

from __future__ import annotations

import numpy as np

from ..._kernels import recurrent as _kernel
from ...functional import _recurrence
from ...functional._recurrence import Ragged, Weights
from .registry import check_float, contiguous, steps_of


@steps_of("recurrent")
def recurrent_steps(build, node, x, h0, c0, *arrays):
    """The states of all steps, (T, N, directions * H), and the final ones, (directions, N, H) each.

    With `by_direction` the states are (T, directions, N, H), as ONNX has them.
    """
    cell, batch_first = node.attributes["cell"], node.attributes["batch_first"]
    weights = [Weights(*arrays[i : i + 4]) for i in range(0, len(arrays), 4)]
    depth, hidden = weights[0].ih.shape[1], weights[0].hh.shape[1]
    check_float(node, x, weights[0].ih.dtype)
    if x.ndim not in (2, 3) or x.shape[-1] != depth:
        raise ValueError(f"{node.label}: x has shape {x.shape}, expected 2 or 3 dimensions, the last of "
                         f"{depth}")
    single = x.ndim == 2
    sequences = x[:, None] if single else x.transpose(1, 0, 2) if batch_first else x
    steps, batch = sequences.shape[:2]
    packed = build.cached("recurrent", lambda: _recurrence.pack_weights(cell, weights))
    ragged = Ragged.of(node.label, steps, batch, None)
    rows = contiguous(build, sequences).reshape(steps * batch, depth)
    shape = (len(weights), batch, hidden)
    states = [build.empty(shape, x.dtype) for _ in range(cell.states)]
    for state, initial in zip(states, (h0, c0), strict=False):
        if initial is None:
            build.step(state.fill, 0)
            continue
        check_float(node, initial, x.dtype, "an initial state")
        if initial.shape != shape:
            raise ValueError(f"{node.label}: an initial state has shape {initial.shape}, expected {shape}")
        build.step(np.copyto, state, initial)
    y = build.empty((steps * batch, len(weights) * hidden), x.dtype)
    if len(rows):
        build.step(_kernel.forward, cell.kind, cell.gates, rows, ragged.starts, packed.panels, packed.bias,
                   states[0], states[1] if cell.states == 2 else None, None, None, None, y,
                   node.attributes["reverse"])
    if node.attributes["by_direction"]:
        return y.reshape(steps, batch, len(weights), hidden).transpose(0, 2, 1, 3), *states
    y = y.reshape(steps, batch, len(weights) * hidden)
    if single:
        return y[:, 0], *(state[:, 0] for state in states)
    return y.transpose(1, 0, 2) if batch_first else y, *states
