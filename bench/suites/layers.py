"""Pooling, fully connected layers, activations, normalisation."""

from __future__ import annotations

import numpy as np

from .suite import RUNTIMES, TORCHES, Case, Suite, channels_last, draw, parameters
from shapes import ACTIVATIONS, NORMS, POOLS, PRODUCTS


class Pools(Suite):
    """GB/s of what is read and written: twice that with backward."""

    title, unit, shapes = "Pooling", "GB/s", POOLS
    peers, training_peers = TORCHES + RUNTIMES, TORCHES

    def work(self, shape):
        return shape.bytes * (2 if self.backward else 1)

    def kind(self, shape):
        return "mean of the image" if not shape.kernel else f"{shape.kind} {shape.kernel}x{shape.kernel}"

    def layer(self, nn, shape, **options):
        if not shape.kernel:
            return nn.AdaptiveAvgPool2d(1, **options)
        pool = nn.MaxPool2d if shape.kind == "max" else nn.AvgPool2d
        return pool(shape.kernel, shape.stride, shape.padding, **options)

    def inputs(self, shape):
        return [draw(shape.n, shape.c, shape.size, shape.size)]

    def onnx(self, shape):
        x = {"x": self.inputs(shape)[0]}
        if not shape.kernel:
            return [("GlobalAveragePool", ["x"], ["y"], {})], {}, x
        options = {"kernel_shape": [shape.kernel] * 2, "strides": [shape.stride] * 2,
                   "pads": [shape.padding] * 4}
        if shape.kind == "avg":
            options["count_include_pad"] = 1
        return [("MaxPool" if shape.kind == "max" else "AveragePool", ["x"], ["y"], options)], {}, x


class Linears(Suite):
    """Weights are packed beforehand where a library can."""

    title, unit, shapes = "Linear", "GFLOP/s", PRODUCTS
    peers = ("torch", "numpy", *RUNTIMES)

    def work(self, shape):
        return shape.flops * (3 if self.backward else 1)

    def kind(self, shape):
        return "one row" if shape.rows == 1 else "up to 16 rows" if shape.rows <= 16 else "64 rows and more"

    def layer(self, nn, shape, **options):
        return nn.Linear(shape.inputs, shape.outputs, **options)

    def inputs(self, shape):
        return [draw(shape.rows, shape.inputs)]

    def _parameters(self, shape):
        return parameters({"weight": (shape.outputs, shape.inputs), "bias": (shape.outputs,)})

    def onnx(self, shape):
        return [("Gemm", ["x", "weight", "bias"], ["y"], {"transB": 1})], self._parameters(shape), {
            "x": self.inputs(shape)[0]}

    def numpy(self, shape):
        (x,), p = self.inputs(shape), self._parameters(shape)
        weight, bias = p["weight"].T, p["bias"]

        def call():
            y = x @ weight
            y += bias
            return y

        return Case(call, lambda: [call()])


class Activations(Suite):
    """GB/s of an array read and one written; with backward two and two."""

    title, unit, shapes = "Activations", "GB/s", ACTIVATIONS
    peers = ("torch", *RUNTIMES)

    # By kind: the layer, its arguments, the operator and its attributes.
    _functions = {  # noqa: RUF012 - a table
        "identity": ("Identity", (), "Identity", {}),
        "relu": ("ReLU", (), "Relu", {}),
        "sigmoid": ("Sigmoid", (), "Sigmoid", {}),
        "tanh": ("Tanh", (), "Tanh", {}),
        "gelu": ("GELU", (), "Gelu", {}),
        "gelu_tanh": ("GELU", ("tanh",), "Gelu", {"approximate": "tanh"}),
        "silu": ("SiLU", (), None, {}),
        "elu": ("ELU", (), "Elu", {}),
        "hardswish": ("Hardswish", (), "HardSwish", {}),
        "softplus": ("Softplus", (), "Softplus", {}),
        "softmax": ("Softmax", (-1,), "Softmax", {"axis": -1}),
        "log_softmax": ("LogSoftmax", (-1,), "LogSoftmax", {"axis": -1}),
    }

    def work(self, shape):
        return 8 * shape.size * (2 if self.backward else 1)

    def layer(self, nn, shape, **options):
        name, arguments, _, _ = self._functions[shape.kind]
        return getattr(nn, name)(*arguments, **options)

    def inputs(self, shape):
        return [draw(shape.rows, shape.columns)]

    def onnx(self, shape):
        _, _, operator, options = self._functions[shape.kind]
        if operator is None:
            nodes = [("Sigmoid", ["x"], ["s"], {}), ("Mul", ["x", "s"], ["y"], {})]
        else:
            nodes = [(operator, ["x"], ["y"], options)]
        return nodes, {}, {"x": self.inputs(shape)[0]}


class Norms(Suite):
    """GB/s of an array read and one written; with backward two and two."""

    title, unit, shapes = "Normalisation", "GB/s", NORMS
    peers = TORCHES + RUNTIMES

    def work(self, shape):
        images = shape.kind.startswith("BatchNorm")
        size = shape.n * shape.c * shape.size ** (2 if images else 1)
        return 8 * size * (2 if shape.kind.endswith("backward") else 1)

    def trains(self, shape):
        return shape.kind.endswith(("training", "backward"))

    def layer(self, nn, shape, **options):
        if shape.kind.startswith("BatchNorm"):
            return nn.BatchNorm2d(shape.c, **options)
        return nn.LayerNorm(shape.size, **options)

    def inputs(self, shape):
        images = shape.kind.startswith("BatchNorm")
        return [draw(shape.n, shape.c, *[shape.size] * (2 if images else 1))]

    def layout(self, shape, x):
        return channels_last(x) if x.ndim == 4 else x

    # Forward and backward are shapes of one suite.
    def fastnn(self, fn, shape, dtype=np.float32, **options):
        return super(Norms, self._of(shape)).fastnn(fn, shape, dtype, **options)

    def torch(self, torch, shape, last=False):
        return super(Norms, self._of(shape)).torch(torch, shape, last)

    def _of(self, shape):
        suite = Norms()
        suite.backward = shape.kind.endswith("backward")
        return suite

    def onnx(self, shape):
        x = {"x": self.inputs(shape)[0]}
        if shape.kind == "LayerNorm":
            return ([("LayerNormalization", ["x", "weight", "bias"], ["y"], {"axis": -1})],
                    parameters({"weight": (shape.size,), "bias": (shape.size,)}), x)
        if shape.kind == "BatchNorm2d eval":
            names = ["weight", "bias", "running_mean", "running_var"]
            return ([("BatchNormalization", ["x", *names], ["y"], {})],
                    parameters(dict.fromkeys(names, (shape.c,))), x)
        return super().onnx(shape)
