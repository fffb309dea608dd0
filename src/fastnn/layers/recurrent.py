"""Recurrent layers: RNN, LSTM and GRU, stacked and in both directions, and the output layer on top.

A stack is one loop over its layers; each runs its one or two directions over the rows of the ragged batch,
see :mod:`fastnn.functional._recurrence`, which stay packed from the first layer to the last.
"""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np

from .. import _checks, init
from .._kernels.runtime import in_default_environment
from .._random import own_generator
from ..functional import _recurrence
from ..functional._recurrence import CELLS, Cell, Packed, Ragged, Weights
from ..functional.dropout import dropout_mask, masked
from .activation import Softmax
from .linear import Linear
from .module import Module, Parameter

# Layers have parameters of their own: 2**31 of them took half a minute until no memory was left.
MAX_LAYERS = 4096


class _Recurrent(Module):
    """What the three have in common; a subclass brings its cell."""

    _cell: Cell

    #: The gradient of the initial state, of the form of `hx`, after each `backward`.
    grad_hx: Any = None

    @in_default_environment
    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
                 dtype: Any = np.float32, rng: init.Rng = None):
        super().__init__(dtype=dtype)
        kind = type(self).__name__
        self.input_size = _checks.integer(f"{kind}: input_size", input_size)
        self.hidden_size = _checks.integer(f"{kind}: hidden_size", hidden_size)
        self.num_layers = _checks.integer(f"{kind}: num_layers", num_layers, 1, MAX_LAYERS)
        self.bias = _checks.flag(f"{kind}: bias", bias)
        self.batch_first = _checks.flag(f"{kind}: batch_first", batch_first)
        self.dropout = _checks.real(f"{kind}: dropout", dropout, 0, 1)
        self.bidirectional = _checks.flag(f"{kind}: bidirectional", bidirectional)
        if self.dropout and self.num_layers == 1:
            warnings.warn(f"{kind}: dropout goes between layers, and there is but one", stacklevel=3)
        self._suffixes = ("", "_reverse") if self.bidirectional else ("",)
        self._rng = own_generator(f"{kind}: rng", rng)
        bound = 1 / math.sqrt(self.hidden_size)
        for layer in range(self.num_layers):
            for suffix, (name, shape) in itertools.product(self._suffixes, self._shapes(layer).items()):
                p = None
                if self.bias or not name.startswith("bias"):
                    p = init.uniform_(Parameter(np.empty(shape, self._dtype)), -bound, bound, rng=self._rng)
                setattr(self, f"{name}_l{layer}{suffix}", p)

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Of the parameters of one direction of a layer."""
        rows = self._cell.gates * self.hidden_size
        columns = self.hidden_size * len(self._suffixes) if layer else self.input_size
        return {"weight_ih": (rows, columns), "weight_hh": (rows, self.hidden_size), "bias_ih": (rows,),
                "bias_hh": (rows,)}

    def _parameters_of(self, layer: int) -> list[list[Parameter]]:
        """The parameters of one layer by direction: weight_ih, weight_hh and the biases, if any."""
        names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        return [[getattr(self, f"{name}_l{layer}{suffix}") for name in names] for suffix in self._suffixes]

    def _weights(self, layer: int) -> list[Weights]:
        """The parameters of one layer by direction, if they are what the layer made: any can be assigned."""
        directions = self._parameters_of(layer)
        for suffix, params in zip(self._suffixes, directions, strict=True):
            for p, (name, shape) in zip(params, self._shapes(layer).items(), strict=False):
                if p._data.shape != shape or p._data.dtype != self._dtype:
                    found = f"shape {p._data.shape} and dtype {p._data.dtype}"
                    raise ValueError(f"{type(self).__name__}: {name}_l{layer}{suffix} has {found}, expected "
                                     f"{shape} and {self._dtype}")
        return [Weights(*(p._data for p in params)) for params in directions]

    def _packed(self, layer: int) -> Packed:
        """The layer's packed parameters."""
        packed: Packed = self._cached(layer, lambda: _recurrence.pack_weights(self._cell,
                                                                              self._weights(layer)))
        return packed

    def forward(self, x: np.ndarray, hx: Any = None, *, lengths: Any = None) -> tuple[np.ndarray, Any]:
        """Run over sequences.

        Parameters
        ----------
        x : ndarray, (T, N, input_size), (N, T, input_size) with `batch_first`, or (T, input_size)
            N sequences, or a single one.
        hx : ndarray, (num_layers * directions, N, hidden_size), optional
            The initial state, zeros by default; of the LSTM a pair (h, c). Without N for a single sequence.
        lengths : array_like of int, (N,), optional
            Steps of each sequence, 0 to T in any order. Outputs beyond them are zero; the state returned is
            that after each sequence's last step; the backward direction starts there. Time is spent on the
            steps taken alone.

        Returns
        -------
        output : ndarray, (T, N, directions * hidden_size)
            States of the last layer, in the form of `x`; those of both directions side by side.
        hx : ndarray, or a pair
            The final state, in the form of the argument; given to the next call, it carries on.
        """
        if hx is not None and lengths is None and not self.recording:
            stream = self._cache.get("stream")
            if stream is not None and (taken := stream(x, hx)) is not None:
                return taken  # one step: the checks and forms below would be most of its time
        kind = type(self).__name__
        x = _checks.as_float_array(f"{kind}: x", x, None, self._dtype)
        _checks.check_ndim(f"{kind}: x", x, (2, 3))
        if x.shape[-1] != self.input_size:
            raise ValueError(f"{kind}: x has shape {x.shape}, expected input_size = {self.input_size} "
                             "in the last dimension")
        single = x.ndim == 2
        steps = self._by_time(x, single)
        ragged = Ragged.of(f"{kind}: lengths", steps.shape[0], steps.shape[1], lengths)
        states = self._states(f"{kind}: hx", hx, ragged, single)
        y = ragged.pack(steps)
        kept, masks = [], []
        for layer in range(self.num_layers):
            mask = self._dropout_mask(y) if layer else None
            if mask is not None:
                y = masked(y, mask)
            y, keep = _recurrence.forward(self._cell, y, ragged, self._packed(layer),
                                          *self._of_layer(states, layer), keep=self.recording)
            kept.append(keep)
            masks.append(mask)
        output = self._as_given(ragged.unpack(y), single)
        self._save(ragged, kept, masks, output.shape)
        if not self.recording and ragged.steps == 1 and len(self._suffixes) == 1:
            self._cached("stream", lambda: _recurrence.stream(
                self._cell, [self._packed(layer) for layer in range(self.num_layers)], self.input_size,
                self.hidden_size, self.batch_first))
        return output, self._leave(states, ragged, single)

    @in_default_environment
    def backward(self, grad_out: np.ndarray | None, grad_state: Any = None, *, truncate: int | None = None,
                 input_grad: bool = True) -> np.ndarray | None:
        """Back-propagation through time, through all layers; adds to the parameters' gradients.

        Parameters
        ----------
        grad_out : ndarray, of the form of the output, or None for zeros
        grad_state : ndarray, of the form of `hx`, optional
            The gradient of the final state; of the LSTM a pair. Zeros by default.
        truncate : int, optional
            Truncated back-propagation: no gradient goes through a state that passes between times t - 1 and
            t where t is a multiple of this, as if the sequences had come in chunks of so many steps, each
            starting from the state of the last as a constant.
        input_grad : bool
            Whether to compute the gradient of `x`.

        Returns
        -------
        grad_x : ndarray, in the form of `x`, or None without `input_grad`

        Notes
        -----
        The gradient of the initial state is then in the attribute `grad_hx`.
        """
        kind = f"{type(self).__name__}.backward"
        input_grad = _checks.flag(f"{kind}: input_grad", input_grad)
        ragged, kept, masks, shape = self._take()
        single = len(shape) == 2
        if truncate is not None:
            truncate = _checks.integer(f"{kind}: truncate", truncate)
        grad = None
        if grad_out is not None:
            grad_out = _checks.as_float_array(f"{kind}: grad_out", grad_out, None, self._dtype)
            _checks.same_shape(f"{kind}: grad_out", grad_out, shape, "as the output had")
            grad = ragged.pack(self._by_time(grad_out, single))
        states = self._states(f"{kind}: grad_state", grad_state, ragged, single)
        for layer in reversed(range(self.num_layers)):
            grad, grads = _recurrence.backward(
                self._cell, kept.pop(), ragged, self._weights(layer), grad, *self._of_layer(states, layer),
                truncate=truncate or 0, input_grad=input_grad or layer > 0, overwrite=True)
            for params, values in zip(self._parameters_of(layer), grads, strict=True):
                for p, value in zip(params, values, strict=False):
                    p._grad += value
            if masks[layer] is not None:
                grad *= masks[layer]
        self.grad_hx = self._leave(states, ragged, single)
        return None if grad is None else self._as_given(ragged.unpack(grad), single)

    def _dropout_mask(self, y: np.ndarray) -> np.ndarray | None:
        if not (self.training and self.dropout):
            return None
        return dropout_mask(y.shape, self.dropout, self._rng, y.dtype)

    # --- The caller's form of sequences and states, and ours: (T, N, ...), and sorted (layers, N, H)

    def _by_time(self, x: np.ndarray, single: bool) -> np.ndarray:
        return x[:, None] if single else x.transpose(1, 0, 2) if self.batch_first else x

    def _as_given(self, y: np.ndarray, single: bool) -> np.ndarray:
        return y[:, 0] if single else y.transpose(1, 0, 2) if self.batch_first else y

    def _states(self, name: str, states: Any, ragged: Ragged, single: bool) -> list[np.ndarray]:
        """Return fresh arrays of the one or two states, zeros for None."""
        count, n = self._cell.states, self.num_layers * len(self._suffixes)
        if states is None:
            return [np.zeros((n, ragged.batch, self.hidden_size), self._dtype) for _ in range(count)]
        if count == 2 and not (isinstance(states, (tuple, list)) and len(states) == 2):
            raise TypeError(f"{name} is a {type(states).__name__}, expected a pair of arrays (h, c)")
        shape = (n, self.hidden_size) if single else (n, ragged.batch, self.hidden_size)
        fresh = []
        for which, state in zip(("[0]", "[1]") if count == 2 else ("",), states if count == 2 else (states,),
                                strict=True):
            state = _checks.as_float_array(name + which, state, None, self._dtype)
            _checks.same_shape(name + which, state, shape, "(layers * directions, batch, hidden_size)")
            fresh.append(ragged.sort(state[:, None] if single else state))
        return fresh

    def _of_layer(self, states: list[np.ndarray], layer: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the layer's part of h and, of the LSTM, of c: views by direction."""
        directions = len(self._suffixes)
        h, *c = (s[layer * directions : (layer + 1) * directions] for s in states)
        return h, c[0] if c else None

    def _leave(self, states: list[np.ndarray], ragged: Ragged, single: bool) -> Any:
        """Return the states in the caller's form."""
        out = tuple(s[:, 0] if single else s for s in map(ragged.unsort, states))
        return out if len(out) == 2 else out[0]

    def extra_repr(self) -> str:
        """Return what differs from the defaults, as torch does."""
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in (("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0),
                              ("bidirectional", False)):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


class RNN(_Recurrent):
    """Simple recurrent layers, stacked and bidirectional: s_t = f(U x_t + W s_{t-1} + b).

    ::

        s_t^(l)  = f(W_ih s_t^(l-1) + b_ih + W_hh s_{t-1}^(l) + b_hh)         s_t^(0) = x_t
        s'_t^(l) = the same from the other end, with weights of its own: from s'_{t+1}^(l)

    A layer above the first reads the states of both directions below it, side by side.

    Parameters
    ----------
    input_size, hidden_size : int
        D and H.
    num_layers : int
        At most 4096.
    nonlinearity : {"tanh", "relu"}
        f.
    bias : bool
        Whether there are b_ih and b_hh.
    batch_first : bool
        Sequences are (N, T, D) rather than (T, N, D). States are (layers, N, H) either way.
    dropout : float
        In training mode, share of the states that are zeroed on their way from layer to layer.
    bidirectional : bool
    dtype : numpy.dtype
        float32 or float64.
    rng : int or numpy.random.Generator, optional
        For the initial values, uniform on +-1 / sqrt(H), and the dropout.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_ih_l0_reverse, ... : Parameter
        As torch names and shapes them: (G H, D), (G H, H) and (G H,) with G = 1; weight_ih above the first
        layer is (G H, directions * H).
    grad_hx : ndarray
        After `backward`, the gradient of the initial state.

    See Also
    --------
    RNNOutput : the output o_t = g(V s_t + V' s'_t) on top.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0,
                 bidirectional: bool = False, *, dtype: Any = np.float32, rng: init.Rng = None):
        self._cell = CELLS["rnn_" + _checks.choice("RNN: nonlinearity", nonlinearity, ("tanh", "relu"))]
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         dtype=dtype, rng=rng)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        """Return what differs from the defaults, as torch does."""
        return super().extra_repr() + (", nonlinearity='relu'" if self.nonlinearity == "relu" else "")


class LSTM(_Recurrent):
    """Long short-term memory, stacked and bidirectional.

    ::

        i, f, g, o = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(c_t)

    Parameters and attributes are those of `RNN`, with G = 4 gates in the order i, f, g, o; the state is a
    pair (h, c). Projections (torch's proj_size) are not offered.

    References
    ----------
    Hochreiter, Schmidhuber: Long short-term memory, 1997; with the forget gate of Gers et al., 2000.
    """

    _cell = CELLS["lstm"]


class GRU(_Recurrent):
    """Gated recurrent units, stacked and bidirectional.

    ::

        r = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)
        z = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)
        n = tanh(W_in x_t + b_in + r * (W_hn h_{t-1} + b_hn))
        h_t = (1 - z) * n + z * h_{t-1}

    Parameters and attributes are those of `RNN`, with G = 3 gates in the order r, z, n.

    References
    ----------
    Cho et al.: Learning phrase representations using RNN encoder-decoder, 2014; with the reset gate after
    the product, as torch and cuDNN have it.
    """

    _cell = CELLS["gru"]


class RNNOutput(Linear):
    """The output of a recurrent network at every step: o_t = g(V s_t + V' s'_t + b).

    Parameters
    ----------
    hidden_size, output_size : int
        H of the layer below, and the outputs of a step.
    bidirectional : bool
        Whether the layer below runs in both directions; V' does not share its weights with V.
    bias : bool
        Whether there is b.
    activation : {None, "relu", "sigmoid", "tanh", "softmax"}
        g; the softmax is over the outputs of a step.
    dtype : numpy.dtype
        float32 or float64.
    rng : int or numpy.random.Generator, optional
        For the initial values, those of `Linear`.

    Attributes
    ----------
    weight : Parameter, (output_size, directions * hidden_size)
        V, and V' to its right.
    bias : Parameter, (output_size,), or None

    Examples
    --------
    >>> net = fastnn.Sequential(fastnn.RNN(12, 64, num_layers=2, bidirectional=True),
    ...                         fastnn.RNNOutput(64, 10, bidirectional=True, activation="softmax"))
    """

    def __init__(self, hidden_size: int, output_size: int, bidirectional: bool = False, bias: bool = True, *,
                 activation: str | None = None, dtype: Any = np.float32, rng: init.Rng = None):
        hidden_size = _checks.integer("RNNOutput: hidden_size", hidden_size)
        output_size = _checks.integer("RNNOutput: output_size", output_size)
        directions = 2 if _checks.flag("RNNOutput: bidirectional", bidirectional) else 1
        _checks.choice("RNNOutput: activation", activation, (None, "relu", "sigmoid", "tanh", "softmax"))
        super().__init__(directions * hidden_size, output_size, _checks.flag("RNNOutput: bias", bias),
                         activation=None if activation == "softmax" else activation, dtype=dtype, rng=rng)
        self.softmax = Softmax(-1) if activation == "softmax" else None

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs for the states x (..., directions * hidden_size)."""
        y = super().forward(x)
        return y if self.softmax is None else self.softmax(y)

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """Add to the gradients of weight and bias, return that of the states."""
        if self.softmax is not None:
            grad_y = self.softmax.backward(grad_y)
        return super().backward(grad_y, input_grad=input_grad)
