"""One recurrent layer, in one direction or both, over a ragged batch: what functions and layers share.

Sequences of different lengths are sorted, longest first, and their steps stored without padding::

    lengths 2, 4, 1        steps of sequence  1 0 2 | 1 0 | 1 | 1         starts 0 3 5 6 7

so that a step's rows are the first sequences of the batch, and the arithmetic ends where a sequence does.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._kernels import gemm as _gemm
from .._kernels import recurrent as _kernel
from .._kernels import recurrent_gradient as _gradient
from .._kernels import stream as _stream
from .._kernels.memory import empty
from .._kernels.runtime import in_default_environment
from ._layout import empty_lines


class Cell(NamedTuple):
    """What distinguishes the cells: see ``_kernels/recurrent.pyx``."""

    kind: int    # of the kernel
    gates: int   # G, blocks of H rows in the weights
    blocks: int  # W / H, blocks of H columns in the gates kept for backward
    states: int  # 2 for the LSTM


CELLS = {
    name: Cell(kind, gates, blocks, states=2 if name == "lstm" else 1)
    for name, (kind, gates, blocks) in _kernel.CELLS.items()
}


class Weights(NamedTuple):
    """The parameters of one direction, in torch's shapes and order of gates."""

    ih: np.ndarray         # (G H, D)
    hh: np.ndarray         # (G H, H)
    bias_ih: np.ndarray | None = None
    bias_hh: np.ndarray | None = None


class Packed(NamedTuple):
    """The parameters of a layer as forward's kernel reads them, by direction."""

    panels: np.ndarray
    bias: np.ndarray


class Kept(NamedTuple):
    """What backward needs of a forward: the input by rows and, by direction and row, the gates and the
    states before the step."""

    x: np.ndarray
    gates: np.ndarray
    h_prev: np.ndarray
    c_prev: np.ndarray | None


class Ragged:
    """The order in which the steps of a batch are stored.

    Parameters
    ----------
    steps, batch : int
        T and N of the padded arrays (T, N, ...).
    lengths : ndarray of int64, (N,), optional
        Steps of each sequence, 0 to T; None where all have T.
    """

    __slots__ = ("_inverse", "_order", "_rows", "_times", "batch", "rows", "starts", "steps")

    def __init__(self, steps: int, batch: int, lengths: np.ndarray | None = None):
        self.steps, self.batch = steps, batch
        self._order = None
        if lengths is None:
            self.rows = steps * batch
            self.starts = np.arange(steps + 1) * batch
            return
        self._order = np.argsort(-lengths, kind="stable")
        self._inverse = np.argsort(self._order)
        longest = int(lengths.max())
        alive = batch - np.searchsorted(lengths[self._order[::-1]], np.arange(longest), side="right")
        self.starts = np.zeros(longest + 1, np.int64)
        np.cumsum(alive, out=self.starts[1:])
        self.rows = int(self.starts[-1])
        self._times = np.repeat(np.arange(longest), alive)
        self._rows = self._order[np.arange(self.rows) - np.repeat(self.starts[:-1], alive)]

    @classmethod
    def of(cls, name: str, steps: int, batch: int, lengths: Any) -> Ragged:
        """Check `lengths`, the argument called `name`, and return the order of such a batch."""
        if lengths is None:
            return _even(steps, batch)
        lengths = _checks.as_int_array(name, lengths, 1, 0, steps + 1)
        _checks.same_shape(name, lengths, (batch,), "for a batch of that size")
        return _even(steps, batch) if (lengths == steps).all() else cls(steps, batch, lengths)

    def pack(self, x: np.ndarray) -> np.ndarray:
        """Return the rows of x (T, N, D), which are contiguous; a view where possible."""
        if self._order is None:
            return np.ascontiguousarray(x).reshape(self.rows, x.shape[2])
        return np.ascontiguousarray(x[self._times, self._rows])

    def unpack(self, rows: np.ndarray) -> np.ndarray:
        """Return (T, N, D) from the rows, zero beyond the sequences' ends."""
        if self._order is None:
            return rows.reshape(self.steps, self.batch, rows.shape[1])
        x = np.zeros((self.steps, self.batch, rows.shape[1]), rows.dtype)
        x[self._times, self._rows] = rows
        return x

    def sort(self, states: np.ndarray) -> np.ndarray:
        """Return a copy of the states (..., N, H), by sequences in the order of the rows."""
        return np.array(states, order="C") if self._order is None else states.take(self._order, axis=-2)

    def unsort(self, states: np.ndarray) -> np.ndarray:
        """Undo `sort`."""
        return states if self._order is None else states.take(self._inverse, axis=-2)


