"""Recurrent cells step by step in NumPy, for what the package's kernels do not do: peepholes, clipped or
other activations, GRUs whose reset gate comes before the product.

Arrays are of one direction: x (T, N, D), weights W (G H, D), R (G H, H), biases (G H,), states (N, H), with G
gates in ONNX's order. A cell's `step` returns the new states and what `back` needs; `back` returns the
gradients of the gates as the input's product has them (N, G H), of the states before, and adds to those of R,
its bias and the peepholes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ... import functional as F

# --- Activations: f(a), and f'(a) from a and y = f(a)


class Activation(NamedTuple):
    """A function with its two numbers bound, and the bound of its argument."""

    name: str
    alpha: float
    beta: float
    clip: float | None

    def __call__(self, a):
        a = a if self.clip is None else np.clip(a, -self.clip, self.clip)
        return _FUNCTIONS[self.name][0](a, self.alpha, self.beta).astype(a.dtype, copy=False)

    def derivative(self, a, y):
        """f'(a)."""
        d = _FUNCTIONS[self.name][1](a, y, self.alpha, self.beta)
        return d if self.clip is None else d * (np.abs(a) <= self.clip)


_FUNCTIONS = {
    "sigmoid": (lambda a, *_: F.sigmoid(a), lambda a, y, *_: y * (1 - y)),
    "tanh": (lambda a, *_: F.tanh(a), lambda a, y, *_: 1 - y * y),
    "relu": (lambda a, *_: F.relu(a), lambda a, y, *_: (y > 0).astype(y.dtype)),
    "affine": (lambda a, p, q: p * a + q, lambda a, y, p, q: np.full_like(a, p)),
    "leakyrelu": (lambda a, p, _: np.where(a < 0, p * a, a), lambda a, y, p, _: np.where(a < 0, p, 1)),
    "thresholdedrelu": (lambda a, p, _: np.where(a > p, a, 0), lambda a, y, p, _: np.where(a > p, 1, 0)),
    "scaledtanh": (lambda a, p, q: p * np.tanh(q * a), lambda a, y, p, q: q * (p - y * y / p)),
    "hardsigmoid": (lambda a, p, q: np.clip(p * a + q, 0, 1),
                    lambda a, y, p, _: np.where((y > 0) & (y < 1), p, 0)),
    "elu": (lambda a, p, _: np.where(a < 0, p * np.expm1(np.minimum(a, 0)), a),
            lambda a, y, p, _: np.where(a < 0, y + p, 1)),
    "softsign": (lambda a, *_: a / (1 + np.abs(a)), lambda a, y, *_: np.square(1 - np.abs(y))),
    "softplus": (lambda a, *_: np.logaddexp(a, 0), lambda a, y, *_: 1 - np.exp(-y)),
}
_NUMBERS = {"affine": (1.0, 0.0), "leakyrelu": (0.01, 0.0), "thresholdedrelu": (1.0, 0.0),
            "scaledtanh": (1.0, 1.0), "hardsigmoid": (0.2, 0.5), "elu": (1.0, 0.0)}


def activations(names, alphas, betas, clip):
    """The functions that a node names; the numbers are given to those that take any, in order."""
    alphas, betas = iter(alphas or ()), iter(betas or ())
    found = []
    for name in (name.lower() for name in names):
        if name not in _FUNCTIONS:
            raise ValueError(f"activation {name!r}, expected one of {', '.join(sorted(_FUNCTIONS))}")
        alpha, beta = _NUMBERS.get(name, (0.0, 0.0))
        if name in _NUMBERS:
            alpha = next(alphas, alpha)
            if name in ("affine", "scaledtanh", "hardsigmoid"):
                beta = next(betas, beta)
        found.append(Activation(name, alpha, beta, clip))
    return found


# --- Cells


class Weights(NamedTuple):
    """Of one direction; or their gradients."""

    w: np.ndarray
    r: np.ndarray
    bias_w: np.ndarray
    bias_r: np.ndarray
    peepholes: np.ndarray  # (3, H), of the LSTM: input, output, forget


