"""Convolutions of three axes: for each tap along the first, one of two axes over the images it meets.

::

    y[n, :, o] = sum over r of conv2d(x[n, :, o stride + r dilation - pad], weight[:, :, r])

with the depth o as part of the batch; the transposed one takes the same pairs of images the other way round.
"""

from __future__ import annotations

import numpy as np


def pairs(g, size):
    """For each tap r the outputs whose tap lies inside the axis, and the inputs it lies on."""
    outputs = np.arange(g.output[0])
    for r in range(g.kernel[0]):
        inputs = outputs * g.stride[0] + r * g.dilation[0] - g.begin[0]
        inside = (inputs >= 0) & (inputs < size)
        if inside.any():
            yield r, outputs[inside], inputs[inside]


def images(x, places):
    """The images at these depths: (N, C, D, H, W) to (N depths, C, H, W)."""
    taken = x[:, :, places].swapaxes(1, 2)
    return taken.reshape(-1, *taken.shape[2:])


def add(y, places, part):
    """Undo `images` for an array of results, adding."""
    y[:, :, places] += part.reshape(len(y), len(places), *part.shape[1:]).swapaxes(1, 2)


def channel_sums(grad_y):
    """The gradient of a bias."""
    return grad_y.sum((0, 2, 3, 4))
