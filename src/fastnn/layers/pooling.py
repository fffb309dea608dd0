"""Pooling layers: no parameters, each channel by itself.

The keyword `dtype` is taken as by every layer, without meaning here: float32 and float64 are both accepted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from ..functional import _pooling
from .module import SHAPES, Module


class _Pool(Module):
    """A pooling in `_dims` dimensions by `_windows`, its checked arguments."""

    _dims: int
    _windows: Any
    _mean = False

    def _check(self, *arguments: Any) -> None:
        """Check the arguments of a sliding pooling; those of all of them become attributes."""
        windows = self._windows = _pooling.sliding(type(self).__name__, self._dims, *arguments)
        self.kernel_size, self.stride, self.padding, self.dilation = (
            numbers if self._dims == 2 else numbers[1]
            for numbers in (windows.kernel, windows.stride, windows.padding, windows.dilation)
        )
        self.ceil_mode = windows.ceil_mode

    def _kept(self, x: Any) -> np.ndarray | None:
        """The pooled x in eval mode, by a prepared call for its shape; None where there is none."""
        prepared = self._cache.get(getattr(x, "shape", None))
        return None if prepared is None else prepared(x)

    def _keep(self, x: Any) -> None:
        """Prepare a call for the shape of x, which was pooled."""
        if not self.recording and type(x) is np.ndarray and x.ndim == 4 and len(self._cache) < SHAPES:
            name, windows = type(self).__name__, self._windows
            self._cached(x.shape, lambda: _pooling.prepare(name, windows, x, self._mean))

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


# --- Maximum


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        dtype: Any = np.float32,
    ):
        super().__init__(dtype=dtype)
        self._check(kernel_size, stride, padding, dilation, ceil_mode)
        self.return_indices = _checks.flag(f"{type(self).__name__}: return_indices", return_indices)

    def forward(self, x: np.ndarray) -> Any:
        """Return the maxima of `x`; with `return_indices` also their indices."""
        with_places = self.recording or self.return_indices
        if not with_places and (y := self._kept(x)) is not None:
            return y
        y, places = _pooling.max_pool(type(self).__name__, self._windows, x, with_places)
        self._save(places, np.shape(x))
        if not with_places:
            self._keep(x)
        return (y, places.astype(np.int64)) if self.return_indices else y

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return the gradient of the input: that of each output at the winner of its window."""
        name = f"{type(self).__name__}.backward"
        return _pooling.max_pool_backward(name, self._dims, grad_y, *self._take(), self._windows)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class MaxPool2d(_MaxPool):
    """The largest of each window of an image.

    See `fastnn.functional.max_pool2d` for the equation, the shapes and what happens to ties and NaN.

    Parameters
    ----------
    kernel_size : int or pair of int
        Taps of a window, in H and W.
    stride : int or pair of int, optional
        Pixels from one window to the next; by default kernel_size.
    padding : int or pair of int, default 0
        Pixels around the image that are never the largest; at most half of kernel_size.
    dilation : int or pair of int, default 1
        Pixels from one tap to the next.
    return_indices : bool, default False
        Whether `forward` returns (y, indices).
    ceil_mode : bool, default False
        Whether windows may reach past the padded image's end, as long as they begin before it.
    """

    _dims = 2


class MaxPool1d(_MaxPool):
    """The largest of each window of a sequence (N, C, L) or (C, L); parameters as of `MaxPool2d`."""

    _dims = 1


# --- Mean


class _MeanPool(_Pool):
    _mean = True

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the means of `x`."""
        if not self.recording and (y := self._kept(x)) is not None:
            return y
        y = _pooling.mean_pool(type(self).__name__, self._windows, x)
        self._save(np.shape(x))
        self._keep(x)
        return y

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return the gradient of the input: that of each output spread evenly over its window."""
        (shape,) = self._take()
        return _pooling.mean_pool_backward(f"{type(self).__name__}.backward", self._windows, grad_y, shape)


class AvgPool2d(_MeanPool):
    """The mean of each window of an image.

    See `fastnn.functional.avg_pool2d` for the equation and the shapes.

    Parameters
    ----------
    kernel_size : int or pair of int
        Pixels of a window, in H and W.
    stride : int or pair of int, optional
        Pixels from one window to the next; by default kernel_size.
    padding : int or pair of int, default 0
        Zeros around the image; at most half of kernel_size.
    ceil_mode : bool, default False
        Whether windows may reach past the padded image's end, as long as they begin before it.
    count_include_pad : bool, default True
        Whether the divisor, a window's number of pixels, counts those on the padding.
    divisor_override : int, optional
        The divisor, instead.
    """

    _dims = 2

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        dtype: Any = np.float32,
    ):
        super().__init__(dtype=dtype)
        self._check(kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override)
        self.count_include_pad = self._windows.count_include_pad
        self.divisor_override = self._windows.divisor


class AvgPool1d(_MeanPool):
    """The mean of each window of a sequence (N, C, L) or (C, L); parameters as of `AvgPool2d`."""

    _dims = 1

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        dtype: Any = np.float32,
    ):
        super().__init__(dtype=dtype)
        self._check(kernel_size, stride, padding, 1, ceil_mode, count_include_pad)
        self.count_include_pad = self._windows.count_include_pad


class _AdaptiveAvgPool(_MeanPool):
    def __init__(self, output_size: Any, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        self._windows = _pooling.adaptive(type(self).__name__, self._dims, output_size)
        self.output_size = self._windows.output if self._dims == 2 else self._windows.output[1]

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of P x Q windows that cover an image evenly.

    See `fastnn.functional.adaptive_avg_pool2d` for the equation.

    Parameters
    ----------
    output_size : int, None or pair of them
        P and Q; None keeps the image's size.
    """

    _dims = 2


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of windows that cover a sequence (N, C, L) or (C, L) evenly.

    Parameters
    ----------
    output_size : int or None
        The number of windows; None keeps the sequence's length.
    """

    _dims = 1


class GlobalAvgPool2d(AdaptiveAvgPool2d):
    """The mean of each channel of an image, (N, C, H, W) to (N, C, 1, 1)."""

    def __init__(self, *, dtype: Any = np.float32):
        super().__init__(1, dtype=dtype)

    def extra_repr(self) -> str:
        return ""


class GlobalAvgPool1d(AdaptiveAvgPool1d):
    """The mean of each channel of a sequence, (N, C, L) to (N, C, 1)."""

    def __init__(self, *, dtype: Any = np.float32):
        super().__init__(1, dtype=dtype)

    def extra_repr(self) -> str:
        return ""
