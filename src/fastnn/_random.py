"""The package's random generator, and what an `rng` argument stands for."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

# A string, as numpy.random is loaded on its first use.
Rng: TypeAlias = "int | np.integer | np.random.Generator | None"

_default: np.random.Generator | None = None


def default_generator() -> np.random.Generator:
    """Return the generator used wherever no `rng` is given, seeded by the system until `manual_seed`."""
    global _default
    if _default is None:
        _default = np.random.default_rng()
    return _default


def manual_seed(seed: int) -> np.random.Generator:
    """Reset the package's generator, so that what follows is drawn as after any other call with this seed."""
    if seed is None or isinstance(seed, np.random.Generator):
        raise TypeError(f"manual_seed: seed must be an integer, got a {type(seed).__name__}")
    fresh, generator = as_generator("manual_seed: seed", seed), default_generator()
    generator.bit_generator.state = fresh.bit_generator.state  # in place, for those who hold it
    return generator


def as_generator(name: str, rng: Rng) -> np.random.Generator:
    """Return the generator that `rng` stands for; `name` is the function and the argument, for messages."""
    if rng is None:
        return default_generator()
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        if rng < 0:
            raise ValueError(f"{name} must be a seed >= 0, got {rng}")
        return np.random.default_rng(int(rng))
    kind = type(rng).__name__
    raise TypeError(f"{name} must be an integer, a numpy.random.Generator or None, got a {kind}")


def own_generator(name: str, rng: Rng) -> np.random.Generator | None:
    """Return the generator that a layer keeps for `rng`: of its own, or None for the package's.

    That one is looked up at each use: a copy or a pickle of the layer would take one of its own along, which
    `manual_seed` does not reset.
    """
    return None if rng is None else as_generator(name, rng)
