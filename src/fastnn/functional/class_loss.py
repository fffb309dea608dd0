"""Losses of samples that have a class each, and their gradients with respect to the prediction.

The classes are axis 1 of the prediction, or its only axis.
"""

from __future__ import annotations

import math

import numpy as np

from .. import _checks
from .._kernels import elementwise as _kernel
from .._kernels.memory import empty
from .._kernels.runtime import in_default_environment
from ._layout import contiguous
from ._reduction import REDUCTIONS, gradient_scale, reduce, reduced
from .activation import log_softmax, softmax


class _Classes:
    """Checked arguments: the prediction `x` and where its class axis is, targets, weights of the classes."""

    def __init__(self, name, x_name, x, target, weight, ignore_index, reduction):
        x = _checks.as_float_array(f"{name}: {x_name}", x)
        if x.ndim < 1:
            raise ValueError(f"{name}: {x_name} has shape (), expected (C,), (N, C) or (N, C, ...)")
        _checks.choice(f"{name}: reduction", reduction, REDUCTIONS)
        self.x, self.x_name = x, x_name
        self.axis = 0 if x.ndim == 1 else 1
        self.classes = x.shape[self.axis]
        self.rest = (*x.shape[: self.axis], *x.shape[self.axis + 1 :])
        self.weight = self.exact_weight = None
        if weight is not None:
            self.weight = _checks.as_float_array(f"{name}: weight", weight, 1, x.dtype)
            _checks.same_shape(f"{name}: weight", self.weight, (self.classes,), "one number a class")
            self.exact_weight = self.weight.astype(np.float64)
        self._take_target(name, target, ignore_index)

    def _take_target(self, name, target, ignore_index, or_else=""):
        target = _checks.as_int_array(f"{name}: target", target)
        _checks.same_shape(f"{name}: target", target, self.rest, "one class a sample" + or_else)
        self.ignore = _checks.integer(f"{name}: ignore_index", ignore_index, -(2**31))
        self.target = np.asarray(target, order="C")
        self.total, wrong = _kernel.class_weights(self.target, self.classes, self.ignore, self.exact_weight)
        if wrong >= 0:
            where = tuple(map(int, np.unravel_index(wrong, self.rest)))
            raise ValueError(f"{name}: target{list(where)} = {target[where]} is not a class, expected "
                             f"0 <= target < {self.classes} or ignore_index = {self.ignore}")

    def rows(self):
        """The prediction by rows of classes."""
        x = self.x if self.axis == self.x.ndim - 1 else np.moveaxis(self.x, self.axis, -1)
        return contiguous(x)

    def kept(self):
        """Which samples count, and the class of each, 0 of those that do not."""
        kept = np.asarray(self.target != self.ignore)
        return kept, np.where(kept, self.target, 0)

    def count(self):
        """What the mean divides by: the samples, or their weights."""
        return self.total


class _ClassesOrProbabilities(_Classes):
    """Those of cross_entropy: targets may be probabilities of the classes, and may be smoothed."""

    def __init__(self, name, logits, target, weight, ignore_index, reduction, label_smoothing):
        self.smoothing = _checks.real(f"{name}: label_smoothing", label_smoothing, 0.0, 1.0)
        super().__init__(name, "logits", logits, target, weight, ignore_index, reduction)

    def _take_target(self, name, target, ignore_index, or_else=", or logits' shape"):
        target = _checks.plain_array(f"{name}: target", target, "classes or probabilities")
        self.soft = target.shape == self.x.shape and target.dtype.kind == "f"
        if self.soft:
            target = _checks.as_float_array(f"{name}: target", target, None, self.x.dtype)
            self.target = np.moveaxis(target, self.axis, -1)
            self.target = self.target * (1 - self.smoothing) + self.smoothing / max(self.classes, 1)
        else:
            super()._take_target(name, target, ignore_index, or_else)

    @property
    def plain(self):
        """Whether each sample has one class and nothing else: the case of the kernels."""
        return not (self.soft or self.smoothing)

    def probabilities(self):
        """The targets as probabilities of the classes, weighted: (..., C)."""
        if self.soft:
            p = self.target
        elif not self.classes:  # of which every target is ignored
            p = np.empty((*self.rest, 0), self.x.dtype)
        else:
            kept, target = self.kept()
            p = np.full((*self.rest, self.classes), self.smoothing / self.classes, self.x.dtype)
            np.put_along_axis(p, target[..., None],
                              np.take_along_axis(p, target[..., None], -1) + (1 - self.smoothing), -1)
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
        Of two axes and more, axis 1 is that of the classes.
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
    c = _ClassesOrProbabilities("cross_entropy", logits, target, weight, ignore_index, reduction,
                                label_smoothing)
    if c.plain:
        losses = np.empty(c.rest)
        total = _kernel.cross_entropy(c.rows(), c.target, c.ignore, c.exact_weight, losses.reshape(-1))
        if reduction != "none":
            return reduced(total, reduction, c.count())
        losses = losses.astype(c.x.dtype)
    else:
        log_p = np.moveaxis(log_softmax(c.x, c.axis), c.axis, -1)
        p = c.probabilities()
        losses = -np.multiply(p, log_p, where=p != 0, out=np.zeros_like(log_p)).sum(-1)
    return reduce(losses, reduction, c.count())


