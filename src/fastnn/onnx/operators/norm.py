"""Normalisation, and dropout."""

from __future__ import annotations

import numpy as np

from ... import functional as F
from ..._checks import axis_of
from ...functional.local_response import divide_by_neighbours, divide_by_neighbours_backward
from ...functional.norm import exact_stats
from ._broadcast import sum_to_shape
from .registry import operator

# --- Batch normalisation


def _batch_norm(call, x, scale, bias, mean, var, epsilon, momentum, by_batch):
    """Normalise by the batch, tracking its statistics, or by the given ones."""
    if not by_batch:
        call.saved = mean, var, False
        return F.batch_norm(x, mean, var, scale, bias, epsilon), mean, var
    batch_mean, batch_var = exact_stats(x)
    call.saved = batch_mean, batch_var, True
    share = x.dtype.type(momentum)
    running = tuple(share * old + (1 - share) * new.astype(x.dtype)
                    for old, new in ((mean, batch_mean), (var, batch_var)))
    call.session.track(call.node.inputs[3:5], running)
    return F.batch_norm(x, batch_mean, batch_var, scale, bias, epsilon), *running


@operator("BatchNormalization", weights=(1, 2), state=(3, 4), widen=True)
def batch_norm_old(call, x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, spatial=1):
    """(x - mean) / sqrt(var + epsilon) scale + bias; up to opset 13 the mode is the runtime's affair."""
    given = x, scale, bias, mean, var
    rows, *vectors = given if spatial else _pixels_as_channels(*given)
    y, *running = _batch_norm(call, rows, *vectors, epsilon, momentum, call.training)
    return y.reshape(x.shape), *(v.reshape(mean.shape) for v in running)


def _pixels_as_channels(x, *vectors):
    """As opset 7 had it with spatial=0: statistics of each pixel of each channel."""
    return x.reshape(len(x), -1), *(v.reshape(-1) for v in vectors)


@batch_norm_old.gradient
def batch_norm_old_backward(call, grad_y, *_, epsilon=1e-5, momentum=0.9, spatial=1):
    x, scale, bias = rows, *vectors = call.inputs[:3]
    if not spatial:
        rows, *vectors = _pixels_as_channels(x, scale, bias)
        grad_y = grad_y.reshape(rows.shape)
    mean, var, by_batch = call.saved
    grads = F.batch_norm_backward(grad_y, rows, mean, var, *vectors, epsilon, training=by_batch)
    return tuple(grad.reshape(array.shape) for grad, array in zip(grads, (x, scale, bias), strict=True))


@operator("BatchNormalization", since=14, weights=(1, 2), state=(3, 4), widen=True)
def batch_norm(call, x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0):
    """(x - mean) / sqrt(var + epsilon) scale + bias, by the batch or by running statistics."""
    return _batch_norm(call, x, scale, bias, mean, var, epsilon, momentum, call.training or training_mode)


@batch_norm.gradient
def batch_norm_backward(call, grad_y, *_, epsilon=1e-5, momentum=0.9, training_mode=0):
    return batch_norm_old_backward(call, grad_y, epsilon=epsilon)


# --- Instance normalisation: each channel of each image is a channel of a batch of one


def _as_one_batch(x, *vectors):
    n, c = x.shape[:2]
    return x.reshape(1, n * c, int(np.prod(x.shape[2:]))), *(np.tile(v, n) for v in vectors)


@operator("InstanceNormalization", weights=(1, 2), widen=True)
def instance_norm(call, x, scale, bias, *, epsilon=1e-5):
    """Normalise each channel of each image by itself."""
    rows, weight, offset = _as_one_batch(x, scale, bias)
    call.saved = mean, var = exact_stats(rows)
    return F.batch_norm(rows, mean, var, weight, offset, epsilon).reshape(x.shape)


