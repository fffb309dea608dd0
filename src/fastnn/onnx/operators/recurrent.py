"""RNN, LSTM and GRU: by the package's kernels where they do what the node asks for, else step by step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...functional import _recurrence
from ...functional._recurrence import CELLS, Ragged
from . import _cells
from .registry import check_float, operator


class Kind(NamedTuple):
    """What distinguishes the operators."""

    name: str
    functions: tuple[str, ...]  # by default
    order: tuple[int, ...]      # of torch's gates, those of ONNX
    states: int


# ONNX has the LSTM's gates as i o f g and the GRU's as z r n, torch as i f g o and r z n.
_RNN = Kind("rnn_tanh", ("tanh",), (0,), 1)
_LSTM = Kind("lstm", ("sigmoid", "tanh", "tanh"), (0, 2, 3, 1), 2)
_GRU = Kind("gru", ("sigmoid", "tanh"), (1, 0, 2), 1)


class Options(NamedTuple):
    """The attributes that all three have."""

    kind: Kind
    functions: tuple[str, ...]
    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    clip: float | None
    reverse: bool  # the first direction
    directions: int
    by_batch: bool
    reset_after: bool = False
    input_forget: bool = False

    def has_kernel(self, peepholes):
        """Whether the package's kernels do this."""
        plain = self.kind.functions * self.directions
        usual = tuple(name.lower() for name in self.functions) == plain
        return (usual and self.clip is None and peepholes is None and not self.input_forget
                and (self.kind is not _GRU or self.reset_after))


def _options(kind, direction, layout, activations, activation_alpha, activation_beta, clip, **more):
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(f"direction {direction!r}, expected 'forward', 'reverse' or 'bidirectional'")
    directions = 1 + (direction == "bidirectional")
    functions = activations or kind.functions * directions
    if kind is _RNN and all(name.lower() == "relu" for name in functions):
        kind = Kind("rnn_relu", ("relu",), (0,), 1)
    return Options(kind, functions, activation_alpha, activation_beta, clip, direction == "reverse",
                   directions, bool(layout), **more)


def _forward(call, options, x, w, r, b, lengths, states, peepholes):
    """y (T, directions, N, H) and the final states (directions, N, H), or with the batch first."""
    if options.by_batch:
        x = x.swapaxes(0, 1)
        states = [None if s is None else s.swapaxes(0, 1) for s in states]
    shape = (options.directions, x.shape[1], r.shape[2])
    gates = len(options.kind.order)
    check_float(x, w, r, b, *states, peepholes)
    _check(x, w, r, shape, gates, b, states)
    states = [np.zeros(shape, x.dtype) if s is None else s for s in states]
    run = _run_kernel if options.has_kernel(peepholes) else _run_steps
    y, states, saved = run(call, options, x, w, r, b, lengths, states, peepholes)
    call.saved = options, saved, x.shape
    if options.by_batch:
        y, states = y.transpose(2, 0, 1, 3), [s.swapaxes(0, 1) for s in states]
    return y, *states


def _check(x, w, r, shape, gates, b, states):
    directions, _, hidden = shape
    rows = gates * hidden
    for name, array, expected in (
            ("W", w, (directions, rows, x.shape[2])), ("R", r, (directions, rows, hidden)),
            ("B", b, (directions, 2 * rows)), *(("an initial state", state, shape) for state in states)):
        if array is not None and array.shape != expected:
            raise ValueError(f"{name} has shape {array.shape}, expected {expected} for x {x.shape}")


# --- By kernels


def _reorder(rows, order):
    """Blocks of rows in another order."""
    blocks = rows.reshape(len(order), -1, *rows.shape[1:])
    return blocks[list(order)].reshape(rows.shape)


def _torch_weights(kind, w, r, b):
    half = None if b is None else b.shape[1] // 2
    return [_recurrence.Weights(
        _reorder(w[d], kind.order), _reorder(r[d], kind.order),
        None if b is None else _reorder(b[d, :half], kind.order),
        None if b is None else _reorder(b[d, half:], kind.order)) for d in range(len(w))]


def _run_kernel(call, options, x, w, r, b, lengths, states, _):
    kind, cell = options.kind, CELLS[options.kind.name]
    ragged = Ragged.of("sequence_lens", *x.shape[:2], lengths)
    weights, packed = call.cached((1, 2, 3), "packed", lambda: _pack(cell, _torch_weights(kind, w, r, b)))
    h, c = (*map(ragged.sort, states), None)[:2]
    rows, kept = _recurrence.forward(cell, ragged.pack(x), ragged, packed, h, c, reverse=options.reverse,
                                     keep=call.recording)
    y = ragged.unpack(rows).reshape(*x.shape[:2], *h.shape[::2])
    final = [ragged.unsort(s) for s in (h, c) if s is not None]
    return y.transpose(0, 2, 1, 3), final, (weights, ragged, kept)


def _pack(cell, weights):
    return weights, _recurrence.pack_weights(cell, weights)


def _kernel_back(options, saved, grad_y, grad_states):
    kind, (weights, ragged, kept) = options.kind, saved
    h, c = (*map(ragged.sort, grad_states), None)[:2]
    steps, _, batch, _ = grad_y.shape
    rows = ragged.pack(grad_y.transpose(0, 2, 1, 3).reshape(steps, batch, -1))
    grad_x, grads = _recurrence.backward(CELLS[kind.name], kept, ragged, weights, rows, h, c,
                                         reverse=options.reverse)
    inverse = np.argsort(kind.order)
    w, r, *biases = (None if parts[0] is None else np.stack([_reorder(part, inverse) for part in parts])
                     for parts in zip(*grads, strict=True))
    b = None if biases[0] is None else np.concatenate(biases, 1)
    return ragged.unpack(grad_x), w, r, b, [ragged.unsort(s) for s in (h, c) if s is not None], None


