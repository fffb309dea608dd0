"""Whole networks, as data: layers in a tree, from which each library's own form is made.

A layer is a tuple of its kind and its numbers; a list of layers is a chain::

    ("conv", filters, kernel, stride, padding, groups, bias)     kernel, stride, padding: of H and W
    ("norm",) ("relu",) ("relu6",)
    ("max", kernel, stride, padding, ceil)    ("mean",) over all pixels
    ("flatten",) ("linear", outputs)
    ("residual", body, shortcut, activation)  activation: a chain, perhaps empty
    ("parallel", branches)                    joined along the channels
    ("columns",)                              (N, C, 1, W) to the sequence (W, N, C)
    ("lstm", hidden)                          bidirectional, (T, N, D) to (T, N, 2 hidden)
"""

from __future__ import annotations

from typing import Any, NamedTuple

Layer = tuple[Any, ...]
Chain = list[Any]


class Network(NamedTuple):
    """A network on a batch of images."""

    name: str
    n: int
    image: tuple[int, int, int]  # C, H, W
    layers: Chain

    @property
    def kind(self) -> str:
        """Networks of one batch size have a mean of their own."""
        return f"batch {self.n}"

    def __str__(self) -> str:
        return f"{self.name} N{self.n}"

    def __hash__(self) -> int:
        return hash((self.name, self.n))


def conv(k: int, size: Any = 3, stride: Any = 1, padding: Any = None, groups: int = 1,
         bias: bool = False) -> Layer:
    """A convolution, by default padded to keep the size."""
    size, stride = (pair if isinstance(pair, tuple) else (pair, pair) for pair in (size, stride))
    padding = tuple(n // 2 for n in size) if padding is None else padding
    padding = padding if isinstance(padding, tuple) else (padding, padding)
    return ("conv", k, size, stride, padding, groups, bias)


def maximum(size: Any, stride: Any, padding: Any = 0, ceil: bool = False) -> Layer:
    """A maximum over windows."""
    return ("max", *(n if isinstance(n, tuple) else (n, n) for n in (size, stride, padding)), ceil)


NORM, RELU, RELU6 = ("norm",), ("relu",), ("relu6",)


def lenet() -> Chain:
    """LeCun, Bottou, Bengio, Haffner, 1998, with the maxima and rectifiers of today."""
    return [conv(6, 5, padding=2, bias=True), RELU, maximum(2, 2), conv(16, 5, padding=0, bias=True), RELU,
            maximum(2, 2), ("flatten",), ("linear", 120), RELU, ("linear", 84), RELU, ("linear", 10)]


def vgg(*widths: Any) -> Chain:
    """Simonyan, Zisserman, 2014."""
    layers: Chain = []
    for width in widths:
        layers += [maximum(2, 2)] if width == "max" else [conv(width, bias=True), RELU]
    return [*layers, ("flatten",), ("linear", 4096), RELU, ("linear", 4096), RELU, ("linear", 1000)]


def resnet(blocks: tuple[int, ...], bottleneck: bool) -> Chain:
    """He, Zhang, Ren, Sun, 2016; of bottlenecks the 3 x 3 convolution has the stride, as torchvision's."""
    layers: Chain = [conv(64, 7, 2), NORM, RELU, maximum(3, 2, 1)]
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        outputs = 4 * width if bottleneck else width
        for i in range(count):
            stride = 2 if stage and i == 0 else 1
            if bottleneck:
                body = [conv(width, 1), NORM, RELU, conv(width, 3, stride), NORM, RELU,
                        conv(outputs, 1), NORM]
            else:
                body = [conv(width, 3, stride), NORM, RELU, conv(width), NORM]
            same = stride == 1 and channels == outputs
            layers.append(("residual", body, [] if same else [conv(outputs, 1, stride), NORM], [RELU]))
            channels = outputs
    return [*layers, ("mean",), ("flatten",), ("linear", 1000)]


def squeezenet() -> Chain:
    """SqueezeNet 1.1: Iandola et al., 2016."""

    def fire(squeeze: int, expand: int) -> Chain:
        return [conv(squeeze, 1, bias=True), RELU,
                ("parallel", [[conv(expand, size, bias=True), RELU] for size in (1, 3)])]

    pool = maximum(3, 2, ceil=True)
    return [conv(64, 3, 2, padding=0, bias=True), RELU, pool, *fire(16, 64), *fire(16, 64), pool,
            *fire(32, 128), *fire(32, 128), pool, *fire(48, 192), *fire(48, 192), *fire(64, 256),
            *fire(64, 256), conv(1000, 1, bias=True), RELU, ("mean",), ("flatten",)]


def mobilenet_v2() -> Chain:
    """Sandler, Howard, Zhu, Zhmoginov, Chen, 2018."""
    layers: Chain = [conv(32, 3, 2), NORM, RELU6]
    channels = 32
    for expand, width, count, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                                        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
        for i in range(count):
            stride, hidden = first if i == 0 else 1, expand * channels
            body = [conv(hidden, 1), NORM, RELU6] if expand > 1 else []
            body += [conv(hidden, 3, stride, groups=hidden), NORM, RELU6, conv(width, 1), NORM]
            layers += [("residual", body, [], [])] if stride == 1 and channels == width else body
            channels = width
    return [*layers, conv(1280, 1), NORM, RELU6, ("mean",), ("flatten",), ("linear", 1000)]


def crnn() -> Chain:
    """Shi, Bai, Yao, 2015: text in images 32 pixels high, two bidirectional LSTM layers over the columns."""
    def tall() -> Layer:
        return maximum((2, 2), (2, 1), (0, 1))

    return [conv(64, bias=True), RELU, maximum(2, 2), conv(128, bias=True), RELU, maximum(2, 2),
            conv(256, bias=True), NORM, RELU, conv(256, bias=True), RELU, tall(), conv(512, bias=True), NORM,
            RELU, conv(512, bias=True), RELU, tall(), conv(512, 2, padding=0, bias=True), NORM, RELU,
            ("columns",), ("lstm", 256), ("linear", 256), ("lstm", 256), ("linear", 37)]


_VGG19 = (64, 64, "max", 128, 128, "max", *[256] * 4, "max", *[512] * 4, "max", *[512] * 4, "max")
_VGG11 = (64, "max", 128, "max", 256, 256, "max", 512, 512, "max", 512, 512, "max")
_IMAGE, _TEXT = (3, 224, 224), (1, 32, 128)

INFERENCE = {
    "ResNet-18": (_IMAGE, resnet((2, 2, 2, 2), False)),
    "ResNet-50": (_IMAGE, resnet((3, 4, 6, 3), True)),
    "VGG-19": (_IMAGE, vgg(*_VGG19)),
    "SqueezeNet": (_IMAGE, squeezenet()),
    "MobileNetV2": (_IMAGE, mobilenet_v2()),
    "CRNN": (_TEXT, crnn()),
}
TRAINING = [
    Network("LeNet", 64, (1, 28, 28), lenet()),
    Network("VGG-11", 4, _IMAGE, vgg(*_VGG11)),
    Network("ResNet-18", 8, _IMAGE, resnet((2, 2, 2, 2), False)),
    Network("CRNN", 8, _TEXT, crnn()),
]
