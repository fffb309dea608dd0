"""Normalisation over neighbouring channels, forward beside backward."""

from __future__ import annotations

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment


def channel_sums(x, before, after):
    """Sums over the channels from c - before to c + after, those that there are."""
    y = x.copy("K")
    for shift in range(1, min(max(before, after), x.shape[1] - 1) + 1):
        if shift <= before:
            y[:, shift:] += x[:, :-shift]
        if shift <= after:
            y[:, :-shift] += x[:, shift:]
    return y


@in_default_environment
def divide_by_neighbours(x, before, after, alpha, beta, k):
    """x base^-beta with base = k + alpha sum x^2 over neighbours; returns the base, too."""
    base = channel_sums(np.square(x), before, after)
    base *= x.dtype.type(alpha)
    base += x.dtype.type(k)
    return x * np.power(base, x.dtype.type(-beta)), base


@in_default_environment
def divide_by_neighbours_backward(grad_y, x, base, before, after, alpha, beta):
    """The gradient of `divide_by_neighbours`."""
    scale = np.power(base, x.dtype.type(-beta))
    inner = grad_y * x
    inner *= scale
    inner /= base
    # Channel c is in the sums of those that have it for a neighbour: the window is turned round.
    inner = channel_sums(inner, after, before)
    inner *= x
    inner *= x.dtype.type(-2 * alpha * beta)
    inner += grad_y * scale
    return inner


def _arguments(name, x, size, alpha, beta, k):
    x = _checks.as_float_array(f"{name}: x", x)
    if x.ndim < 2:
        raise ValueError(f"{name}: x has shape {x.shape}, expected (N, C) or (N, C, ...)")
    size = _checks.integer(f"{name}: size", size)
    numbers = (_checks.real(f"{name}: {what}", n) for what, n in (("alpha", alpha), ("beta", beta), ("k", k)))
    alpha, beta, k = numbers
    return x, size // 2, (size - 1) // 2, alpha / size, beta, k


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    """Normalise each channel by its neighbours, of AlexNet (Krizhevsky, Sutskever and Hinton, 2012).

    ::

        y[n, c] = x[n, c] / (k + alpha / size sum x[n, c']^2)^beta

    the sum over c - size // 2 <= c' <= c + (size - 1) // 2.

    Parameters
    ----------
    x : ndarray, (N, C) or (N, C, ...)
    size : int
        Channels in a sum; beyond the first and the last there are zeros.
    alpha, beta, k : float, default 1e-4, 0.75, 1

    Returns
    -------
    y : ndarray of the shape of `x`
    """
    return divide_by_neighbours(*_arguments("local_response_norm", x, size, alpha, beta, k))[0]


def local_response_norm_backward(grad_y, x, size, alpha=1e-4, beta=0.75, k=1.0):
    """Gradient of `local_response_norm`, from its input; s = k + alpha / size sum x^2.

    ::

        grad_x = grad_y s^-beta - 2 alpha beta / size x sum grad_y x s^(-beta - 1)

    with the sum over the channels whose own sums have this one.

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    """
    name = "local_response_norm_backward"
    x, before, after, alpha, beta, k = _arguments(name, x, size, alpha, beta, k)
    grad_y = _checks.as_float_array(f"{name}: grad_y", grad_y, None, x.dtype)
    _checks.same_shape(f"{name}: grad_y", grad_y, x.shape, "as x has")
    _, base = divide_by_neighbours(x, before, after, alpha, beta, k)
    return divide_by_neighbours_backward(grad_y, x, base, before, after, alpha, beta)
