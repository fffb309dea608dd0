"""What happened in a training: one number an epoch for each quantity."""

from __future__ import annotations

from typing import Any


class History:
    """The course of a training.

    Attributes
    ----------
    history : dict of list
        "loss", "lr", "seconds" and, where there are such, "accuracy", "val_loss", "val_accuracy": a number an
        epoch. Each is an attribute too: ``history.loss``.
    interrupted : bool
        Whether Ctrl-C ended the training.
    stopped : str or None
        Why the training ended before its last epoch, in words.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.interrupted = False
        self.stopped: str | None = None

    @property
    def epochs(self) -> int:
        """The epochs completed."""
        return len(self.history.get("loss", ()))

    def append(self, numbers: dict[str, float]) -> None:
        """Add the numbers of one epoch."""
        for key, value in numbers.items():
            self.history.setdefault(key, []).append(value)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["history"][name]
        except KeyError:
            raise AttributeError(f"History has no {name!r}; it has {sorted(self.__dict__.get('history', ()))}"
                                 ) from None

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v[-1]:.4g}" for k, v in self.history.items() if v)
        return f"History({self.epochs} epochs; {last})"
