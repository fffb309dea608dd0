"""Fully connected layers."""

from __future__ import annotations

from typing import NamedTuple


class Product(NamedTuple):
    """Rows of inputs through a fully connected layer."""

    rows: int
    inputs: int
    outputs: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inputs * self.outputs

    def __str__(self) -> str:
        return f"{self.rows} x {self.inputs} -> {self.outputs}"


# The classifiers of LeNet, VGG-11 and ResNet-18, and square layers.
PRODUCTS = [Product(rows, *layer)
            for layer in [(400, 120), (84, 10), (512, 1000), (1024, 1024), (4096, 4096)]
            for rows in (1, 4, 16, 64, 256, 1024) if rows * layer[0] * layer[1] < 2e9]
