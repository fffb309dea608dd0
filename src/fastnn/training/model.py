"""What a training asks of a model and its optimizer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..layers.module import Module


def output_of(model: Any, batch: tuple[np.ndarray, ...]) -> np.ndarray:
    """The output of a model; of a recurrent layer, the first of its outputs."""
    y = model(*batch)
    return y[0] if isinstance(y, tuple) else y


def back_propagate(model: Module, grad_y: np.ndarray) -> None:
    """Call ``model.backward``, without the gradient of the input where it knows how to leave that out."""
    if _knows_input_grad(type(model).backward):
        model.backward(grad_y, input_grad=False)
    else:
        model.backward(grad_y)


@functools.lru_cache
def _knows_input_grad(backward: Callable[..., Any]) -> bool:
    parameters = inspect.signature(backward).parameters
    return "input_grad" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def check_optimizer(name: str, optimizer: Any, *models: Module) -> None:
    """Raise ValueError if no step of the optimizer could change the models, as that of a copy of them."""
    trained = {id(p) for model in models for _, p in model.named_parameters()}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if not any(id(p) in trained for p in params):
        owners = " or ".join(type(model).__name__ for model in models)
        raise ValueError(f"{name}: optimizer has {len(params)} parameters, none of them of the {owners} "
                         "to be trained")
