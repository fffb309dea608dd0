# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def pack_weight(weight: Array, panels: Array) -> None: ...
def panel_size(n: int, k: int, itemsize: int) -> int: ...
def row_total(rows: Array, total: Array) -> None: ...
def linear(x: Any, panels: Any, bias: Any, y: Any, relu: int) -> None: ...
def linear_backward(
    grad_y: Array,
    x: Array,
    weight: Array,
    grad_x: Array,
    grad_weight: Array,
    grad_bias: Array,
) -> None: ...
