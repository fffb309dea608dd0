"""Clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment
from ..layers.module import Module, Parameter, coalesce

_BLOCK = 4096  # numbers whose squares are summed in their own dtype


def _gradients(name, params):
    params = (params.parameters() if isinstance(params, Module)
              else _checks.list_of(f"{name}: params", params, Parameter))
    return [grad for _, grad in coalesce(params)]


@in_default_environment
def clip_grad_norm_(params: Module | Iterable[Parameter], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> float:
    """Scale all gradients so that their common norm is at most `max_norm`; return the norm before.

    The scale is max_norm / (norm + 1e-6) where that is below 1, as in torch.

    Parameters
    ----------
    params : Module or iterable of Parameter
    max_norm : float
        Infinity for the norm alone.
    norm_type : float, default 2
        The p of the norm; infinity for the largest magnitude.
    error_if_nonfinite : bool, default False
        Raise ValueError where the norm is NaN or infinite, the gradients unchanged.
    """
    max_norm = _real_or_infinity("clip_grad_norm_: max_norm", max_norm, 0.0)
    norm_type = _real_or_infinity("clip_grad_norm_: norm_type", norm_type, 1.0)
    refused = _checks.flag("clip_grad_norm_: error_if_nonfinite", error_if_nonfinite)
    gradients = _gradients("clip_grad_norm_", params)
    norm = _norm(gradients, norm_type)
    if refused and not math.isfinite(norm):
        raise ValueError(f"clip_grad_norm_: the norm of the gradients is {norm}")
    scale = max_norm / (norm + 1e-6)
    if max_norm < math.inf and not scale >= 1:  # a NaN reaches the gradients, as the sum had it
        for grad in gradients:
            grad *= scale
    return norm


def _real_or_infinity(name: str, value: float, low: float) -> float:
    return math.inf if isinstance(value, float) and value == math.inf else _checks.real(name, value, low)


def _norm(gradients: list[np.ndarray], p: float) -> float:
    if p == math.inf:
        return max((float(np.abs(grad).max()) for grad in gradients if grad.size), default=0.0)
    if p == 2:
        # Squares may leave float32: those of small values are 0, an overflow is taken again in float64.
        with np.errstate(over="ignore", under="ignore"):
            total = sum(map(_square_sum, gradients))
        if not math.isfinite(total):
            total = sum(float(np.square(grad, dtype=np.float64).sum()) for grad in gradients)
        return math.sqrt(total)
    return float(sum((np.abs(grad).astype(np.float64) ** p).sum() for grad in gradients) ** (1 / p))


def _square_sum(grad: np.ndarray) -> float:
    """The sum of the squares: NumPy's BLAS sums blocks in their dtype, float64 the blocks.

    On one thread as fast as one product of all of a buffer, which of 16 million numbers loses 1 in 6,000.
    """
    whole = grad.size - grad.size % _BLOCK
    blocks, rest = grad[:whole].reshape(-1, _BLOCK), grad[whole:]
    return float(np.vecdot(blocks, blocks).sum(dtype=np.float64)) + float(np.dot(rest, rest))


@in_default_environment
def clip_grad_value_(params: Any, clip_value: float) -> None:
    """Limit each element of the gradients to [-clip_value, clip_value]."""
    clip_value = _checks.real("clip_grad_value_: clip_value", clip_value, 0.0)
    for grad in _gradients("clip_grad_value_", params):
        np.clip(grad, -clip_value, clip_value, out=grad)
