"""Truncated back-propagation through time over one long sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment
from ..layers.module import backward_without_input
from ..optim.clip import clip_grad_norm_
from .model import check_loss, check_optimizer
from .modes import modes_of, record, restore


@in_default_environment
def fit_sequence(
    rnn: Any,
    head: Any,
    x: np.ndarray,
    y: np.ndarray,
    *,
    loss: Any,
    optimizer: Any,
    steps: int,
    state: Any = None,
    clip_grad_norm: float | None = None,
) -> tuple[list[float], Any]:
    """Train a recurrent layer and its output layer on a long sequence, chunk by chunk.

    The sequence is cut in chunks of `steps`. The state passes from one chunk to the next, its gradient does
    not: back-propagation through time is truncated at the cuts. Each chunk is one step of the optimizer.

    Parameters
    ----------
    rnn : RNN, LSTM or GRU
        ``out, state = rnn(x, state)``; time is the first axis, or of a batch with batch_first the second. In
        both directions only where one chunk holds the sequence: the state of the backward direction would
        come from the chunk before, not after.
    head : Module
        From the states to the predictions, such as Linear or RNNOutput.
    x, y : ndarray
        Inputs and targets, with time on the same axis.
    loss : Loss
    optimizer : Optimizer
        Over parameters of both, or of one of them.
    steps : int
        Time steps of a chunk; the last may be shorter.
    state : optional
        The initial state; zero by default.
    clip_grad_norm : float, optional

    Returns
    -------
    losses : list of float
        One a chunk.
    state
        The state after the last step, to go on from.

    Notes
    -----
    Modes are those of `fit`: a model in eval mode is trained in training mode, and afterwards every module is
    in the mode it was in before.

    Raises
    ------
    ValueError
        If x and y differ in length; if a bidirectional layer would be given more than one chunk; if no
        parameter of the optimizer belongs to `rnn` or `head`.
    """
    steps = _checks.integer("fit_sequence: steps", steps)
    x = _checks.plain_array("fit_sequence: x", x, "steps")
    y = _checks.plain_array("fit_sequence: y", y, "targets")
    axis = 1 if getattr(rnn, "batch_first", False) and x.ndim == 3 else 0
    if min(x.ndim, y.ndim) <= axis or x.shape[axis] != y.shape[axis]:
        raise ValueError(f"fit_sequence: x has shape {x.shape} and y {y.shape}; they must agree in axis "
                         f"{axis}, time")
    if getattr(rnn, "bidirectional", False) and x.shape[axis] > steps:
        raise ValueError(f"fit_sequence: rnn is bidirectional, and steps = {steps} would cut x of shape "
                         f"{x.shape} along time; expected steps >= {x.shape[axis]} or one direction")
    check_loss("fit_sequence", loss)
    check_optimizer("fit_sequence", optimizer, rnn, head)
    losses = []
    before = modes_of(rnn, head)
    try:
        for part in (rnn, head):
            record(part)
        for start in range(0, x.shape[axis], steps):
            chunk = (slice(None),) * axis + (slice(start, start + steps),)
            out, state = rnn(x[chunk], state)
            losses.append(loss(head(out), y[chunk]))
            optimizer.zero_grad()
            backward_without_input(rnn, head.backward(loss.backward()))
            if clip_grad_norm is not None:
                clip_grad_norm_(optimizer.parameters, clip_grad_norm)
            optimizer.step()
    finally:
        rnn._release()
        head._release()
        restore(before)
    return losses, state
