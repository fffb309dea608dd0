"""Out of memory: each allocation of a call fails once: a MemoryError, nothing changed, nothing lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from memory_cases import CASES
from memory_peak import CASES as CONVOLUTIONS

from fastnn._kernels import runtime

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """tests/native/failing_malloc.c, compiled."""
    if sys.platform != "linux" or "GLIBC" not in str(os.confstr("CS_GNU_LIBC_VERSION")).upper():
        pytest.skip("replaces the malloc of glibc")
    if "-fsanitize" in runtime.build_flags():
        pytest.skip("AddressSanitizer has a malloc of its own")
    library = tmp_path_factory.mktemp("shim") / "failing_malloc.so"
    command = [os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-o", str(library),
               str(HERE / "native/failing_malloc.c"), "-lpthread"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return library


def run_script(name, case, **environment):
    """What the script beside this file prints about the case."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, str(HERE / name), case], text=True, timeout=300,
                          capture_output=True, check=False,
                          env={**os.environ, "PYTHONPATH": path, **environment})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("case", CASES)
def test_each_allocation_fails_once(shim, case):
    if "ONNX" in case:
        pytest.importorskip("onnx")
    failed = int(run_script("memory_cases.py", case, LD_PRELOAD=str(shim)).split()[0])
    assert failed >= CASES[case].least


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="reads Linux's /proc")
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_needs_less_than_a_quarter_of_im2col(case):
    # glibc gives blocks back at once, so that those of one call are not in the next one's way
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    printed = run_script("memory_peak.py", case, **at_once)
    forward, backward, im2col = map(int, printed.split())
    assert max(forward, backward) < im2col / 4
