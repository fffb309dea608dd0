# Made by tools/make_stubs.py.
from typing import Any

def backward_weight(
    grad_y: Any,
    x: Any,
    grad_weight: Any,
    size: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
) -> None: ...
