"""Numbers for people: tables, bars, units."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_PREFIXES = ("", "k", "M", "G", "T", "P")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lay out text in columns, the first `left` of them flush left, the others flush right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = [[*header], ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) if i < left else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines)


def bar(share: float, width: int = 30) -> str:
    """A bar of a share of the whole width."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    return ("█" if encoding.startswith("utf") else "#") * round(share * width)


def count(number: float) -> str:
    """A number with a decimal prefix, three digits: 25.6M."""
    power = 0
    while number >= 999.5 and power < len(_PREFIXES) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.3g}{_PREFIXES[power]}" if power else f"{number:g}"


def size(number: float) -> str:
    """Bytes in powers of 1024: 97.5 MiB."""
    power = 0
    while number >= 1023.5 and power < len(_PREFIXES) - 1:
        number, power = number / 1024, power + 1
    return f"{number:.1f} {_PREFIXES[power].upper()}iB" if power else f"{number:.0f} B"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: 1.25 ms."""
    for scale, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def shape(sizes: Sequence[int]) -> str:
    """A shape without spaces: 1x64x112x112."""
    return "x".join(map(str, sizes)) or "scalar"
