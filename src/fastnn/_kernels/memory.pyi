# Made by tools/make_stubs.py.
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def empty(shape: tuple[int, ...], dtype: Any) -> Array: ...
def empty_like(x: Any) -> Array | None: ...
def release() -> None: ...
