"""What this build is and how it runs: `show_config`, and threads for a while."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import _checks, _kernels
from ._kernels import memory, runtime
from ._version import __version__


def show_config(mode: str = "print") -> dict[str, Any] | None:
    """Print version, instruction sets, OpenMP, threads and build flags.

    Parameters
    ----------
    mode : {"print", "dict"}
        "dict" returns a dictionary instead of printing.
    """
    _checks.choice("show_config: mode", mode, ("print", "dict"))
    version = runtime.openmp_version()
    config = {
        "fastnn": __version__,
        "numpy": np.__version__,
        "instruction set": runtime.get_isa(),
        "available": runtime.available_isas(),
        "openmp": f"{version} ({_openmp_library() or 'library not found'})" if version
        else "none: a serial build",
        "idle threads": _kernels.WAITING,
        "threads": runtime.get_num_threads(),
        "build flags": runtime.build_flags(),
    }
    if mode == "dict":
        return config
    width = max(map(len, config))
    for key, value in config.items():
        print(f"{key:<{width}}  {' '.join(value) if isinstance(value, list) else value}")
    return None


def _openmp_library() -> str | None:
    """The file of the OpenMP runtime in this process, where the system tells (Linux)."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            found = re.findall(r"\S*/(lib(?:gomp|omp|iomp5)[^\s/]*)", maps.read())
    except OSError:
        return None
    return ", ".join(sorted(set(found))) or None


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Let kernels use up to `n` threads inside a ``with`` block; process-wide, as `set_num_threads`."""
    before = runtime.own_limit()
    runtime.set_num_threads(n)
    try:
        yield
    finally:
        runtime.set_num_threads(before)


def empty_cache() -> None:
    """Give the system back the memory that is kept for large arrays to come: up to 256 MB.

    Outputs of 128 KB and more are made in memory that was used before, where there is some: new
    memory comes from the system as zeros, which can cost as much as what is then computed.
    """
    memory.release()