# --- Step by step


def _cell(options, functions, weights):
    if options.kind is _LSTM:
        return _cells.LSTMCell(weights, functions, options.input_forget)
    if options.kind is _GRU:
        return _cells.GRUCell(weights, functions, options.reset_after)
    return _cells.RNNCell(weights, functions)


def _run_steps(call, options, x, w, r, b, lengths, states, peepholes):
    functions = _cells.activations(options.functions, options.alphas, options.betas, options.clip)
    each = len(functions) // options.directions
    hidden = r.shape[2]
    b = np.zeros((len(w), 2 * w.shape[1]), x.dtype) if b is None else b
    peepholes = np.zeros((len(w), 3 * hidden), x.dtype) if peepholes is None else peepholes
    lengths = np.full(x.shape[1], len(x)) if lengths is None else lengths
    results = []
    for d in range(options.directions):
        weights = _cells.Weights(w[d], r[d], *np.split(b[d], 2), peepholes[d].reshape(3, hidden))
        cell = _cell(options, functions[d * each:(d + 1) * each], weights)
        results.append(_cells.run(cell, x, tuple(s[d] for s in states), lengths, d > 0 or options.reverse))
    ys, final, passes = zip(*results, strict=True)
    return np.stack(ys, 1), [np.stack(s) for s in zip(*final, strict=True)], passes


def _steps_back(options, passes, grad_y, grad_states):
    grad_x, all_states, all_grads = 0, [], []
    for d, done in enumerate(passes):
        part, states, grads = _cells.run_back(done, grad_y[:, d], tuple(s[d] for s in grad_states))
        grad_x = grad_x + part
        all_states.append(states)
        all_grads.append(grads)
    w, r, bias_w, bias_r, peepholes = map(np.stack, zip(*all_grads, strict=True))
    states = [np.stack(s) for s in zip(*all_states, strict=True)]
    return grad_x, w, r, np.concatenate((bias_w, bias_r), 1), states, peepholes.reshape(len(w), -1)


# --- The operators


def _backward(call, *grad_outputs):
    """Gradients of x, W, R, B, then None for the lengths, of the initial states and of the peepholes."""
    options, saved, (steps, batch, _) = call.saved
    hidden = call.inputs[2].shape[2]
    grad_y, *grad_states = (*grad_outputs, None, None)[:1 + options.kind.states]
    if options.by_batch:
        grad_y = None if grad_y is None else grad_y.transpose(1, 2, 0, 3)
        grad_states = [None if s is None else s.swapaxes(0, 1) for s in grad_states]
    shape, dtype = (options.directions, batch, hidden), call.inputs[0].dtype
    grad_y = np.zeros((steps, *shape), dtype) if grad_y is None else grad_y
    grad_states = [np.zeros(shape, dtype) if s is None else s for s in grad_states]
    by_kernel = isinstance(saved[0], list)
    back = _kernel_back if by_kernel else _steps_back
    grad_x, w, r, b, states, peepholes = back(options, saved, grad_y, grad_states)
    if options.by_batch:
        grad_x, states = grad_x.swapaxes(0, 1), [s.swapaxes(0, 1) for s in states]
    return grad_x, w, r, b, None, *states, peepholes


@operator("RNN", weights=(1, 2, 3), widen=True)
def rnn(call, x, w, r, b=None, lengths=None, h0=None, *, hidden_size=None, direction="forward", layout=0,
        activations=None, activation_alpha=None, activation_beta=None, clip=None):
    """h_t = f(x_t W^T + h_{t-1} R^T + b), in one direction or both."""
    options = _options(_RNN, direction, layout, activations, activation_alpha, activation_beta, clip)
    return _forward(call, options, x, w, r, b, lengths, [h0], None)


@operator("LSTM", weights=(1, 2, 3, 7), widen=True)
def lstm(call, x, w, r, b=None, lengths=None, h0=None, c0=None, peepholes=None, *, hidden_size=None,
         direction="forward", layout=0, activations=None, activation_alpha=None, activation_beta=None,
         clip=None, input_forget=0):
    """Long short-term memory, in one direction or both, with peepholes if given; see `_cells.LSTMCell`."""
    options = _options(_LSTM, direction, layout, activations, activation_alpha, activation_beta, clip,
                       input_forget=bool(input_forget))
    return _forward(call, options, x, w, r, b, lengths, [h0, c0], peepholes)


@operator("GRU", weights=(1, 2, 3), widen=True)
def gru(call, x, w, r, b=None, lengths=None, h0=None, *, hidden_size=None, direction="forward", layout=0,
        activations=None, activation_alpha=None, activation_beta=None, clip=None, linear_before_reset=0):
    """Gated recurrent unit, in one direction or both; see `_cells.GRUCell`."""
    options = _options(_GRU, direction, layout, activations, activation_alpha, activation_beta, clip,
                       reset_after=bool(linear_before_reset))
    return _forward(call, options, x, w, r, b, lengths, [h0], None)


@rnn.gradient
@lstm.gradient
@gru.gradient
def recurrent_backward(call, *grad_outputs, **attributes):
    return _backward(call, *grad_outputs)
