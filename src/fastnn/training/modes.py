"""Training and eval modes: set for a while, and put back module by module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..layers.module import Module, Parameter


def modes_of(*models: Module) -> dict[Module, bool]:
    """Return whether each module is in training mode, for `restore`."""
    return {module: module.training for model in models for module in model.modules()}


def restore(modes: dict[Module, bool]) -> None:
    """Put each module back into its mode; `train` would give all of them the mode of the first."""
    for module, mode in modes.items():
        if module.training != mode:
            module.training = mode  # which drops its cache
            for _, p in module._own(Parameter):
                p._readonly = not mode


@contextmanager
def eval_mode(model: Module) -> Iterator[None]:
    """Eval mode inside a ``with`` block. A model already in it is left alone: threads may share it."""
    before = modes_of(model)
    if not any(before.values()):
        yield
        return
    model.eval()
    try:
        yield
    finally:
        restore(before)
