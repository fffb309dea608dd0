"""Losses element by element, and their gradients with respect to the prediction.

`reduction` is "mean", "sum" or "none": what becomes of the losses of single elements.
"""

from __future__ import annotations

import numpy as np

from .. import _checks
from .._kernels import elementwise as _kernel
from .._kernels.memory import empty
from .._kernels.runtime import in_default_environment
from ._reduction import REDUCTIONS, gradient_scale, reduce, reduced


def _both(name, y, target, reduction, y_name="y"):
    y = _checks.as_float_array(f"{name}: {y_name}", y)
    target = _checks.as_float_array(f"{name}: target", target, None, y.dtype)
    _checks.same_shape(f"{name}: target", target, y.shape, f"as {y_name} has")
    _checks.choice(f"{name}: reduction", reduction, REDUCTIONS)
    return y, target


def _elementwise(op, y, target, reduction, weight=None, pos_weight=None, **bend):
    """The losses of all elements, reduced."""
    losses = empty(y.shape, y.dtype) if reduction == "none" else None
    total = _kernel.loss(op, np.ascontiguousarray(y), np.ascontiguousarray(target), weight, pos_weight,
                         losses, **bend)
    return reduced(total, reduction, y.size) if losses is None else losses


def _elementwise_backward(op, scale, y, target, weight=None, pos_weight=None, **bend):
    """`scale` times the derivatives."""
    grad_y = empty(y.shape, y.dtype)
    _kernel.loss_backward(op, scale, np.ascontiguousarray(y), np.ascontiguousarray(target), weight,
                          pos_weight, grad_y, **bend)
    return grad_y


@in_default_environment
def mse_loss(y, target, reduction="mean"):
    """(y - t)^2, averaged or summed over all elements."""
    y, target = _both("mse_loss", y, target, reduction)
    return _elementwise(_kernel.SQUARED, y, target, reduction)


@in_default_environment
def mse_loss_backward(y, target, reduction="mean"):
    """2 (y - t), over the number of elements for the mean."""
    y, target = _both("mse_loss_backward", y, target, reduction)
    return _elementwise_backward(_kernel.SQUARED, 2 * gradient_scale(reduction, y.size), y, target)


@in_default_environment
def half_squared_error(y, target, reduction="sum"):
    """(t - y)^2 / 2, the E of batch gradient descent when summed over all samples."""
    y, target = _both("half_squared_error", y, target, reduction)
    return _elementwise(_kernel.HALF_SQUARED, y, target, reduction)


@in_default_environment
def half_squared_error_backward(y, target, reduction="sum"):
    """y - t, over the number of elements for the mean."""
    y, target = _both("half_squared_error_backward", y, target, reduction)
    return _elementwise_backward(_kernel.HALF_SQUARED, gradient_scale(reduction, y.size), y, target)


def _bend(dtype, edge, height):
    """The kernel's numbers for q (|d| - min(|d|, edge) / 2), where q rises to `height` at the edge."""
    # Of an edge below the normal numbers of the dtype height / edge would overflow.
    return {"edge": edge if edge >= np.finfo(dtype).tiny else 0.0, "height": height}


@in_default_environment
def l1_loss(y, target, reduction="mean"):
    """|y - t|, averaged or summed over all elements."""
    y, target = _both("l1_loss", y, target, reduction)
    return _elementwise(_kernel.HUBER, y, target, reduction, edge=0.0, height=1.0)


@in_default_environment
def l1_loss_backward(y, target, reduction="mean"):
    """sign(y - t), over the number of elements for the mean; 0 where they are equal."""
    y, target = _both("l1_loss_backward", y, target, reduction)
    return _elementwise_backward(_kernel.HUBER, gradient_scale(reduction, y.size), y, target, edge=0.0,
                                 height=1.0)


def _smooth(name, y, target, reduction, beta):
    y, target = _both(name, y, target, reduction)
    return y, target, _bend(y.dtype, _checks.real(f"{name}: beta", beta, 0.0), 1.0)


@in_default_environment
def smooth_l1_loss(y, target, reduction="mean", beta=1.0):
    """A parabola near 0 and |y - t| - beta / 2 beyond; the Huber loss over its delta.

    ::

        d = |y - t|
        loss = d^2 / (2 beta)  where d < beta
               d - beta / 2    elsewhere

    Parameters
    ----------
    y, target : ndarray of one shape
    reduction : {"mean", "sum", "none"}
    beta : float, default 1
        Where the one becomes the other; of 0 this is the L1 loss.

    References
    ----------
    Girshick: Fast R-CNN, 2015.
    """
    y, target, bend = _smooth("smooth_l1_loss", y, target, reduction, beta)
    return _elementwise(_kernel.HUBER, y, target, reduction, **bend)


@in_default_environment
def smooth_l1_loss_backward(y, target, reduction="mean", beta=1.0):
    """(y - t) / beta, held between -1 and 1, over the number of elements for the mean."""
    y, target, bend = _smooth("smooth_l1_loss_backward", y, target, reduction, beta)
    return _elementwise_backward(_kernel.HUBER, gradient_scale(reduction, y.size), y, target, **bend)


def huber_delta(name, delta):
    """Check the edge of a Huber loss."""
    delta = _checks.real(f"{name}: delta", delta, 0.0)
    if not delta:
        raise ValueError(f"{name}: delta must be more than 0, got 0")
    return delta


