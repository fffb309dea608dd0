"""Resize: each axis by itself, each output a weighted sum of a few elements of the input."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..._checks import axis_of
from .registry import operator


class Taps(NamedTuple):
    """Along one axis, the elements that each output is a sum of, and their weights: (outputs, taps)."""

    places: np.ndarray
    weights: np.ndarray
    outside: np.ndarray  # (outputs,): beyond the input, for `tf_crop_and_resize`


class Options(NamedTuple):
    """The attributes; see ONNX's description of Resize."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


def _coordinates(size, count, scale, kind, roi):
    """Where in the input each output of an axis lies.

    In float32, as scales come: in more digits, 4 / 1.6 would be a little less than 2.5, and "nearest" to
    another element than everywhere else.
    """
    i, scale = np.arange(count, dtype=np.float32), np.float32(scale)
    if kind == "asymmetric":
        return i / scale
    if kind == "align_corners":
        # By the size before it was rounded, as ONNX's tests have it.
        exact = scale * size
        return i * (size - 1) / (exact - 1) if exact != 1 else np.zeros(count)
    if kind == "tf_crop_and_resize":
        start, end = roi
        if count > 1:
            return start * (size - 1) + i * (end - start) * (size - 1) / (count - 1)
        return np.full(count, 0.5 * (start + end) * (size - 1))
    if kind == "pytorch_half_pixel" and count <= 1:
        return np.zeros(count)
    if kind == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    half = (i + 0.5) / scale - 0.5
    if kind == "half_pixel_symmetric":
        # The output, whose size was rounded, lies in the middle of the input.
        return half + size / 2 * (1 - count / (scale * size))
    if kind in ("half_pixel", "pytorch_half_pixel"):
        return half
    raise ValueError(f"coordinate_transformation_mode {kind!r} is unknown here")


def _nearest(x, rule):
    if rule == "round_prefer_floor":
        return np.ceil(x - 0.5)
    if rule == "round_prefer_ceil":
        return np.floor(x + 0.5)
    return np.floor(x) if rule == "floor" else np.ceil(x)


def _triangle(distance):
    return np.maximum(1 - np.abs(distance), 0)


def _cubic(distance, a):
    """The cubic convolution kernel (Keys, 1981)."""
    d = np.abs(distance)
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0))


def _taps(size, count, scale, roi, options):
    x = _coordinates(size, count, scale, options.coordinates, roi)
    outside = ((x < 0) | (x > size - 1)) & (options.coordinates == "tf_crop_and_resize")
    if options.mode == "nearest":
        places = np.clip(_nearest(x, options.nearest), 0, size - 1)[:, None]
        return Taps(places.astype(np.intp), np.ones(places.shape), outside)
    # Going down with `antialias`, the kernel is as much wider as the output is smaller.
    stretch = max(1 / scale, 1.0) if options.antialias else 1.0
    reach = (1 if options.mode == "linear" else 2) * stretch
    first = np.floor(x - reach).astype(np.intp) + 1
    places = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    distance = (places - x[:, None].astype(np.float64)) / stretch
    weights = _triangle(distance) if options.mode == "linear" else _cubic(distance, options.cubic)
    if options.exclude_outside:
        weights = np.where((places < 0) | (places >= size), 0, weights)
    if options.exclude_outside or options.antialias:
        weights = weights / weights.sum(1, keepdims=True)
    return Taps(np.clip(places, 0, size - 1), weights, outside)


def _apply(x, taps, axis):
    """The weighted sums along one axis."""
    shape = [1] * x.ndim
    shape[axis] = -1
    total = 0
    for places, weights in zip(taps.places.T, taps.weights.T, strict=True):
        if weights.any():
            total = total + np.take(x, places, axis) * weights.reshape(shape).astype(x.dtype)
    return total


