"""Convolution layers' arithmetic: cross-correlation in one and two dimensions, its transpose, its gradients.

Logical shapes are torch's, (N, C, H, W) for images and (K, C / groups, R, S) for filters; outputs lie
channels-last in memory. See ``fastnn/_kernels/conv.pyx`` for how it is computed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._kernels import conv as _kernel
from .._kernels import conv_backward as _kernel_backward
from .._kernels import gemm as _gemm
from .._kernels import winograd as _winograd
from .._kernels import winograd_forward as _winograd_forward
from .._kernels import winograd_gradient as _winograd_gradient
from . import _fused
from ._layout import (
    contiguous_channels_last,
    empty_channels_last,
    empty_lines,
    from_channels_last,
    to_channels_last,
)
from ._window import Window, conv_window
from .linear import product, product_gradients

ALGORITHMS = ("auto", "direct", "winograd")

_goes_by_strips = _winograd_forward.goes_by_strips


class Packed(NamedTuple):
    """Filters in the form that the kernels read; made once for many calls by a layer in eval mode."""

    tile: int  # inputs of one of Winograd's tiles along each axis, see winograd.pyx; 0 for the direct sum
    panels: np.ndarray


class TilesThatPay(NamedTuple):
    """From when on Winograd's algorithm is faster than the direct sum.

    Tiles of 4 x 4 outputs do from a least number of them on, those of 2 x 2, whose transformed filters are
    16 / 36 of the others', in a range, by the least number of (channel, filter) pairs: with fewer tiles the
    direct sum is faster, with more 4 x 4. With stride 2 those of the two that have fewer products, from a
    least number on, if there are STRIDED_CHANNELS.

    Images of three channels, which go by strips of 4 x 4 tiles (winograd_forward.pyx), do from a number of
    tiles on, if there are STRIP_FILTERS; 0 is never.

    All pay only where their products are but a share of the direct sum's. To transform a filter counts as so
    many products for each of its factors.
    """

    least: int
    small: tuple[tuple[int, int, int], ...]
    strided: int
    strips: int
    share: float
    transform: int


# Measured with 32 to 512 channels: with filters transformed once for many calls (Zen 4); at every call; for
# the gradient of the filters (both Zen 5). Milliseconds of 512 filters of 512 channels, directly, by 2 x 2
# and by 4 x 4: 7 x 7 with filters transformed once 2.23, 1.74, 2.16; at every call 1.44, 1.11, 1.12, 14 x 14
# 3.7, 2.5, 2.1. The gradient of the filters: 7 x 7 1.10, 1.16, 1.55; 2 images 2.1, 2.1, 1.7; 14 x 14 3.9,
# 2.6, 2.5. With stride 2, where the outputs fill tiles: 256 -> 256 at 30 x 30 1.15 -> .99, the gradient 1.33
# -> 1.19; 4 images of 16 x 16 1.25 -> .97 and 1.53 -> 1.20. Where they do not: 96 -> 96 at 14 x 14 level.
# Strips (Zen 5, AVX-512, before and after, us): 3 x 224 x 224 -> 64 740 -> 465, 16 images 13000 -> 9300; 64
# images of 3 x 32 x 32 -> 32 663 -> 365, one -> 16 9.6 -> 5.0, 3 x 8 x 8 -> 16 2.0 -> 1.8; with filters that
# serve one call 3 x 32 x 32 -> 16 14.6 -> 11.4, 3 x 16 x 16 8.8 -> 9.1.
# Where tiles of stride 2 fit, products of 4 x 4 are .56 of the direct sum's and those of 2 x 2 .69, and the
# transforms of images take .1 to .2.
TILES_PACKED = TilesThatPay(4, ((2**16, 4, 16), (2**14, 4, 9)), 32, 4, 0.75, 0)
TILES = TilesThatPay(4, (), 4, 32, 0.8, 5)
TILES_FILTER_GRADIENT = TilesThatPay(4, (), 4, 0, 0.8, 9)
STRIDED_CHANNELS = 48  # and filters, at least
STRIP_FILTERS = 16
FACTORS = {6: 36, 4: 16, 9: 36, 5: 16}  # of a transformed filter, by the tile
# Filters that serve one call are transformed as they are read (winograd_forward.pyx) where tiles are so few,
# or pairs of channels and filters so many that their transformed form would take much memory.
FEW_TILES = 200
MANY_PAIRS = 2**19


def choose_tile(name: str, algorithm: str, window: Window, x_shape: tuple, filters: int,
                that_pay: TilesThatPay = TILES, outputs: tuple | None = None) -> int:
    """See `Packed.tile`: what `algorithm` means for these shapes, on which alone it depends.

    `x_shape` is (N, C, ...) of what is read, `filters` the channels written: for the gradient of the input
    (N, K) and C, as it reads grad_y. `outputs` is the size of what is cut in tiles, if not the window's.
    """
    outputs = outputs or window.output
    _checks.choice(f"{name}: algorithm", algorithm, ALGORITHMS)
    possible = window.kernel[:4] in ((3, 3, 1, 1), (3, 3, 2, 2)) and window.groups == 1
    if algorithm == "winograd" and not possible:
        raise ValueError(
            f"{name}: algorithm 'winograd' is for 3 x 3 filters with stride 1 or 2 and groups 1, "
            f"got kernel {window.kernel[:2]}, stride {window.kernel[2:4]}, groups {window.groups}"
        )
    if algorithm == "direct" or not possible:
        return 0
    tiles, small_tiles = (x_shape[0] * _tiles(outputs, window.dilation, side) for side in (4, 2))
    products = {6: 36 * tiles, 4: 16 * small_tiles, 9: 81 * tiles, 5: 25 * small_tiles}
    if window.kernel[2] == 1:
        best = 6
        tile = _tile(tiles, small_tiles, x_shape[1], filters, that_pay)
        if may_go_by_strips((filters, x_shape[1], *window.kernel[:2]), window.kernel[2:4], window.dilation):
            tile = best if 0 < that_pay.strips <= tiles else 0
    else:
        best = min(9, 5, key=products.get)
        pays = (min(x_shape[1], filters) >= STRIDED_CHANNELS
                and (tiles if best == 9 else small_tiles) >= that_pay.strided)
        tile = best if pays else 0
    direct = 9 * x_shape[0] * outputs[0] * outputs[1]
    if tile and products[tile] + that_pay.transform * FACTORS[tile] > that_pay.share * direct:
        tile = 0
    return tile or (best if algorithm == "winograd" else 0)


def may_go_by_strips(weight_shape: tuple, stride: tuple, dilation: tuple) -> bool:
    """Whether a convolution with groups 1 does, of large enough images: see `TilesThatPay.strips`."""
    filters, channels, *size = weight_shape
    return (filters >= STRIP_FILTERS and (*size, *stride) == (3, 3, 1, 1)
            and _goes_by_strips(6, channels, *dilation))


def transforms_on_the_fly(tile: int, x_shape: tuple, outputs: tuple, filters: int, dilation: tuple) -> bool:
    """Whether filters that serve one call are transformed as they are read."""
    if not tile or _goes_by_strips(tile, x_shape[1], *dilation):
        return False
    tiles = x_shape[0] * _tiles(outputs, dilation, 4 if tile in (6, 9) else 2)
    return tiles <= FEW_TILES or x_shape[1] * filters >= MANY_PAIRS


def _tiles(outputs, dilation, side):
    """Tiles of side x side outputs of an image; outputs that are a dilation apart have tiles of their own."""
    return math.prod(min(size, apart) * -(-size // (apart * side))
                     for size, apart in zip(outputs, dilation, strict=True))


def _tile(tiles, small_tiles, channels, filters, that_pay):
    """The tile that pays with stride 1, or 0."""
    small = next(((least, most) for fewest, least, most in that_pay.small if channels * filters >= fewest),
                 (1, 0))
    if small[0] <= small_tiles <= small[1]:
        return 4
    return 6 if min(channels, filters) >= 16 and tiles >= that_pay.least else 0


@lru_cache(maxsize=512)
def plan(name: str, algorithm: str, that_pay: TilesThatPay, x_shape: tuple, weight_shape: tuple,
         bias_shape: tuple | None, *geometry: Any) -> tuple[Window, int]:
    """The window and the tile of a layer's call, cached: a network calls with the same few shapes."""
    window = conv_window(name, x_shape, weight_shape, bias_shape, *geometry)
    tile = choose_tile(name, algorithm, window, x_shape, weight_shape[0], that_pay)
    if tile and not _goes_by_strips(tile, x_shape[1], *window.dilation):
        window = window.by_taps()
    return window, tile


