"""Convolutions, one by one or several in one pass, and their transpose."""

from __future__ import annotations

import math
import os

import numpy as np

from ..._kernels import chain as _chain
from ..._kernels import conv as _conv
from ..._kernels import conv_backward as _conv_backward
from ..._kernels import norm as _norm
from ..._kernels import winograd_forward as _winograd_forward
from ..._kernels.runtime import get_num_threads
from ...functional import conv as C
from ...functional._window import transposed_window
from .registry import activate, check_float, contiguous, split_relu, steps_of

# With no more rows of outputs, those of all images, the convolutions of a chain come one after the other:
# threads would share the rows unevenly, and make those at the seam twice. MobileNetV2, 96 -> 576 for 14 x 14
# pixels and a depthwise convolution with stride 2: 170 -> 150 us on two threads, 264 and 266 on one.
_FEW_ROWS = 7


@steps_of("conv")
def conv_steps(build, node, x, weight, bias=None, residual=None, *, number=0):
    """Convolution over one or two axes, of a batch or a single image, and what is fused with it.

    `number` tells the convolutions apart that the graph has as one node.
    """
    rank = weight.ndim - 2
    images = _checked_images(node, x, weight, bias)
    window, packed = _packed(build, node, images.shape, weight, bias, number)
    pixels = _pixels(build, images, window)
    shape = (images.shape[0], *window.output, len(weight))
    y = None if residual is None else _with_residual(build, x, residual, shape, rank)
    adds = y is not None
    if not adds:
        y = _place(build, node, shape, x.dtype)
    fuses = adds or residual is None
    relu, activation = split_relu(node.attributes["activation"] if fuses else None)
    if packed.tile:
        build.step(_winograd_forward.forward, pixels, packed.panels, bias, y, packed.tile, *window.padding,
                   *window.dilation, relu, adds)
    else:
        build.step(_conv.forward, pixels, packed.panels, bias, y, window.kernel, relu, adds)
    logical = _as_given(y.transpose(0, 3, 1, 2), x.ndim, rank)
    return activate(build, activation, logical) if fuses else _broadcast_sum(build, node, logical, residual)


