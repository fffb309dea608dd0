"""Losses and their gradients with respect to the prediction.

`reduction` is "mean", "sum" or "none": what becomes of the losses of single elements or samples.
"""

from __future__ import annotations

import math

import numpy as np

from .. import _checks
from .._kernels import elementwise as _kernel
from .._kernels.memory import empty
from .._kernels.runtime import in_default_environment
from .activation import log_softmax, softmax

REDUCTIONS = ("mean", "sum", "none")


def _reduce(losses, reduction, weight_sum=None):
    """The losses reduced; the mean is weighted where weights were given."""
    if reduction == "none":
        return losses
    count = losses.size if weight_sum is None else weight_sum
    return _reduced(losses.sum(dtype=np.float64), reduction, count)


def _reduced(total, reduction, count):
    """The sum, or the mean over `count`; NaN of nothing."""
    if reduction == "sum":
        return float(total)
    return float(total / count) if count else float("nan")


def _scale(reduction, count):
    """What a gradient is multiplied by: only the mean divides."""
    return 1.0 / count if reduction == "mean" and count else 1.0


def _both(name, y, target, reduction, y_name="y"):
    y = _checks.as_float_array(f"{name}: {y_name}", y)
    target = _checks.as_float_array(f"{name}: target", target, None, y.dtype)
    _checks.same_shape(f"{name}: target", target, y.shape, f"as {y_name} has")
    _checks.choice(f"{name}: reduction", reduction, REDUCTIONS)
    return y, target


def _elementwise(op, y, target, reduction, weight=None, pos_weight=None):
    """The losses of all elements, reduced."""
    losses = empty(y.shape, y.dtype) if reduction == "none" else None
    total = _kernel.loss(op, np.ascontiguousarray(y), np.ascontiguousarray(target), weight, pos_weight,
                         losses)
    return _reduced(total, reduction, y.size) if losses is None else losses


def _elementwise_backward(op, scale, y, target, weight=None, pos_weight=None):
    """`scale` times the derivatives."""
    grad_y = empty(y.shape, y.dtype)
    _kernel.loss_backward(op, scale, np.ascontiguousarray(y), np.ascontiguousarray(target), weight,
                          pos_weight, grad_y)
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
    return _elementwise_backward(_kernel.SQUARED, 2 * _scale(reduction, y.size), y, target)


@in_default_environment
def half_squared_error(y, target, reduction="sum"):
    """(t - y)^2 / 2, the E of batch gradient descent when summed over all samples."""
    y, target = _both("half_squared_error", y, target, reduction)
    return _elementwise(_kernel.HALF_SQUARED, y, target, reduction)


@in_default_environment
def half_squared_error_backward(y, target, reduction="sum"):
    """y - t, over the number of elements for the mean."""
    y, target = _both("half_squared_error_backward", y, target, reduction)
    return _elementwise_backward(_kernel.HALF_SQUARED, _scale(reduction, y.size), y, target)


class _Classes:
    """Checked arguments of cross_entropy, the class axis last: log-probabilities, targets, weights."""

    def __init__(self, name, logits, target, weight, ignore_index, reduction, label_smoothing):
        logits = _checks.as_float_array(f"{name}: logits", logits)
        if logits.ndim < 1:
            raise ValueError(f"{name}: logits has shape (), expected (C,), (N, C) or (N, C, ...)")
        _checks.choice(f"{name}: reduction", reduction, REDUCTIONS)
        self.axis = 0 if logits.ndim == 1 else 1
        self.smoothing = _checks.real(f"{name}: label_smoothing", label_smoothing, 0.0, 1.0)
        self.classes = logits.shape[self.axis]
        self.logits = logits
        rest = (*logits.shape[: self.axis], *logits.shape[self.axis + 1 :])
        self.weight = self.exact_weight = None
        if weight is not None:
            self.weight = _checks.as_float_array(f"{name}: weight", weight, 1, logits.dtype)
            _checks.same_shape(f"{name}: weight", self.weight, (self.classes,), "one number a class")
            self.exact_weight = self.weight.astype(np.float64)
        target = _checks.plain_array(f"{name}: target", target, "classes or probabilities")
        self.soft = target.shape == logits.shape and target.dtype.kind == "f"
        if self.soft:
            target = _checks.as_float_array(f"{name}: target", target, None, logits.dtype)
            self.target = np.moveaxis(target, self.axis, -1)
            self.target = self.target * (1 - self.smoothing) + self.smoothing / max(self.classes, 1)
        else:
            target = _checks.as_int_array(f"{name}: target", target)
            _checks.same_shape(f"{name}: target", target, rest, "one class a sample, or logits' shape")
            self.ignore = _checks.integer(f"{name}: ignore_index", ignore_index, -(2**31))
            self.target = np.ascontiguousarray(target)
            self.total, wrong = _kernel.class_weights(self.target, self.classes, self.ignore,
                                                      self.exact_weight)
            if wrong >= 0:
                where = tuple(map(int, np.unravel_index(wrong, rest)))
                raise ValueError(f"{name}: target{list(where)} = {target[where]} is not a class, expected "
                                 f"0 <= target < {self.classes} or ignore_index = {self.ignore}")
        self.rest = rest

    @property
    def plain(self):
        """Whether each sample has one class and nothing else: the case of the kernels."""
        return not (self.soft or self.smoothing)

    def rows(self):
        """Logits by rows of classes."""
        x = self.logits if self.axis == self.logits.ndim - 1 else np.moveaxis(self.logits, self.axis, -1)
        return np.ascontiguousarray(x)

    def probabilities(self):
        """The targets as probabilities of the classes, weighted: (..., C)."""
        if self.soft:
            p = self.target
        elif not self.classes:  # of which every target is ignored
            p = np.empty((*self.rest, 0), self.logits.dtype)
        else:
            kept = self.target != self.ignore
            target = np.where(kept, self.target, 0)[..., None]
            p = np.full((*self.rest, self.classes), self.smoothing / self.classes, self.logits.dtype)
            np.put_along_axis(p, target, np.take_along_axis(p, target, -1) + (1 - self.smoothing), -1)
            p *= kept[..., None]
        return p if self.weight is None else p * self.weight

    def count(self):
        """What the mean divides by: the samples, or their weights."""
        return float(math.prod(self.rest)) if self.soft else self.total


