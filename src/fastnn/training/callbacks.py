"""Callbacks: what may look into a training, and stop it."""

from __future__ import annotations

import math
from typing import Any

from .. import _checks
from .history import History


class Callback:
    """Base class; `fit` calls these, with the model and the history so far. A string returned stops it."""

    def on_batch_end(self, model: Any, batch: int, loss: float) -> str | None:
        """After each optimizer step."""

    def on_epoch_end(self, model: Any, history: History) -> str | None:
        """After each epoch and its validation."""

    def on_train_end(self, model: Any, history: History) -> None:
        """Once, however the training ended, also by an error."""


class EarlyStopping(Callback):
    """Stop when a quantity has not improved for `patience` epochs in a row, as Keras does.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A key of the history; one that ends in "accuracy" improves upwards.
    patience : int, default 5
        0 is as 1.
    min_delta : float, default 0
        What counts as an improvement.
    restore_best : bool, default True
        Leave the weights of the best epoch in the model.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 5, min_delta: float = 0.0,
                 restore_best: bool = True):
        self.monitor = monitor
        self.patience = _checks.integer("EarlyStopping: patience", patience, 0)
        self.min_delta = _checks.real("EarlyStopping: min_delta", min_delta, 0.0)
        self.restore_best = _checks.flag("EarlyStopping: restore_best", restore_best)
        self.best, self.wait, self.weights = math.inf, 0, None

    def on_epoch_end(self, model: Any, history: History) -> str | None:
        """Compare the newest value with the best."""
        if self.monitor not in history.history:
            raise ValueError(f"EarlyStopping: monitor {self.monitor!r} is not in the history, which has "
                             f"{sorted(history.history)}")
        value = history[self.monitor][-1]
        value = -value if self.monitor.endswith("accuracy") else value
        if history.epochs == 1:  # a new training
            self.best, self.wait, self.weights = math.inf, 0, None
        if value < self.best - self.min_delta:
            self.best, self.wait = value, 0
            self.weights = model.state_dict() if self.restore_best else None
            return None
        self.wait += 1
        if self.wait < self.patience:
            return None
        return f"{self.monitor} did not improve for {self.wait} epoch{'s' if self.wait > 1 else ''}"

    def on_train_end(self, model: Any, history: History) -> None:
        """Put the best weights back."""
        if self.weights is not None:
            model.load_state_dict(self.weights)
            self.weights = None