@steps_of("chain")
def chain_steps(build, node, x, *operands):
    """Convolutions of images one after the other, as one pass over bands of rows where that pays."""
    residual = operands[-1]
    parts = list(zip(node.attributes["links"], operands[::2], operands[1::2], strict=False))
    images = _checked_images(parts[0][0], x, operands[0])
    shape, windows, links, direct = images.shape, [], [], True
    for i, (link, weight, bias) in enumerate(parts):
        window, packed = _packed(build, link, shape, weight, bias, i)
        direct = direct and not packed.tile
        relu, activation = split_relu(link.attributes["activation"])
        shape = (len(images), len(weight), *window.output)
        windows.append(window)
        links.append((packed.panels, bias, window.kernel, (*window.output, len(weight)), relu))
    if not direct or len(images) * windows[-1].output[0] <= _FEW_ROWS:
        for i, (link, weight, bias) in enumerate(parts):
            x = conv_steps(build, link, x, weight, bias, residual if link is parts[-1][0] else None, number=i)
        return x
    shape = (shape[0], *shape[2:], shape[1])
    added = None if residual is None else _as_added(residual, x, shape, 2)
    if residual is not None and added is None:
        links[-1], activation = (*links[-1][:-1], 0), None
    added = None if added is None else contiguous(build, added)
    pixels = _pixels(build, images, windows[0])
    y = _place(build, node, shape, x.dtype)
    run = _chain.Chain(pixels.shape, pixels.strides, y.strides[2] // y.itemsize, links)
    workspace = build.empty((run.workspace(max(get_num_threads(), os.cpu_count() or 1)),), np.dtype(np.uint8))
    build.step(run, pixels, y, workspace, added)
    logical = _as_given(y.transpose(0, 3, 1, 2), x.ndim, 2)
    if residual is not None and added is None:
        return _broadcast_sum(build, node, logical, residual)
    return activate(build, activation, logical)


def _checked_images(node, x, weight, bias=None):
    check_float(node, x, weight.dtype)
    if bias is not None:
        check_float(node, bias, weight.dtype, "bias")
    rank = weight.ndim - 2
    if x.ndim not in (rank + 1, rank + 2):
        raise ValueError(f"{node.label}: x has shape {x.shape}, expected {rank + 1} or {rank + 2} dimensions")
    return _as_images(x, rank)


def _packed(build, node, shape, weight, bias, number=0):
    """The window over images of a shape, and the filters as the kernels read them."""
    given, filters = node.attributes, weight if weight.ndim == 4 else weight[:, :, None]
    window, tile = C.plan(
        node.label, given["algorithm"], C.TILES_PACKED, shape, filters.shape,
        None if bias is None else bias.shape, _two(given["stride"], 1), _padding(given["padding"]),
        _two(given["dilation"], 1), given["groups"])
    return window, build.cached((tile, window.groups, number), lambda: C.pack_filters(filters, window, tile))


def _place(build, node, shape, dtype):
    """Where a node writes its output: an array, or the range of channels of a larger one."""
    if "into" not in node.attributes:
        return build.empty(shape, dtype)
    name, begin, channels = node.attributes["into"]
    whole = build.shared(name, (*shape[:3], channels), dtype)
    if whole.shape[:3] != shape[:3] or whole.dtype != dtype:
        raise ValueError(f"{node.label}: images of {shape[1]} x {shape[2]} pixels cannot be joined with "
                         f"those of {whole.shape[1]} x {whole.shape[2]}")
    return whole[..., begin : begin + shape[3]]


def _with_residual(build, x, residual, shape, rank):
    """An array (N, P, Q, K) that holds the residual; None if that is of another shape or dtype.

    It is the residual itself where nobody else needs that, and it is not what the convolution reads.
    """
    pixels, in_place = _as_added(residual, x, shape, rank), build.overwrites(len(build.node.inputs) - 1)
    if pixels is None:
        return None
    if in_place and pixels.flags.c_contiguous and not np.may_share_memory(residual, x):
        return pixels
    y = build.empty(shape, x.dtype)
    build.step(np.copyto, y, pixels)
    return y


def _as_added(residual, x, shape, rank):
    """The residual as (N, P, Q, K); None if it is of another shape or dtype than what it is added to."""
    if residual.ndim != x.ndim or residual.dtype != x.dtype:
        return None
    pixels = _as_images(residual, rank).transpose(0, 2, 3, 1)
    return pixels if pixels.shape == shape else None


def _broadcast_sum(build, node, y, residual):
    """The sum with what is not of the convolution's shape."""
    if node.attributes.get("same_shape"):
        raise ValueError(f"{node.label}: the shortcut has shape {residual.shape}, expected {y.shape} as the "
                         "body's output has")
    total = build.empty(np.broadcast_shapes(y.shape, residual.shape), np.result_type(y, residual))
    build.step(np.add, y, residual, total)
    return activate(build, node.attributes["activation"], total)


def _as_images(x, rank):
    """(N, C, H, W) of what a convolution over `rank` axes is given."""
    batch = x if x.ndim == rank + 2 else x[None]
    return batch if rank == 2 else batch[:, :, None]


def _as_given(y, ndim, rank):
    y = y if rank == 2 else y[:, :, 0]
    return y if ndim == rank + 2 else y[0]


def _two(numbers, neutral):
    """The numbers of two axes: a sequence is an image of one row."""
    return numbers if len(numbers) == 2 else (neutral, *numbers)


def _padding(numbers):
    if isinstance(numbers, str) or len(numbers) == 4:
        return numbers
    return _two(numbers, 0)


def _pixels(build, images, window):
    """(N, H, W, C); by a step, a copy whose channels are contiguous, if the kernel makes none itself."""
    pixels = images.transpose(0, 2, 3, 1)
    if window.by_rows or pixels.strides[3] == pixels.itemsize or pixels.shape[3] == 1:
        return pixels
    return contiguous(build, pixels)


# --- Transposed convolution


@steps_of("conv_transpose")
def conv_transpose_steps(build, node, x, weight, bias=None):
    """Transposed convolution of a batch of images or a single one."""
    given = node.attributes
    images = _checked_images(node, x, weight, bias)
    window = transposed_window(node.label, images, weight, bias, given["stride"], given["padding"],
                               given["output_padding"], given["groups"], given["dilation"])
    pixels = contiguous(build, images.transpose(0, 2, 3, 1))
    y = build.empty((len(images), *window.output, weight.shape[1] * window.groups), x.dtype)
    build.step(_conv_backward.backward_input, pixels, weight, y, window.kernel)
    if bias is not None:
        rows, zeros = y.reshape(math.prod(y.shape[:3]), y.shape[3]), np.zeros_like(bias)
        build.step(_norm.column_affine, rows, zeros, np.ones_like(bias), bias, None, None, rows)
    return activate(build, given["activation"], _as_given(y.transpose(0, 3, 1, 2), x.ndim, 2))
