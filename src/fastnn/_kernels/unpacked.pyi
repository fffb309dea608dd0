# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def linear(x: Any, weight: Any, bias: Any, y: Any, relu: int) -> None: ...
def linear_backward(
    grad_y: Array,
    x: Array,
    weight: Array,
    grad_x: Array,
    grad_weight: Array,
    grad_bias: Array,
    accumulate: bool,
) -> None: ...
