# Made by tools/make_stubs.py.
from typing import Any

def backward_panels(weight: Any, panels: Any) -> None: ...
def backward(
    cell: int,
    products: int,
    starts: Any,
    state_panels: Any,
    input_panels: Any,
    gates: Any,
    h_prev: Any,
    c_prev: Any,
    grad_y: Any,
    grad_h: Any,
    grad_c: Any,
    grad_gates: Any,
    grad_x: Any,
    reverse: bool,
    truncate: int,
) -> None: ...
def gradients(
    products: int,
    grad_gates: Any,
    x: Any,
    h_prev: Any,
    grad_weight_ih: Any,
    grad_weight_hh: Any,
    grad_bias: Any,
) -> None: ...
