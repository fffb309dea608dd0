"""The networks of the demonstration, and the same networks on the NumPy reference."""

from __future__ import annotations

import numpy as np

import fastnn as fn
from fastnn import reference


def digit_network(rng: int) -> fn.Sequential:
    """Two convolutions, a pooling, a hidden layer: 1 x 8 x 8 to ten classes."""
    rng = np.random.default_rng(rng)
    return fn.Sequential(
        fn.Conv2d(1, 32, 3, padding=1, activation="relu", rng=rng),
        fn.Conv2d(32, 64, 3, padding=1, activation="relu", rng=rng),
        fn.MaxPool2d(2),
        fn.Dropout(0.25, rng=rng),
        fn.Flatten(),
        fn.Linear(64 * 4 * 4, 128, activation="relu", rng=rng),
        fn.Dropout(0.5, rng=rng),
        fn.Linear(128, 10, rng=rng),
    )


class NameNetwork(fn.Module):
    """Letters to a sex: an embedding, a GRU in both directions, a linear layer over the two last states."""

    def __init__(self, letters: int, rng: int, depth: int = 32, hidden: int = 64):
        super().__init__()
        rng = np.random.default_rng(rng)
        self.embedding = fn.Sequential(
            fn.Embedding(letters + 1, depth, padding_idx=0, rng=rng), fn.Dropout(0.2, rng=rng))
        self.gru = fn.GRU(depth, hidden, batch_first=True, bidirectional=True, rng=rng)
        self.head = fn.Sequential(fn.Dropout(0.4, rng=rng), fn.Linear(2 * hidden, 2, rng=rng))

    def forward(self, letters: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the logits of both sexes for letters (N, T) of which `lengths` count."""
        _, (from_start, from_end) = self.gru(self.embedding(letters), lengths=lengths)
        return self.head(np.concatenate([from_start, from_end], axis=1))

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> None:
        """Add to all gradients; letters have none."""
        grad_states = np.stack(np.split(self.head.backward(grad_y), 2, axis=1))
        self.embedding.backward(self.gru.backward(None, grad_states))


# --- The same on plain NumPy, for the comparison of times: each layer's arithmetic from fastnn.reference.


class ReferenceConv2d(fn.Conv2d):
    """Conv2d by the reference."""

    def forward(self, x):
        y = reference.conv2d(x, self.weight._data, self.bias._data, self.stride, self.padding,
                             activation=self.activation)
        self._save(x, y)
        return y

    def backward(self, grad_y, *, input_grad=True):
        x, y = self._take()
        grad_x, grad_weight, grad_bias = reference.conv2d_backward(
            grad_y, x, self.weight._data, self.bias._data, self.stride, self.padding,
            activation=self.activation, y=y, input_grad=input_grad)
        self._add(grad_weight, grad_bias)
        return grad_x


class ReferenceMaxPool2d(fn.MaxPool2d):
    """MaxPool2d by the reference."""

    def forward(self, x):
        y, indices = reference.max_pool2d(x, self.kernel_size, self.stride, return_indices=True)
        self._save(indices, x.shape)
        return y

    def backward(self, grad_y):
        return reference.max_pool2d_backward(grad_y, *self._take())


class ReferenceLinear(fn.Linear):
    """Linear by the reference."""

    def forward(self, x):
        y = reference.linear(x, self.weight._data, self.bias._data, activation=self.activation)
        self._save(x, y)
        return y

    def backward(self, grad_y, *, input_grad=True):
        x, y = self._take()
        grad_x, grad_weight, grad_bias = reference.linear_backward(
            grad_y, x, self.weight._data, self.bias._data, activation=self.activation, y=y)
        self.weight._grad += grad_weight
        self.bias._grad += grad_bias
        return grad_x


class ReferenceGRU(fn.GRU):
    """A GRU of one layer in both directions by the reference."""

    def _weights(self, suffix):
        return [getattr(self, f"{kind}_l0{suffix}") for kind in
                ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def forward(self, x, hx=None, *, lengths=None):
        x = np.ascontiguousarray(x.swapaxes(0, 1))
        zeros = np.zeros((x.shape[1], self.hidden_size), x.dtype)
        runs = [reference.gru_forward(x, zeros, *(p._data for p in self._weights(suffix)),
                                      reverse=bool(suffix), lengths=lengths) for suffix in ("", "_reverse")]
        self._save([saved for _, _, saved in runs], runs[0][0])
        return np.concatenate([y for y, _, _ in runs], 2).swapaxes(0, 1), np.stack([h for _, h, _ in runs])

    def backward(self, grad_out, grad_state=None, *, truncate=None, input_grad=True):
        saved, y = self._take()
        grad_x = 0
        for direction, suffix in enumerate(("", "_reverse")):
            part, _, *grads = reference.gru_backward(np.zeros_like(y), grad_state[direction],
                                                     saved[direction])
            for parameter, grad in zip(self._weights(suffix), grads, strict=True):
                parameter._grad += grad
            grad_x = grad_x + part
        return grad_x.swapaxes(0, 1)


_ON_REFERENCE = {fn.Conv2d: ReferenceConv2d, fn.MaxPool2d: ReferenceMaxPool2d, fn.Linear: ReferenceLinear,
                 fn.GRU: ReferenceGRU}


def on_reference(network: fn.Module) -> fn.Module:
    """Let the layers of a network compute by the reference; weights and all else stay."""
    for layer in network.modules():
        layer.__class__ = _ON_REFERENCE.get(type(layer), type(layer))
    return network
