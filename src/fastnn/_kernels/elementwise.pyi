# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def map(op: int, alpha: float, beta: float, x: Any, y: Any) -> None: ...
def map_backward(op: int, alpha: float, beta: float, grad_y: Any, saved: Any, grad_x: Any) -> None: ...
def add(a: Any, b: Any, relu: bool, y: Any) -> None: ...
def prelu(x: Any, slope: Any, y: Any) -> None: ...
def prelu_backward(grad_y: Any, x: Any, slope: Any, grad_x: Any, sums: Any) -> None: ...
def prelu_blocks(size: int, row: int) -> int: ...
def loss(
    op: int,
    y: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    losses: Any,
    edge: float = ...,
    height: float = ...,
) -> float: ...
def loss_backward(
    op: int,
    scale: float,
    y: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    grad_y: Any,
    edge: float = ...,
    height: float = ...,
) -> None: ...
def softmax(x: Any, y: Any, log: bool) -> None: ...
def softmax_backward(grad_y: Any, y: Any, grad_x: Any, log: bool) -> None: ...
def class_weights(targets: Any, classes: int, ignore: int, weight: Array) -> tuple[float, int]: ...
def cross_entropy(x: Any, targets: Any, ignore: int, weight: Array, losses: Array) -> float: ...
def cross_entropy_backward(
    x: Any,
    targets: Any,
    ignore: int,
    weight: Array,
    scale: float,
    grad_x: Any,
) -> None: ...
