"""Losses as objects: called with prediction and target, asked for the gradient afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _checks
from . import functional as F
from .functional.loss import huber_delta

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HalfSquaredError", "HuberLoss", "L1Loss", "Loss",
    "MSELoss", "NLLLoss", "SmoothL1Loss",
]


class Loss:
    """Base class: ``value = loss(y, target)``, then ``grad_y = loss.backward()``.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        What becomes of the losses of single elements or samples.
    """

    classifies = False
    _function: Any
    _gradient: Any
    _saved: tuple[Any, Any] | None = None

    def __init__(self, reduction: str = "mean", **options: Any):
        self.reduction = _checks.choice(f"{type(self).__name__}: reduction", reduction, ("mean", "sum"))
        self._options = options

    def __call__(self, y: np.ndarray, target: np.ndarray) -> float:
        """Return the loss of the prediction `y`."""
        value = self.value(y, target)
        self._saved = (y, target)
        return value

    def value(self, y: np.ndarray, target: np.ndarray) -> float:
        """Return the loss of the prediction `y`, of which `backward` shall know nothing."""
        return type(self)._function(y, target, reduction=self.reduction, **self._options)

    def backward(self) -> np.ndarray:
        """Return the gradient of the last loss with respect to its prediction."""
        if self._saved is None:
            raise ValueError(f"{type(self).__name__}.backward: call the loss first "
                             "(each call serves one backward)")
        (y, target), self._saved = self._saved, None
        return type(self)._gradient(y, target, reduction=self.reduction, **self._options)

    def samples(self, target: np.ndarray) -> float:
        """What the mean over a batch divides by, so that means of batches can be averaged."""
        return float(np.size(target))

    def correct(self, y: np.ndarray, target: np.ndarray) -> tuple[float, float]:
        """How many predictions of a classifier are right, and of how many."""
        raise TypeError(f"{type(self).__name__} has no classes to count")

    def __repr__(self) -> str:
        given = [f"{k}={v!r}" for k, v in self._options.items() if v is not None]
        return f"{type(self).__name__}({', '.join([f'reduction={self.reduction!r}', *given])})"


class MSELoss(Loss):
    """Mean (or sum) of (y - t)^2 over all elements; torch.nn.MSELoss."""

    _function = staticmethod(F.mse_loss)
    _gradient = staticmethod(F.mse_loss_backward)


class HalfSquaredError(Loss):
    """E = 1/2 sum (t - y)^2: with the sum over all samples, the loss of batch gradient descent.

    Parameters
    ----------
    reduction : {"sum", "mean"}
    """

    _function = staticmethod(F.half_squared_error)
    _gradient = staticmethod(F.half_squared_error_backward)

    def __init__(self, reduction: str = "sum"):
        super().__init__(reduction)


class L1Loss(Loss):
    """Mean (or sum) of |y - t| over all elements; torch.nn.L1Loss."""

    _function = staticmethod(F.l1_loss)
    _gradient = staticmethod(F.l1_loss_backward)


class SmoothL1Loss(Loss):
    """|y - t| - beta / 2, and a parabola where |y - t| < beta; torch.nn.SmoothL1Loss.

    Parameters
    ----------
    reduction : {"mean", "sum"}
    beta : float, default 1
        At least 0; of 0 this is the L1 loss.
    """

    _function = staticmethod(F.smooth_l1_loss)
    _gradient = staticmethod(F.smooth_l1_loss_backward)

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction, beta=_checks.real("SmoothL1Loss: beta", beta, 0.0))


class HuberLoss(Loss):
    """(y - t)^2 / 2 where |y - t| < delta, and a line beyond; torch.nn.HuberLoss.

    Parameters
    ----------
    reduction : {"mean", "sum"}
    delta : float, default 1
        More than 0.
    """

    _function = staticmethod(F.huber_loss)
    _gradient = staticmethod(F.huber_loss_backward)

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction, delta=huber_delta("HuberLoss", delta))


class _ClassLoss(Loss):
    """A loss of samples that have a class each; the classes are axis 1 of the prediction, or its only one."""

    classifies = True

    def samples(self, target: np.ndarray) -> float:
        """The targets that count, weighted by their classes."""
        target = np.asarray(target)
        if target.dtype.kind == "f":
            return float(target.size / target.shape[min(1, target.ndim - 1)]) if target.size else 0.0
        kept = target[target != self._options["ignore_index"]]
        weight = self._options["weight"]
        return float(kept.size if weight is None else np.asarray(weight)[kept].sum())

    def correct(self, y: np.ndarray, target: np.ndarray) -> tuple[float, float]:
        """How many of the largest numbers are at the target's class, and of how many."""
        axis = min(1, y.ndim - 1)
        target, found = np.asarray(target), y.argmax(axis)
        if target.dtype.kind == "f":  # probabilities, of which none is ignored
            return float(np.count_nonzero(found == target.argmax(axis))), float(found.size)
        kept = target != self._options["ignore_index"]
        return float(np.count_nonzero((found == target) & kept)), float(np.count_nonzero(kept))


