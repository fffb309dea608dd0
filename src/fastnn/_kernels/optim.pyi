# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def sgd(
    data: Array,
    grad: Array,
    velocity: Array,
    lr: float,
    momentum: float,
    dampening: float,
    decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None: ...
def adam(
    data: Array,
    grad: Array,
    first: Array,
    second: Array,
    largest: Array,
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
    data: Array,
    grad: Array,
    square: Array,
    buffer: Array,
    average: Array,
    lr: float,
    alpha: float,
    eps: float,
    decay: float,
    momentum: float,
    maximize: bool,
) -> None: ...
