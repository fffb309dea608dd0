"""Convolutions in plain NumPy: a loop over the taps of the filter, each a matrix product over channels."""

from __future__ import annotations

import numpy as np

from .activation import relu, relu_backward, sigmoid, sigmoid_backward, tanh, tanh_backward

_FUSED = {
    None: (lambda z: z, lambda grad_y, y: grad_y),
    "relu": (relu, relu_backward),
    "sigmoid": (sigmoid, sigmoid_backward),
    "tanh": (tanh, tanh_backward),
}


def _pair(value):
    return (value, value) if np.ndim(value) == 0 else tuple(value)


def _pads(padding, dilation, kernel):
    """((top, bottom), (left, right))."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)
    return tuple((p, p) for p in _pair(padding))


def _taps(x, output, kernel, stride, dilation):
    """For each tap (r, s), the inputs it reads: views of the padded x, (N, C, P, Q)."""
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            top, left = r * dilation[0], s * dilation[1]
            yield r, s, x[:, :, top : top + (output[0] - 1) * stride[0] + 1 : stride[0],
                          left : left + (output[1] - 1) * stride[1] + 1 : stride[1]]


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, activation=None,
           algorithm="auto"):
    """y[n, k, p, q] = f(bias[k] + sum weight[k, c, r, s] x[n, c, p stride + r dilation - padding, ...])."""
    if x.ndim == 3:
        return conv2d(x[None], weight, bias, stride, padding, dilation, groups, activation=activation)[0]
    stride, dilation, kernel = _pair(stride), _pair(dilation), weight.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), *_pads(padding, dilation, kernel)))
    output = [(size - d * (k - 1) - 1) // s + 1
              for size, d, k, s in zip(padded.shape[2:], dilation, kernel, stride, strict=True)]
    filters = np.split(weight, groups)
    z = np.zeros((x.shape[0], weight.shape[0], *output), x.dtype)
    for inputs, group, out in zip(np.split(padded, groups, 1), filters, np.split(z, groups, 1), strict=True):
        for r, s, seen in _taps(inputs, output, kernel, stride, dilation):
            out += np.einsum("kc,ncpq->nkpq", group[:, :, r, s], seen, optimize=True)
    if bias is not None:
        z += bias[:, None, None]
    return _FUSED[activation][0](z)


def conv2d_backward(grad_y, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *,
                    activation=None, y=None, algorithm="auto", input_grad=True):
    """What each tap read gets back what it gave: grad_x through the filters, grad_weight from the inputs."""
    if x.ndim == 3:
        grad_x, *grads = conv2d_backward(
            grad_y[None], x[None], weight, bias, stride, padding, dilation, groups, activation=activation,
            y=None if y is None else y[None], input_grad=input_grad)
        return grad_x[0] if input_grad else None, *grads
    grad_z = _FUSED[activation][1](grad_y, y)
    stride, dilation, kernel = _pair(stride), _pair(dilation), weight.shape[2:]
    pads = _pads(padding, dilation, kernel)
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    grad_padded, grad_weight = np.zeros_like(padded), np.zeros_like(weight)
    parts = (np.split(grad_z, groups, 1), np.split(weight, groups), np.split(grad_weight, groups),
             np.split(padded, groups, 1), np.split(grad_padded, groups, 1))
    for grad, group, grad_group, inputs, grad_inputs in zip(*parts, strict=True):
        taps = zip(_taps(inputs, grad_z.shape[2:], kernel, stride, dilation),
                   _taps(grad_inputs, grad_z.shape[2:], kernel, stride, dilation), strict=True)
        for (r, s, seen), (_, _, grad_seen) in taps:
            grad_group[:, :, r, s] = np.einsum("nkpq,ncpq->kc", grad, seen, optimize=True)
            grad_seen += np.einsum("kc,nkpq->ncpq", group[:, :, r, s], grad, optimize=True)
    (top, _), (left, _) = pads
    grad_x = grad_padded[:, :, top : top + x.shape[2], left : left + x.shape[3]] if input_grad else None
    return grad_x, grad_weight, None if bias is None else grad_z.sum((0, 2, 3))


def _two(value, neutral):
    return value if isinstance(value, str) else (neutral, int(np.ravel(value)[0]))


def conv1d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, activation=None,
           algorithm="auto"):
    """conv2d over images of height 1."""
    return conv2d(x[..., None, :], weight[:, :, None], bias, _two(stride, 1), _two(padding, 0),
                  _two(dilation, 1), groups, activation=activation)[..., 0, :]


def conv1d_backward(grad_y, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *,
                    activation=None, y=None, algorithm="auto", input_grad=True):
    """conv2d_backward over images of height 1."""
    grad_x, grad_weight, grad_bias = conv2d_backward(
        grad_y[..., None, :], x[..., None, :], weight[:, :, None], bias, _two(stride, 1), _two(padding, 0),
        _two(dilation, 1), groups, activation=activation, y=None if y is None else y[..., None, :],
        input_grad=input_grad)
    return grad_x[..., 0, :] if input_grad else None, grad_weight[:, :, 0], grad_bias


def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """y[n, k, p * stride + r * dilation - padding, ...] += weight[c, k, r, s] x[n, c, p, q]."""
    if x.ndim == 3:
        return conv_transpose2d(x[None], weight, bias, stride, padding, output_padding, groups, dilation)[0]
    stride, padding, dilation, extra = map(_pair, (stride, padding, dilation, output_padding))
    sizes = [(size - 1) * s + d * (k - 1) + e + 1
             for size, s, d, k, e in zip(x.shape[2:], stride, dilation, weight.shape[2:], extra, strict=True)]
    y = np.zeros((x.shape[0], weight.shape[1] * groups, *sizes), x.dtype)
    for inputs, group, out in zip(np.split(x, groups, 1), np.split(weight, groups), np.split(y, groups, 1),
                                  strict=True):
        for r, s, target in _taps(out, x.shape[2:], weight.shape[2:], stride, dilation):
            target += np.einsum("ck,ncpq->nkpq", group[:, :, r, s], inputs, optimize=True)
    y = y[:, :, padding[0] : sizes[0] - padding[0], padding[1] : sizes[1] - padding[1]]
    return y if bias is None else y + bias[:, None, None]


def conv_transpose2d_backward(grad_y, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1,
                              dilation=1, *, input_grad=True):
    """The transpose of the transpose is the convolution; grad_weight swaps the roles of x and grad_y."""
    if x.ndim == 3:
        grad_x, *grads = conv_transpose2d_backward(
            grad_y[None], x[None], weight, bias, stride, padding, output_padding, groups, dilation,
            input_grad=input_grad)
        return grad_x[0] if input_grad else None, *grads
    full = conv2d(grad_y, weight, None, stride, padding, dilation, groups)
    grad_x = full[:, :, : x.shape[2], : x.shape[3]] if input_grad else None
    # Output padding beyond the stride leaves pixels that no x wrote: their part of `full` is cut as well.
    swapped = np.zeros_like(full)
    swapped[:, :, : x.shape[2], : x.shape[3]] = x
    _, grad_weight, _ = conv2d_backward(swapped, grad_y, weight, None, stride, padding, dilation, groups)
    return grad_x, grad_weight, None if bias is None else grad_y.sum((0, 2, 3))


def convolve2d(a, b):
    """C[s, t] = sum_{m, n} A[m, n] B[s - m, t - n], of the full size."""
    (ma, na), (mb, nb) = a.shape, b.shape
    c = np.zeros((ma + mb - 1, na + nb - 1), a.dtype)
    for m in range(ma):
        for n in range(na):
            c[m : m + mb, n : n + nb] += a[m, n] * b
    return c
