# Made by tools/make_stubs.py.
from typing import Any

def goes_by_strips(size: int, channels: int, dilation_h: int, dilation_w: int) -> bool: ...
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
def forward_once(
    x: Any,
    weight: Any,
    bias: Any,
    y: Any,
    transposed: bool,
    size: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    relu: int,
) -> None: ...
