"""Progress of a training: tqdm's bar where tqdm is installed, else a line an epoch."""

from __future__ import annotations

from typing import Any


def _tqdm() -> Any:
    """The class of the bar or None; imported when a bar is shown, for it takes longer than all of fastnn."""
    try:
        from tqdm.auto import tqdm
    except ImportError:  # an extra
        return None
    return tqdm


class Progress:
    """One bar over all batches of all epochs, with the numbers of the moment beside it."""

    def __init__(self, shown: bool, epochs: int, batches: int, label: str):
        self.shown, self.epochs = shown, epochs
        self.bar: Any = None
        bar = _tqdm() if shown else None
        if bar is not None:
            self.bar = bar(total=epochs * batches, desc=label, unit="batch", dynamic_ncols=True)

    def batch(self, epoch: int, loss: float) -> None:
        """One more batch done."""
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix(epoch=f"{epoch}/{self.epochs}", loss=f"{loss:.4f}", refresh=False)

    def epoch(self, epoch: int, numbers: dict[str, float]) -> None:
        """One more epoch done, with its numbers."""
        text = {k: f"{v:.4g}" for k, v in numbers.items() if k not in ("seconds", "lr")}
        if self.bar is not None:
            self.bar.set_postfix(epoch=f"{epoch}/{self.epochs}", **text)
        elif self.shown:
            print(f"epoch {epoch}/{self.epochs}: " + ", ".join(f"{k} {v}" for k, v in text.items()),
                  flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