@in_default_environment
def cross_entropy_backward(logits, target, *, weight=None, ignore_index=-100, reduction="mean",
                           label_smoothing=0.0):
    """softmax(logits) sum(p) - p for the weighted target probabilities p, over the count for the mean."""
    c = _ClassesOrProbabilities("cross_entropy_backward", logits, target, weight, ignore_index, reduction,
                                label_smoothing)
    if c.plain:
        rows = c.rows()
        grad = empty(rows.shape, rows.dtype)
        _kernel.cross_entropy_backward(rows, c.target, c.ignore, c.exact_weight,
                                       gradient_scale(reduction, c.count()), grad)
        return grad if c.axis == grad.ndim - 1 else np.moveaxis(grad, -1, c.axis)
    p = c.probabilities()
    grad = np.moveaxis(softmax(c.x, c.axis), c.axis, -1) * p.sum(-1, keepdims=True)
    grad -= p
    if reduction == "mean":
        grad *= c.x.dtype.type(gradient_scale(reduction, c.count()))
    return np.moveaxis(grad, -1, c.axis)


@in_default_environment
def nll_loss(log_probs, target, *, weight=None, ignore_index=-100, reduction="mean"):
    """Negative log likelihood of the targets: cross entropy from log-probabilities.

    ::

        loss_i = -weight[t_i] log_probs_i[t_i]

    Parameters
    ----------
    log_probs : ndarray, (N, C), (N, C, ...) or (C,)
        As `log_softmax` gives them along the classes; of two axes and more, axis 1 is that of the classes.
    target : ndarray of integers, (N,), (N, ...) or ()
    weight : ndarray, (C,), optional
        A weight for each class; the mean is over the weights.
    ignore_index : int, default -100
        A target that counts for nothing.
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    float, or with reduction "none" an ndarray of the shape of the targets

    Raises
    ------
    ValueError
        If a target is not a class (the first is named), or shapes do not fit.
    TypeError
        If dtypes are wrong.
    """
    c = _Classes("nll_loss", "log_probs", log_probs, target, weight, ignore_index, reduction)
    if not c.classes:  # of which every target is ignored
        return reduce(np.zeros(c.rest, c.x.dtype), reduction, c.count())
    kept, target = c.kept()
    losses = -np.take_along_axis(np.moveaxis(c.x, c.axis, -1), target[..., None], -1)[..., 0]
    if c.weight is not None:
        losses = losses * c.weight[target]
    return reduce(np.where(kept, losses, c.x.dtype.type(0)), reduction, c.count())


@in_default_environment
def nll_loss_backward(log_probs, target, *, weight=None, ignore_index=-100, reduction="mean"):
    """-weight[t_i] at each target and 0 elsewhere, over the sum of the weights for the mean."""
    c = _Classes("nll_loss_backward", "log_probs", log_probs, target, weight, ignore_index, reduction)
    grad = np.zeros((*c.rest, c.classes), c.x.dtype)
    if c.classes:
        kept, target = c.kept()
        slopes = -gradient_scale(reduction, c.count()) * kept
        if c.weight is not None:
            slopes = slopes * c.exact_weight[target]
        np.put_along_axis(grad, target[..., None], np.asarray(slopes, c.x.dtype)[..., None], -1)
    return np.moveaxis(grad, -1, c.axis)
