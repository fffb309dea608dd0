"""Pooling in plain NumPy: a loop over outputs, each of one window."""

import numpy as np

# --- Where windows lie: for each output the taps inside the axis, and what a mean divides by


def _sliding(size, kernel, stride, padding, dilation, ceil_mode, count_include_pad=True):
    reach = dilation * (kernel - 1) + 1
    outputs = int((np.ceil if ceil_mode else np.floor)((size + 2 * padding - reach) / stride)) + 1
    starts = [i * stride - padding for i in range(outputs) if not ceil_mode or i * stride < size + padding]
    windows = [[i for i in range(start, start + reach, dilation) if 0 <= i < size] for start in starts]
    if count_include_pad:
        return windows, [min(start + kernel, size + padding) - start for start in starts]
    return windows, [len(window) for window in windows]


def _adaptive(size, outputs):
    outputs = size if outputs is None else outputs
    windows = [range(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]
    return windows, [len(window) for window in windows]


def _pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _axes(shape, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad=True):
    pairs = zip(shape[-2:], *map(_pair, (kernel_size, kernel_size if stride is None else stride, padding,
                                         dilation)), strict=True)
    return [_sliding(*numbers, ceil_mode, count_include_pad) for numbers in pairs]


def _row(value, other=1):
    """The 2-d form of a 1-d argument."""
    return None if value is None else (other, *value) if isinstance(value, (tuple, list)) else (other, value)


def _window(x, rows, columns):
    """The pixels of one window, in row order along the last axis."""
    return x[..., rows, :][..., columns].reshape(*x.shape[:-2], len(rows) * len(columns))


# --- Maximum


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest of each window, the first of equals; a NaN wins. With indices into the plane if asked."""
    (rows, _), (columns, _) = _axes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:-2], len(rows), len(columns)), x.dtype)
    indices = np.empty(y.shape, np.int64)
    places = np.arange(x.shape[-2] * x.shape[-1]).reshape(x.shape[-2:])
    for p, q in np.ndindex(y.shape[-2:]):
        window = _window(x, rows[p], columns[q])
        winner = window.argmax(-1)  # the first of equals; the first NaN, if there is one
        y[..., p, q] = np.take_along_axis(window, winner[..., None], -1)[..., 0]
        indices[..., p, q] = _window(places, rows[p], columns[q])[winner]
    return (y, indices) if return_indices else y


def max_pool2d_backward(grad_y, indices, input_shape):
    """Each gradient goes to the place that its maximum came from."""
    grad_x = np.zeros(input_shape, grad_y.dtype)
    for index in np.ndindex(grad_y.shape):
        h, w = divmod(indices[index], input_shape[-1])
        grad_x[(*index[:-2], h, w)] += grad_y[index]
    return grad_x


def max_pool1d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """max_pool2d over images of height 1."""
    y, indices = max_pool2d(x[..., None, :], _row(kernel_size), _row(stride), _row(padding, 0),
                            _row(dilation), ceil_mode, True)
    return (y[..., 0, :], indices[..., 0, :]) if return_indices else y[..., 0, :]


def max_pool1d_backward(grad_y, indices, input_shape):
    """max_pool2d_backward over images of height 1."""
    shape = (*input_shape[:-1], 1, input_shape[-1])
    return max_pool2d_backward(grad_y[..., None, :], indices[..., None, :], shape)[..., 0, :]


# --- Mean


def _means(x, axes):
    (rows, row_divisors), (columns, column_divisors) = axes
    y = np.empty((*x.shape[:-2], len(rows), len(columns)), x.dtype)
    for p, q in np.ndindex(y.shape[-2:]):
        y[..., p, q] = _window(x, rows[p], columns[q]).sum(-1) / (row_divisors[p] * column_divisors[q])
    return y


def _means_backward(grad_y, input_shape, axes):
    (rows, row_divisors), (columns, column_divisors) = axes
    grad_x = np.zeros(input_shape, grad_y.dtype)
    for p, q in np.ndindex(grad_y.shape[-2:]):
        share = grad_y[..., p, q] / (row_divisors[p] * column_divisors[q])
        for h in rows[p]:
            for w in columns[q]:
                grad_x[..., h, w] += share
    return grad_x


def _average_axes(shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=None):
    rows, columns = _axes(shape, kernel_size, stride, padding, 1, ceil_mode, count_include_pad)
    if divisor_override is None:
        return rows, columns
    return (rows[0], [divisor_override] * len(rows[0])), (columns[0], [1] * len(columns[0]))


def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None):
    """The sum of each window over its number of taps, or over divisor_override."""
    return _means(x, _average_axes(x.shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                                   divisor_override))


def avg_pool2d_backward(grad_y, input_shape, kernel_size, stride=None, padding=0, ceil_mode=False,
                        count_include_pad=True, divisor_override=None):
    """Each gradient spreads evenly over its window."""
    return _means_backward(grad_y, input_shape, _average_axes(input_shape, kernel_size, stride, padding,
                                                              ceil_mode, count_include_pad, divisor_override))


def avg_pool1d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """avg_pool2d over images of height 1."""
    return avg_pool2d(x[..., None, :], _row(kernel_size), _row(stride), _row(padding, 0), ceil_mode,
                      count_include_pad)[..., 0, :]


def avg_pool1d_backward(grad_y, input_shape, kernel_size, stride=None, padding=0, ceil_mode=False,
                        count_include_pad=True):
    """avg_pool2d_backward over images of height 1."""
    shape = (*input_shape[:-1], 1, input_shape[-1])
    return avg_pool2d_backward(grad_y[..., None, :], shape, _row(kernel_size), _row(stride), _row(padding, 0),
                               ceil_mode, count_include_pad)[..., 0, :]


def adaptive_avg_pool2d(x, output_size):
    """The mean of window i from floor(i size / outputs) to ceil((i + 1) size / outputs)."""
    return _means(x, list(map(_adaptive, x.shape[-2:], _pair(output_size))))


def adaptive_avg_pool2d_backward(grad_y, input_shape):
    """Each gradient spreads evenly over its window."""
    return _means_backward(grad_y, input_shape, list(map(_adaptive, input_shape[-2:], grad_y.shape[-2:])))


def adaptive_avg_pool1d(x, output_size):
    """adaptive_avg_pool2d over images of height 1."""
    return adaptive_avg_pool2d(x[..., None, :], _row(output_size) or (1, None))[..., 0, :]


def adaptive_avg_pool1d_backward(grad_y, input_shape):
    """adaptive_avg_pool2d_backward over images of height 1."""
    shape = (*input_shape[:-1], 1, input_shape[-1])
    return adaptive_avg_pool2d_backward(grad_y[..., None, :], shape)[..., 0, :]


def global_avg_pool2d(x):
    """The mean of each plane."""
    return x.mean((-2, -1), keepdims=True)


def global_avg_pool2d_backward(grad_y, input_shape):
    """Each gradient spreads evenly over its plane."""
    return np.broadcast_to(grad_y / (input_shape[-2] * input_shape[-1]), input_shape).copy()


def global_avg_pool1d(x):
    """The mean of each signal."""
    return x.mean(-1, keepdims=True)


def global_avg_pool1d_backward(grad_y, input_shape):
    """Each gradient spreads evenly over its signal."""
    return np.broadcast_to(grad_y / input_shape[-1], input_shape).copy()
