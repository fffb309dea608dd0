"""How layers are written as ONNX operators: convolutions, Linear, norms, activations, shapes, containers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import layers as nn
from .._checks import axis_of
from .export_graph import Builder, Size, channels, emits, rank, shape_text
from .graph import Value

# --- Linear and Embedding


@emits(nn.Linear)
def _linear(builder: Builder, layer: nn.Linear, x: Value) -> Value:
    channels(x, -1, layer.in_features)
    shape = (*x.shape[:-1], layer.out_features)
    if len(x.shape) == 2:
        weight = builder.parameter("weight", layer.weight)
        bias = None if layer.bias is None else builder.parameter("bias", layer.bias)
        y = builder.add("Gemm", x, weight, *([bias] if bias else []), shape=shape, transB=1)
    else:
        weight = builder.transpose(builder.parameter("weight", layer.weight), 1, 0)
        y = builder.add("MatMul", x, weight, shape=shape)
        if layer.bias is not None:
            y = builder.add("Add", y, builder.parameter("bias", layer.bias), shape=shape)
    return builder.activate(layer.activation, y)


@emits(nn.RNNOutput)
def _rnn_output(builder: Builder, layer: nn.RNNOutput, x: Value) -> Value:
    y = _linear(builder, layer, x)
    return y if layer.softmax is None else builder.first("softmax", layer.softmax, y)


@emits(nn.Embedding)
def _embedding(builder: Builder, layer: nn.Embedding, x: Value) -> Value:
    if x.dtype.kind != "i":
        raise ValueError(f"its input has dtype {x.dtype}, expected integers")
    return builder.add("Gather", builder.parameter("weight", layer.weight), x,
                       shape=(*x.shape, layer.embedding_dim), axis=0)


# --- Convolution


def _spans(layer: Any) -> tuple[list[int], list[int]]:
    """The padding before and after each dimension."""
    if layer.padding == "valid":
        return [0] * layer.rank, [0] * layer.rank
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [total // 2 for total in totals], [total - total // 2 for total in totals]
    return list(layer.padding), list(layer.padding)


def _sizes(layer: Any, sizes: tuple[Size, ...], total: list[int]) -> tuple[Size, ...]:
    return tuple(
        (size + pad - d * (k - 1) - 1) // s + 1 if isinstance(size, int) else None
        for size, pad, d, k, s in zip(sizes, total, layer.dilation, layer.kernel_size, layer.stride,
                                      strict=True))


def _convolution(builder: Builder, layer: Any, x: Value, op: str, sizes: Any, **attributes: Any) -> Value:
    single = rank(x, layer.rank + 1, layer.rank + 2) == layer.rank + 1
    channels(x, 0 if single else 1, layer.in_channels)
    batch = builder.unsqueeze(x, 0) if single else x
    before, after = _spans(layer)
    bias = [] if layer.bias is None else [builder.parameter("bias", layer.bias)]
    y = builder.add(op, batch, builder.parameter("weight", layer.weight), *bias,
                    shape=(batch.shape[0], layer.out_channels, *sizes(batch.shape[2:])),
                    kernel_shape=layer.kernel_size, strides=layer.stride, pads=(*before, *after),
                    dilations=layer.dilation, group=layer.groups, **attributes)
    return builder.activate(layer.activation, builder.squeeze(y, 0) if single else y)


@emits(nn.Conv1d, nn.Conv2d)
def _conv(builder: Builder, layer: Any, x: Value) -> Value:
    total = [a + b for a, b in zip(*_spans(layer), strict=True)]
    return _convolution(builder, layer, x, "Conv", lambda sizes: _sizes(layer, sizes, total))


@emits(nn.ConvTranspose2d)
def _conv_transpose(builder: Builder, layer: nn.ConvTranspose2d, x: Value) -> Value:
    def sizes(given: tuple[Size, ...]) -> tuple[Size, ...]:
        return tuple(
            (size - 1) * s - 2 * p + d * (k - 1) + extra + 1 if isinstance(size, int) else None
            for size, s, p, d, k, extra in zip(given, layer.stride, layer.padding, layer.dilation,
                                               layer.kernel_size, layer.output_padding, strict=True))

    return _convolution(builder, layer, x, "ConvTranspose", sizes, output_padding=layer.output_padding)


# --- Normalisation


@emits(nn.BatchNorm1d, nn.BatchNorm2d)
def _batch_norm(builder: Builder, layer: Any, x: Value) -> Value:
    count = rank(x, *layer.ranks)
    channels(x, 1, layer.num_features)
    if layer.affine:
        weight, bias = builder.parameter("weight", layer.weight), builder.parameter("bias", layer.bias)
    else:
        weight = builder.constant("weight", np.ones(layer.num_features, layer.dtype))
        bias = builder.constant("bias", np.zeros(layer.num_features, layer.dtype))
    if layer.track_running_stats:
        mean = builder.constant("running_mean", layer.running_mean)
        var = builder.constant("running_var", layer.running_var)
        return builder.add("BatchNormalization", x, weight, bias, mean, var, shape=x.shape, epsilon=layer.eps)
    # Without running statistics it normalises by the batch, in eval mode too.
    axes = (0, *range(2, count))
    centred = builder.add("Sub", x, builder.mean(x, axes), shape=x.shape)
    var = builder.mean(builder.add("Mul", centred, centred, shape=x.shape), axes)
    eps = builder.constant("eps", np.array(layer.eps, layer.dtype))
    deviation = builder.add("Sqrt", builder.add("Add", var, eps, shape=var.shape), shape=var.shape)
    y = builder.add("Div", centred, deviation, shape=x.shape)
    for op, vector in (("Mul", weight), ("Add", bias)):
        y = builder.add(op, y, _by_channel(builder, vector, count), shape=x.shape)
    return y


def _by_channel(builder: Builder, vector: Value, count: int) -> Value:
    """A vector over the channels of an array of `count` dimensions."""
    if count < 3:
        return vector
    shape = (*vector.shape, *(1,) * (count - 2))
    return builder.add("Reshape", vector, builder.constant("shape", np.int64(shape)), shape=shape)


@emits(nn.LayerNorm)
def _layer_norm(builder: Builder, layer: nn.LayerNorm, x: Value) -> Value:
    sizes = layer.normalized_shape
    for axis in range(-len(sizes), 0):
        channels(x, axis, sizes[axis])
    if layer.weight is not None:
        weight = builder.parameter("weight", layer.weight)
    else:
        weight = builder.constant("weight", np.ones(sizes, layer.dtype))
    bias = [] if layer.bias is None else [builder.parameter("bias", layer.bias)]
    return builder.add("LayerNormalization", x, weight, *bias, shape=x.shape, axis=-len(sizes),
                       epsilon=layer.eps)


# --- Activations


@emits(nn.ReLU, nn.Sigmoid, nn.Tanh)
def _by_name(builder: Builder, layer: Any, x: Value) -> Value:
    return builder.activate(type(layer).__name__.lower(), x)


@emits(nn.LeakyReLU)
def _leaky_relu(builder: Builder, layer: nn.LeakyReLU, x: Value) -> Value:
    return builder.add("LeakyRelu", x, shape=x.shape, alpha=layer.negative_slope)


@emits(nn.ELU)
def _elu(builder: Builder, layer: nn.ELU, x: Value) -> Value:
    return builder.add("Elu", x, shape=x.shape, alpha=layer.alpha)


@emits(nn.Hardtanh, nn.ReLU6)
def _hardtanh(builder: Builder, layer: nn.Hardtanh, x: Value) -> Value:
    low, high = (builder.constant(name, np.array(getattr(layer, name), x.dtype))
                 for name in ("min_val", "max_val"))
    return builder.add("Clip", x, low, high, shape=x.shape)


@emits(nn.Hardsigmoid)
def _hardsigmoid(builder: Builder, layer: nn.Hardsigmoid, x: Value) -> Value:
    return builder.add("HardSigmoid", x, shape=x.shape, alpha=1 / 6, beta=0.5)


@emits(nn.Hardswish)
def _hardswish(builder: Builder, layer: nn.Hardswish, x: Value) -> Value:
    return builder.add("HardSwish", x, shape=x.shape)


@emits(nn.Softplus)
def _softplus(builder: Builder, layer: nn.Softplus, x: Value) -> Value:
    scaled, beta = x, None
    if layer.beta != 1:
        beta = builder.constant("beta", np.array(layer.beta, x.dtype))
        scaled = builder.add("Mul", x, beta, shape=x.shape)
    y = builder.add("Softplus", scaled, shape=x.shape)
    if beta is not None:
        y = builder.add("Div", y, beta, shape=x.shape)
    if layer.threshold >= 20:  # ONNX's has no threshold: beyond 20 the two differ by less than 3e-9 of a unit
        return y
    threshold = builder.constant("threshold", np.array(layer.threshold, x.dtype))
    above = builder.add("Greater", scaled, threshold, shape=x.shape, dtype=bool)
    return builder.add("Where", above, x, y, shape=x.shape, dtype=x.dtype)


@emits(nn.LocalResponseNorm)
def _local_response_norm(builder: Builder, layer: nn.LocalResponseNorm, x: Value) -> Value:
    if layer.size % 2 == 0:
        raise ValueError(f"its size is {layer.size}; of an even number ONNX takes other channels")
    return builder.add("LRN", x, shape=x.shape, size=layer.size, alpha=layer.alpha, beta=layer.beta,
                       bias=layer.k)


@emits(nn.PReLU)
def _prelu(builder: Builder, layer: nn.PReLU, x: Value) -> Value:
    slope = builder.parameter("weight", layer.weight)
    if layer.num_parameters > 1:
        channels(x, 1, layer.num_parameters)
        slope = _by_channel(builder, slope, len(x.shape))
    return builder.add("PRelu", x, slope, shape=x.shape)


@emits(nn.GELU)
def _gelu(builder: Builder, layer: nn.GELU, x: Value) -> Value:
    return builder.add("Gelu", x, shape=x.shape, approximate=layer.approximate)


@emits(nn.SiLU)
def _silu(builder: Builder, layer: nn.SiLU, x: Value) -> Value:
    return builder.add("Mul", x, builder.add("Sigmoid", x, shape=x.shape), shape=x.shape)


@emits(nn.Softmax)
def _softmax(builder: Builder, layer: nn.Softmax, x: Value) -> Value:
    return builder.add("Softmax", x, shape=x.shape, axis=axis_of("Softmax: dim", layer.dim, len(x.shape)))


@emits(nn.LogSoftmax)
def _log_softmax(builder: Builder, layer: nn.LogSoftmax, x: Value) -> Value:
    return builder.add("LogSoftmax", x, shape=x.shape,
                       axis=axis_of("LogSoftmax: dim", layer.dim, len(x.shape)))


# --- Shapes


@emits(nn.Identity, nn.Dropout)
def _nothing(builder: Builder, layer: Any, x: Value) -> Value:
    return x


@emits(nn.Flatten)
def _flatten(builder: Builder, layer: nn.Flatten, x: Value) -> Value:
    count = max(len(x.shape), 1)
    start, end = layer._axes(len(x.shape))
    joined, after = x.shape[start : end + 1], x.shape[end + 1 :]
    size = math.prod(joined) if all(isinstance(n, int) for n in joined) else None
    shape = (*x.shape[:start], size, *after)
    if (start, end) == (1, count - 1):
        return builder.add("Flatten", x, shape=shape, axis=1)
    # In the argument of Reshape 0 is the size that the input has there, and -1 what is left over.
    numbers = [0] * start + [-1 if not isinstance(n, int) else n for n in (size, *after)]
    if numbers.count(-1) > 1:
        raise ValueError(f"Flatten with more than one free size from dimension {start} on; fix all but one")
    return builder.add("Reshape", x, builder.constant("shape", np.int64(numbers)), shape=shape)


@emits(nn.Permute)
def _permute(builder: Builder, layer: nn.Permute, x: Value) -> Value:
    count = rank(x, len(layer.dims))
    return builder.transpose(x, *(dim % count for dim in layer.dims))


@emits(nn.LastStep)
def _last_step(builder: Builder, layer: nn.LastStep, x: Value) -> Value:
    axis = 1 if rank(x, 2, 3) == 3 and layer.batch_first else 0

    def step(part: Value, index: int) -> Value:
        return builder.add("Gather", part, builder.constant("step", np.int64(index)), axis=axis,
                           shape=(*part.shape[:axis], *part.shape[axis + 1 :]))

    if not layer.bidirectional:
        return step(x, -1)
    if not isinstance(x.shape[-1], int) or x.shape[-1] % 2:
        raise ValueError(f"its input has shape {shape_text(x.shape)}, expected an even number of features")
    halves = builder.add_many("Split", x, shapes=[(*x.shape[:-1], x.shape[-1] // 2)] * 2, axis=-1,
                              num_outputs=2)
    last, first = step(halves[0], -1), step(halves[1], 0)
    return builder.add("Concat", last, first, shape=(*last.shape[:-1], x.shape[-1]), axis=-1)


# --- Containers


@emits(nn.Sequential)
def _sequential(builder: Builder, layer: nn.Sequential, x: Value) -> Value:
    for name, child in layer.named_children():
        x = builder.first(name, child, x)
    return x


@emits(nn.Residual)
def _residual(builder: Builder, layer: nn.Residual, x: Value) -> Value:
    y = builder.first("body", layer.body, x)
    around = x if layer.shortcut is None else builder.first("shortcut", layer.shortcut, x)
    y = builder.add("Add", y, around, shape=_common(y, around))
    if isinstance(layer.activation, nn.Module):
        return builder.first("activation", layer.activation, y)
    return builder.activate(layer.activation, y)


@emits(nn.Parallel)
def _parallel(builder: Builder, layer: nn.Parallel, x: Value) -> Value:
    y, *others = [builder.first(name, branch, x) for name, branch in layer.named_children()]
    if layer.merge == "sum":
        for other in others:
            y = builder.add("Add", y, other, shape=_common(y, other))
        return y
    dim = axis_of("Parallel: dim", layer.dim, len(y.shape), "outputs")
    sizes = [value.shape[dim] for value in (y, *others)]
    size = sum(sizes) if all(isinstance(n, int) for n in sizes) else None
    return builder.add("Concat", y, *others, shape=(*y.shape[:dim], size, *y.shape[dim + 1 :]), axis=dim)


def _common(x: Value, y: Value) -> tuple[Size, ...]:
    """The shape of two arrays that have the same, from what is known of each."""
    if len(x.shape) != len(y.shape):
        raise ValueError(f"arrays of {len(x.shape)} and {len(y.shape)} dimensions do not add up")
    return tuple(a if isinstance(a, int) else b if isinstance(b, int) else a
                 for a, b in zip(x.shape, y.shape, strict=True))
