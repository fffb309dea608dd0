"""Dropout's mask in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np


def dropout_mask(shape: tuple[int, ...], p: float, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """0 with probability p, else 1 / (1 - p)."""
    kept = np.random.default_rng(rng).random(shape, np.float32) >= p
    return np.where(kept, 1 / (1 - p) if p < 1 else 0, 0).astype(dtype)
