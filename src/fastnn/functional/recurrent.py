"""Recurrent layers: one layer in one direction over (T, N, D), forward beside backward.

`rnn`, `lstm` and `gru` return outputs and final states alone; their `_forward` forms return besides, last,
what `_backward` needs. Stacks and pairs of directions are in :mod:`fastnn.layers`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from . import _recurrence
from ._recurrence import CELLS, Cell, Kept, Ragged, Weights


class Saved(NamedTuple):
    """What backward needs of a forward."""

    name: str
    cell: Cell
    weights: Weights
    ragged: Ragged
    kept: Kept | None
    reverse: bool


def rnn(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, nonlinearity="tanh", reverse=False,
        lengths=None):
    """Simple (Elman) recurrent layer.

    ::

        h_t = f(x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh)          y_t = h_t

    Parameters
    ----------
    x : ndarray, (T, N, D)
        N sequences of T steps, float32 or float64.
    h0 : ndarray, (N, H), optional
        State before the first step; None for zeros.
    weight_ih, weight_hh : ndarray, (H, D) and (H, H)
    bias_ih, bias_hh : ndarray, (H,), optional
    nonlinearity : {"tanh", "relu"}
        f.
    reverse : bool
        Go from the last step to the first: h_t follows from h_{t+1}.
    lengths : array_like of int, (N,), optional
        Steps of each sequence, 0 to T in any order. Beyond them outputs are zero, the final state is that
        after the last step taken, and a reverse pass starts at each sequence's own end. The time is that of
        the steps taken.

    Returns
    -------
    y : ndarray, (T, N, H)
    h_n : ndarray, (N, H)
        State after the last step; h0 of the call that goes on.

    Raises
    ------
    ValueError
        If shapes do not fit one another, or a value is out of range.
    TypeError
        If a dtype is neither float32 nor float64, or dtypes are mixed.

    Notes
    -----
    A sequence's results are the same bits whatever other sequences are in the batch, whether it comes in one
    call or in several, and for any number of threads.
    """
    _checks.choice("rnn: nonlinearity", nonlinearity, ("tanh", "relu"))
    y, (h_n,), _ = _forward("rnn", f"rnn_{nonlinearity}", x, [h0], weight_ih, weight_hh, bias_ih, bias_hh,
                            reverse, lengths, keep=False)
    return y, h_n


def rnn_forward(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, nonlinearity="tanh",
                reverse=False, lengths=None):
    """As `rnn`, but return (y, h_n, saved), with what `rnn_backward` needs."""
    _checks.choice("rnn_forward: nonlinearity", nonlinearity, ("tanh", "relu"))
    y, (h_n,), saved = _forward("rnn_forward", f"rnn_{nonlinearity}", x, [h0], weight_ih, weight_hh, bias_ih,
                                bias_hh, reverse, lengths, keep=True)
    return y, h_n, saved


def rnn_backward(grad_y, grad_h_n, saved, *, truncate=None, input_grad=True):
    """Back-propagation through time for `rnn`.

    ::

        d_t = f'(a_t) * (grad_y_t + d_{t+1} W_hh)                   a_t is what f is applied to
        grad_x_t = d_t W_ih             grad_h0 = d_1 W_hh
        grad_W_ih = sum_t d_t^T x_t     grad_W_hh = sum_t d_t^T h_{t-1}     grad_b = sum_t d_t

    Parameters
    ----------
    grad_y : ndarray, (T, N, H), or None for zeros
    grad_h_n : ndarray, (N, H), or None for zeros
    saved
        The last thing that `rnn_forward` returned.
    truncate : int, optional
        No gradient goes through the state that passes between times t - 1 and t where t is a multiple of
        this: the result is that of chunks of this many steps, each given the state as a constant. `grad_h0`
        is then of the first chunk (in reverse, of the last).
    input_grad : bool
        Whether to compute grad_x.

    Returns
    -------
    grad_x, grad_h0, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh : ndarray
        None for what was None, and for grad_x without `input_grad`.
    """
    return _backward("rnn_backward", grad_y, [grad_h_n], saved, truncate, input_grad)


def lstm(x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, reverse=False, lengths=None):
    """Long short-term memory.

    ::

        i, f, g, o = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh      in four blocks of H
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(c_t)                                y_t = h_t

    Parameters
    ----------
    x, reverse, lengths
        As for `rnn`.
    h0, c0 : ndarray, (N, H), optional
        States before the first step; None for zeros.
    weight_ih, weight_hh : ndarray, (4 H, D) and (4 H, H)
    bias_ih, bias_hh : ndarray, (4 H,), optional

    Returns
    -------
    y : ndarray, (T, N, H)
    h_n, c_n : ndarray, (N, H)
        States after the last step.

    References
    ----------
    Hochreiter, Schmidhuber: Long short-term memory, 1997; with the forget gate of Gers et al., 2000.
    """
    y, (h_n, c_n), _ = _forward("lstm", "lstm", x, [h0, c0], weight_ih, weight_hh, bias_ih, bias_hh, reverse,
                                lengths, keep=False)
    return y, h_n, c_n


def lstm_forward(x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, reverse=False,
                 lengths=None):
    """As `lstm`, but return (y, h_n, c_n, saved), with what `lstm_backward` needs."""
    y, (h_n, c_n), saved = _forward("lstm_forward", "lstm", x, [h0, c0], weight_ih, weight_hh, bias_ih,
                                    bias_hh, reverse, lengths, keep=True)
    return y, h_n, c_n, saved


def lstm_backward(grad_y, grad_h_n, grad_c_n, saved, *, truncate=None, input_grad=True):
    """Back-propagation through time for `lstm`; arguments as for `rnn_backward`.

    Returns
    -------
    grad_x, grad_h0, grad_c0, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh : ndarray
        None for what was None, and for grad_x without `input_grad`.
    """
    return _backward("lstm_backward", grad_y, [grad_h_n, grad_c_n], saved, truncate, input_grad)


def gru(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, reverse=False, lengths=None):
    """Gated recurrent unit, with the reset gate after the state's product, as torch and cuDNN have it.

    ::

        r, z, n = x_t W_ih^T + b_ih,     r', z', n' = h_{t-1} W_hh^T + b_hh      in three blocks of H
        r_t = sigmoid(r + r')            z_t = sigmoid(z + z')
        n_t = tanh(n + r_t * n')
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}                       y_t = h_t

    Parameters
    ----------
    x, h0, reverse, lengths
        As for `rnn`.
    weight_ih, weight_hh : ndarray, (3 H, D) and (3 H, H)
    bias_ih, bias_hh : ndarray, (3 H,), optional

    Returns
    -------
    y : ndarray, (T, N, H)
    h_n : ndarray, (N, H)
        State after the last step.

    References
    ----------
    Cho et al.: Learning phrase representations using RNN encoder-decoder, 2014.
    """
    y, (h_n,), _ = _forward("gru", "gru", x, [h0], weight_ih, weight_hh, bias_ih, bias_hh, reverse, lengths,
                            keep=False)
    return y, h_n


def gru_forward(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, reverse=False, lengths=None):
    """As `gru`, but return (y, h_n, saved), with what `gru_backward` needs."""
    y, (h_n,), saved = _forward("gru_forward", "gru", x, [h0], weight_ih, weight_hh, bias_ih, bias_hh,
                                reverse, lengths, keep=True)
    return y, h_n, saved


def gru_backward(grad_y, grad_h_n, saved, *, truncate=None, input_grad=True):
    """Back-propagation through time for `gru`; arguments and result as for `rnn_backward`."""
    return _backward("gru_backward", grad_y, [grad_h_n], saved, truncate, input_grad)


# --- Common to the cells


def _forward(name: str, cell_name: str, x: Any, initial: list[Any], weight_ih: Any, weight_hh: Any,
             bias_ih: Any, bias_hh: Any, reverse: bool, lengths: Any, keep: bool):
    """Check the arguments and run; return y, the final states and, with `keep`, a Saved."""
    cell = CELLS[cell_name]
    x = _checks.as_float_array(f"{name}: x", x, 3)
    steps, batch, depth = x.shape
    weight_hh = _checks.as_float_array(f"{name}: weight_hh", weight_hh, 2, x.dtype)
    products, hidden = weight_hh.shape
    if not hidden or products != cell.gates * hidden:
        raise ValueError(f"{name}: weight_hh has shape {weight_hh.shape}, "
                         f"expected ({cell.gates} H, H) with H > 0")
    if not depth:
        raise ValueError(f"{name}: x has shape {x.shape}, expected at least one input a step")
    weight_ih = _shaped(f"{name}: weight_ih", weight_ih, (products, depth), x.dtype)
    bias_ih, bias_hh = (
        None if bias is None else _shaped(f"{name}: {which}", bias, (products,), x.dtype)
        for which, bias in (("bias_ih", bias_ih), ("bias_hh", bias_hh))
    )
    reverse = _checks.flag(f"{name}: reverse", reverse)
    ragged = Ragged.of(f"{name}: lengths", steps, batch, lengths)
    h, c = _states(name, ("h0", "c0"), initial, ragged, hidden, x.dtype)
    weights = Weights(weight_ih, weight_hh, bias_ih, bias_hh)
    y, kept = _recurrence.forward(cell, ragged.pack(x), ragged, _recurrence.pack_weights(cell, [weights]),
                                  h, c, reverse=reverse, keep=keep)
    final = [ragged.unsort(s)[0] for s in (h, c) if s is not None]
    return ragged.unpack(y), final, Saved(name, cell, weights, ragged, kept, reverse)


def _backward(name: str, grad_y: Any, grad_final: list[Any], saved: Saved, truncate: int | None,
              input_grad: bool):
    expected = name.removesuffix("_backward") + "_forward"
    if not isinstance(saved, Saved) or saved.name != expected:
        what = f"what {saved.name} saved" if isinstance(saved, Saved) else f"a {type(saved).__name__}"
        raise TypeError(f"{name}: saved is {what}, expected the last thing that {expected} returned")
    _, cell, weights, ragged, kept, reverse = saved
    hidden, dtype = weights.hh.shape[1], weights.hh.dtype
    if truncate is not None:
        truncate = _checks.integer(f"{name}: truncate", truncate)
    if grad_y is not None:
        grad_y = ragged.pack(_shaped(f"{name}: grad_y", grad_y, (ragged.steps, ragged.batch, hidden), dtype))
    grad_h, grad_c = _states(name, ("grad_h_n", "grad_c_n"), grad_final, ragged, hidden, dtype)
    grad_x, (grads,) = _recurrence.backward(
        cell, kept, ragged, [weights], grad_y, grad_h, grad_c, reverse=reverse, truncate=truncate or 0,
        input_grad=_checks.flag(f"{name}: input_grad", input_grad))
    grad_initial = [ragged.unsort(s)[0] for s in (grad_h, grad_c) if s is not None]
    return (None if grad_x is None else ragged.unpack(grad_x), *grad_initial, *grads)


def _shaped(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    array = _checks.as_float_array(name, array, len(shape), dtype)
    _checks.same_shape(name, array, shape)
    return array


def _states(name: str, names: tuple[str, str], states: list[Any], ragged: Ragged, hidden: int,
            dtype: np.dtype) -> tuple[np.ndarray, np.ndarray | None]:
    """Fresh arrays (1, N, H) in the order of the rows, of the one or two states given."""
    shape = (ragged.batch, hidden)
    fresh = [
        np.zeros((1, *shape), dtype) if s is None
        else ragged.sort(_shaped(f"{name}: {which}", s, shape, dtype)[None])
        for which, s in zip(names, states, strict=False)
    ]
    return fresh[0], fresh[1] if len(fresh) > 1 else None
