"""Recurrent layers, one layer in one direction, as plain loops over time.

Every cell is the same two products followed by gates of its own::

    a = x_t W_ih^T + b_ih        b = h_{t-1} W_hh^T + b_hh        states_t = gates(a, b, states_{t-1})

so the loop, the products and their gradients are written once, the gates once for each cell.
"""

from __future__ import annotations

import numpy as np


def rnn(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, nonlinearity="tanh", reverse=False,
        lengths=None):
    """Simple recurrent layer: h_t = f(x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh)."""
    return rnn_forward(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, nonlinearity=nonlinearity,
                       reverse=reverse, lengths=lengths)[:2]


def rnn_forward(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, nonlinearity="tanh",
                reverse=False, lengths=None):
    """As `rnn`, returning also what `rnn_backward` needs: y, h_n, saved."""
    cell = _CELLS[f"rnn_{nonlinearity}"]
    y, (h_n,), saved = _forward(cell, x, [h0], weight_ih, weight_hh, bias_ih, bias_hh, reverse, lengths)
    return y, h_n, saved


def rnn_backward(grad_y, grad_h_n, saved, *, truncate=None, input_grad=True):
    """Return grad_x, grad_h0, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh."""
    return _backward(grad_y, [grad_h_n], saved, truncate, input_grad)


def lstm(x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, reverse=False, lengths=None):
    """Long short-term memory: c_t = f * c_{t-1} + i * g, h_t = o * tanh(c_t), gates in order i, f, g, o."""
    return lstm_forward(x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, reverse=reverse,
                        lengths=lengths)[:3]


def lstm_forward(x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, reverse=False,
                 lengths=None):
    """As `lstm`, returning also what `lstm_backward` needs: y, h_n, c_n, saved."""
    y, (h_n, c_n), saved = _forward(_CELLS["lstm"], x, [h0, c0], weight_ih, weight_hh, bias_ih, bias_hh,
                                    reverse, lengths)
    return y, h_n, c_n, saved


def lstm_backward(grad_y, grad_h_n, grad_c_n, saved, *, truncate=None, input_grad=True):
    """Return grad_x, grad_h0, grad_c0, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh."""
    return _backward(grad_y, [grad_h_n, grad_c_n], saved, truncate, input_grad)


def gru(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, reverse=False, lengths=None):
    """Gated recurrent unit: n = tanh(a_n + r * b_n), h_t = (1 - z) * n + z * h_{t-1}, gates r, z, n."""
    return gru_forward(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, reverse=reverse, lengths=lengths)[:2]


def gru_forward(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, reverse=False, lengths=None):
    """As `gru`, returning also what `gru_backward` needs: y, h_n, saved."""
    y, (h_n,), saved = _forward(_CELLS["gru"], x, [h0], weight_ih, weight_hh, bias_ih, bias_hh, reverse,
                                lengths)
    return y, h_n, saved


def gru_backward(grad_y, grad_h_n, saved, *, truncate=None, input_grad=True):
    """Return grad_x, grad_h0, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh."""
    return _backward(grad_y, [grad_h_n], saved, truncate, input_grad)


# --- The loop over time


def _forward(cell, x, initial, weight_ih, weight_hh, bias_ih, bias_hh, reverse, lengths):
    gates, _ = cell
    steps, batch, _ = x.shape
    hidden = weight_hh.shape[1]
    lengths = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    states = [np.zeros((batch, hidden), x.dtype) if s is None else np.array(s) for s in initial]
    y = np.zeros((steps, batch, hidden), x.dtype)
    history = {}
    for t in range(steps)[:: -1 if reverse else 1]:
        alive = lengths > t
        before = [s[alive] for s in states]
        a = _affine(x[t, alive], weight_ih, bias_ih)
        b = _affine(before[0], weight_hh, bias_hh)
        after, kept = gates(a, b, before)
        for s, new in zip(states, after, strict=True):
            s[alive] = new
        y[t, alive] = after[0]
        history[t] = before, kept
    weights = weight_ih, weight_hh, bias_ih is not None, bias_hh is not None
    return y, states, (cell, x, weights, lengths, history, reverse)