def _spread(grad, taps, axis, size):
    """The transpose of `_apply`."""
    lines = np.moveaxis(grad, axis, 0)
    total = np.zeros((size, *lines.shape[1:]), grad.dtype)
    for places, weights in zip(taps.places.T, taps.weights.T, strict=True):
        np.add.at(total, places, lines * weights.reshape(-1, *[1] * (grad.ndim - 1)).astype(grad.dtype))
    return np.moveaxis(total, 0, axis)


def _sizes(shape, axes, scales, sizes, policy):
    """The output's size and the scale of each axis."""
    if sizes is None:
        scales = [float(s) for s in scales.reshape(-1)]
        return [int(np.floor(shape[axis] * s)) for axis, s in zip(axes, scales, strict=True)], scales
    sizes = [int(n) for n in sizes]
    scales = [n / shape[axis] for axis, n in zip(axes, sizes, strict=True)]
    if policy != "stretch":
        scale = min(scales) if policy == "not_larger" else max(scales)
        scales = [scale] * len(axes)
        sizes = [int(np.floor(scale * shape[axis] + 0.5)) for axis in axes]
    return sizes, scales


def _resize(call, x, roi, scales, sizes, axes, policy, extrapolation, options):
    axes = range(x.ndim) if axes is None else [axis_of("axis", axis, x.ndim) for axis in axes]
    if options.mode not in ("nearest", "linear", "cubic"):
        raise ValueError(f"mode {options.mode!r}, expected 'nearest', 'linear' or 'cubic'")
    counts, scales = _sizes(x.shape, axes, scales, sizes, policy)
    roi = [0.0] * len(axes) + [1.0] * len(axes) if roi is None or not roi.size else roi.tolist()
    call.saved = done = []
    y = x if x.dtype.kind == "f" else x.astype(np.float64)
    for i, axis in enumerate(axes):
        bounds = roi[i], roi[i + len(axes)]
        if counts[i] != x.shape[axis] or options.coordinates == "tf_crop_and_resize" or scales[i] != 1:
            taps = _taps(x.shape[axis], counts[i], scales[i], bounds, options)
            done.append((axis, taps))
            y = _apply(y, taps, axis)
    for axis, taps in done:
        if taps.outside.any():
            y[(slice(None),) * axis + (taps.outside,)] = extrapolation
    return y if y.dtype == x.dtype else np.rint(y).astype(x.dtype)


@operator("Resize", since=10, widen=True)
def resize_10(call, x, scales, *, mode="nearest"):
    """x stretched by a factor along each axis."""
    options = Options(mode, "asymmetric", "floor")
    return _resize(call, x, None, scales, None, None, "stretch", 0.0, options)


@operator("Resize", since=11, widen=True)
def resize(call, x, roi=None, scales=None, sizes=None, *, mode="nearest",
           coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.75, exclude_outside=0,
           extrapolation_value=0.0, nearest_mode="round_prefer_floor", antialias=0, axes=None,
           keep_aspect_ratio_policy="stretch"):
    """x stretched by factors or to sizes, along all axes or some."""
    if scales is not None and not scales.size:
        scales = None
    options = Options(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a,
                      bool(exclude_outside), bool(antialias))
    return _resize(call, x, roi, scales, sizes, axes, keep_aspect_ratio_policy, extrapolation_value, options)


@operator("Upsample", widen=True)
def upsample_attribute(call, x, *, scales, mode="nearest"):
    """x stretched by a factor along each axis."""
    return resize_10.forward(call, x, np.array(scales), mode=mode)


@operator("Upsample", since=9, widen=True)
def upsample(call, x, scales, *, mode="nearest"):
    """x stretched by a factor along each axis."""
    return resize_10.forward(call, x, scales, mode=mode)


@resize_10.gradient
@resize.gradient
@upsample_attribute.gradient
@upsample.gradient
def resize_backward(call, grad_y, **attributes):
    for axis, taps in reversed(call.saved):
        if taps.outside.any():
            grad_y = grad_y.copy()
            grad_y[(slice(None),) * axis + (taps.outside,)] = 0
    for axis, taps in reversed(call.saved):
        grad_y = _spread(grad_y, taps, axis, call.inputs[0].shape[axis])
    return grad_y
