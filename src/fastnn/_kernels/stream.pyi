# Made by tools/make_stubs.py.
from typing import Any

def stream(
    cell: int,
    gates: int,
    panels: Any,
    biases: Any,
    depth: int,
    hidden: int,
    batch_first: bool,
) -> Any: ...
