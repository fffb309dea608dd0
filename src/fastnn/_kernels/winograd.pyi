# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def packed_size(size: int, filters: int, channels: int, itemsize: int) -> int: ...
def pack_filters(size: int, weight: Array, transposed: bool, panels: Array) -> None: ...
