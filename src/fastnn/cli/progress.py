"""A progress bar on a terminal for what takes longer than a second, where tqdm is installed."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

try:
    from tqdm import tqdm
except ImportError:  # an extra
    tqdm = None

_DELAY, _TICK = 1.0, 0.5  # seconds until there is a bar, and until its time is written anew


@contextlib.contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Callable[[], object]]:
    """Yield what is to be called after each of `total` pieces; on the error stream, after a second.

    A thread writes the bar, so that it is there while one piece takes long. There is none where the stream
    goes to a file or another program: what is written there does not depend on how fast the machine is.
    """
    if tqdm is None or sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return
    with tqdm(desc=label, total=total, unit=unit, delay=_DELAY, leave=False, dynamic_ncols=True) as bar:
        ended = threading.Event()
        ticker = threading.Thread(target=_tick, args=(bar, ended), daemon=True)
        ticker.start()
        try:
            yield bar.update
        finally:
            ended.set()
            ticker.join()


def _tick(bar: tqdm, ended: threading.Event) -> None:
    wait = _DELAY
    while not ended.wait(wait):
        bar.refresh()
        bar.last_print_t = time.time()  # or closing it would not take it away again
        wait = _TICK