@functools.lru_cache(maxsize=64)
def _even(steps: int, batch: int) -> Ragged:
    """The order of a batch without lengths, made once for each shape: short calls are what it costs."""
    return Ragged(steps, batch)


@in_default_environment
def pack_weights(cell: Cell, directions: list[Weights]) -> Packed:
    """Pack the parameters of all directions of a layer."""
    depth, hidden = directions[0].ih.shape[1], directions[0].hh.shape[1]
    dtype = directions[0].ih.dtype
    lanes = _kernel.lanes(dtype.itemsize)
    columns = -(-hidden // lanes) * lanes * cell.gates
    size = _kernel.forward_panels_size(columns, depth, hidden, dtype.itemsize)
    panels = empty_lines((len(directions), size), dtype)
    bias = np.zeros((len(directions), 2, columns // cell.gates // lanes, cell.gates, lanes), dtype)
    for w, p, (of_input, of_state) in zip(directions, panels, bias, strict=True):
        _kernel.forward_panels(cell.gates, np.ascontiguousarray(w.ih), np.ascontiguousarray(w.hh), p)
        for b, to in ((w.bias_ih, of_input), (w.bias_hh, of_state)):
            if b is not None:
                _add_in_groups(b.reshape(cell.gates, hidden), to)
        # The sums of the input's product start from both, but of the GRU's gate n, the last one.
        both = slice(2 if cell.blocks > cell.gates else None)
        of_input[:, both] += of_state[:, both]
        of_state[:, both] = 0
    return Packed(panels, bias.reshape(len(directions), -1))


def _add_in_groups(values: np.ndarray, to: np.ndarray) -> None:
    """Add [G, H] to the groups [H / lanes, G, lanes], the last of which may have too many."""
    groups, gates, lanes = to.shape
    whole = values.shape[1] // lanes
    to[:whole] += values[:, : whole * lanes].reshape(gates, whole, lanes).swapaxes(0, 1)
    if whole < groups:
        to[whole, :, : values.shape[1] - whole * lanes] += values[:, whole * lanes :]


def stream(cell: Cell, layers: list[Packed], depth: int, hidden: int, batch_first: bool) -> Any:
    """A stack of layers in one direction, to be taken step by step: see ``_kernels/stream.pyx``."""
    return _stream.stream(cell.kind, cell.gates, [p.panels for p in layers], [p.bias for p in layers], depth,
                          hidden, batch_first)


def forward(cell: Cell, x: np.ndarray, ragged: Ragged, packed: Packed, h: np.ndarray, c: np.ndarray | None,
            *, reverse: bool = False, keep: bool = False) -> tuple[np.ndarray, Kept | None]:
    """Run one layer.

    Parameters
    ----------
    x : ndarray, (rows, D)
        The input as `ragged` packs it.
    h, c : ndarray, (directions, N, H)
        Initial states in the order of `ragged`; overwritten with the final ones. c is None but for the LSTM.
    reverse : bool
        Whether the first direction goes back in time; a second always does.
    keep : bool
        Whether to return what backward needs.

    Returns
    -------
    y : ndarray, (rows, directions * H)
    kept : Kept or None
    """
    directions, _, hidden = h.shape
    rows, width = ragged.rows, cell.blocks * hidden
    y = empty((rows, directions * hidden), x.dtype)
    kept, gates, h_prev, c_prev = None, None, None, None
    if keep:
        gates = empty((directions, rows, width), x.dtype)
        h_prev = empty((directions, rows, hidden), x.dtype)
        c_prev = None if c is None else empty(h_prev.shape, x.dtype)
        kept = Kept(x, gates, h_prev, c_prev)
    if rows:
        _kernel.forward(cell.kind, cell.gates, x, ragged.starts, packed.panels, packed.bias, h, c, gates,
                        h_prev, c_prev, y, reverse)
    return y, kept


@in_default_environment  # the directions' gradients are added by NumPy
def backward(cell: Cell, kept: Kept, ragged: Ragged, directions: list[Weights], grad_y: np.ndarray | None,
             grad_h: np.ndarray, grad_c: np.ndarray | None, *, reverse: bool = False, truncate: int = 0,
             input_grad: bool = True, overwrite: bool = False,
             ) -> tuple[np.ndarray | None, list[Weights]]:
    """Go back through one layer.

    Parameters
    ----------
    kept : Kept
        Of the forward. With `overwrite` its gates are used up.
    grad_y : ndarray, (rows, directions * H), optional
        None for zeros.
    grad_h, grad_c : ndarray, (directions, N, H)
        Gradients of the final states in the order of `ragged`; overwritten with those of the initial ones.
    truncate : int
        The gradient is cut between chunks of this many steps; 0 for never.

    Returns
    -------
    grad_x : ndarray, (rows, D), or None without `input_grad`
    grads : list of Weights
        The gradients of all parameters, by direction.
    """
    x, gates, h_prev, c_prev = kept
    dtype, hidden = x.dtype, h_prev.shape[2]
    products = cell.gates * hidden
    if not ragged.rows:
        return (np.zeros_like(x) if input_grad else None,
                [Weights._make(None if p is None else np.zeros_like(p) for p in w) for w in directions])
    by_gates = [_input_order(cell, w.ih) for w in directions]
    state_panels = _pack_backward([np.ascontiguousarray(w.hh) for w in directions])
    input_panels = _pack_backward(by_gates) if input_grad else None
    grad_gates = gates if overwrite else np.empty_like(gates)
    grad_x = empty((len(directions), *x.shape), dtype) if input_grad else None
    _gradient.backward(cell.kind, products, ragged.starts, state_panels, input_panels, gates, h_prev, c_prev,
                       grad_y, grad_h, grad_c, grad_gates, grad_x, reverse, truncate)
    grads = []
    for d, w in enumerate(directions):
        grad_ih, grad_hh = np.empty(w.ih.shape, dtype), np.empty(w.hh.shape, dtype)
        grad_bias = np.empty(cell.blocks * hidden, dtype)
        _gradient.gradients(products, grad_gates[d], x, h_prev[d], grad_ih, grad_hh, grad_bias)
        grads.append(Weights(
            _torch_order(cell, grad_ih), grad_hh,
            None if w.bias_ih is None else _torch_order(cell, grad_bias[:products]),
            None if w.bias_hh is None else grad_bias[-products:],
        ))
    if grad_x is None:
        return None, grads
    for other in grad_x[1:]:
        grad_x[0] += other
    return grad_x[0], grads


def _pack_backward(weights: list[np.ndarray]) -> np.ndarray:
    """Pack one array of weights of each direction as backward's kernel reads it."""
    rows, columns = weights[0].shape
    dtype = weights[0].dtype
    panels = empty_lines((len(weights), _gemm.panel_size(columns, rows, dtype.itemsize)), dtype)
    for w, p in zip(weights, panels, strict=True):
        _gradient.backward_panels(w, p)
    return panels


def _input_order(cell: Cell, array: np.ndarray) -> np.ndarray:
    """Rows in the order of the kernel's gates: the GRU's n r z for torch's r z n."""
    if cell.blocks == cell.gates:
        return np.ascontiguousarray(array)
    cut = 2 * len(array) // 3
    # What is joined of arrays in Fortran's order is in that, too.
    return np.ascontiguousarray(np.concatenate((array[cut:], array[:cut])))


def _torch_order(cell: Cell, array: np.ndarray) -> np.ndarray:
    """Undo `_input_order`."""
    if cell.blocks == cell.gates:
        return array
    cut = len(array) // 3
    return np.concatenate((array[cut:], array[:cut]))
