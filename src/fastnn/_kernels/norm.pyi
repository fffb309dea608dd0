# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def column_moments(x: Array, center: Array, g: Array, sums: Array) -> None: ...
def column_affine(x: Array, center: Array, a: Array, b: Array, g: Array, d: Array, y: Array) -> None: ...
def layer_norm(x: Array, w: Array, b: Array, eps: float, y: Array) -> None: ...
def layer_norm_backward(
    grad_y: Array,
    x: Array,
    w: Array,
    eps: float,
    grad_x: Array,
    grad_w: Array,
    grad_b: Array,
) -> None: ...