def _huber(name, y, target, reduction, delta):
    y, target = _both(name, y, target, reduction)
    delta = huber_delta(name, delta)
    return y, target, _bend(y.dtype, delta, delta)


@in_default_environment
def huber_loss(y, target, reduction="mean", delta=1.0):
    """Half the square near 0, and a line beyond.

    ::

        d = |y - t|
        loss = d^2 / 2                where d < delta
               delta (d - delta / 2)  elsewhere

    Parameters
    ----------
    y, target : ndarray of one shape
    reduction : {"mean", "sum", "none"}
    delta : float, default 1
        Where the one becomes the other; more than 0.

    References
    ----------
    Huber: Robust Estimation of a Location Parameter, 1964.
    """
    y, target, bend = _huber("huber_loss", y, target, reduction, delta)
    return _elementwise(_kernel.HUBER, y, target, reduction, **bend)


@in_default_environment
def huber_loss_backward(y, target, reduction="mean", delta=1.0):
    """y - t, held between -delta and delta, over the number of elements for the mean."""
    y, target, bend = _huber("huber_loss_backward", y, target, reduction, delta)
    return _elementwise_backward(_kernel.HUBER, gradient_scale(reduction, y.size), y, target, **bend)


def _broadcast(name, value, like):
    """A weight of each element, in the shape of `like`; None for none."""
    if value is None:
        return None
    value = _checks.as_float_array(name, value, None, like.dtype)
    try:
        return np.asarray(np.broadcast_to(value, like.shape), order="C")
    except ValueError:
        raise ValueError(f"{name} has shape {value.shape}, which does not broadcast to "
                         f"{like.shape}") from None


def _probabilities(name, y, target, weight, reduction):
    # In C order: NumPy's logarithms of other arrays may differ in their last bits.
    y, target = (np.asarray(x, order="C") for x in _both(name, y, target, reduction))
    outside = (y < 0) | (y > 1)
    if outside.any():
        raise ValueError(f"{name}: y has the value {y[outside][0]:g}, expected probabilities, 0 <= y <= 1 "
                         "(binary_cross_entropy_with_logits takes logits)")
    return y, target, _broadcast(f"{name}: weight", weight, y)


@in_default_environment
def binary_cross_entropy(y, target, *, weight=None, reduction="mean"):
    """-w [ t log y + (1 - t) log(1 - y) ], each logarithm no less than -100.

    From logits, `binary_cross_entropy_with_logits` is faster and more exact.

    Parameters
    ----------
    y, target : ndarray of one shape
        Probabilities, 0 <= y <= 1.
    weight : ndarray broadcast to `y`, optional
        w.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ValueError
        If a number of `y` is no probability, or shapes do not fit.
    TypeError
        If dtypes are wrong.

    Notes
    -----
    The bound is that of PyTorch: without it a probability of 0 or 1 costs infinity, or 0 times infinity.
    """
    y, t, w = _probabilities("binary_cross_entropy", y, target, weight, reduction)
    with np.errstate(divide="ignore"):  # of 0
        losses = -(t * np.maximum(np.log(y), -100) + (1 - t) * np.maximum(np.log1p(-y), -100))
    return reduce(np.asarray(losses if w is None else losses * w), reduction)  # of shape () too


@in_default_environment
def binary_cross_entropy_backward(y, target, *, weight=None, reduction="mean"):
    """w (y - t) / (y (1 - y)), the divisor no less than 1e-12, over the number of elements for the mean."""
    y, t, w = _probabilities("binary_cross_entropy_backward", y, target, weight, reduction)
    grad_y = (y - t) / np.maximum(y * (1 - y), 1e-12)
    grad_y *= gradient_scale(reduction, y.size)
    return np.asarray(grad_y if w is None else grad_y * w)


def _binary(name, logits, target, weight, pos_weight, reduction):
    logits, target = _both(name, logits, target, reduction, "logits")
    return (logits, target, _broadcast(f"{name}: weight", weight, logits),
            _broadcast(f"{name}: pos_weight", pos_weight, logits))


@in_default_environment
def binary_cross_entropy_with_logits(logits, target, *, weight=None, pos_weight=None, reduction="mean"):
    """-w [ p t log s + (1 - t) log(1 - s) ], s = sigmoid(logits), without overflow for any logit.

    Parameters
    ----------
    logits, target : ndarray of one shape
        Targets are probabilities.
    weight, pos_weight : ndarray broadcast to `logits`, optional
        w, and p, the weight of the positive class.
    reduction : {"mean", "sum", "none"}
    """
    x, t, w, p = _binary("binary_cross_entropy_with_logits", logits, target, weight, pos_weight, reduction)
    return _elementwise(_kernel.BINARY_CROSS_ENTROPY, x, t, reduction, w, p)


@in_default_environment
def binary_cross_entropy_with_logits_backward(logits, target, *, weight=None, pos_weight=None,
                                              reduction="mean"):
    """w [ (1 - t) s - p t (1 - s) ], over the number of elements for the mean."""
    x, t, w, p = _binary("binary_cross_entropy_with_logits_backward", logits, target, weight, pos_weight,
                         reduction)
    return _elementwise_backward(_kernel.BINARY_CROSS_ENTROPY, gradient_scale(reduction, x.size), x, t, w, p)
