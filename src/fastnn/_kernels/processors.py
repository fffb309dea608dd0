"""How many processors this process may use: its affinity, and the quota of its control groups.

A container that is given two processors of 64 by a quota still sees all 64; a thread for each would be
stopped for most of every period.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from os.path import dirname, join

# Not pathlib: it takes a fifth of the time of `import fastnn`, and NumPy does without.


def available(root: str | os.PathLike[str] = "/") -> int:
    """The smaller of the affinity and the quota, rounded up; `root` is where /proc and /sys are."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has an affinity to ask for
        count = os.cpu_count() or 1
    quota = min(_quotas(os.fspath(root)), default=math.inf)
    return min(count, math.ceil(quota)) if quota < count else count


def _quotas(root: str) -> Iterator[float]:
    """The quotas, in processors, of this process's groups and of those they lie in."""
    groups = [fields for fields in _words(join(root, "proc/self/cgroup"), separator=":") if len(fields) == 3]
    for fields in _words(join(root, "proc/self/mountinfo")):
        # id parent device root mountpoint options [...] - type source options
        filesystem = fields[fields.index("-", 6) + 1:] if "-" in fields[6:] else []
        if filesystem[:1] == ["cgroup2"]:
            wanted = ""
        elif filesystem[:1] == ["cgroup"] and "cpu" in filesystem[-1].split(","):
            wanted = "cpu"
        else:
            continue
        mount = join(root, fields[4].lstrip("/"))
        for _, controllers, group in groups:
            if wanted in controllers.split(","):
                for folder in _from_group_up(mount, fields[3], group):
                    yield from _quota(folder)


def _from_group_up(mount: str, mounted: str, group: str) -> Iterator[str]:
    """The folder of `group` and those above it; inside a container only the mount may be there."""
    # A name that does not begin with where the mount is rooted is the host's, and the mount the container's.
    inside = f"{group}/".removeprefix(mounted.rstrip("/") + "/").strip("/")
    yield join(mount, inside)
    while inside:
        inside = dirname(inside)
        yield join(mount, inside)


def _quota(folder: str) -> Iterator[float]:
    """Of one group: cpu.max of version 2 ("max 100000" is none), cpu.cfs_* of version 1 (-1 is none)."""
    for name, *second in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        numbers = [word for file in (name, *second) for line in _words(join(folder, file)) for word in line]
        if len(numbers) == 2 and all(word.isascii() and word.isdigit() and int(word) for word in numbers):
            yield int(numbers[0]) / int(numbers[1])


def _words(path: str, separator: str | None = None) -> list[list[str]]:
    """The lines of a file, cut; none where the file cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    return [line.split(separator, 2 if separator else -1) for line in text.splitlines()]
