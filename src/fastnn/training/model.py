"""What a training asks of a model and its optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layers.module import Module
from ..optim.optimizer import Optimizer


def output_of(model: Any, batch: tuple[np.ndarray, ...]) -> np.ndarray:
    """The output of a model; of a recurrent layer, the first of its outputs."""
    y = model(*batch)
    return y[0] if isinstance(y, tuple) else y


def check_loss(name: str, loss: Any) -> None:
    """Raise TypeError for what is no loss, the class of one included: Loss, or what has all its parts."""
    parts = ("value", "backward", "samples", "reduction", "classifies")
    if isinstance(loss, type) or not callable(loss) or not all(hasattr(loss, part) for part in parts):
        raise TypeError(f"{name}: loss must be a Loss, got {loss!r:.60}")


def check_optimizer(name: str, optimizer: Any, *models: Module) -> None:
    """Raise an error if no step of the optimizer could change the models, as that of a copy of them."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name}: optimizer must be an Optimizer, got {optimizer!r:.60}")
    trained = {id(p) for model in models for _, p in model.named_parameters()}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if not any(id(p) in trained for p in params):
        owners = " or ".join(type(model).__name__ for model in models)
        raise ValueError(f"{name}: optimizer has {len(params)} parameters, none of them of the {owners} "
                         "to be trained")
