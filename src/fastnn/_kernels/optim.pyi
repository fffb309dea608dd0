# Made by tools/make_stubs.py.
from typing import Any

def sgd(
    data: Any,
    grad: Any,
    velocity: Any,
    lr: float,
    momentum: float,
    dampening: float,
    decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None: ...
def adam(
    data: Any,
    grad: Any,
    first: Any,
    second: Any,
    largest: Any,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    decoupled: bool,
    maximize: bool,
    step: int,
) -> None: ...
def rmsprop(
    data: Any,
    grad: Any,
    square: Any,
    buffer: Any,
    average: Any,
    lr: float,
    alpha: float,
    eps: float,
    decay: float,
    momentum: float,
    maximize: bool,
) -> None: ...
