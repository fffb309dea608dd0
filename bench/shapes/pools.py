"""Pooling layers of well-known networks."""

from __future__ import annotations

from typing import NamedTuple


class Pool(NamedTuple):
    """A pooling layer; `kernel` 0 is the mean of the whole image."""

    kind: str  # max, avg
    n: int
    c: int
    size: int
    kernel: int
    stride: int = 1
    padding: int = 0

    @property
    def output(self) -> int:
        """The output's size."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1 if self.kernel else 1

    @property
    def bytes(self) -> int:
        """The input read and the output written, in float32."""
        return 4 * self.n * self.c * (self.size**2 + self.output**2)

    def __str__(self) -> str:
        window = f"{self.kernel}x{self.kernel} s{self.stride}" if self.kernel else "global"
        return f"{self.kind} {self.n}x{self.c}x{self.size}x{self.size} {window}"


POOLS = [
    Pool("max", 1, 64, 112, 2, 2),
    Pool("max", 1, 64, 112, 3, 2, 1),      # ResNet's
    Pool("avg", 1, 64, 112, 2, 2),
    Pool("max", 1, 64, 112, 3, 1, 1),      # Inception's
    Pool("avg", 1, 64, 112, 3, 1, 1),
    Pool("max", 1, 64, 224, 2, 2),         # VGG's, from the largest to the smallest
    Pool("max", 1, 512, 14, 2, 2),
    Pool("avg", 1, 512, 7, 0),
    Pool("avg", 1, 1280, 7, 0),            # MobileNet's
    Pool("max", 1, 6, 28, 2, 2),           # LeNet's
    Pool("avg", 32, 6, 28, 2, 2),
    Pool("max", 32, 1, 28, 2, 2),
    Pool("max", 1, 1, 1024, 2, 2),
    Pool("max", 1, 3, 224, 3, 2, 1),
    Pool("max", 64, 16, 28, 2, 2),
    Pool("max", 16, 128, 56, 2, 2),        # beyond the caches
    Pool("max", 16, 64, 112, 3, 2, 1),
    Pool("avg", 16, 128, 56, 2, 2),
    Pool("avg", 16, 512, 7, 0),
]
