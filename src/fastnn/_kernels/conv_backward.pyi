# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def backward_input(grad_y: Array, weight: Array, grad_x: Array, geometry: tuple[int, ...]) -> None: ...
def backward_weight(grad_y: Array, x: Array, grad_weight: Array, geometry: tuple[int, ...]) -> None: ...