class CrossEntropyLoss(_ClassLoss):
    """Cross entropy of a softmax over classes, from logits; torch.nn.CrossEntropyLoss.

    Parameters
    ----------
    weight : ndarray, (C,), optional
        A weight for each class.
    ignore_index : int, default -100
        A target that counts for nothing.
    reduction : {"mean", "sum"}
    label_smoothing : float, default 0

    Notes
    -----
    Logits are (N, C), or (N, C, ...) with targets (N, ...): the classes are axis 1, not the last one.  For a
    class at each step, logits (N, T, C), as after recurrent layers with `batch_first`, go through
    ``Permute(0, 2, 1)`` at the network's end; so do (T, N, C), with targets (T, N).
    """

    _function = staticmethod(F.cross_entropy)
    _gradient = staticmethod(F.cross_entropy_backward)

    def __init__(self, weight: np.ndarray | None = None, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        super().__init__(reduction, weight=weight, ignore_index=ignore_index, label_smoothing=_checks.real(
            "CrossEntropyLoss: label_smoothing", label_smoothing, 0.0, 1.0))


class NLLLoss(_ClassLoss):
    """Negative log likelihood of the targets, from log-probabilities (`LogSoftmax`); torch.nn.NLLLoss.

    Parameters
    ----------
    weight : ndarray, (C,), optional
        A weight for each class.
    ignore_index : int, default -100
        A target that counts for nothing.
    reduction : {"mean", "sum"}
    """

    _function = staticmethod(F.nll_loss)
    _gradient = staticmethod(F.nll_loss_backward)

    def __init__(self, weight: np.ndarray | None = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction, weight=weight, ignore_index=ignore_index)


class BCELoss(Loss):
    """Binary cross entropy from probabilities, logarithms no less than -100; torch.nn.BCELoss.

    From logits, `BCEWithLogitsLoss` is faster and more exact.

    Parameters
    ----------
    weight : ndarray, optional
        A weight for each element, broadcast.
    reduction : {"mean", "sum"}
    """

    classifies = True
    _function = staticmethod(F.binary_cross_entropy)
    _gradient = staticmethod(F.binary_cross_entropy_backward)

    def __init__(self, weight: np.ndarray | None = None, reduction: str = "mean"):
        super().__init__(reduction, weight=weight)

    def correct(self, y: np.ndarray, target: np.ndarray) -> tuple[float, float]:
        """How many probabilities lie on the target's side of 1/2, and of how many."""
        return float(np.count_nonzero((y > 0.5) == (np.asarray(target) > 0.5))), float(y.size)


class BCEWithLogitsLoss(Loss):
    """Binary cross entropy from logits; torch.nn.BCEWithLogitsLoss.

    Parameters
    ----------
    weight : ndarray, optional
        A weight for each element, broadcast.
    reduction : {"mean", "sum"}
    pos_weight : ndarray, optional
        A weight for the positive class, broadcast.
    """

    classifies = True
    _function = staticmethod(F.binary_cross_entropy_with_logits)
    _gradient = staticmethod(F.binary_cross_entropy_with_logits_backward)

    def __init__(self, weight: np.ndarray | None = None, reduction: str = "mean",
                 pos_weight: np.ndarray | None = None):
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)

    def correct(self, y: np.ndarray, target: np.ndarray) -> tuple[float, float]:
        """How many logits lie on the target's side of 0, and of how many."""
        return float(np.count_nonzero((y > 0) == (np.asarray(target) > 0.5))), float(y.size)