def pack_filters(weight: np.ndarray, window: Window, tile: int) -> Packed:
    """Pack (K, C / groups, R, S) for `convolve`."""
    k, depth, r, s = weight.shape
    weight = np.ascontiguousarray(weight)
    if tile:
        return Packed(tile, _transformed(weight, k, depth, tile, False))
    size = _kernel.packed_size(k, depth * window.groups, r * s, window.groups, weight.itemsize)
    panels = empty_lines((size,), weight.dtype)
    _kernel.pack_filters(weight, window.groups, panels)
    return Packed(tile, panels)


def _transformed(weight, filters, channels, tile, transposed):
    panels = empty_lines((_winograd.packed_size(tile, filters, channels, weight.itemsize),), weight.dtype)
    _winograd.pack_filters(tile, weight, transposed, panels)
    return panels


def convolve(x: np.ndarray, packed: Packed, bias: np.ndarray | None, filters: int, window: Window,
             activation: str | None) -> np.ndarray:
    """The checked arguments' convolution: x (N, C, H, W), y (N, K, P, Q)."""
    dtype = x.dtype
    y = empty_channels_last(x.shape[0], *window.output, filters, dtype)
    bias = None if bias is None else np.ascontiguousarray(bias)
    pixels = _pixels(x, window, packed.tile)
    if packed.tile:
        _winograd_forward.forward(pixels, packed.panels, bias, y, packed.tile, *window.padding,
                                  *window.dilation, activation == "relu")
    else:
        _kernel.forward(pixels, packed.panels, bias, y, window.kernel, activation == "relu")
    return _fused.forward(activation, from_channels_last(y))


