# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def chunk_rows(rows: int, batch: int, width: int, itemsize: int) -> int: ...
def forward_panels(weight_ih: Array, weight_hh: Array, panels: Array) -> None: ...
def forward_panels_size(n: int, d: int, h: int, itemsize: int) -> int: ...
def backward_panels(weight_hh: Array, panels: Array) -> None: ...
def forward(
    cell: int,
    products: int,
    x: Array,
    starts: Array,
    panels: Array,
    bias: Array,
    h: Array,
    c: Array,
    gates: Array,
    h_prev: Array,
    c_prev: Array,
    y: Array,
    reverse: bool,
) -> None: ...
def step_state(cell: int, products: int, panels: Any, bias: Any, depth: int, hidden: int) -> Any: ...
def take_step(state: Any, x: Any, layer: int, h: Any, c: Any, new_h: Any, new_c: Any, y: Any) -> None: ...
def backward(
    cell: int,
    products: int,
    starts: Array,
    panels: Array,
    gates: Array,
    h_prev: Array,
    c_prev: Array,
    grad_y: Array,
    grad_h: Array,
    grad_c: Array,
    grad_gates: Array,
    reverse: bool,
    truncate: int,
) -> None: ...
def gradients(
    products: int,
    grad_gates: Array,
    x: Array,
    h_prev: Array,
    weight_ih: Array,
    grad_x: Array,
    accumulate: bool,
    grad_weight_ih: Array,
    grad_weight_hh: Array,
    grad_bias: Array,
) -> None: ...
