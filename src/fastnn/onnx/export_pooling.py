"""How poolings are written as ONNX operators.

ONNX and torch count windows that reach past the padding differently, and so have the runtimes over the years.
Where it matters the padding is written out, to give floor(...) + 1 windows; that needs the image's size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import layers as nn
from ..functional._pool_windows import Sliding
from .export_graph import Builder, Size, emits, rank
from .graph import Value


def _batched(builder: Builder, layer: Any, x: Value, pool: Any) -> Value:
    """Append `pool` to x with a batch dimension, which it may lack."""
    dims = layer._dims
    if rank(x, dims + 1, dims + 2) == dims + 2:
        return pool(x)
    return builder.squeeze(pool(builder.unsqueeze(x, 0)), 0)


def _attributes(windows: Sliding) -> dict[str, tuple[int, ...]]:
    """Kernel and strides over the dimensions that there are: a sequence is an image of one row here."""
    first = 2 - windows.dims
    return {"kernel_shape": windows.kernel[first:], "strides": windows.stride[first:]}


class _Span:
    """The windows along one dimension: their number, and the padding after the end that gives it."""

    def __init__(self, windows: Sliding, i: int, size: Size):
        kernel, stride, padding = windows.kernel[i], windows.stride[i], windows.padding[i]
        self.before = self.after = padding
        self.count: Size = None
        self.divisor: np.ndarray | None = None
        self.ceil = False
        if isinstance(size, int):
            axis = windows.axis("pooling", i, size)
            self.count, self.divisor = len(axis.first), axis.divisor
            reach = (self.count - 1) * stride + windows.dilation[i] * (kernel - 1) + 1
            self.after = max(padding, reach - size - padding)
        elif windows.ceil_mode:
            if padding or stride > kernel:
                raise ValueError("ceil_mode with padding, or with a stride above kernel_size, needs to know "
                                 "the size of its input; give it in input_shape")
            self.ceil = True

    @property
    def past(self) -> bool:
        """Whether a window reaches past the padding."""
        return self.after > self.before


def _spans(layer: Any, x: Value) -> list[_Span]:
    windows = layer._windows
    first = 2 - windows.dims
    return [_Span(windows, first + i, size) for i, size in enumerate(x.shape[2:])]


def _pads(spans: list[_Span]) -> tuple[int, ...]:
    return (*(s.before for s in spans), *(s.after for s in spans))


def _padded(builder: Builder, x: Value, spans: list[_Span], value: float) -> Value:
    """Append the padding as a node of its own."""
    pads = np.int64([0, 0, *(s.before for s in spans), 0, 0, *(s.after for s in spans)])
    shape = (*x.shape[:2], *(size + s.before + s.after if isinstance(size, int) else None
                             for size, s in zip(x.shape[2:], spans, strict=True)))
    return builder.add("Pad", x, builder.constant("pads", pads),
                       builder.constant("padding", np.array(value, x.dtype)), shape=shape)


@emits(nn.MaxPool1d, nn.MaxPool2d)
def _max_pool(builder: Builder, layer: Any, x: Value) -> Value:
    if layer.return_indices and not builder.path:
        raise ValueError("return_indices cannot be written: ONNX counts places over the whole array")

    def pool(x: Value) -> Value:
        spans, windows = _spans(layer, x), layer._windows
        pads = _pads(spans)
        if any(pad >= k for pad, k in zip(pads, windows.kernel[2 - windows.dims :] * 2, strict=True)):
            x, pads = _padded(builder, x, spans, -np.inf), (0,) * len(pads)  # which runtimes refuse
        return builder.add("MaxPool", x, shape=(*x.shape[:2], *(s.count for s in spans)), pads=pads,
                           dilations=windows.dilation[2 - windows.dims :],
                           ceil_mode=int(any(s.ceil for s in spans)), **_attributes(windows))

    return _batched(builder, layer, x, pool)


@emits(nn.AvgPool1d, nn.AvgPool2d)
def _avg_pool(builder: Builder, layer: Any, x: Value) -> Value:
    def pool(x: Value) -> Value:
        spans, windows = _spans(layer, x), layer._windows
        shape = (*x.shape[:2], *(s.count for s in spans))
        ceil = any(s.ceil for s in spans)
        if windows.divisor is None and not any(s.past for s in spans):
            # Without padding none is to be counted; and what lies past the end never is.
            counted = windows.count_include_pad and not ceil
            return builder.add("AveragePool", x, shape=shape, pads=_pads(spans), ceil_mode=int(ceil),
                               count_include_pad=int(counted), **_attributes(windows))
        if ceil:
            raise ValueError("ceil_mode with divisor_override needs to know the size of its input; give it "
                             "in input_shape")
        # Means over all of each window, times what corrects their divisors.
        means = builder.add("AveragePool", _padded(builder, x, spans, 0), shape=shape, **_attributes(windows))
        taps = windows.kernel[0] * windows.kernel[1]
        scale = (taps / _divisor(windows, spans)).astype(x.dtype)
        return builder.add("Mul", means, builder.constant("scale", scale), shape=shape)

    return _batched(builder, layer, x, pool)


def _divisor(windows: Sliding, spans: list[_Span]) -> np.ndarray:
    """What the sum of each window is to be divided by."""
    if windows.divisor is not None:
        return np.array(windows.divisor)
    divisor = np.ones(())
    for span in spans:
        divisor = divisor[..., None] * span.divisor
    return divisor


@emits(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.GlobalAvgPool1d, nn.GlobalAvgPool2d)
def _adaptive_avg_pool(builder: Builder, layer: Any, x: Value) -> Value:
    def pool(x: Value) -> Value:
        windows, sizes = layer._windows, x.shape[2:]
        outputs = windows.output[2 - windows.dims :]
        if all(n == 1 for n in outputs):
            return builder.add("GlobalAveragePool", x, shape=(*x.shape[:2], *outputs))
        for size, n in zip(sizes, outputs, strict=True):
            if n is not None and not isinstance(size, int):
                raise ValueError(f"a pooling to {n} needs to know the size of its input; give it in "
                                 "input_shape")
        if all(n is None or size % n == 0 for size, n in zip(sizes, outputs, strict=True)):
            kernel = tuple(1 if n is None else size // n for size, n in zip(sizes, outputs, strict=True))
            shape = tuple(size if n is None else n for size, n in zip(sizes, outputs, strict=True))
            return builder.add("AveragePool", x, shape=(*x.shape[:2], *shape), kernel_shape=kernel,
                               strides=kernel)
        # Windows of several sizes: one product with a matrix of means for each dimension.
        for i, (size, n) in enumerate(zip(sizes, outputs, strict=True)):
            if n is None:
                continue
            axis = windows.axis("pooling", 2 - windows.dims + i, size)
            means = np.zeros((n, size), x.dtype)
            for row, first, taps in zip(means, axis.first, axis.taps, strict=True):
                row[first : first + taps] = 1 / taps
            if i == len(sizes) - 1:
                x = builder.add("MatMul", x, builder.constant("columns", means.T), shape=(*x.shape[:-1], n))
            else:
                x = builder.add("MatMul", builder.constant("rows", means), x,
                                shape=(*x.shape[:2], n, *x.shape[3:]))
        return x

    return _batched(builder, layer, x, pool)
