"""Shapes of pooling, recurrent and fully connected layers."""

from __future__ import annotations

# (N, C, size), kernel, stride, padding
POOLS = [
    ((1, 64, 112), 2, 2, 0),
    ((1, 64, 112), 3, 2, 1),
    ((16, 128, 56), 2, 2, 0),
    ((64, 16, 28), 2, 2, 0),
]

# (T, N, D, H)
RECURRENCES = [(100, 1, 64, 128), (100, 32, 64, 128), (128, 32, 256, 256)]

# (rows, in, out): the classifiers of LeNet, VGG-11 and ResNet-18, and square ones
PRODUCTS = [(1, 400, 120), (64, 400, 120), (1, 512, 1000), (16, 512, 1000), (1, 4096, 4096),
            (256, 1024, 1024)]
