"""A progress bar for what takes longer than a second, where tqdm is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

try:
    from tqdm import tqdm
except ImportError:  # an extra
    tqdm = None


@contextlib.contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Callable[[], object]]:
    """Yield what is to be called after each of `total` pieces; on the error stream, after a second."""
    if tqdm is None:
        yield lambda: None
        return
    with tqdm(desc=label, total=total, unit=unit, delay=1, leave=False, dynamic_ncols=True) as bar:
        yield bar.update
