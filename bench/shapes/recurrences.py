"""Recurrent layers."""

from __future__ import annotations

from typing import NamedTuple

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


class Recurrence(NamedTuple):
    """A recurrent network over `steps` steps; `ragged`: of lengths from 1 to steps, evenly spread."""

    kind: str  # RNN, LSTM, GRU
    steps: int
    batch: int
    inputs: int
    hidden: int
    layers: int = 1
    directions: int = 1
    ragged: bool = False

    @property
    def lengths(self) -> list[int]:
        """The steps of each sequence, longest first."""
        if not self.ragged:
            return [self.steps] * self.batch
        return [self.steps - (self.steps - 1) * i // max(self.batch - 1, 1) for i in range(self.batch)]

    @property
    def flops(self) -> int:
        """Multiplications and additions of the matrix products."""
        above = (self.layers - 1) * (self.directions + 1) * self.hidden
        return (2 * sum(self.lengths) * self.directions * GATES[self.kind] * self.hidden
                * (self.inputs + self.hidden + above))

    def __str__(self) -> str:
        text = f"{self.kind} T{self.steps} N{self.batch} D{self.inputs} H{self.hidden}"
        text += f" {self.layers} layers" if self.layers > 1 else ""
        text += " both ways" if self.directions > 1 else ""
        return text + (" ragged" if self.ragged else "")


_SIZES = [
    (100, 1, 64, 128),
    (100, 32, 64, 128),
    (100, 64, 64, 128),
    (128, 32, 256, 256),
    (50, 1, 512, 512),
    (28, 128, 28, 64),
]
RECURRENCES = [Recurrence(kind, *size) for size in _SIZES for kind in ("RNN", "LSTM", "GRU")]
RECURRENCES += [
    Recurrence(kind, *size, layers=layers, directions=directions)
    for kind in ("LSTM", "GRU")
    for size, layers, directions in [((100, 1, 64, 128), 1, 2), ((100, 32, 64, 128), 1, 2),
                                     ((100, 1, 64, 128), 2, 1), ((100, 32, 64, 128), 2, 2)]
]
RECURRENCES += [Recurrence(kind, 100, 32, 64, 128, ragged=True) for kind in ("RNN", "LSTM", "GRU")]
