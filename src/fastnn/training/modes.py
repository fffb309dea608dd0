"""Training and eval modes: set for a while, and put back module by module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..layers.module import Module

Modes = dict[Module, tuple[bool, bool]]


def modes_of(*models: Module) -> Modes:
    """Return whether each module is in training mode, and whether it records its calls, for `restore`."""
    return {module: (module.training, module.recording) for model in models for module in model.modules()}


def restore(modes: Modes) -> None:
    """Put each module back into its mode; `train` would give all of them the mode of the first."""
    for module, mode in modes.items():
        if mode != (module.training, module.recording):
            module._set_mode(*mode)


def record(model: Module) -> None:
    """Have every module record its calls, and a model in eval mode be in training mode.

    Parts in eval mode of a model in training mode stay in it.
    """
    if not model.training or type(model).train is not Module.train:  # which may freeze parts of its own
        model.train()
    restore({module: (mode, True) for module, (mode, _) in modes_of(model).items()})


@contextmanager
def eval_mode(model: Module) -> Iterator[None]:
    """Eval mode inside a ``with`` block, without recording, also of a part of a network that is trained.

    A model already in it is left alone: threads may share it.
    """
    before = modes_of(model)
    try:
        restore(dict.fromkeys(before, (False, False)))
        yield
    finally:
        restore(before)
