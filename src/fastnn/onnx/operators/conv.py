"""Convolutions. One of one axis is one of two over images of height 1; of three axes see `_depth`."""

from __future__ import annotations

import numpy as np

from ...functional import conv as C
from ...functional._window import transposing
from ...functional.conv_transpose import transpose, transpose_gradients
from . import _depth
from ._windows import Geometry, check_numbers, geometry
from .registry import check_float, operator


def _as_images(x):
    """(N, C, L) as (N, C, 1, L)."""
    return x[:, :, None] if x.ndim == 3 else x


def _as_given(x, ndim):
    return x[:, :, 0] if ndim == 3 and x is not None else x


def _two(numbers, neutral):
    """The numbers of the last two axes."""
    return (neutral, *numbers)[-2:]


def _check(x, weight, bias, group):
    check_float(x, weight, bias)
    if x.ndim not in (3, 4, 5) or weight.ndim != x.ndim:
        raise ValueError(f"x has shape {x.shape}, weight {weight.shape}; convolutions here have one to three "
                         "spatial axes")
    if group < 1:
        raise ValueError(f"group is {group}, expected at least 1")


# --- Convolution


@operator("Conv", weights=(1, 2), widen=True)
def conv(call, x, weight, bias=None, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None,
         pads=None, strides=None):
    """Cross-correlation: y[n, k, p] = bias[k] + sum over c, r of weight[k, c, r] x[n, c, p stride + ...]."""
    _check(x, weight, bias, group)
    g = geometry(x.shape[2:], weight.shape[2:], auto_pad=auto_pad, dilations=dilations, pads=pads,
                 strides=strides)
    if x.ndim == 5:
        return _conv_3d(call, x, weight, bias, g, group)
    images, filters = _as_images(x), _as_images(weight)
    window, tile = _plan(call, images.shape, filters.shape, bias, g, group)
    call.saved = window
    packed = call.cached((1,), tile, lambda: C.pack_filters(filters, window, tile))
    return _as_given(C.convolve(images, packed, bias, len(weight), window, None), x.ndim)


def _plan(call, x_shape, weight_shape, bias, g, group):
    that_pay = C.TILES if call.recording else C.TILES_PACKED
    return C.plan("Conv", "auto", that_pay, x_shape, weight_shape, None if bias is None else bias.shape,
                  _two(g.stride, 1), _two(g.begin, 0) + _two(g.end, 0), _two(g.dilation, 1), group)


def _conv_3d(call, x, weight, bias, g, group):
    y = np.zeros((len(x), len(weight), *g.output), x.dtype)
    window, tile = _plan(call, (len(x) * g.output[0], x.shape[1], *x.shape[3:]),
                         weight.shape[:2] + weight.shape[3:], bias, g, group)
    for r, outputs, inputs in _depth.pairs(g, x.shape[2]):
        packed = C.pack_filters(weight[:, :, r], window, tile)
        part = C.convolve(_depth.images(x, inputs), packed, None, len(weight), window, None)
        _depth.add(y, outputs, part)
    call.saved = g, window
    return y if bias is None else y + bias[:, None, None, None]


@conv.gradient
def conv_backward(call, grad_y, **attributes):
    x, weight, bias = (*call.inputs, None)[:3]
    if x.ndim == 5:
        return _conv_3d_backward(grad_y, x, weight, bias, *call.saved)
    grad_x, grad_weight, grad_bias = C.gradients(
        "Conv", _as_images(grad_y), _as_images(x), _as_images(weight), bias is not None, call.saved, "auto",
        call.needs[0])
    return _as_given(grad_x, x.ndim), _as_given(grad_weight, x.ndim), grad_bias


def _conv_3d_backward(grad_y, x, weight, bias, g, window):
    grad_x, grad_weight = np.zeros(x.shape, x.dtype), np.zeros_like(weight)
    for r, outputs, inputs in _depth.pairs(g, x.shape[2]):
        part, grad_weight[:, :, r], _ = C.gradients(
            "Conv", _depth.images(grad_y, outputs), _depth.images(x, inputs), weight[:, :, r], False, window,
            "auto", True)
        _depth.add(grad_x, inputs, part)
    return grad_x, grad_weight, None if bias is None else _depth.channel_sums(grad_y)


# --- Transposed convolution


