"""Dropout and its mask in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np


def dropout_mask(shape: tuple[int, ...], p: float, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """0 with probability p, else 1 / (1 - p)."""
    kept = np.random.default_rng(rng).random(shape, np.float32) >= p
    return np.where(kept, 1 / (1 - p) if p < 1 else 0, 0).astype(dtype)


def dropout(x: np.ndarray, p: float = 0.5, training: bool = True, *, rng: Any = None,
            return_mask: bool = False) -> Any:
    """x times the mask, in training."""
    mask = dropout_mask(x.shape, p, rng, x.dtype) if training else None
    y = x * mask if training else x
    return (y, mask) if return_mask else y


def dropout_backward(grad_y: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """grad_y times the mask."""
    return grad_y if mask is None else grad_y * mask
