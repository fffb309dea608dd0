"""What becomes of the losses of single elements or samples: "mean", "sum" or, as they are, "none"."""

from __future__ import annotations

import numpy as np

REDUCTIONS = ("mean", "sum", "none")


def reduce(losses, reduction, weight_sum=None):
    """The losses reduced; the mean is weighted where weights were given."""
    if reduction == "none":
        return losses
    count = losses.size if weight_sum is None else weight_sum
    return reduced(losses.sum(dtype=np.float64), reduction, count)


def reduced(total, reduction, count):
    """The sum, or the mean over `count`; NaN of nothing."""
    if reduction == "sum":
        return float(total)
    return float(total / count) if count else float("nan")


def gradient_scale(reduction, count):
    """What a gradient is multiplied by: only the mean divides."""
    return 1.0 / count if reduction == "mean" and count else 1.0