@instance_norm.gradient
def instance_norm_backward(call, grad_y, *, epsilon=1e-5):
    x, scale, bias = call.inputs
    rows, weight, offset = _as_one_batch(x, scale, bias)
    grad_y = grad_y.reshape(rows.shape)
    grad_x, *grads = F.batch_norm_backward(grad_y, rows, *call.saved, weight, offset, epsilon)
    return grad_x.reshape(x.shape), *(grad.reshape(len(x), -1).sum(0) for grad in grads)


# --- Dropout: the share was an attribute up to opset 11


def _dropout(call, x, ratio, drop, seed=None):
    if not drop or ratio == 0:
        call.saved = None
        return x, np.ones(x.shape, bool)
    if seed is None:
        mask = F.dropout_mask(x.shape, ratio, call.session.rng, x.dtype)
    else:  # as the ONNX reference draws it
        kept = np.random.RandomState(seed).uniform(0, 1, x.shape) >= ratio
        mask = kept * x.dtype.type(1 / (1 - ratio))
    call.saved = mask
    return x * mask, mask != 0


@operator("Dropout")
def dropout_old(call, x, *, ratio=0.5):
    """In training, zero with probability `ratio`, else x / (1 - ratio)."""
    return _dropout(call, x, ratio, call.training)


@operator("Dropout", since=12)
def dropout(call, x, ratio=None, training_mode=None, *, seed=None):
    """In training, zero with probability `ratio`, else x / (1 - ratio)."""
    drop = call.training or (training_mode is not None and bool(training_mode))
    return _dropout(call, x, 0.5 if ratio is None else float(ratio), drop, seed)


@dropout_old.gradient
def dropout_old_backward(call, grad_y, *_, ratio=0.5):
    return grad_y if call.saved is None else grad_y * call.saved


@dropout.gradient
def dropout_backward(call, grad_y, *_, seed=None):
    return dropout_old_backward(call, grad_y)


# --- Layer and local response normalisation


@operator("LayerNormalization", weights=(1, 2), widen=True)
def layer_norm(call, x, scale, bias=None, *, axis=-1, epsilon=1e-5, stash_type=1):
    """Normalise over the axes from `axis` on."""
    sizes = x.shape[axis_of("axis", axis, x.ndim):]
    weight, offset = (None if v is None else np.broadcast_to(v, sizes) for v in (scale, bias))
    y = F.layer_norm(x, sizes, weight, offset, epsilon)
    if not (call.wants(1) or call.wants(2)):
        return y
    axes = tuple(range(x.ndim - len(sizes), x.ndim))
    wide = x.astype(np.float64)
    deviation = np.sqrt(wide.var(axes, keepdims=True) + epsilon)
    return y, wide.mean(axes, keepdims=True).astype(np.float32), (1 / deviation).astype(np.float32)


@layer_norm.gradient
def layer_norm_backward(call, grad_y, *_, axis=-1, epsilon=1e-5, stash_type=1):
    x, scale, bias = (*call.inputs, None)[:3]
    sizes = x.shape[axis_of("axis", axis, x.ndim):]
    weight, offset = (None if v is None else np.broadcast_to(v, sizes) for v in (scale, bias))
    grad_x, *grads = F.layer_norm_backward(grad_y, x, sizes, weight, offset, epsilon)
    return grad_x, *(None if v is None else sum_to_shape(grad, v.shape)
                     for v, grad in zip((scale, bias), grads, strict=True))


@operator("LRN", widen=True)
def lrn(call, x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    """x / (bias + alpha / size sum x^2)^beta, the sum over `size` neighbouring channels."""
    before, after = (size - 1) // 2, size // 2
    y, call.saved = divide_by_neighbours(x, before, after, alpha / size, beta, bias)
    return y


@lrn.gradient
def lrn_backward(call, grad_y, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    return divide_by_neighbours_backward(grad_y, call.inputs[0], call.saved, (size - 1) // 2, size // 2,
                                         alpha / size, beta)
