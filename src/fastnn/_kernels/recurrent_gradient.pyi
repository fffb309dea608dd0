# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def backward_panels(weight: Array, panels: Array) -> None: ...
def backward(
    cell: int,
    products: int,
    starts: Array,
    state_panels: Array,
    input_panels: Array,
    gates: Array,
    h_prev: Array,
    c_prev: Array,
    grad_y: Array,
    grad_h: Array,
    grad_c: Array,
    grad_gates: Array,
    grad_x: Array,
    reverse: bool,
    truncate: int,
) -> None: ...
def gradients(
    products: int,
    grad_gates: Array,
    x: Array,
    h_prev: Array,
    grad_weight_ih: Array,
    grad_weight_hh: Array,
    grad_bias: Array,
) -> None: ...