class RNNCell:
    """h' = f(x W + h R)."""

    def __init__(self, weights, functions):
        self.weights, (self.f,) = weights, functions

    def step(self, gates, states):
        """One step: gates (N, H) are the input's product."""
        (h,) = states
        a = gates + h @ self.weights.r.T + self.weights.bias_r
        y = self.f(a)
        return (y,), (h, a, y)

    def back(self, saved, grad_states, grads):
        """Back through one step."""
        h, a, y = saved
        d = grad_states[0] * self.f.derivative(a, y)
        grads.r[...] += d.T @ h
        grads.bias_r[...] += d.sum(0)
        return d, (d @ self.weights.r,)


class LSTMCell:
    """i, o, f, g = x W + h R (+ peepholes c);  c' = f(f) c + f(i) g(g);  h' = f(o) h(c').

    With `input_forget` the forget gate is 1 - f(i). A clip bounds the gates, not the cell, as in ONNX Runtime
    (ONNX says "the input of activations").
    """

    def __init__(self, weights, functions, input_forget=False):
        self.weights, (self.f, self.g, h) = weights, functions
        self.h = h._replace(clip=None)
        self.input_forget = input_forget

    def step(self, gates, states):
        """One step: gates (N, 4 H) are the input's product."""
        h, c = states
        a_i, a_o, a_f, a_g = np.split(gates + h @ self.weights.r.T + self.weights.bias_r, 4, 1)
        p_i, p_o, p_f = self.weights.peepholes
        a_i, a_f = a_i + p_i * c, a_f + p_f * c
        i, g = self.f(a_i), self.g(a_g)
        f = 1 - i if self.input_forget else self.f(a_f)
        new_c = f * c + i * g
        a_o = a_o + p_o * new_c
        o, t = self.f(a_o), self.h(new_c)
        return (o * t, new_c), (h, c, new_c, (a_i, a_o, a_f, a_g), (i, o, f, g, t))

    def back(self, saved, grad_states, grads):
        """Back through one step."""
        grad_h, grad_c = grad_states
        h, c, new_c, (a_i, a_o, a_f, a_g), (i, o, f, g, t) = saved
        p_i, p_o, p_f = self.weights.peepholes
        d_o = grad_h * t * self.f.derivative(a_o, o)
        grad_c = grad_c + grad_h * o * self.h.derivative(new_c, t) + d_o * p_o
        d_i = grad_c * (g - c if self.input_forget else g) * self.f.derivative(a_i, i)
        d_f = np.zeros_like(d_i) if self.input_forget else grad_c * c * self.f.derivative(a_f, f)
        d_g = grad_c * i * self.g.derivative(a_g, g)
        d = np.concatenate((d_i, d_o, d_f, d_g), 1)
        grads.r[...] += d.T @ h
        grads.bias_r[...] += d.sum(0)
        for row, gate, state in zip(grads.peepholes, (d_i, d_o, d_f), (c, new_c, c), strict=True):
            row += (gate * state).sum(0)
        return d, (d @ self.weights.r, grad_c * f + d_i * p_i + d_f * p_f)


