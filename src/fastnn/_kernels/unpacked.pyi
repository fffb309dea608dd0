# Made by tools/make_stubs.py.
from typing import Any

def linear(x: Any, weight: Any, bias: Any, y: Any, relu: int) -> None: ...
def linear_backward(
    grad_y: Any,
    x: Any,
    weight: Any,
    grad_x: Any,
    grad_weight: Any,
    grad_bias: Any,
    accumulate: bool,
) -> None: ...
