"""What is trained on: samples, their targets, and the batches of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _checks
from ..layers import (
    Dropout,
    Embedding,
    Identity,
    LayerNorm,
    Linear,
    LogSoftmax,
    Module,
    PReLU,
    ReLU,
    RNNOutput,
    Sequential,
    Softmax,
)
from ..layers.activation import _FromInput, _FromOutput
from ..layers.recurrent import _Recurrent

# Layers that leave the first axis what it is.
_KEEP_FIRST_AXES = (Dropout, Embedding, Identity, LayerNorm, Linear, LogSoftmax, PReLU, ReLU, RNNOutput,
                    Softmax, _FromInput, _FromOutput)


def samples_of(name: str, model: Any, x: Any) -> tuple[tuple[np.ndarray, ...], int]:
    """`x` as a tuple of arrays, and the number of samples in each."""
    parts = x if isinstance(x, tuple) else (x,)
    names = [f"{name}: x[{i}]" if len(parts) > 1 else f"{name}: x" for i in range(len(parts))]
    arrays = tuple(_checks.plain_array(part_name, part, "samples")
                   for part_name, part in zip(names, parts, strict=True))
    for i, array in enumerate(arrays):
        if array.ndim == 0:
            raise ValueError(f"{names[i]} has shape (), expected samples along the first axis")
        if array.shape[0] != arrays[0].shape[0]:
            raise ValueError(f"{name}: x[{i}] has {array.shape[0]} samples, x[0] has {arrays[0].shape[0]}")
    _check_not_time(name, model, arrays[0])
    return arrays, arrays[0].shape[0]


def _check_not_time(name: str, model: Any, x: np.ndarray) -> None:
    """Raise ValueError where the first axis of `x` is certainly time: batches would be pieces of sequences.

    Also where one batch would hold all: a call must not turn wrong as sequences grow. A network with a
    forward of its own may change the axes before its recurrent layer, so nothing is certain of it.
    """
    ndim = x.ndim
    for layer in _in_order(model):
        if _runs_as(layer, _Recurrent):
            if ndim == 2 or (ndim == 3 and not layer.batch_first):
                raise ValueError(f"{name}: {layer!r} takes the first axis of x, of shape {x.shape}, for "
                                 "time, and batches are cut along it; give the layer batch_first=True and x "
                                 "samples along the first axis, or train with fit_sequence")
            continue
        if not any(_runs_as(layer, kind) for kind in _KEEP_FIRST_AXES):
            return
        ndim += isinstance(layer, Embedding)


def _in_order(model: Any) -> Iterator[Any]:
    """The layers of nested Sequentials one after another."""
    if _runs_as(model, Sequential):
        for layer in model:
            yield from _in_order(layer)
    else:
        yield model


def _runs_as(layer: Any, kind: type[Module]) -> bool:
    """Whether a layer is of a class and, if of a subclass, has not another forward."""
    return isinstance(layer, kind) and type(layer).forward is kind.forward


def targets_of(name: str, y: Any, samples: int) -> np.ndarray:
    y = _checks.plain_array(f"{name}: y", y, "targets")
    if y.ndim == 0 or y.shape[0] != samples:
        raise ValueError(f"{name}: y has shape {y.shape}, expected {samples} samples as x has")
    return y


def validation_pair(model: Any, data: Any) -> tuple[Any, np.ndarray]:
    """The pair that `fit` validates with, checked before an epoch is spent."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError("fit: validation_data must be a pair (x, y)")
    x, y = data
    _, samples = samples_of("fit: validation_data", model, x)
    if samples == 0:
        raise ValueError("fit: validation_data: x has no samples")
    return x, targets_of("fit: validation_data", y, samples)


def batches_of(samples: int, batch_size: int, order: np.ndarray | None) -> Iterator[Any]:
    """Index of each batch: a slice, or numbers in the given order."""
    for start in range(0, samples, batch_size):
        batch = slice(start, start + batch_size)
        yield batch if order is None else order[batch]
