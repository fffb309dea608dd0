"""What all poolings share: the check of their arguments, and the calls of the kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _checks
from .._checks import FLOAT32, FLOAT64, INT64
from .._kernels import pool as _kernel
from .._kernels.runtime import in_default_environment
from ._layout import contiguous_channels_last, empty_channels_last, from_channels_last
from ._pool_windows import Adaptive, Sliding, lay_out

INT32 = np.dtype(np.int32)

# Inside the library the place of a maximum is an integer as wide as the elements, as vectors give it.
_PLACE: dict[np.dtype, np.dtype] = {FLOAT32: INT32, FLOAT64: INT64}
# A pixel asks up to this many outputs whether it won; of larger windows an output is added where it belongs.
_MOST_TO_GATHER = 16
_VECTOR = 32  # bytes of channels that are worth a vector


# --- Arguments


def sliding(name: str, dims: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any,
            count_include_pad: Any = True, divisor_override: Any = None) -> Sliding:
    """Check the arguments of a pooling with windows of one size."""

    def numbers(argument: str, value: Any, minimum: int, of_one_row: int) -> tuple[int, int]:
        if dims == 2:
            return _checks.pair(f"{name}: {argument}", value, minimum)
        return of_one_row, _checks.single(f"{name}: {argument}", value, minimum)

    kernel = numbers("kernel_size", kernel_size, 1, 1)
    if divisor_override is not None:
        divisor_override = _checks.integer(f"{name}: divisor_override", divisor_override, -_checks.MAX_SIZE)
        if divisor_override == 0:
            raise ValueError(f"{name}: divisor_override must not be 0")
    return Sliding(
        dims,
        kernel,
        kernel if stride is None else numbers("stride", stride, 1, 1),
        numbers("padding", padding, 0, 0),
        numbers("dilation", dilation, 1, 1),
        _checks.flag(f"{name}: ceil_mode", ceil_mode),
        _checks.flag(f"{name}: count_include_pad", count_include_pad),
        divisor_override,
    )


# Parts of an axis: each has a row of a table, of which 2**31 took all memory.
_MOST_PARTS = 1 << 22


def adaptive(name: str, dims: int, output_size: Any, argument: str = "output_size") -> Adaptive:
    """Check the argument of a pooling to a given size."""
    sizes = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size,) * dims
    if len(sizes) != dims:
        expected = "one number or two" if dims == 2 else "one number"
        raise ValueError(f"{name}: output_size must be {expected}, integers or None, got {output_size!r}")
    p, q = (None if n is None else _checks.integer(f"{name}: {argument}", n, 1, _MOST_PARTS)
            for n in (1, *sizes)[-2:])
    return Adaptive(dims, (p, q))


def check_input_shape(name: str, shape: Any, dims: int) -> tuple[int, ...]:
    """Check the shape of an input, which a gradient gets."""
    try:
        shape = tuple(shape)
    except TypeError:
        raise TypeError(f"{name}: input_shape must be the shape of an array, got {shape!r}") from None
    if len(shape) not in (dims + 1, dims + 2):
        raise ValueError(f"{name}: input_shape has {len(shape)} sizes, expected {dims + 1} or {dims + 2}")
    return tuple(_checks.integer(f"{name}: input_shape", size, 0) for size in shape)


# --- Images: (N, C, H, W) from whatever was given


def _images(x: np.ndarray, dims: int) -> np.ndarray:
    """View an array of channels, `dims` dimensions and perhaps a batch as (N, C, H, W)."""
    if x.ndim == dims + 1:
        x = x[None]
    return x if dims == 2 else x[:, :, None]


def _as_given(y: np.ndarray, ndim: int, dims: int) -> np.ndarray:
    """Undo `_images` for what goes with an array of `ndim` dimensions."""
    if dims == 1:
        y = y[:, :, 0]
    return y if ndim == dims + 2 else y[0]


def _image_shape(name: str, shape: tuple[int, ...], grad_y: np.ndarray, dims: int) -> tuple[int, ...]:
    """The input's shape as (N, C, H, W); batch and channels must be those of grad_y."""
    shape = check_input_shape(name, shape, dims)
    if len(shape) != grad_y.ndim or shape[:-dims] != grad_y.shape[:-dims]:
        raise ValueError(
            f"{name}: grad_y has shape {grad_y.shape}, but input_shape is {shape}: "
            "batch and channels must be equal"
        )
    if len(shape) == dims + 1:
        shape = (1, *shape)
    return shape if dims == 2 else (*shape[:2], 1, shape[2])


