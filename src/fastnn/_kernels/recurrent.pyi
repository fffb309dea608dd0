# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def lanes(itemsize: int) -> int: ...
def forward_panels(gates: int, weight_ih: Array, weight_hh: Array, panels: Array) -> None: ...
def forward_panels_size(n: int, d: int, h: int, itemsize: int) -> int: ...
def forward(
    cell: int,
    n_gates: int,
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