class GRUCell:
    """z, r = f(x W + h R);  n = g(x W + (r h) R)  or, with `reset_after`, g(x W + r (h R));
    h' = (1 - z) n + z h.
    """

    def __init__(self, weights, functions, reset_after=False):
        self.weights, (self.f, self.g) = weights, functions
        self.reset_after = reset_after

    def step(self, gates, states):
        """One step: gates (N, 3 H) are the input's product."""
        (h,) = states
        (r_zr, r_n), (b_zr, b_n) = self._cut(self.weights.r), self._cut(self.weights.bias_r)
        size = h.shape[1]
        a_zr = gates[:, :2 * size] + h @ r_zr.T + b_zr
        z, r = np.split(self.f(a_zr), 2, 1)
        inner = h @ r_n.T + b_n if self.reset_after else r * h
        a_n = gates[:, 2 * size:] + (r * inner if self.reset_after else inner @ r_n.T + b_n)
        n = self.g(a_n)
        return ((1 - z) * n + z * h,), (h, a_zr, a_n, inner, z, r, n)

    def back(self, saved, grad_states, grads):
        """Back through one step."""
        h, a_zr, a_n, inner, z, r, n = saved
        grad = grad_states[0]
        (r_zr, r_n), (grad_zr, grad_n) = self._cut(self.weights.r), self._cut(grads.r)
        bias_zr, bias_n = self._cut(grads.bias_r)
        d_n = grad * (1 - z) * self.g.derivative(a_n, n)
        grad_h = grad * z
        # The product is of h and then times r, or of r times h.
        d_product = d_n * r if self.reset_after else d_n
        grad_n += d_product.T @ (h if self.reset_after else inner)
        bias_n += d_product.sum(0)
        back = d_product @ r_n
        grad_r = d_n * inner if self.reset_after else back * h
        grad_h = grad_h + (back if self.reset_after else back * r)
        d_zr = np.concatenate((grad * (h - n), grad_r), 1) * self.f.derivative(
            a_zr, np.concatenate((z, r), 1))
        grad_zr += d_zr.T @ h
        bias_zr += d_zr.sum(0)
        return np.concatenate((d_zr, d_n), 1), (grad_h + d_zr @ r_zr,)

    @staticmethod
    def _cut(array):
        """Views of the rows of the gates z and r, and of those of n."""
        cut = 2 * len(array) // 3
        return array[:cut], array[cut:]


# --- A direction


class Pass(NamedTuple):
    """What a direction's backward needs."""

    cell: Any
    x: np.ndarray
    steps: list[Any]
    places: np.ndarray | None  # of each step of each sequence, where it goes back in time
    alive: np.ndarray          # (T, N, 1), whether a sequence has that step


def run(cell, x, states, lengths, reverse):
    """Run a cell over x; return y (T, N, H), the final states and what `run_back` needs."""
    times = np.arange(len(x))[:, None]
    alive = (times < lengths)[..., None]
    places = np.where(times < lengths, lengths - 1 - times, times)[..., None] if reverse else None
    if reverse:
        x = np.take_along_axis(x, places, 0)
    gates = x @ cell.weights.w.T + cell.weights.bias_w
    y = np.zeros((*x.shape[:2], states[0].shape[1]), x.dtype)
    steps = []
    for t in range(len(x)):
        new, saved = cell.step(gates[t], states)
        states = tuple(np.where(alive[t], a, b) for a, b in zip(new, states, strict=True))
        y[t] = np.where(alive[t], states[0], 0)
        steps.append(saved)
    if reverse:
        y = np.take_along_axis(y, places, 0)
    return y, states, Pass(cell, x, steps, places, alive)


def run_back(done, grad_y, grad_states):
    """Go back through `run`; return the gradients of x, of the first states and of the weights."""
    cell, x, steps, places, alive = done
    grads = Weights(*map(np.zeros_like, cell.weights))
    if places is not None:
        grad_y = np.take_along_axis(grad_y, places, 0)
    d = np.zeros((*x.shape[:2], len(cell.weights.w)), x.dtype)
    for t in reversed(range(len(x))):
        first, *others = grad_states
        here = tuple(np.where(alive[t], g, 0) for g in (first + grad_y[t], *others))
        d[t], before = cell.back(steps[t], here, grads)
        grad_states = tuple(np.where(alive[t], a, b) for a, b in zip(before, grad_states, strict=True))
    grads.w[...] = np.tensordot(d, x, ((0, 1), (0, 1)))
    grads.bias_w[...] = d.sum((0, 1))
    grad_x = d @ cell.weights.w
    return (grad_x if places is None else np.take_along_axis(grad_x, places, 0)), grad_states, grads