def convolve_once(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, window: Window, tile: int,
                  activation: str | None) -> np.ndarray:
    """`convolve` with filters that are used for this call alone.

    Filters of one tap are packed within the product, block by block: 1 x 1, 320 -> 1280, 7 x 7 818 -> 744 us,
    with two threads 764 -> 494.
    """
    if tile:
        y = empty_channels_last(x.shape[0], *window.output, weight.shape[0], x.dtype)
        _convolve_by_tiles(_pixels(x, window, tile), np.ascontiguousarray(weight), bias, y, False, tile,
                           window.padding, window.dilation, activation == "relu")
        return _fused.forward(activation, from_channels_last(y))
    if not _is_product(window, x):
        return convolve(x, pack_filters(weight, window, 0), bias, weight.shape[0], window, activation)
    return from_channels_last(product(contiguous_channels_last(x), _matrix(weight), None, bias, activation))


def _convolve_by_tiles(x, weight, bias, y, transposed, tile, padding, dilation, relu):
    """y (N, P, Q, K) by Winograd's tiles and contiguous filters for this call alone, x (N, H, W, C)."""
    n, p, q, k = y.shape
    bias = None if bias is None else np.ascontiguousarray(bias)
    if transforms_on_the_fly(tile, (n, x.shape[3]), (p, q), k, dilation):
        _winograd_forward.forward_once(x, weight, bias, y, transposed, tile, *padding, *dilation, relu)
    else:
        panels = _transformed(weight, k, x.shape[3], tile, transposed)
        _winograd_forward.forward(x, panels, bias, y, tile, *padding, *dilation, relu)


def _is_product(window, x):
    """Whether the outputs are the pixels' products with a matrix, as in `linear`: one tap, nothing padded."""
    return window.kernel[:4] == (1, 1, 1, 1) and window.groups == 1 and window.output == x.shape[2:]


def _matrix(weight):
    return np.ascontiguousarray(weight).reshape(weight.shape[:2])


def prepare(x_shape: tuple, packed: Packed, bias: np.ndarray | None, filters: int, window: Window,
            activation: str | None) -> _kernel.Prepared:
    """`convolve` for arrays of one shape, with as little as can be left to do; f is None or "relu"."""
    bias = None if bias is None else np.ascontiguousarray(bias)
    return _kernel.Prepared(x_shape, packed.panels, bias, (x_shape[0], *window.output, filters),
                            window.kernel, packed.tile, activation == "relu")


def _pixels(x, window, tile):
    """View x as (N, H, W, C); channels are contiguous unless the kernel copies images or rows of them."""
    copied = window.by_rows and (not tile or _goes_by_strips(tile, x.shape[1], *window.dilation))
    return x.transpose(0, 2, 3, 1) if copied else to_channels_last(x)


