"""Arrays of activations, normalisations, losses and optimizers."""

from __future__ import annotations

from typing import NamedTuple


class Rows(NamedTuple):
    """A function over a matrix; rows are what softmax runs along."""

    kind: str
    rows: int
    columns: int

    @property
    def size(self) -> int:
        """Elements."""
        return self.rows * self.columns

    def __str__(self) -> str:
        return f"{self.kind} {self.rows} x {self.columns}"


class Images(NamedTuple):
    """A normalisation of images (N, C, size, size), or of N x C sequences of `size` features."""

    kind: str
    n: int
    c: int
    size: int

    def __str__(self) -> str:
        images = self.kind.startswith("BatchNorm")
        return f"{self.kind} {self.n}x{self.c}x{self.size}" + (f"x{self.size}" if images else "")


class Step(NamedTuple):
    """An optimizer's step over `layers` weight matrices of size x size, each with a bias."""

    kind: str
    layers: int
    size: int

    @property
    def parameters(self) -> int:
        """Numbers in all."""
        return self.layers * self.size * (self.size + 1)

    def __str__(self) -> str:
        return f"{self.kind} {self.layers} layers of {self.size} x {self.size}"


_SIZES = [(1, 1000), (64, 128), (64, 1000), (1024, 1024), (4096, 4096)]
ACTIVATIONS = [Rows(kind, *size)
               for kind in ("relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "elu", "hardswish",
                            "softplus", "softmax", "log_softmax")
               for size in _SIZES]
LOSSES = [Rows(kind, *size) for kind in ("cross_entropy", "mse", "bce_with_logits")
          for size in [(64, 10), (64, 1000), (1024, 1000), (256, 32000)]]
NORMS = [Images(kind, *size)
         for kind in ("BatchNorm2d training", "BatchNorm2d eval", "BatchNorm2d backward")
         for size in [(1, 64, 56), (16, 64, 56), (16, 256, 14), (64, 16, 28)]]
NORMS += [Images(kind, *size) for kind in ("LayerNorm", "LayerNorm backward")
          for size in [(1, 128, 768), (32, 128, 768), (64, 1, 128)]]
STEPS = [Step(kind, *size)
         for kind in ("SGD", "SGD momentum", "Adam", "AdamW", "RMSprop", "clip_grad_norm")
         for size in [(3, 64), (4, 512), (4, 2048)]]