@operator("ConvTranspose", weights=(1, 2), widen=True)
def conv_transpose(call, x, weight, bias=None, *, auto_pad="NOTSET", dilations=None, group=1,
                   kernel_shape=None, output_padding=None, output_shape=None, pads=None, strides=None):
    """The gradient of a convolution's input: y[n, k, p stride + r dilation - pad] += weight[c, k, r] x."""
    _check(x, weight, bias, group)
    rank = x.ndim - 2
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    extra = output_padding or (0,) * rank
    check_numbers(weight.shape[2:], strides, dilations, (*(pads or ()), *extra))
    _check_channels(x, weight, bias, group)
    # The output before anything is taken off its ends.
    full = tuple((n - 1) * s + d * (k - 1) + 1 + e for n, s, d, k, e in zip(
        x.shape[2:], strides, dilations, weight.shape[2:], extra, strict=True))
    begin, output = _cut(full, x.shape[2:], strides, auto_pad, output_shape, pads)
    window = transposing(_two(output, 1), weight.shape[1] * group, _two(x.shape[2:], 1),
                         _two(weight.shape[2:], 1), _two(strides, 1), _two(begin, 0), _two(dilations, 1),
                         group)
    if x.ndim == 5:
        # What it is the transpose of has the output as its input.
        g = Geometry(weight.shape[2:], strides, dilations, begin, begin, x.shape[2:])
        return _conv_transpose_3d(call, x, weight, bias, g, window, output)
    call.saved = window
    return _as_given(transpose(_as_images(x), _as_images(weight), bias, window), x.ndim)


def _check_channels(x, weight, bias, group):
    channels, depth = weight.shape[:2]
    if x.shape[1] != channels or channels % group or not (channels and depth):
        raise ValueError(f"x has {x.shape[1]} channels, weight expects {channels} in {group} groups")
    if bias is not None and bias.shape != (depth * group,):
        raise ValueError(f"bias has shape {bias.shape}, expected {(depth * group,)}")


def _cut(full, sizes, strides, auto_pad, output_shape, pads):
    """What is taken off the beginning of each axis of the full output, and what is left."""
    rank = len(full)
    if output_shape is None and auto_pad.startswith("SAME"):
        output_shape = tuple(n * s for n, s in zip(sizes, strides, strict=True))
    if output_shape is None:
        pads = pads if pads and auto_pad == "NOTSET" else (0,) * (2 * rank)
        output_shape = tuple(n - pads[i] - pads[rank + i] for i, n in enumerate(full))
        begin = tuple(pads[:rank])
    else:
        output_shape = tuple(output_shape)[-rank:]  # some writers add batch and channels
        # A longer output than there is goes on with zeros at the end.
        total = [max(n - out, 0) for n, out in zip(full, output_shape, strict=True)]
        begin = tuple(t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total)
    if min(output_shape) < 1 or min(begin) < 0:
        raise ValueError(f"the output would have shape {output_shape}, with {begin} taken off the beginning "
                         f"of {full}")
    return begin, output_shape


def _conv_transpose_3d(call, x, weight, bias, g, window, output):
    y = np.zeros((len(x), weight.shape[1] * window.groups, *output), x.dtype)
    for r, inputs, outputs in _depth.pairs(g, output[0]):
        _depth.add(y, outputs, transpose(_depth.images(x, inputs), weight[:, :, r], None, window))
    call.saved = g, window
    return y if bias is None else y + bias[:, None, None, None]


@conv_transpose.gradient
def conv_transpose_backward(call, grad_y, **attributes):
    x, weight, bias = (*call.inputs, None)[:3]
    if x.ndim == 5:
        return _conv_transpose_3d_backward(grad_y, x, weight, bias, *call.saved)
    grad_x, grad_weight, grad_bias = transpose_gradients(
        _as_images(grad_y), _as_images(x), _as_images(weight), bias is not None, call.saved, call.needs[0])
    return _as_given(grad_x, x.ndim), _as_given(grad_weight, x.ndim), grad_bias


def _conv_transpose_3d_backward(grad_y, x, weight, bias, g, window):
    grad_x, grad_weight = np.zeros(x.shape, x.dtype), np.zeros_like(weight)
    for r, inputs, outputs in _depth.pairs(g, grad_y.shape[2]):
        part, grad_weight[:, :, r], _ = transpose_gradients(
            _depth.images(grad_y, outputs), _depth.images(x, inputs), weight[:, :, r], False, window, True)
        _depth.add(grad_x, inputs, part)
    return grad_x, grad_weight, None if bias is None else _depth.channel_sums(grad_y)
