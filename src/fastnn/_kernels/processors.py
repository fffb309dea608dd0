"""How many processors this process may use: its affinity, and the quota of its control groups.

A container that is given two processors of 64 by a quota still sees all 64; a thread for each would be
stopped for most of every period.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available(root: str | Path = "/") -> int:
    """The smaller of the affinity and the quota, rounded up; `root` is where /proc and /sys are."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has an affinity to ask for
        count = os.cpu_count() or 1
    quota = min(_quotas(Path(root)), default=math.inf)
    return min(count, math.ceil(quota)) if quota < count else count


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in processors, of this process's groups and of those they lie in."""
    groups = _words(root / "proc/self/cgroup", separator=":")
    groups = [(fields[1].split(","), PurePosixPath(fields[2])) for fields in groups if len(fields) == 3]
    for fields in _words(root / "proc/self/mountinfo"):
        # id parent device root mountpoint options [...] - type source options
        filesystem = fields[fields.index("-", 6) + 1:] if "-" in fields[6:] else []
        if filesystem[:1] == ["cgroup2"]:
            wanted = ""
        elif filesystem[:1] == ["cgroup"] and "cpu" in filesystem[-1].split(","):
            wanted = "cpu"
        else:
            continue
        mount = root / fields[4].lstrip("/")
        for controllers, group in groups:
            if wanted in controllers:
                for folder in _from_group_up(mount, PurePosixPath(fields[3]), group):
                    yield from _quota(folder)


def _from_group_up(mount: Path, mounted: PurePosixPath, group: PurePosixPath) -> Iterator[Path]:
    """The folder of `group` and those above it; inside a container only the mount may be there."""
    try:
        inside = group.relative_to(mounted)
    except ValueError:  # the group's name is the host's, the mount is the container's
        inside = group.relative_to(group.anchor)
    for path in (inside, *inside.parents):
        yield mount / path


def _quota(folder: Path) -> Iterator[float]:
    """Of one group: cpu.max of version 2 ("max 100000" is none), cpu.cfs_* of version 1 (-1 is none)."""
    for name, *second in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        numbers = [word for file in (name, *second) for line in _words(folder / file) for word in line]
        if len(numbers) == 2 and all(word.isascii() and word.isdigit() and int(word) for word in numbers):
            yield int(numbers[0]) / int(numbers[1])


def _words(path: Path, separator: str | None = None) -> list[list[str]]:
    """The lines of a file, cut; none where the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.split(separator, 2 if separator else -1) for line in text.splitlines()]