# --- Prepared calls


def prepare(name: str, windows: Sliding | Adaptive, x: np.ndarray, mean: bool) -> _kernel.Prepared:
    """The pooling, without places, of arrays (N, C, H, W) of the shape of x, for a layer to keep."""
    layout = lay_out(name, windows, *x.shape[2:])
    return _kernel.Prepared(x.shape, layout.table, *layout.dilation, layout.output, mean)


# --- Maximum


def max_pool(name: str, windows: Sliding, x: Any, with_places: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The maxima and, if wanted, their places h * W + w: int32 for float32, int64 for float64."""
    dims = windows.dims
    x = _checks.as_float_array(f"{name}: x", x, (dims + 1, dims + 2))
    images, dtype = _images(x, dims), x.dtype
    n, c, h, w = images.shape
    layout = lay_out(name, windows, h, w)
    if with_places and dtype == FLOAT32 and h * w > _checks.MAX_SIZE:
        raise ValueError(f"{name}: x has {h * w} pixels a channel; places in float32 need less than 2**31")
    y = empty_channels_last(n, *layout.output, c, dtype)
    places = empty_channels_last(n, *layout.output, c, dtype) if with_places else None
    _kernel.max_pool(contiguous_channels_last(images), layout.table, *layout.dilation, y, places)
    y = _as_given(from_channels_last(y), x.ndim, dims)
    if places is None:
        return y, None
    return y, _as_given(from_channels_last(places.view(_PLACE[dtype])), x.ndim, dims)


def max_pool_backward(name: str, dims: int, grad_y: Any, places: np.ndarray, input_shape: Any,
                      windows: Sliding | None = None) -> np.ndarray:
    """The sums of grad_y at each place; the places are trusted to be inside the input, and in the windows."""
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, (dims + 1, dims + 2))
    _checks.same_shape(f"{name}: grad_y", grad_y, places.shape, "as the indices have")
    n, c, h, w = _image_shape(name, input_shape, grad_y, dims)
    images = contiguous_channels_last(_images(grad_y, dims))
    winners = contiguous_channels_last(_images(places, dims))
    grad_x = empty_channels_last(n, h, w, c, grad_y.dtype)
    if (windows is not None and windows.dilation == (1, 1) and math.prod(windows.kernel) <= _MOST_TO_GATHER
            and c * grad_y.itemsize >= _VECTOR and places.dtype is _PLACE[grad_y.dtype]):
        _kernel.max_gather(images, winners, lay_out(name, windows, h, w).covering, grad_x)
    else:
        _kernel.max_scatter(images, winners, grad_x)
    return _as_given(from_channels_last(grad_x), grad_y.ndim, dims)


# --- Mean


def mean_pool(name: str, windows: Sliding | Adaptive, x: Any) -> np.ndarray:
    """The mean of each window."""
    dims = windows.dims
    x = _checks.as_float_array(f"{name}: x", x, (dims + 1, dims + 2))
    images = _images(x, dims)
    n, c, h, w = images.shape
    layout = lay_out(name, windows, h, w)
    y = empty_channels_last(n, *layout.output, c, x.dtype)
    _kernel.mean_pool(contiguous_channels_last(images), layout.table, y)
    return _as_given(from_channels_last(y), x.ndim, dims)


@in_default_environment
def mean_pool_backward(name: str, windows: Sliding | Adaptive, grad_y: Any, input_shape: Any) -> np.ndarray:
    """Each pixel sums grad_y / divisor over the windows that cover it: a pooling, too."""
    dims = windows.dims
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, (dims + 1, dims + 2))
    n, c, h, w = _image_shape(name, input_shape, grad_y, dims)
    layout = lay_out(name, windows, h, w)
    images = _images(grad_y, dims)
    _checks.same_shape(f"{name}: grad_y", images, (n, c, *layout.output), "as the output has")
    share, covering = contiguous_channels_last(images), layout.covering
    if layout.covering_apart is not None:
        covering = layout.covering_apart
    else:
        share = share / layout.divisor.astype(grad_y.dtype)
    grad_x = empty_channels_last(n, h, w, c, grad_y.dtype)
    _kernel.mean_pool(share, covering, grad_x)
    return _as_given(from_channels_last(grad_x), grad_y.ndim, dims)
