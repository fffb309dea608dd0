"""Replace a file by a whole new one, or leave it as it was."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of an empty file in the same directory; on leaving, it takes the place of `path`.

    Its bytes reach the disk before its name changes, so a crash leaves the old file or the new one.  On an
    exception the new file is removed and `path` left alone.
    """
    target = Path(os.path.realpath(path))  # through a link, as a plain open() would write
    temporary = target.with_name(f".{os.urandom(8).hex()}.tmp")
    # 0o666 less the umask, the mode a plain open() would give a new file; the mode of an old one is kept.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
        yield temporary
        os.chmod(temporary, mode)  # at the end: the writer may have made the file anew
        _sync(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Have the system write a file, or a directory's entries, to the disk."""
    if os.name == "nt" and path.is_dir():  # which Windows neither allows nor needs
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
