"""The base of all suites: one layer, built alike from fastnn and from torch.nn, whose names are the same."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

TORCHES = ("torch", "torch_channels_last")
RUNTIMES = ("onnxruntime", "onnxruntime_bound", "openvino")


class Case(NamedTuple):
    """A library's work on one shape.

    `call` is what is timed. `result`, called before it, makes one call and returns the arrays to be compared.
    """

    call: Callable[[], Any]
    result: Callable[[], list[np.ndarray]]


def draw(*shape, seed=0):
    """float32 standard normal numbers, the same for every library."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def parameters(shapes):
    """{name: array} by {name: shape}: products keep the size of their input; variances are positive."""
    made = {}
    for name, shape in shapes.items():
        x = draw(*shape, seed=zlib.crc32(name.encode()))
        if len(shape) > 1:
            x /= np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        else:
            x *= np.float32(0.1)
            if not name.startswith(("bias", "running_mean")):
                x = 1 + np.abs(x)
        made[name] = x
    return made


def channels_last(x):
    """The same numbers with channels last in memory."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def first(output):
    """The output of a layer that returns its state besides."""
    return output[0] if isinstance(output, tuple) else output


class Suite:
    """A family; subclasses say what the layer is and what it is called on.

    Parameters
    ----------
    backward : bool
        Whether a call is forward in training mode and backward, rather than forward in eval mode.
    """

    title: str
    unit: str                 # GFLOP/s, GB/s, or us
    shapes: list[Any]
    peers: tuple[str, ...] = ()
    training_peers: tuple[str, ...] = ("torch",)
    rounds = 7                # unless --rounds says otherwise
    window = 0.05             # seconds that a measurement takes, or one call where that takes longer

    def __init__(self, backward: bool = False):
        self.backward = backward
        if backward:
            self.title, self.peers = f"{self.title}, forward and backward", self.training_peers

    def with_batches(self, batches):
        """Give the shapes of networks these batch sizes; shapes that say their own stay."""

    def work(self, shape):
        """What a call does, in operations or bytes: by `unit`."""
        raise NotImplementedError

    def kind(self, shape):
        """The class of shapes whose ratios have a mean of their own."""
        return getattr(shape, "kind", "all")

    def trains(self, shape):
        """Whether the layer is in training mode."""
        return self.backward

    def layer(self, nn, shape, **options):
        """The layer, from `nn`: fastnn or torch.nn. `options` are fastnn's alone."""
        raise NotImplementedError

    def inputs(self, shape):
        """What the layer is called on: arrays in float32, or pairs of them."""
        raise NotImplementedError

    def layout(self, shape, x):
        """An input as the layer before would leave it in memory."""
        return channels_last(x) if x.ndim == 4 else x

    def fastnn(self, fn, shape, dtype=np.float32, **options):
        """fastnn's case; `options` go to the layer."""
        layer = self.layer(fn, shape, dtype=dtype, **options)
        state = {name: p.shape for name, p in layer.state_dict().items() if np.ndim(p)}
        layer.load_state_dict({k: v.astype(dtype) for k, v in parameters(state).items()}, strict=False)
        layer.train(self.trains(shape))
        inputs = _map(lambda x: self.layout(shape, x).astype(dtype), self.inputs(shape))
        if not self.backward:
            return Case(lambda: layer(*inputs), lambda: [np.asarray(first(layer(*inputs)))])
        grad_y = _like(self.layout, shape, first(layer(*inputs)))

        def step():
            layer(*inputs)
            return layer.backward(grad_y)

        def result():
            layer.zero_grad()
            return [step(), *(p.grad for p in layer.parameters())]

        return Case(step, result)

    def torch(self, torch, shape, last=False):
        """torch's case, in its own memory layout or channels-last."""
        layer = self.layer(torch.nn, shape)
        state = {name: tuple(p.shape) for name, p in layer.state_dict().items() if p.ndim}
        layer.load_state_dict({k: torch.from_numpy(v) for k, v in parameters(state).items()}, strict=False)
        memory = torch.channels_last if last else torch.contiguous_format
        layer = layer.to(memory_format=memory).train(self.trains(shape))

        def tensor(x):
            x = torch.from_numpy(x)
            return x.contiguous(memory_format=memory) if x.ndim == 4 else x

        inputs = _map(tensor, self.inputs(shape))
        if not self.backward:
            layer.requires_grad_(False)  # nothing is recorded, as in inference mode
            return Case(lambda: layer(*inputs), lambda: [first(layer(*inputs)).numpy()])
        x = inputs[0].requires_grad_()
        grad_y = tensor(_like(lambda _, y: y, shape, first(layer(*inputs)).detach().numpy()))
        leaves = [x, *layer.parameters()]

        def step():
            for leaf in leaves:
                leaf.grad = None
            first(layer(*inputs)).backward(grad_y)

        def result():
            step()
            return [leaf.grad.numpy() for leaf in leaves]

        return Case(step, result)

    def onnx(self, shape):
        """(nodes, weights, inputs) of a model whose output is "y", by name; see `runtimes.py`."""
        raise NotImplementedError

    def without_padding(self, shape, arrays):
        """What of a result is to be compared."""
        return arrays

    def numpy(self, shape):
        """NumPy's own case."""
        raise NotImplementedError


def _map(function, inputs):
    """The function of each array; inputs may be pairs of arrays, or None."""
    return [tuple(map(function, x)) if isinstance(x, tuple) else x if x is None else function(x)
            for x in inputs]


def _like(layout, shape, y):
    """A gradient of the shape and dtype of y."""
    return layout(shape, draw(*y.shape, seed=1)).astype(y.dtype)
