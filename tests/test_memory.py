"""Out of memory: each allocation of a call fails once: a MemoryError, nothing changed, nothing lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from memory_cases import CASES

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """tests/native/failing_malloc.c, compiled."""
    if sys.platform != "linux" or "GLIBC" not in str(os.confstr("CS_GNU_LIBC_VERSION")).upper():
        pytest.skip("replaces the malloc of glibc")
    library = tmp_path_factory.mktemp("shim") / "failing_malloc.so"
    command = [os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-o", str(library),
               str(HERE / "native/failing_malloc.c"), "-lpthread"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return library


@pytest.mark.parametrize("case", CASES)
def test_each_allocation_fails_once(shim, case):
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, str(HERE / "memory_cases.py"), case], text=True, timeout=300,
                          capture_output=True, check=False,
                          env={**os.environ, "PYTHONPATH": path, "LD_PRELOAD": str(shim)})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    failed = int(done.stdout.split()[0])
    assert failed >= CASES[case].least