@in_default_environment
def cross_entropy(logits, target, *, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """Cross entropy of a softmax over classes, from logits.

    ::

        loss_i = -weight[t_i] log softmax(logits_i)[t_i]

    Parameters
    ----------
    logits : ndarray, (N, C), (N, C, ...) or (C,)
    target : ndarray of integers, (N,), (N, ...) or (); or of probabilities, of the shape of `logits`
    weight : ndarray, (C,), optional
        A weight for each class; the mean is over the weights.
    ignore_index : int, default -100
        A target that counts for nothing.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float, default 0
        The share of the target's probability that is spread over all classes.

    Returns
    -------
    float, or with reduction "none" an ndarray of the shape of the integer targets

    Raises
    ------
    ValueError
        If a target is not a class (the first is named), or shapes do not fit.
    TypeError
        If dtypes are wrong.
    """
    c = _Classes("cross_entropy", logits, target, weight, ignore_index, reduction, label_smoothing)
    if c.plain:
        losses = np.empty(c.rest)
        total = _kernel.cross_entropy(c.rows(), c.target, c.ignore, c.exact_weight, losses.reshape(-1))
        if reduction != "none":
            return _reduced(total, reduction, c.count())
        losses = losses.astype(c.logits.dtype)
    else:
        log_p = np.moveaxis(log_softmax(c.logits, c.axis), c.axis, -1)
        p = c.probabilities()
        losses = -np.multiply(p, log_p, where=p != 0, out=np.zeros_like(log_p)).sum(-1)
    return _reduce(losses, reduction, c.count())


@in_default_environment
def cross_entropy_backward(logits, target, *, weight=None, ignore_index=-100, reduction="mean",
                           label_smoothing=0.0):
    """softmax(logits) sum(p) - p for the weighted target probabilities p, over the count for the mean."""
    c = _Classes("cross_entropy_backward", logits, target, weight, ignore_index, reduction, label_smoothing)
    if c.plain:
        rows = c.rows()
        grad = empty(rows.shape, rows.dtype)
        _kernel.cross_entropy_backward(rows, c.target, c.ignore, c.exact_weight, _scale(reduction, c.count()),
                                       grad)
        return grad if c.axis == grad.ndim - 1 else np.moveaxis(grad, -1, c.axis)
    p = c.probabilities()
    grad = np.moveaxis(softmax(c.logits, c.axis), c.axis, -1) * p.sum(-1, keepdims=True)
    grad -= p
    if reduction == "mean":
        grad *= c.logits.dtype.type(_scale(reduction, c.count()))
    return np.moveaxis(grad, -1, c.axis)


def _binary(name, logits, target, weight, pos_weight, reduction):
    logits, target = _both(name, logits, target, reduction, "logits")
    extra = []
    for what, value in (("weight", weight), ("pos_weight", pos_weight)):
        if value is not None:
            value = _checks.as_float_array(f"{name}: {what}", value, None, logits.dtype)
            try:
                value = np.ascontiguousarray(np.broadcast_to(value, logits.shape))
            except ValueError:
                raise ValueError(f"{name}: {what} has shape {value.shape}, which does not broadcast to "
                                 f"{logits.shape}") from None
        extra.append(value)
    return logits, target, *extra


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
    return _elementwise_backward(_kernel.BINARY_CROSS_ENTROPY, _scale(reduction, x.size), x, t, w, p)
