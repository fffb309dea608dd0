"""Sizes of convolutions: what a window of given stride, padding and dilation makes of an image."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .. import _checks


class Window(NamedTuple):
    """A checked convolution geometry."""

    output: tuple[int, int]  # P, Q
    kernel: tuple[int, ...]  # as the kernels take it: R, S, strides, paddings, dilations, groups, by_rows

    @property
    def padding(self) -> tuple[int, ...]:
        """Above and to the left; below and to the right follows from the output."""
        return self.kernel[4:6]

    @property
    def dilation(self) -> tuple[int, ...]:
        """Of the rows and the columns of a filter."""
        return self.kernel[6:8]

    @property
    def groups(self) -> int:
        """The groups of channels and filters."""
        return self.kernel[8]

    @property
    def by_rows(self) -> bool:
        """Whether the kernels copy the images or rows of them, padded; those may then have any strides."""
        return bool(self.kernel[9])

    def by_taps(self) -> Window:
        """The same for kernels that copy none, as Winograd's but for strips: channels must be contiguous."""
        return self._replace(kernel=(*self.kernel[:9], 0))


def _window(output, c, size, filter_size, stride, padding, dilation, groups) -> Window:
    """The window of images of C channels and `size`, whose arguments fit one another."""
    by_rows = groups == 1 and _by_rows(c, size, output, filter_size, stride, padding, dilation)
    kernel = (*filter_size, *stride, *padding, *dilation, groups, int(by_rows))
    return Window(output, kernel)


def _by_rows(c, size, output, filter_size, stride, padding, dilation):
    """Whether a filter row is to be one run of S * C numbers, in a copy of the images with their padding.

    The register tile then sees R long taps in place of R * S short ones. Not where most of the copy would
    be padding: strides and paddings may be large.
    """
    if c >= 16 or filter_size[1] == 1 or dilation[1] > 1:
        return False
    rows, columns = (
        max(length + pad, (out - 1) * step + spread * (extent - 1) + 1)
        for length, pad, out, step, spread, extent in zip(
            size, padding, output, stride, dilation, filter_size, strict=True))
    return rows * columns <= 4 * (size[0] * size[1] + output[0] * output[1]) + 4096


@lru_cache(maxsize=512)
def conv_window(name, x_shape, weight_shape, bias_shape, stride, padding, dilation, groups) -> Window:
    """Check the arguments of a 2-d convolution against one another; each by itself is already checked.

    Padding is a number of each axis, or four: above, left, below, right. Cached by its arguments: a network
    calls with the same few again and again.
    """
    _, c, h, w = x_shape
    k, depth, r, s = weight_shape
    if min(k, depth, r, s) < 1:
        raise ValueError(f"{name}: weight has shape {weight_shape}, expected no zero sizes")
    if k % groups:
        raise ValueError(f"{name}: weight has {k} filters, which groups = {groups} does not divide")
    if c != depth * groups:
        raise ValueError(
            f"{name}: x has {c} channels, weight expects {depth * groups} "
            f"(weight.shape[1] * groups = {depth} * {groups})"
        )
    if bias_shape is not None and bias_shape != (k,):
        raise ValueError(f"{name}: bias has shape {bias_shape}, expected {(k,)}, one number a filter")
    reach = (dilation[0] * (r - 1) + 1, dilation[1] * (s - 1) + 1)
    padding, total = _padding(name, padding, stride, reach)
    output = []
    for axis, size, pad, extent, step in zip("HW", (h, w), total, reach, stride, strict=True):
        if size + pad < extent:
            raise ValueError(
                f"{name}: the kernel spans {extent} pixels of axis {axis} (kernel size and dilation), "
                f"more than the padded input's {size + pad}"
            )
        output.append((size + pad - extent) // step + 1)
    return _window((output[0], output[1]), c, (h, w), (r, s), stride, padding, dilation, groups)


def _padding(name, padding, stride, reach):
    """Padding above and left, and the total of each axis."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        above, left, below, right = padding if len(padding) == 4 else padding * 2
        return (above, left), (above + below, left + right)
    if stride != (1, 1):
        raise ValueError(f"{name}: padding 'same' needs stride 1, got stride {stride}")
    # An odd total puts the extra pixel below and to the right, as torch does.
    return ((reach[0] - 1) // 2, (reach[1] - 1) // 2), (reach[0] - 1, reach[1] - 1)


def transposed_window(name, x, weight, bias, stride, padding, output_padding, groups, dilation) -> Window:
    """Check the arguments of a transposed convolution; the window is that of what it transposes."""
    groups = _checks.integer(f"{name}: groups", groups)
    stride = _checks.pair(f"{name}: stride", stride, 1)
    padding = _checks.pair(f"{name}: padding", padding, 0)
    output_padding = _checks.pair(f"{name}: output_padding", output_padding, 0)
    dilation = _checks.pair(f"{name}: dilation", dilation, 1)
    c, depth, r, s = weight.shape
    k = depth * groups
    if min(weight.shape) < 1:
        raise ValueError(f"{name}: weight has shape {weight.shape}, expected no zero sizes")
    if x.shape[1] != c:
        raise ValueError(f"{name}: x has {x.shape[1]} channels, weight expects {c} (weight.shape[0])")
    if c % groups:
        raise ValueError(f"{name}: x has {c} channels, which groups = {groups} does not divide")
    if bias is not None and bias.shape != (k,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, expected {(k,)}, one number a filter")
    output = []
    for axis, size, extent, step, pad, extra, spread in zip(
            "HW", x.shape[2:], (r, s), stride, padding, output_padding, dilation, strict=True):
        if extra >= max(step, spread):
            raise ValueError(f"{name}: output_padding {extra} of axis {axis} must be smaller than "
                             f"stride {step} or dilation {spread}")
        length = (size - 1) * step - 2 * pad + spread * (extent - 1) + extra + 1
        if size < 1 or length < 1:
            raise ValueError(f"{name}: an input of {size} pixels along axis {axis} leaves an output of "
                             f"{max(length, 0)} (padding {pad})")
        output.append(length)
    return transposing((output[0], output[1]), k, x.shape[2:], (r, s), stride, padding, dilation, groups)


def transposing(output, k, size, filter_size, stride, padding, dilation, groups) -> Window:
    """The window of a checked transposed convolution of images of `size` with K channels in its `output`."""
    # The convolution that it transposes reads images of K channels and writes those of x.
    return _window(size, k, output, filter_size, stride, padding, dilation, groups)._replace(output=output)
