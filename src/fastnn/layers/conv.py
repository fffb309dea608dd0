"""Convolution layers: Conv1d, Conv2d, ConvTranspose2d."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _checks, init
from .._kernels.runtime import in_default_environment
from ..functional import _fused
from ..functional import conv as F
from ..functional.conv1d import conv1d_backward
from ..functional.conv_transpose import conv_transpose2d, conv_transpose2d_backward
from .module import SHAPES, Module, Parameter


class _Convolution(Module):
    """What the convolutions share: their configuration and their parameters."""

    rank: int
    transposed = False

    @in_default_environment
    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                 padding_mode, activation, algorithm, dtype, rng):
        super().__init__(dtype=dtype)
        name = type(self).__name__
        self.in_channels = _checks.integer(f"{name}: in_channels", in_channels)
        self.out_channels = _checks.integer(f"{name}: out_channels", out_channels)
        self.groups = _checks.integer(f"{name}: groups", groups)
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name}: {what} = {channels} is not divided by groups = {groups}")
        self.kernel_size = self._sizes("kernel_size", kernel_size, 1)
        self.stride = self._sizes("stride", stride, 1)
        self.dilation = self._sizes("dilation", dilation, 1)
        self.padding = self._padding(padding)
        _checks.choice(f"{name}: padding_mode", padding_mode, ("zeros",))
        self.activation = _checks.choice(f"{name}: activation", activation, _fused.NAMES)
        self.algorithm = _checks.choice(f"{name}: algorithm", algorithm, F.ALGORITHMS)
        rows, columns = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        weight = np.empty((rows, columns // groups, *self.kernel_size), self.dtype)
        rng = init.as_generator(f"{name}: rng", rng)
        self.weight = Parameter(init.kaiming_uniform_(weight, a=math.sqrt(5), rng=rng))
        self.bias = None
        if _checks.flag(f"{name}: bias", bias):
            bound = 1 / math.sqrt(weight[0].size)
            self.bias = Parameter(init.uniform_(np.empty(out_channels, self.dtype), -bound, bound, rng=rng))

    def _sizes(self, what, value, minimum):
        name = f"{type(self).__name__}: {what}"
        if self.rank == 1:
            return (_checks.single(name, value, minimum),)
        return _checks.pair(name, value, minimum)

    def _padding(self, padding):
        if not isinstance(padding, str):
            return self._sizes("padding", padding, 0)
        _checks.choice(f"{type(self).__name__}: padding", padding, ("same", "valid"))
        if padding == "same" and max(self.stride) > 1:
            raise ValueError(f"{type(self).__name__}: padding 'same' needs stride 1, got {self.stride}")
        return padding

    def _bias(self):
        return None if self.bias is None else self.bias._data

    def _correlate(self, images, weight, stride, padding, dilation):
        """Convolve images (N, C, H, W) with weight (K, C / groups, R, S), packed once in eval mode."""
        bias = self._bias()
        that_pay = F.TILES if self.recording else F.TILES_PACKED
        window, tile = F.plan(
            type(self).__name__, self.algorithm, that_pay, images.shape, weight.shape,
            None if bias is None else bias.shape, stride, padding, dilation, self.groups)
        if self.recording:
            return F.convolve_once(images, weight, bias, window, tile, self.activation)

        def packed():
            return self._cached(tile, lambda: F.pack_filters(weight, window, tile))

        if self.activation in (None, "relu") and len(self._cache) < SHAPES:
            shape, filters = images.shape, weight.shape[0]
            # With filters as they are when it is kept: another thread may have brought others.
            self._cached(shape, lambda: F.prepare(shape, packed(), bias, filters, window, self.activation))
        return F.convolve(images, packed(), bias, weight.shape[0], window, self.activation)

    @in_default_environment
    def _add(self, grad_weight, grad_bias):
        self.weight._grad += grad_weight
        if grad_bias is not None:
            self.bias._grad += grad_bias

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        defaults = {"padding": (0,) * self.rank, "dilation": (1,) * self.rank, "groups": 1,
                    "activation": None}
        for key, default in defaults.items():
            value = getattr(self, key)
            text += f", {key}={value!r}" if value != default else ""
        return text + (", bias=False" if self.bias is None else "")


class Conv2d(_Convolution):
    """Two-dimensional convolution of images, in the sense of neural networks; torch.nn.Conv2d.

    ::

        y[n, k, p, q] = f( bias[k] + sum_{c, r, s} weight[k, c, r, s]
                                     x[n, c, p * stride + r * dilation - padding, q * ...] )

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    kernel_size : int or pair of int
        R, S.
    stride, dilation : int or pair of int, default 1
    padding : int, pair of int, "same" or "valid", default 0
    groups : int, default 1
        ``groups=in_channels`` is the depthwise convolution.
    bias : bool, default True
    padding_mode : "zeros"
    activation : {None, "relu", "sigmoid", "tanh"}
        f, applied by the kernel itself.
    algorithm : {"auto", "direct", "winograd"}
        "direct" for the last digit: errors of 1e-6 to 3e-6 of the largest output in float32. "auto" for
        speed: of 3 x 3 filters mostly Winograd's algorithm, 4e-6 to 2e-5. Its choice depends on shapes and
        the mode alone.
    dtype : numpy.dtype, default float32
    rng : int or numpy.random.Generator, optional
        For the initial values: uniform in +-1 / sqrt(C / groups * R * S).

    Attributes
    ----------
    weight : Parameter, (K, C / groups, R, S)
    bias : Parameter, (K,), or None

    Notes
    -----
    x is (N, C, H, W) or (C, H, W); y lies channels-last in memory. In eval mode the filters are packed once.
    """

    rank = 2

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
                 padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", *, activation: str | None = None, algorithm: str = "auto",
                 dtype: Any = np.float32, rng: Any = None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                         padding_mode, activation, algorithm, dtype, rng)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return f(weight * x + bias) for x (N, C, H, W) or (C, H, W)."""
        if not self.recording:
            prepared = self._cache.get(getattr(x, "shape", None))
            if prepared is not None and (y := prepared(x)) is not None:
                return y
        x = _checks.as_float_array("Conv2d: x", x, (3, 4), self.dtype)
        y = self._correlate(x if x.ndim == 4 else x[None], self.weight._data, self.stride, self.padding,
                            self.dilation)
        y = y if x.ndim == 4 else y[0]
        self._save(x, y if self.activation else None)
        return y

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """Add to the gradients of weight and bias, return that of x."""
        x, y = self._take()
        grad_x, *grads = F.conv2d_backward(
            grad_y, x, self.weight._data, self._bias(), self.stride, self.padding, self.dilation, self.groups,
            activation=self.activation, y=y, algorithm=self.algorithm, input_grad=input_grad)
        self._add(*grads)
        return grad_x