def _images(name, x, weight, bias):
    """Check dtypes and ranks; an image without a batch axis gets one. Returns also whether it did."""
    x = _checks.as_float_array(f"{name}: x", x, (3, 4))
    weight = _checks.as_float_array(f"{name}: weight", weight, 4, x.dtype)
    if bias is not None:
        bias = _checks.as_float_array(f"{name}: bias", bias, 1, x.dtype)
    return (x, weight, bias, False) if x.ndim == 4 else (x[None], weight, bias, True)


def _window(name, x, weight, bias, stride, padding, dilation, groups):
    bias_shape = None if bias is None else bias.shape
    padding = (_checks.choice(f"{name}: padding", padding, ("same", "valid")) if isinstance(padding, str)
               else _checks.pair(f"{name}: padding", padding))
    return conv_window(name, x.shape, weight.shape, bias_shape, _checks.pair(f"{name}: stride", stride, 1),
                       padding, _checks.pair(f"{name}: dilation", dilation, 1),
                       _checks.integer(f"{name}: groups", groups))


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, activation=None,
           algorithm="auto"):
    """Two-dimensional cross-correlation, the convolution of neural networks.

    ::

        y[n, k, p, q] = f( bias[k] + sum_{c, r, s} weight[k, c, r, s]
                                     x[n, c, p * stride + r * dilation - padding, q * ...] )

    Parameters
    ----------
    x : ndarray, (N, C, H, W) or (C, H, W)
        Images, float32 or float64, in any memory layout; channels-last is read as it lies.
    weight : ndarray, (K, C / groups, R, S)
        Filters, of the dtype of `x`.
    bias : ndarray, (K,), optional
    stride, dilation : int or pair of int, default 1
    padding : int, pair of int, "same" or "valid", default 0
        Zeros around the image; "same" keeps its size (stride 1), the odd pixel below and to the right.
    groups : int, default 1
        Channels and filters are cut in this many groups, each convolved by itself.
    activation : {None, "relu", "sigmoid", "tanh"}
        f.
    algorithm : {"auto", "direct", "winograd"}
        "auto" depends on the shapes alone. "winograd" is for 3 x 3 filters with stride 1 or 2, any dilation
        and groups 1; with stride 2 the gradient of the input is a direct sum all the same.

    Returns
    -------
    y : ndarray, (N, K, P, Q)
        Channels-last in memory; P = (H + 2 padding - dilation (R - 1) - 1) // stride + 1.

    Raises
    ------
    ValueError
        If shapes do not fit one another, or a number is out of range.
    TypeError
        If a dtype is neither float32 nor float64, or dtypes are mixed.

    Notes
    -----
    The tests allow errors of 2e-6 in float32 and 4e-15 in float64 with "direct", ten times that with
    "winograd" (with stride 2 two and a half times), relative to the largest output before f, for sums of up
    to a thousand products of normal numbers.
    With "winograd" a NaN or an infinity in `x` may reach its whole tile of 4 x 4 outputs, `dilation` apart.
    """
    x, weight, bias, single = _images("conv2d", x, weight, bias)
    y = _correlate("conv2d", x, weight, bias, stride, padding, dilation, groups, activation, algorithm)
    return y[0] if single else y


def _correlate(name, x, weight, bias, stride, padding, dilation, groups, activation, algorithm):
    window = _window(name, x, weight, bias, stride, padding, dilation, groups)
    _checks.choice(f"{name}: activation", activation, _fused.NAMES)
    tile = choose_tile(name, algorithm, window, x.shape, weight.shape[0])
    return convolve_once(x, weight, bias, window, tile, activation)


