"""Whole networks: inference by each library's own means, and steps of training."""

from __future__ import annotations

import numpy as np

from .suite import RUNTIMES, TORCHES, Case, Suite, draw, first, parameters
from shapes import INFERENCE, TRAINING, Network


def _windows(image, size, stride, padding, ceil=False):
    """The number of windows along each axis of an image."""
    return ((n + 2 * p - s + (d - 1) * ceil) // d + 1
            for n, p, s, d in zip(image, padding, size, stride, strict=True))


class Graph:
    """A network as ONNX nodes (operator, inputs, outputs, attributes) with random weights.

    Weights keep the size of what passes through them; those that a sum follows are smaller.
    """

    def __init__(self, network, batch):
        c, *size = network.image
        self.nodes, self.weights = [], {}
        self.inputs = {"x": draw(batch, c, *size)}
        self._y, self._shape = "x", (c, *size)
        self._chain(network.layers)
        self.nodes[-1] = (*self.nodes[-1][:2], ["y"], self.nodes[-1][3])

    def _add(self, op, *more, shape=None, **attributes):
        inputs, self._y = [self._y, *more], f"v{len(self.nodes)}"
        self.nodes.append((op, inputs, [self._y], attributes))
        self._shape = self._shape if shape is None else shape

    def _weight(self, name, *shape, gain=2.0):
        name = f"{name}{len(self.nodes)}"
        (array,) = parameters({name: shape}).values()
        self.weights[name] = array * np.float32(gain ** 0.5) if len(shape) > 1 else array
        return name

    def _chain(self, layers):
        for kind, *numbers in layers:
            getattr(self, f"_{kind}")(*numbers)

    def _conv(self, k, size, stride, padding, groups, bias):
        c, *image = self._shape
        inputs = [self._weight("weight", k, c // groups, *size), *([self._weight("bias", k)] if bias else [])]
        self._add("Conv", *inputs, shape=(k, *_windows(image, size, stride, padding)), kernel_shape=size,
                  strides=stride, pads=padding * 2, group=groups)

    def _norm(self):
        c = self._shape[0]
        names = [self._weight(name, c) for name in ("weight", "bias", "running_mean", "running_var")]
        self._add("BatchNormalization", *names)

    def _relu(self):
        self._add("Relu")

    def _relu6(self):
        self.weights.setdefault("zero", np.float32(0))
        self.weights.setdefault("six", np.float32(6))
        self._add("Clip", "zero", "six")

    def _max(self, size, stride, padding, ceil):
        c, *image = self._shape
        self._add("MaxPool", shape=(c, *_windows(image, size, stride, padding, ceil)), kernel_shape=size,
                  strides=stride, pads=padding * 2, ceil_mode=int(ceil))

    def _mean(self):
        self._add("GlobalAveragePool", shape=(self._shape[0], 1, 1))

    def _flatten(self):
        self._add("Flatten", shape=(int(np.prod(self._shape)),))

    def _linear(self, k):
        c, bias = self._shape[-1], self._weight("bias", k)
        if len(self._shape) == 1:
            self._add("Gemm", self._weight("weight", k, c, gain=1), bias, shape=(k,), transB=1)
        else:
            name = self._weight("weight", k, c, gain=1)
            self.weights[name] = np.ascontiguousarray(self.weights[name].T)
            self._add("MatMul", name, shape=(*self._shape[:-1], k))
            self._add("Add", bias)

    def _residual(self, body, shortcut, activation):
        x, shape = self._y, self._shape
        self._chain(body)
        y, self._y, self._shape = self._y, x, shape
        self._chain(shortcut)
        self._add("Add", y)
        self._chain(activation)

    def _parallel(self, branches):
        x, shape, ends, channels = self._y, self._shape, [], 0
        for branch in branches:
            self._y, self._shape = x, shape
            self._chain(branch)
            ends.append(self._y)
            channels += self._shape[0]
        self._y = ends[0]
        self._add("Concat", *ends[1:], axis=1, shape=(channels, *self._shape[1:]))

    def _columns(self):
        self.weights.setdefault("rows", np.array([2]))
        c, _, w = self._shape
        self._add("Squeeze", "rows", shape=(c, w))
        self._add("Transpose", shape=(w, c), perm=(2, 0, 1))

    def _lstm(self, hidden):
        w, c = self._shape
        names = [self._weight(name, *shape, gain=1) for name, shape in (
            ("weight_ih", (2, 4 * hidden, c)), ("weight_hh", (2, 4 * hidden, hidden)))]
        names.append(self._weight("bias", 2, 8 * hidden, gain=0.1))
        self.weights.setdefault("states", np.array([0, 0, -1]))
        self._add("LSTM", *names, hidden_size=hidden, direction="bidirectional")
        self._add("Transpose", perm=(0, 2, 1, 3))
        self._add("Reshape", "states", shape=(w, 2 * hidden))


class Networks(Suite):
    """Milliseconds of a call, by `fastnn.onnx.load(model).freeze()` and by torch's functions, eagerly.

    All get the same ONNX nodes and weights, fastnn and the runtimes as one file.
    """

    title, unit, peers = "Whole networks", "ms", TORCHES + RUNTIMES
    rounds, window = 6, 0.3

    def __init__(self):
        super().__init__()
        self.with_batches([1, 8])

    def with_batches(self, batches):
        self.shapes = [Network(name, n, image, layers)
                       for n in batches for name, (image, layers) in INFERENCE.items()]

    def onnx(self, shape):
        graph = Graph(shape, shape.n)
        return graph.nodes, graph.weights, graph.inputs

    def fastnn(self, fn, shape, dtype=np.float32, **options):
        import fastnn.onnx

        from workers import onnx_model

        graph = Graph(shape, shape.n)
        weights = {k: w.astype(dtype) if w.dtype == np.float32 else w for k, w in graph.weights.items()}
        x = graph.inputs["x"].astype(dtype)
        frozen = fastnn.onnx.load(onnx_model(graph.nodes, weights, {"x": x})).freeze()
        return Case(lambda: frozen(x), lambda: [frozen(x)])

    def torch(self, torch, shape, last=False):
        graph = Graph(shape, shape.n)
        run = TorchGraph(torch, graph, last)
        x = run.tensor(graph.inputs["x"])

        def call():
            with torch.inference_mode():
                return run(x)

        return Case(call, lambda: [call().numpy()])


class TorchGraph:
    """The nodes of a graph by torch's functions, one after the other."""

    def __init__(self, torch, graph, last):
        self.torch, self.last = torch, last
        self.weights = {name: self.tensor(array) for name, array in graph.weights.items()}
        self.steps = [(getattr(self, op), x, y[0], attributes) for op, x, y, attributes in graph.nodes]
        self.lstms = {}

    def tensor(self, x):
        """An array in the layout of this torch."""
        x = self.torch.from_numpy(np.ascontiguousarray(x))
        return x.contiguous(memory_format=self.torch.channels_last) if self.last and x.ndim == 4 else x

    def __call__(self, x):
        values = {"x": x, **self.weights}
        for function, inputs, output, attributes in self.steps:
            values[output] = function(*(values[name] for name in inputs), **attributes)
        return values["y"]

    def Conv(self, x, w, b=None, *, kernel_shape, strides, pads, group):
        return self.torch.conv2d(x, w, b, strides, pads[:2], 1, group)

    def BatchNormalization(self, x, w, b, mean, var):
        return self.torch.nn.functional.batch_norm(x, mean, var, w, b)

    def Relu(self, x):
        return self.torch.relu_(x)

    def Clip(self, x, low, high):
        return self.torch.nn.functional.relu6(x, inplace=True)

    def MaxPool(self, x, *, kernel_shape, strides, pads, ceil_mode):
        return self.torch.max_pool2d(x, kernel_shape, strides, pads[:2], 1, bool(ceil_mode))

    def GlobalAveragePool(self, x):
        return self.torch.nn.functional.adaptive_avg_pool2d(x, 1)

    def Flatten(self, x):
        return x.flatten(1)

    def Gemm(self, x, w, b, *, transB):
        return self.torch.nn.functional.linear(x, w, b)

    def MatMul(self, x, w):
        return self.torch.matmul(x, w)

    def Add(self, x, y):
        return x + y

    def Concat(self, *xs, axis):
        return self.torch.cat(xs, axis)

    def Squeeze(self, x, axes):
        return x.squeeze(2)

    def Transpose(self, x, *, perm):
        return x.permute(perm)

    def Reshape(self, x, shape):
        return x.reshape(*x.shape[:2], -1)

    def LSTM(self, x, w, r, b, *, hidden_size, direction):
        key = w.data_ptr()
        if key not in self.lstms:
            self.lstms[key] = self._lstm(w, r, b, hidden_size)
        y, _ = self.lstms[key](x.contiguous())
        return y.reshape(*x.shape[:2], 2, hidden_size).transpose(1, 2)

    def _lstm(self, w, r, b, hidden):
        """torch's layer with the gates of ONNX, i o f c, in its own order, i f c o."""
        layer = self.torch.nn.LSTM(w.shape[2], hidden, bidirectional=True)

        def ordered(x):
            return x.reshape(4, hidden, *x.shape[1:])[[0, 2, 3, 1]].reshape(x.shape)

        state = {}
        for d, suffix in enumerate(("", "_reverse")):
            state[f"weight_ih_l0{suffix}"], state[f"weight_hh_l0{suffix}"] = ordered(w[d]), ordered(r[d])
            for name, half in zip(("ih", "hh"), b[d].chunk(2), strict=True):
                state[f"bias_{name}_l0{suffix}"] = ordered(half)
        layer.load_state_dict(state)
        return layer.requires_grad_(False)


class TrainingSteps(Suite):
    """Milliseconds of forward, cross entropy, backward and SGD with momentum, inputs on the processor.

    The networks are built of layers of the same names in fastnn and torch.nn.
    """

    title, unit, shapes, peers = "Steps of training", "ms", TRAINING, TORCHES
    rounds, window = 3, 0.2   # of up to a second for a step
    _sgd = {"lr": 1e-3, "momentum": 0.9}  # noqa: RUF012 - a table

    def kind(self, shape):
        return "networks"

    def fastnn(self, fn, shape, dtype=np.float32, **options):
        net = _Layers(fn, _fastnn_parts(fn), {"dtype": dtype}).network(shape)
        state = {name: p.shape for name, p in net.state_dict().items() if np.ndim(p)}
        net.load_state_dict({k: v.astype(dtype) for k, v in parameters(state).items()}, strict=False)
        x = draw(shape.n, *shape.image).astype(dtype)
        labels = _labels(np.asarray(first(net(x))).shape)
        loss, optimizer = fn.losses.CrossEntropyLoss(), fn.optim.SGD(net.parameters(), **self._sgd)

        def gradients():
            y = net(x)
            loss(y.reshape(-1, y.shape[-1]), labels)
            net.zero_grad()
            net.backward(loss.backward().reshape(y.shape), input_grad=False)

        def step():
            gradients()
            optimizer.step()

        def result():
            gradients()
            # As one: those of a bias before a norm are zero but for rounding, and no scale for their errors.
            return [np.concatenate([p.grad.ravel() for _, p in sorted(net.named_parameters())])]

        return Case(step, result)

    def torch(self, torch, shape, last=False):
        net = _Layers(torch.nn, _torch_parts(torch), {}).network(shape)
        state = {name: tuple(p.shape) for name, p in net.state_dict().items() if p.ndim}
        net.load_state_dict({k: torch.from_numpy(v) for k, v in parameters(state).items()}, strict=False)
        x, memory = torch.from_numpy(draw(shape.n, *shape.image)), torch.contiguous_format
        if last:
            memory = torch.channels_last
            x, net = x.contiguous(memory_format=memory), net.to(memory_format=memory)
        labels = torch.from_numpy(_labels(tuple(net(x).shape)))
        optimizer = torch.optim.SGD(net.parameters(), foreach=True, **self._sgd)

        def gradients():
            y = net(x)
            value = torch.nn.functional.cross_entropy(y.reshape(-1, y.shape[-1]), labels)
            optimizer.zero_grad()
            value.backward()

        def step():
            gradients()
            optimizer.step()

        def result():
            gradients()
            return [np.concatenate([p.grad.numpy().ravel() for _, p in sorted(net.named_parameters())])]

        return Case(step, result)


def _labels(shape):
    """A class for each row of scores of this shape."""
    return np.random.default_rng(1).integers(0, shape[-1], int(np.prod(shape[:-1])))


class _Layers:
    """A network of the layers of `nn`, and of `parts` where torch.nn has none."""

    def __init__(self, nn, parts, options):
        self.nn, self.parts, self.options = nn, parts, options

    def network(self, shape):
        """The network in training mode."""
        self._shape = shape.image
        return self.nn.Sequential(*self._chain(shape.layers))

    def _chain(self, layers):
        return [getattr(self, f"_{kind}")(*numbers) for kind, *numbers in layers]

    def _conv(self, k, size, stride, padding, groups, bias):
        c, *image = self._shape
        self._shape = (k, *_windows(image, size, stride, padding))
        return self.nn.Conv2d(c, k, size, stride, padding, groups=groups, bias=bias, **self.options)

    def _norm(self):
        return self.nn.BatchNorm2d(self._shape[0], **self.options)

    def _relu(self):
        return self.nn.ReLU()

    def _max(self, size, stride, padding, ceil):
        c, *image = self._shape
        self._shape = (c, *_windows(image, size, stride, padding, ceil))
        return self.nn.MaxPool2d(size, stride, padding, ceil_mode=ceil)

    def _mean(self):
        self._shape = (self._shape[0], 1, 1)
        return self.nn.AdaptiveAvgPool2d(1)

    def _flatten(self):
        self._shape = (int(np.prod(self._shape)),)
        return self.nn.Flatten()

    def _linear(self, k):
        c, self._shape = self._shape[-1], (*self._shape[:-1], k)
        return self.nn.Linear(c, k, **self.options)

    def _residual(self, body, shortcut, activation):
        before = self._shape
        layers = self.nn.Sequential(*self._chain(body))
        after, self._shape = self._shape, before
        around = self.nn.Sequential(*self._chain(shortcut)) if shortcut else None
        self._shape = after
        return self.parts["residual"](layers, around, "relu" if activation else None)

    def _columns(self):
        c, _, w = self._shape
        self._shape = (w, c)
        return self.parts["columns"]()

    def _lstm(self, hidden):
        w, c = self._shape
        self._shape = (w, 2 * hidden)
        return self.parts["lstm"](c, hidden, bidirectional=True, **self.options)


def _torch_parts(torch):
    class Residual(torch.nn.Module):
        def __init__(self, body, shortcut, activation):
            super().__init__()
            self.body, self.shortcut, self.activation = body, shortcut, activation

        def forward(self, x):
            y = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
            return torch.relu(y) if self.activation else y

    class Columns(torch.nn.Module):
        def forward(self, x):
            return x.squeeze(2).permute(2, 0, 1)

    class LSTM(torch.nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    return {"residual": Residual, "columns": Columns, "lstm": LSTM}


def _fastnn_parts(fn):
    class Columns(fn.layers.Module):
        def forward(self, x):
            return np.ascontiguousarray(x[:, :, 0].transpose(2, 0, 1))

        def backward(self, grad_y, *, input_grad=True):
            return grad_y.transpose(1, 2, 0)[:, :, None]

    return {"residual": fn.Residual, "columns": Columns, "lstm": fn.LSTM}
