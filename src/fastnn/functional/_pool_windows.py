"""Where the windows of a pooling lie: from checked arguments to the tables that the kernels walk.

A sequence is an image of one row here, so that everything has two axes.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

Pair = tuple[int, int]


class Axis:
    """The windows along one axis of `size` pixels.

    Attributes
    ----------
    first, taps : ndarray of int, (outputs,)
        Of each window the first tap inside the axis, and the number of taps inside.
    divisor : ndarray of int, (outputs,)
        What a mean divides by: the product over both axes.
    """

    def __init__(self, size: int, first: np.ndarray, taps: np.ndarray, divisor: np.ndarray | int = 1):
        self.size = size
        self.first, self.taps = first, taps
        self.divisor = np.broadcast_to(divisor, first.shape)

    def covering(self) -> Axis:
        """For each pixel the outputs whose windows cover it: a range, as there is no dilation."""
        pixels, outputs = np.arange(self.size), len(self.first)
        begin = np.searchsorted(self.first + self.taps, pixels, side="right")
        end = np.searchsorted(self.first, pixels, side="right")
        return Axis(outputs, np.minimum(begin, outputs - 1), np.maximum(end - begin, 0))


class Sliding(NamedTuple):
    """Windows of `kernel` taps every `stride` pixels, as torch counts them.

    With `ceil_mode` the last window may reach past the padding's end, but not begin there. A mean divides by
    `divisor` or by the number of taps: never those past the padding's end, those on the padding only with
    `count_include_pad`.
    """

    dims: int
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil_mode: bool
    count_include_pad: bool = True
    divisor: int | None = None

    def axis(self, name: str, i: int, size: int) -> Axis:
        """The windows along H (i = 0) or W (i = 1)."""
        letter = "L" if self.dims == 1 else "HW"[i]
        kernel, stride, padding, dilation = (
            self.kernel[i], self.stride[i], self.padding[i], self.dilation[i]
        )
        if padding > kernel // 2:
            raise ValueError(
                f"{name}: padding {padding} of axis {letter} is more than half of kernel_size {kernel}"
            )
        if size == 0:
            raise ValueError(f"{name}: x has no pixels along axis {letter}")
        reach = dilation * (kernel - 1) + 1
        outputs = (size + 2 * padding - reach + (stride - 1 if self.ceil_mode else 0)) // stride + 1
        if self.ceil_mode and (outputs - 1) * stride >= size + padding:
            outputs -= 1
        if outputs < 1:
            raise ValueError(
                f"{name}: the window spans {reach} pixels of axis {letter} (kernel_size and dilation), "
                f"more than the padded input's {size + 2 * padding}"
            )
        start = np.arange(outputs) * stride - padding
        skipped = -(np.minimum(start, 0) // dilation)  # taps on the padding before the first pixel
        first = start + skipped * dilation
        taps = np.minimum(kernel - skipped, -((first - size) // dilation))
        if taps.min() < 1:
            raise ValueError(
                f"{name}: a window has no tap inside axis {letter} of {size} pixels "
                f"(kernel_size {kernel}, padding {padding}, dilation {dilation})"
            )
        if self.divisor is not None:
            return Axis(size, first, taps, self.divisor if i == 0 else 1)
        if self.count_include_pad:
            return Axis(size, first, taps, np.minimum(kernel, size + padding - start))
        return Axis(size, first, taps, taps)


class Adaptive(NamedTuple):
    """Windows that cut an axis in `output` parts as equal as can be, overlapping by at most a pixel."""

    dims: int
    output: tuple[int | None, int | None]  # None: as many as pixels
    dilation: Pair = (1, 1)

    def axis(self, name: str, i: int, size: int) -> Axis:
        """The windows along H (i = 0) or W (i = 1)."""
        if size == 0:
            raise ValueError(f"{name}: x has no pixels along axis {'L' if self.dims == 1 else 'HW'[i]}")
        outputs = self.output[i] or size
        index = np.arange(outputs)
        first = index * size // outputs
        taps = -(-(index + 1) * size // outputs) - first
        return Axis(size, first, taps, taps)


class Layout:
    """The windows of a pooling on images of a given size.

    Attributes
    ----------
    input, output : tuple of int
        (H, W) and (P, Q).
    table : ndarray of intp, (P + Q, 3)
        (first, taps, divisor) of the windows along H, then of those along W.
    dilation : tuple of int
    """

    def __init__(self, rows: Axis, columns: Axis, dilation: Pair):
        self._rows, self._columns = rows, columns
        self.input = rows.size, columns.size
        self.output = len(rows.first), len(columns.first)
        self.table = _table(rows, columns)
        self.dilation = dilation

    @cached_property
    def covering(self) -> np.ndarray:
        """The table that gives for each h and w the outputs whose windows cover it."""
        return _table(self._rows.covering(), self._columns.covering())

    @cached_property
    def covering_apart(self) -> np.ndarray | None:
        """`covering` with the divisor, where there is one and each pixel lies in one window at most.

        The kernel divides then as it copies. Of an output that many pixels share a quotient of its own is
        less work: None.
        """
        if self.divisor.size > 1 or self.output[0] * self.output[1] * 16 < self.input[0] * self.input[1]:
            return None
        if max(axis.covering().taps.max() for axis in (self._rows, self._columns)) > 1:
            return None
        table = self.covering.copy()
        table[: self.input[0], 2] = self.divisor.item()
        return table

    @cached_property
    def divisor(self) -> np.ndarray:
        """What means divide by, (P, Q, 1); a single number, (1, 1, 1), where all are equal."""
        rows, columns = (
            divisor[:1] if (divisor == divisor[0]).all() else divisor
            for divisor in (self._rows.divisor, self._columns.divisor)
        )
        return rows[:, None, None] * columns[:, None]


def _table(rows: Axis, columns: Axis) -> np.ndarray:
    parts = [np.stack([axis.first, axis.taps, axis.divisor], axis=1) for axis in (rows, columns)]
    return np.concatenate(parts, dtype=np.intp)


def lay_out(name: str, windows: Sliding | Adaptive, height: int, width: int) -> Layout:
    """Lay windows out on images; raise ValueError where they do not fit.

    Cached, as a network calls with the same few again and again; but for images too large for that.
    """
    build = _lay_out if height + width < 1 << 14 else _lay_out.__wrapped__
    return build(name, windows, height, width)


@lru_cache(maxsize=256)
def _lay_out(name: str, windows: Sliding | Adaptive, height: int, width: int) -> Layout:
    return Layout(windows.axis(name, 0, height), windows.axis(name, 1, width), windows.dilation)