def conv2d_backward(grad_y, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *,
                    activation=None, y=None, algorithm="auto", input_grad=True):
    """Gradients of `conv2d` with respect to x, weight and bias.

    ::

        grad_z = grad_y * f'(z)                                 f' from y; z is what f was applied to
        grad_x[n, c, h, w]      = sum_{k, r, s} weight[k, c, r, s] grad_z[n, k, p, q]
        grad_weight[k, c, r, s] = sum_{n, p, q} grad_z[n, k, p, q] x[n, c, h, w]
        grad_bias[k]            = sum_{n, p, q} grad_z[n, k, p, q]

    with h = p * stride + r * dilation - padding, w alike.

    Parameters
    ----------
    grad_y : ndarray, (N, K, P, Q) or (K, P, Q)
    x, weight, bias, stride, padding, dilation, groups, activation, algorithm
        As `conv2d` saw them.
    y : ndarray, (N, K, P, Q), optional
        What `conv2d` returned; needed with an activation.
    input_grad : bool, default True
        Whether to compute grad_x.

    Returns
    -------
    grad_x : ndarray of the shape of `x`, or None
    grad_weight : ndarray of the shape of `weight`
    grad_bias : ndarray, (K,), or None without a bias
    """
    x, weight, bias, single = _images("conv2d_backward", x, weight, bias)
    grad_x, grad_weight, grad_bias = _correlate_backward(
        "conv2d_backward", grad_y, x, weight, bias, stride, padding, dilation, groups, activation, y,
        algorithm, input_grad, single)
    return (grad_x[0] if single and input_grad else grad_x), grad_weight, grad_bias


def _correlate_backward(name, grad_y, x, weight, bias, stride, padding, dilation, groups, activation, y,
                        algorithm, input_grad, single):
    window = _window(name, x, weight, bias, stride, padding, dilation, groups)
    input_grad = _checks.flag(f"{name}: input_grad", input_grad)
    shape = (x.shape[0], weight.shape[0], *window.output)[single:]
    grad_z = _fused.gradient(name, activation, grad_y, y, shape, x.dtype)
    return gradients(name, grad_z[None] if single else grad_z, x, weight, bias is not None, window, algorithm,
                     input_grad)


def gradients(name, grad_z, x, weight, has_bias, window, algorithm, input_grad):
    """The checked arguments' gradients of x, weight and bias, from that of what the activation was given."""
    n, c, *size = x.shape
    k = weight.shape[0]
    for_input = choose_tile(name, algorithm, window, (n, k), c, TILES, size)
    for_filters = choose_tile(name, algorithm, window, (n, c), k, TILES_FILTER_GRADIENT)
    if window.kernel[2] == 2:
        # Tiles of grad_x, whose even and odd rows have two and one of the three taps, take as few products as
        # those of the forward pass; they were .9 to 1.05 times as fast as the direct sum.
        for_input = 0
    grad_z = contiguous_channels_last(grad_z)
    if _is_product(window, x):
        grad_x, grad_weight, grad_bias = product_gradients(
            grad_z, contiguous_channels_last(x), _matrix(weight), has_bias, input_grad)
        grad_x = from_channels_last(grad_x) if input_grad else None
        return grad_x, grad_weight.reshape(weight.shape), grad_bias
    weight = np.ascontiguousarray(weight)
    grad_x = _input_gradient(grad_z, x.shape, weight, window, for_input) if input_grad else None
    grad_weight = _filter_gradient(grad_z, x, weight.shape, window, for_filters)
    return grad_x, grad_weight, _bias_gradient(grad_z) if has_bias else None


def _filter_gradient(grad_z, x, shape, window, tile):
    grad_weight = np.empty(shape, x.dtype)
    if tile:
        _winograd_gradient.backward_weight(grad_z, to_channels_last(x), grad_weight, tile, *window.padding,
                                           *window.dilation)
    else:
        _kernel_backward.backward_weight(grad_z, _pixels(x, window, 0), grad_weight, window.kernel)
    return grad_weight


def _bias_gradient(grad_z):
    """The sum over all pixels of (N, P, Q, K)."""
    sums = np.empty(grad_z.shape[3], grad_z.dtype)
    _gemm.row_total(grad_z.reshape(-1, grad_z.shape[3]), sums)
    return sums


def _input_gradient(grad_z, x_shape, weight, window, tile):
    n, c, h, w = x_shape
    grad_x = empty_channels_last(n, h, w, c, weight.dtype)
    # It is a convolution with the filters rotated, padded by what is left of their reach.
    padding = [2 * apart - pad for apart, pad in zip(window.dilation, window.padding, strict=True)]
    if tile and min(padding) >= 0:
        _convolve_by_tiles(grad_z, weight, None, grad_x, True, tile, padding, window.dilation, False)
    else:
        _kernel_backward.backward_input(grad_z, weight, grad_x, window.kernel)
    return from_channels_last(grad_x)
