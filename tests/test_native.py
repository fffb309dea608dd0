"""Kernel bodies without Python: NEON's results, from an emulated 64-bit ARM, beside those of this machine."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fastnn._kernels import runtime

CLONE = Path(__file__).parent.parent
CSRC = CLONE / "src/fastnn/_kernels/csrc"
CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
HEAD = np.dtype([("name", "S16"), ("itemsize", "i8"), ("count", "i8")])

# Of the largest number of a result: another order of sums, and multiply-adds fused or not. Libraries' own
# expf and tanhf play no part: the bodies have theirs.
TOLERANCE = {4: 2e-6, 8: 4e-15}

slow = pytest.mark.slow  # half a minute for each compilation


def test_each_body_of_the_table_is_run():
    """What the table of kernels.h lists, the programs of tests/native call."""
    table = (CSRC / "kernels.h").read_text(encoding="utf-8").split("const char *isa;")[1]
    bodies = re.findall(r"\(\*(\w+)(?:\[\w+\])?\)\(", table)
    files = (CLONE / "tests/native").glob("*_bodies.*")
    programs = "".join(path.read_text(encoding="utf-8") for path in files)
    assert len(bodies) > 30
    assert not [name for name in bodies if not re.search(rf"\bk->{name}\b", programs)]


def compiled(compiler, folder, *flags):
    """tests/native/run_bodies.c and the bodies, compiled."""
    program = folder / "run_bodies"
    sources = [CLONE / "tests/native/run_bodies.c", CSRC / "dispatch.c", *sorted(CSRC.glob("isa_*.c"))]
    subprocess.run([compiler, "-std=gnu11", "-O1", "-ffp-contract=fast", f"-I{CSRC}", *flags, "-o", program,
                    *sources, "-lm"], check=True, capture_output=True)
    return program


def results(*command):
    """(name, itemsize, numbers) of each record that the program writes."""
    written = subprocess.run(command, check=True, capture_output=True).stdout
    records, place = [], 0
    while place < len(written):
        head = np.frombuffer(written, HEAD, 1, place)[0]
        place += HEAD.itemsize
        numbers = np.frombuffer(written, "<f8", head["count"], place)
        records.append((head["name"].decode(), int(head["itemsize"]), numbers))
        place += numbers.nbytes
    return records


def assert_alike(found, expected):
    assert len(found) == len(expected) > 700
    for (name, itemsize, a), (other, _, b) in zip(found, expected, strict=True):
        assert name == other
        assert np.isfinite(b).all()
        assert np.any(b != b[0]) or len(b) < 3, "a result that is all the same proves little"
        scale = max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[itemsize] * scale, err_msg=name)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The program for this machine."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        pytest.skip("no C compiler")
    return compiled(compiler, tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """The program for ARM. Debian has the tools: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user."""
    if not (shutil.which(CROSS_COMPILER) and shutil.which(EMULATOR)):
        pytest.skip(f"needs {CROSS_COMPILER} and {EMULATOR}")
    return compiled(CROSS_COMPILER, tmp_path_factory.mktemp("there"), "-static")


@slow
@pytest.mark.parametrize("isa", runtime.available_isas()[1:])
def test_instruction_sets_agree(here, isa):
    assert_alike(results(here, isa), results(here, "scalar"))


@slow
@pytest.mark.parametrize("isa", ["neon", "scalar"])
def test_64_bit_arm(here, there, isa):
    assert_alike(results(EMULATOR, there, isa), results(here, "scalar"))
