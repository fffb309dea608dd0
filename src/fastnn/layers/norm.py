"""Normalisation layers: BatchNorm1d, BatchNorm2d, LayerNorm; torch.nn's names, defaults and buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment
from ..functional import norm as F
from .module import Module, Parameter


class _BatchNorm(Module):
    """Normalise each channel over the batch; see `BatchNorm2d`."""

    ranks: tuple[int, ...]

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
                 affine: bool = True, track_running_stats: bool = True, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        name = type(self).__name__
        self.num_features = _checks.integer(f"{name}: num_features", num_features)
        self.eps = _checks.real(f"{name}: eps", eps, 0.0)
        self.momentum = None if momentum is None else _checks.real(f"{name}: momentum", momentum, 0.0, 1.0)
        self.affine = _checks.flag(f"{name}: affine", affine)
        self.track_running_stats = _checks.flag(f"{name}: track_running_stats", track_running_stats)
        self.weight = Parameter(np.ones(num_features, self.dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, self.dtype)) if affine else None
        tracked = track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, self.dtype) if tracked else None)
        self.register_buffer("running_var", np.ones(num_features, self.dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def _affine(self):
        return (self.weight._data, self.bias._data) if self.affine else (None, None)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the normalised x: by the batch in training mode, by the running statistics in eval mode."""
        name = type(self).__name__
        x = _checks.as_float_array(f"{name}: x", x, self.ranks, self.dtype)
        if x.shape[1] != self.num_features:
            raise ValueError(f"{name}: x has {x.shape[1]} channels (shape {x.shape}), expected "
                             f"num_features = {self.num_features}")
        by_batch = self.training or not self.track_running_stats
        if by_batch:
            count = x.size // self.num_features
            if count == 1:
                raise ValueError(f"{name}: x has shape {x.shape}, one value a channel: that has no variance")
            mean, var = F.exact_stats(x)
            if self.training and self.track_running_stats and count:
                self._track(mean, var, count)
        else:
            mean, var = self.running_mean, self.running_var
        y = F.batch_norm(x, mean, var, *self._affine(), self.eps)
        self._save(x, mean, var, by_batch)
        return y

    def _track(self, mean, var, count):
        self.num_batches_tracked[...] += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        # The unbiased variance is tracked, the biased one normalises: as in torch.
        F.track(self.running_mean, mean, share)
        F.track(self.running_var, var, share, count / (count - 1))

    @in_default_environment
    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Add to the gradients of weight and bias, return that of x."""
        x, mean, var, by_batch = self._take()
        grad_x, grad_weight, grad_bias = F.batch_norm_backward(
            grad_y, x, mean, var, *self._affine(), self.eps, training=by_batch)
        if self.affine:
            self.weight._grad += grad_weight
            self.bias._grad += grad_bias
        return grad_x

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}")


class BatchNorm2d(_BatchNorm):
    """Normalise each channel of images (N, C, H, W) over the batch (Ioffe and Szegedy, 2015).

    ::

        y = (x - mean) / sqrt(var + eps) * weight + bias

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
    momentum : float or None, default 0.1
        running <- (1 - momentum) running + momentum batch; None for the mean of all batches.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether eval mode normalises by running statistics; else it does by the batch.
    dtype : numpy.dtype, default float32

    Attributes
    ----------
    weight, bias : Parameter, (C,), or None
    running_mean, running_var : ndarray, (C,)
    num_batches_tracked : ndarray, ()
    """

    ranks = (4,)


class BatchNorm1d(_BatchNorm):
    """Normalise each channel of (N, C) or (N, C, L) over the batch; see `BatchNorm2d`."""

    ranks = (2, 3)


class LayerNorm(Module):
    """Normalise each sample over its last axes (Ba, Kiros and Hinton, 2016); torch.nn.LayerNorm.

    ::

        y = (x - mean) / sqrt(var + eps) * weight + bias

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the last axes.
    eps : float, default 1e-5
    elementwise_affine : bool, default True
        Whether there is a weight.
    bias : bool, default True
        Whether, with a weight, there is a bias.
    dtype : numpy.dtype, default float32
    """

    def __init__(self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        self.normalized_shape = F.normalized_sizes("LayerNorm", normalized_shape)
        if not self.normalized_shape:
            raise ValueError("LayerNorm: normalized_shape must have at least one size, got ()")
        self.eps = _checks.real("LayerNorm: eps", eps, 0.0)
        self.elementwise_affine = _checks.flag("LayerNorm: elementwise_affine", elementwise_affine)
        self.weight = Parameter(np.ones(self.normalized_shape, self.dtype)) if elementwise_affine else None
        with_bias = _checks.flag("LayerNorm: bias", bias) and elementwise_affine
        self.bias = Parameter(np.zeros(self.normalized_shape, self.dtype)) if with_bias else None

    def _affine(self):
        return tuple(None if p is None else p._data for p in (self.weight, self.bias))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the normalised x."""
        x = F.check_ending("LayerNorm", x, self.normalized_shape, self._dtype)
        y = F.normalize_rows("LayerNorm", x, self.normalized_shape, *self._affine(), self.eps)
        self._save(x)
        return y

    @in_default_environment
    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Add to the gradients of weight and bias, return that of x."""
        (x,) = self._take()
        grad_x, *grads = F.layer_norm_backward(grad_y, x, self.normalized_shape, *self._affine(), self.eps)
        for parameter, grad in zip((self.weight, self.bias), grads, strict=True):
            if parameter is not None:
                parameter._grad += grad
        return grad_x

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
