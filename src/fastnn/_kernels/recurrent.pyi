# Made by tools/make_stubs.py.
from typing import Any

def lanes(itemsize: int) -> int: ...
def forward_panels(gates: int, weight_ih: Any, weight_hh: Any, panels: Any) -> None: ...
def forward_panels_size(n: int, d: int, h: int, itemsize: int) -> int: ...
def forward(
    cell: int,
    n_gates: int,
    x: Any,
    starts: Any,
    panels: Any,
    bias: Any,
    h: Any,
    c: Any,
    gates: Any,
    h_prev: Any,
    c_prev: Any,
    y: Any,
    reverse: bool,
) -> None: ...
