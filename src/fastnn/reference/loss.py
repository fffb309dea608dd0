"""Losses in plain NumPy: one formula each, nothing saved."""

from __future__ import annotations

import numpy as np

from .activation import log_softmax, sigmoid


def _reduce(losses, reduction, count=None):
    if reduction == "none":
        return losses
    total = float(np.sum(losses, dtype=np.float64))
    return total if reduction == "sum" else total / (losses.size if count is None else count)


def mse_loss(y, target, reduction="mean"):
    """(y - t)^2."""
    return _reduce((y - target) ** 2, reduction)


def mse_loss_backward(y, target, reduction="mean"):
    """2 (y - t)."""
    return 2 * (y - target) / (y.size if reduction == "mean" else 1)


def half_squared_error(y, target, reduction="sum"):
    """(t - y)^2 / 2."""
    return _reduce((target - y) ** 2 / 2, reduction)


def half_squared_error_backward(y, target, reduction="sum"):
    """y - t."""
    return (y - target) / (y.size if reduction == "mean" else 1)


def _bent(y, target, edge, height, reduction):
    """A parabola up to |y - t| = edge, where its slope is `height`; a line beyond."""
    d = np.abs(y - target)
    near = height * d**2 / (2 * edge) if edge else 0
    return _reduce(np.where(d > edge, height * (d - edge / 2), near + 0 * d), reduction)


def _bent_backward(y, target, edge, height, reduction):
    d = y - target
    slope = np.where(np.abs(d) > edge, height * np.sign(d), height * d / edge if edge else d)
    return (slope / (y.size if reduction == "mean" else 1)).astype(y.dtype)


def l1_loss(y, target, reduction="mean"):
    """|y - t|."""
    return _bent(y, target, 0, 1, reduction)


def l1_loss_backward(y, target, reduction="mean"):
    """sign(y - t)."""
    return _bent_backward(y, target, 0, 1, reduction)


def smooth_l1_loss(y, target, reduction="mean", beta=1.0):
    """(y - t)^2 / (2 beta) where |y - t| < beta, |y - t| - beta / 2 elsewhere."""
    return _bent(y, target, beta, 1, reduction)


def smooth_l1_loss_backward(y, target, reduction="mean", beta=1.0):
    """(y - t) / beta, or its sign."""
    return _bent_backward(y, target, beta, 1, reduction)


def huber_loss(y, target, reduction="mean", delta=1.0):
    """(y - t)^2 / 2 where |y - t| < delta, delta (|y - t| - delta / 2) elsewhere."""
    return _bent(y, target, delta, delta, reduction)


def huber_loss_backward(y, target, reduction="mean", delta=1.0):
    """y - t, or its sign times delta."""
    return _bent_backward(y, target, delta, delta, reduction)


def _weighted_targets(logits, target, weight, ignore_index, label_smoothing):
    """Target probabilities times class weights, classes last, and what the mean divides by."""
    classes = logits.shape[-1]
    weight = np.ones(classes) if weight is None else weight
    if target.dtype.kind == "f":
        smooth = target * (1 - label_smoothing) + label_smoothing / classes
        return smooth * weight, target[..., 0].size
    p = np.zeros(logits.shape)
    count = 0.0
    for where in np.ndindex(*target.shape):
        if target[where] != ignore_index:
            p[where] = label_smoothing / classes
            p[(*where, target[where])] += 1 - label_smoothing
            count += weight[target[where]]
    return p * weight, count


def _classes_last(logits, target):
    axis = 0 if logits.ndim == 1 else 1
    target = np.asarray(target)
    if target.dtype.kind == "f":
        target = np.moveaxis(target, axis, -1)
    return np.moveaxis(logits, axis, -1), target, axis


def cross_entropy(logits, target, *, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """-sum over classes of weight p log softmax(logits)."""
    logits, target, _ = _classes_last(logits, target)
    p, count = _weighted_targets(logits, target, weight, ignore_index, label_smoothing)
    return _reduce(-np.sum(p * log_softmax(logits), -1), reduction, count)


def cross_entropy_backward(logits, target, *, weight=None, ignore_index=-100, reduction="mean",
                           label_smoothing=0.0):
    """softmax sum(p) - p."""
    rows, target, axis = _classes_last(logits, target)
    p, count = _weighted_targets(rows, target, weight, ignore_index, label_smoothing)
    grad = np.exp(log_softmax(rows)) * p.sum(-1, keepdims=True) - p
    grad = grad / count if reduction == "mean" else grad
    return np.moveaxis(grad, -1, axis).astype(logits.dtype)


def _slopes_of_targets(rows, target, weight, ignore_index):
    """-weight at each target that counts, 0 elsewhere; what the mean divides by."""
    slopes, count = np.zeros(rows.shape), 0.0
    for where in np.ndindex(*target.shape):
        if target[where] != ignore_index:
            w = 1 if weight is None else weight[target[where]]
            slopes[(*where, target[where])] = -w
            count += w
    return slopes, count


def nll_loss(log_probs, target, *, weight=None, ignore_index=-100, reduction="mean"):
    """-weight log_probs at the target."""
    rows, target, _ = _classes_last(log_probs, target)
    slopes, count = _slopes_of_targets(rows, target, weight, ignore_index)
    return _reduce(np.sum(slopes * np.where(slopes, rows, 0), -1), reduction, count)


def nll_loss_backward(log_probs, target, *, weight=None, ignore_index=-100, reduction="mean"):
    """-weight at the target."""
    rows, target, axis = _classes_last(log_probs, target)
    slopes, count = _slopes_of_targets(rows, target, weight, ignore_index)
    np.divide(slopes, count if reduction == "mean" else 1, out=slopes, where=slopes != 0)
    return np.moveaxis(slopes, -1, axis).astype(log_probs.dtype)


def binary_cross_entropy(y, target, *, weight=None, reduction="mean"):
    """-w [t log y + (1 - t) log(1 - y)], each logarithm no less than -100."""
    with np.errstate(divide="ignore"):
        log_y, log_rest = np.maximum(np.log(y), -100), np.maximum(np.log1p(-y), -100)
    losses = -(target * log_y + (1 - target) * log_rest)
    return _reduce(losses if weight is None else weight * losses, reduction)


def binary_cross_entropy_backward(y, target, *, weight=None, reduction="mean"):
    """w (y - t) / (y (1 - y))."""
    grad = (y - target) / np.maximum(y * (1 - y), 1e-12) / (y.size if reduction == "mean" else 1)
    return (grad if weight is None else weight * grad).astype(y.dtype)


def binary_cross_entropy_with_logits(logits, target, *, weight=None, pos_weight=None, reduction="mean"):
    """-w [p t log s + (1 - t) log(1 - s)], s = sigmoid(logits)."""
    weight = 1 if weight is None else weight
    pos_weight = 1 if pos_weight is None else pos_weight
    losses = pos_weight * target * np.logaddexp(0, -logits) + (1 - target) * np.logaddexp(0, logits)
    return _reduce(weight * losses, reduction)


def binary_cross_entropy_with_logits_backward(logits, target, *, weight=None, pos_weight=None,
                                              reduction="mean"):
    """w [(1 - t) s - p t (1 - s)]."""
    weight = 1 if weight is None else weight
    pos_weight = 1 if pos_weight is None else pos_weight
    s = sigmoid(logits)
    grad = weight * ((1 - target) * s - pos_weight * target * (1 - s))
    return (grad / (logits.size if reduction == "mean" else 1)).astype(logits.dtype)