class Conv1d(_Convolution):
    """One-dimensional convolution of signals (N, C, L) or (C, L); torch.nn.Conv1d.

    ::

        y[n, k, q] = f( bias[k] + sum_{c, s} weight[k, c, s] x[n, c, q * stride + s * dilation - padding] )

    Parameters, attributes and notes as for `Conv2d`, in one dimension.
    """

    rank = 1

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
                 padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", *, activation: str | None = None, algorithm: str = "auto",
                 dtype: Any = np.float32, rng: Any = None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                         padding_mode, activation, algorithm, dtype, rng)

    def _arguments(self):
        return self.stride, self.padding, self.dilation, self.groups

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return f(weight * x + bias) for x (N, C, L) or (C, L)."""
        if not self.recording and type(x) is np.ndarray and x.ndim == 3:
            images = x[:, :, None]
            prepared = self._cache.get(images.shape)
            if prepared is not None and (y := prepared(images)) is not None:
                return y[:, :, 0]
        x = _checks.as_float_array("Conv1d: x", x, (2, 3), self.dtype)
        signals = x if x.ndim == 3 else x[None]
        padding = self.padding if isinstance(self.padding, str) else (0, *self.padding)
        y = self._correlate(signals[:, :, None], self.weight._data[:, :, None], (1, *self.stride), padding,
                            (1, *self.dilation))[:, :, 0]
        y = y if x.ndim == 3 else y[0]
        self._save(x, y if self.activation else None)
        return y

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """Add to the gradients of weight and bias, return that of x."""
        x, y = self._take()
        grad_x, *grads = conv1d_backward(
            grad_y, x, self.weight._data, self._bias(), *self._arguments(), activation=self.activation, y=y,
            algorithm=self.algorithm, input_grad=input_grad)
        self._add(*grads)
        return grad_x


class ConvTranspose2d(_Convolution):
    """Transposed two-dimensional convolution; torch.nn.ConvTranspose2d.

    ::

        y[n, k, p * stride + r * dilation - padding, q * ...] += weight[c, k, r, s] x[n, c, p, q]

    and the bias once.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, groups, bias, dilation, dtype, rng
        As for `Conv2d`, in torch's order.
    output_padding : int or pair of int, default 0
        Added to the output's size below and to the right.

    Attributes
    ----------
    weight : Parameter, (C, K / groups, R, S)
    bias : Parameter, (K,), or None
    """

    rank = 2
    transposed = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
                 padding: Any = 0, output_padding: Any = 0, groups: int = 1, bias: bool = True,
                 dilation: Any = 1, padding_mode: str = "zeros", *, dtype: Any = np.float32, rng: Any = None):
        super().__init__(in_channels, out_channels, kernel_size, stride,
                         _checks.pair("ConvTranspose2d: padding", padding), dilation, groups, bias,
                         padding_mode, None, "direct", dtype, rng)
        self.output_padding = self._sizes("output_padding", output_padding, 0)

    def _arguments(self):
        return self.stride, self.padding, self.output_padding, self.groups, self.dilation

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the transposed convolution of x (N, C, H, W) or (C, H, W)."""
        x = _checks.as_float_array("ConvTranspose2d: x", x, (3, 4), self.dtype)
        y = conv_transpose2d(x, self.weight._data, self._bias(), *self._arguments())
        self._save(x)
        return y

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """Add to the gradients of weight and bias, return that of x."""
        (x,) = self._take()
        grad_x, *grads = conv_transpose2d_backward(
            grad_y, x, self.weight._data, self._bias(), *self._arguments(), input_grad=input_grad)
        self._add(*grads)
        return grad_x

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        extra = f", output_padding={self.output_padding}" if any(self.output_padding) else ""
        return super().extra_repr() + extra
