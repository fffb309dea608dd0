# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def packed_size(size: int, filters: int, channels: int, itemsize: int) -> int: ...
def pack_filters(size: int, weight: Array, transposed: bool, panels: Array) -> None: ...
def forward(
    x: Any,
    panels: Any,
    bias: Any,
    y: Any,
    size: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    relu: int,
    accumulate: bool = ...,
) -> None: ...
