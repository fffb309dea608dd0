"""Convolutions."""

from __future__ import annotations

from .suite import RUNTIMES, TORCHES, Suite, channels_last, draw, parameters
from shapes import NETWORKS, TABLE


class Convolutions(Suite):
    """GFLOP/s of the direct sum; backward takes three times as many."""

    title, unit = "Convolution", "GFLOP/s"
    peers, training_peers = TORCHES + RUNTIMES, TORCHES
    algorithms = True

    def __init__(self, backward=False):
        super().__init__(backward)
        self.with_batches([1, 16])

    def with_batches(self, batches):
        """The table as it is, the networks at each batch size."""
        networks = [shape.batch(n) for network in NETWORKS.values() for shape in network for n in batches]
        self.shapes = list(dict.fromkeys([*TABLE, *networks]))

    def work(self, shape):
        return shape.flops * (3 if self.backward else 1)

    def kind(self, shape):
        if shape.kernel == 3 and shape.stride == shape.dilation == shape.groups == 1 and shape.c >= 16:
            return "3x3 stride 1"
        return "depthwise" if shape.groups == shape.c > 1 else "other"

    def layer(self, nn, shape, **options):
        return nn.Conv2d(shape.c, shape.k, shape.kernel, shape.stride, shape.padding, shape.dilation,
                         shape.groups, **options)

    def inputs(self, shape):
        return [draw(shape.n, shape.c, shape.size, shape.size)]

    def layout(self, shape, x):
        # Few channels come as images do, in C order; else as a layer before would leave them.
        return x if x.shape[1] < 16 else channels_last(x)

    def onnx(self, shape):
        weights = parameters({"weight": (shape.k, shape.c // shape.groups, shape.kernel, shape.kernel),
                              "bias": (shape.k,)})
        node = ("Conv", ["x", "weight", "bias"], ["y"],
                {"strides": [shape.stride] * 2, "pads": [shape.padding] * 4,
                 "dilations": [shape.dilation] * 2, "group": shape.groups})
        return [node], weights, {"x": self.inputs(shape)[0]}


class ConvolutionsInOrder(Convolutions):
    """The table's shapes on arrays (N, C, H, W) in C order, which fastnn copies first.

    What comes out lies in each library's own order.
    """

    title = "Convolution of arrays in C order"
    peers = ("torch", *RUNTIMES)

    def with_batches(self, batches):
        self.shapes = list(TABLE)

    def layout(self, shape, x):
        return x
