"""Convolutions of well-known networks, at 224 x 224 unless the network says otherwise."""

from __future__ import annotations

from typing import NamedTuple


class Convolution(NamedTuple):
    """A convolution layer's input and filter; square kernel, padding that keeps or halves the size."""

    n: int
    c: int
    size: int
    k: int
    kernel: int
    stride: int = 1
    groups: int = 1
    dilation: int = 1

    @property
    def padding(self) -> int:
        """Half the reach of the kernel."""
        return self.dilation * (self.kernel - 1) // 2

    @property
    def output(self) -> int:
        """The output's size."""
        return (self.size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    @property
    def flops(self) -> int:
        """Multiplications and additions of the direct sum."""
        return 2 * self.n * self.k * self.output**2 * self.c // self.groups * self.kernel**2

    def __str__(self) -> str:
        text = f"{self.n}x{self.c}x{self.size}x{self.size} {self.k}f {self.kernel}x{self.kernel}"
        text += f" s{self.stride}" if self.stride > 1 else ""
        text += f" d{self.dilation}" if self.dilation > 1 else ""
        return text + (f" g{self.groups}" if self.groups > 1 else "")

    def batch(self, n: int) -> Convolution:
        """The same for a batch of n."""
        return self._replace(n=n)


# A cross-section: few channels, pointwise, 3 x 3 of every size, strided, depthwise, grouped, dilated.
TABLE = [
    Convolution(1, 3, 224, 64, 7, 2),
    Convolution(1, 64, 56, 64, 1),
    Convolution(1, 64, 56, 64, 3),
    Convolution(1, 128, 28, 128, 3),
    Convolution(1, 256, 14, 256, 3),
    Convolution(1, 512, 7, 512, 3),
    Convolution(1, 256, 56, 128, 1, 2),
    Convolution(1, 128, 56, 128, 3, 2),
    Convolution(1, 512, 28, 128, 1),
    Convolution(1, 64, 224, 64, 3),
    Convolution(1, 32, 112, 32, 3, groups=32),
    Convolution(1, 128, 56, 128, 3, groups=32),
    Convolution(1, 64, 56, 64, 3, dilation=2),
    Convolution(32, 1, 28, 32, 3),
    Convolution(32, 32, 14, 64, 3),
    Convolution(16, 64, 56, 64, 3),
    Convolution(16, 128, 28, 128, 3),
    Convolution(16, 512, 7, 512, 3),
]

VGG11 = [
    Convolution(1, 3, 224, 64, 3),
    Convolution(1, 64, 112, 128, 3),
    Convolution(1, 128, 56, 256, 3),
    Convolution(1, 256, 56, 256, 3),
    Convolution(1, 256, 28, 512, 3),
    Convolution(1, 512, 28, 512, 3),
    Convolution(1, 512, 14, 512, 3),
]

RESNET18 = [
    Convolution(1, 3, 224, 64, 7, 2),
    Convolution(1, 64, 56, 64, 3),
    Convolution(1, 64, 56, 128, 3, 2),
    Convolution(1, 64, 56, 128, 1, 2),
    Convolution(1, 128, 28, 128, 3),
    Convolution(1, 128, 28, 256, 3, 2),
    Convolution(1, 128, 28, 256, 1, 2),
    Convolution(1, 256, 14, 256, 3),
    Convolution(1, 256, 14, 512, 3, 2),
    Convolution(1, 256, 14, 512, 1, 2),
    Convolution(1, 512, 7, 512, 3),
]

MOBILENETV2 = [
    Convolution(1, 3, 224, 32, 3, 2),
    Convolution(1, 32, 112, 32, 3, groups=32),
    Convolution(1, 32, 112, 16, 1),
    Convolution(1, 16, 112, 96, 1),
    Convolution(1, 96, 112, 96, 3, 2, groups=96),
    Convolution(1, 96, 56, 24, 1),
    Convolution(1, 24, 56, 144, 1),
    Convolution(1, 144, 56, 144, 3, groups=144),
    Convolution(1, 144, 56, 144, 3, 2, groups=144),
    Convolution(1, 144, 28, 32, 1),
    Convolution(1, 192, 28, 192, 3, groups=192),
    Convolution(1, 384, 14, 64, 1),
    Convolution(1, 576, 14, 576, 3, 2, groups=576),
    Convolution(1, 960, 7, 960, 3, groups=960),
    Convolution(1, 320, 7, 1280, 1),
]

LENET = [
    Convolution(1, 1, 28, 6, 5),
    Convolution(1, 6, 14, 16, 5),
]

NETWORKS = {"VGG-11": VGG11, "ResNet-18": RESNET18, "MobileNetV2": MOBILENETV2, "LeNet": LENET}
