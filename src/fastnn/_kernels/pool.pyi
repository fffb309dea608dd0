# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def max_pool(
    x: Array,
    windows: Array,
    row_dilation: int,
    column_dilation: int,
    y: Array,
    places: Array,
) -> None: ...
def mean_pool(x: Array, windows: Array, y: Array) -> None: ...
def max_backward(grad_y: Array, places: Array, grad_x: Array) -> None: ...
