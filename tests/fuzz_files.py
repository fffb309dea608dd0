"""Any bytes as a file: `load` gives tensors or a ValueError. A target of atheris: `make fuzz-files`.

Coverage of the parsers guides the bytes; what a run finds is kept in the folder that it was given. Without
arguments the seeds are files that `save` wrote.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fastnn.io", "zipfile", "numpy.lib.format", "pickletools"]):
    import numpy as np

    import fastnn as fn
    import fastnn.io.npz
    import fastnn.io.safetensors_file
    import fastnn.io.torch_file

SUFFIXES = (".npz", ".safetensors", ".pt")
FOLDER = Path(tempfile.mkdtemp())


def one_file(data):
    """The first byte chooses the format, the rest is the file."""
    if not data:
        return
    path = FOLDER / f"file{SUFFIXES[data[0] % len(SUFFIXES)]}"
    path.write_bytes(data[1:])
    with contextlib.suppress(ValueError):
        fn.load(path)


def seeds():
    """A folder of files that were saved, each behind the byte of its format."""
    folder = Path(tempfile.mkdtemp())
    for i, suffix in enumerate(SUFFIXES):
        path = FOLDER / f"seed{suffix}"
        fn.save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(0)}, path)
        (folder / suffix[1:]).write_bytes(bytes([i]) + path.read_bytes())
    return str(folder)


if __name__ == "__main__":
    arguments = sys.argv if any(not word.startswith("-") for word in sys.argv[1:]) else [*sys.argv, seeds()]
    # A file of a few kilobytes is never worth 512 MB.
    atheris.Setup([*arguments, "-rss_limit_mb=1024", "-malloc_limit_mb=512", "-max_len=4096"], one_file)
    atheris.Fuzz()