def _backward(grad_y, grad_final, saved, truncate, input_grad):
    (_, gates_backward), x, weights, lengths, history, reverse = saved
    weight_ih, weight_hh, with_bias_ih, with_bias_hh = weights
    steps, batch, _ = x.shape
    hidden = weight_hh.shape[1]
    grad_y = np.zeros((steps, batch, hidden), x.dtype) if grad_y is None else grad_y
    grads = [np.zeros((batch, hidden), x.dtype) if g is None else np.array(g) for g in grad_final]
    grad_x, grad_weight_ih, grad_weight_hh = (np.zeros_like(a) for a in (x, weight_ih, weight_hh))
    grad_bias_ih, grad_bias_hh = (np.zeros(len(weight_ih), x.dtype) for _ in range(2))
    for t in range(steps)[:: 1 if reverse else -1]:
        alive = lengths > t
        before, kept = history[t]
        after = [g[alive] for g in grads]
        after[0] = after[0] + grad_y[t, alive]
        grad_a, grad_b, grad_before = gates_backward(after, before, kept)
        grad_before[0] = grad_before[0] + grad_b @ weight_hh
        for g, new in zip(grads, grad_before, strict=True):
            g[alive] = new
        grad_x[t, alive] = grad_a @ weight_ih
        grad_weight_ih += grad_a.T @ x[t, alive]
        grad_weight_hh += grad_b.T @ before[0]
        grad_bias_ih += grad_a.sum(0)
        grad_bias_hh += grad_b.sum(0)
        # The state that passed between times boundary - 1 and boundary is taken as given.
        boundary = t + 1 if reverse else t
        if truncate is not None and boundary > 0 and boundary % truncate == 0:
            for g in grads:
                g[lengths > boundary] = 0
    return (grad_x if input_grad else None, *grads, grad_weight_ih, grad_weight_hh,
            grad_bias_ih if with_bias_ih else None, grad_bias_hh if with_bias_hh else None)


def _affine(x, weight, bias):
    return x @ weight.T if bias is None else x @ weight.T + bias


def _sigmoid(x):
    return 0.5 * np.tanh(0.5 * x) + 0.5


# --- The gates: a from the input, b from the state; each beside its backward


def _tanh_gates(a, b, before):
    h = np.tanh(a + b)
    return [h], h


def _tanh_gates_backward(grads, before, h):
    grad = grads[0] * (1 - h * h)
    return grad, grad, [0]


def _relu_gates(a, b, before):
    h = np.maximum(a + b, 0)
    return [h], h


def _relu_gates_backward(grads, before, h):
    grad = np.where(h <= 0, 0, grads[0])
    return grad, grad, [0]


def _lstm_gates(a, b, before):
    i, f, g, o = np.split(a + b, 4, axis=1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    c = f * before[1] + i * g
    return [o * np.tanh(c), c], (i, f, g, o, c)


def _lstm_gates_backward(grads, before, kept):
    i, f, g, o, c = kept
    grad_h, grad_c = grads
    grad_c = grad_c + grad_h * o * (1 - np.tanh(c) ** 2)
    grad = np.concatenate([
        grad_c * g * i * (1 - i),
        grad_c * before[1] * f * (1 - f),
        grad_c * i * (1 - g * g),
        grad_h * np.tanh(c) * o * (1 - o),
    ], axis=1)
    return grad, grad, [0, grad_c * f]


def _gru_gates(a, b, before):
    (a_r, a_z, a_n), (b_r, b_z, b_n) = np.split(a, 3, axis=1), np.split(b, 3, axis=1)
    r, z = _sigmoid(a_r + b_r), _sigmoid(a_z + b_z)
    n = np.tanh(a_n + r * b_n)
    return [(1 - z) * n + z * before[0]], (r, z, n, b_n)


def _gru_gates_backward(grads, before, kept):
    r, z, n, b_n = kept
    (grad_h,) = grads
    grad_n = grad_h * (1 - z) * (1 - n * n)
    grad_r = grad_n * b_n * r * (1 - r)
    grad_z = grad_h * (before[0] - n) * z * (1 - z)
    return (np.concatenate([grad_r, grad_z, grad_n], axis=1),
            np.concatenate([grad_r, grad_z, grad_n * r], axis=1), [grad_h * z])


_CELLS = {
    "rnn_tanh": (_tanh_gates, _tanh_gates_backward),
    "rnn_relu": (_relu_gates, _relu_gates_backward),
    "lstm": (_lstm_gates, _lstm_gates_backward),
    "gru": (_gru_gates, _gru_gates_backward),
}
