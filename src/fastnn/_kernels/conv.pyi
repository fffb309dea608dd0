# Made by tools/make_stubs.py.
from typing import Any

def packed_size(filters: int, channels: int, taps: int, groups: int, itemsize: int) -> int: ...
def pack_filters(weight: Any, groups: int, panels: Any) -> None: ...
def forward(
    x: Any,
    panels: Any,
    bias: Any,
    y: Any,
    geometry: tuple[int, ...],
    relu: int,
    accumulate: bool = ...,
) -> None: ...
