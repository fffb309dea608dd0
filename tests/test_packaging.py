"""The package as others meet it: its build without a compiler, its source archive, its imports."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import fastnn

CLONE = Path(__file__).parent.parent
KERNELS = Path("src/fastnn/_kernels")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the sources, in which nothing is built."""
    pytest.importorskip("Cython", minversion="3.2")
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("sources")
    translated = [path.name for path in (CLONE / KERNELS).glob("*.c")]
    shutil.copytree(CLONE / "src", copy / "src",
                    ignore=shutil.ignore_patterns(*translated, "*.so", "*.egg-info", "__pycache__"))
    for path in ("tests", "bench", "examples"):
        shutil.copytree(CLONE / path, copy / path, ignore=shutil.ignore_patterns("__pycache__"))
    for path in CLONE.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, copy)
    return copy


def setup(folder, *command, **environment):
    """Run setup.py; return how it went."""
    return subprocess.run([sys.executable, "setup.py", *command], cwd=folder, text=True, capture_output=True,
                          env={**os.environ, **environment}, check=False)


def test_without_a_compiler_one_sentence(sources):
    run = setup(sources, "build_ext", CC="/nonexistent/cc")
    assert run.returncode
    assert "Traceback" not in run.stdout + run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("error: fastnn is compiled from C")
    assert "no working C compiler was found (tried '/nonexistent/cc')" in last


def test_source_archive_is_complete(sources, tmp_path):
    run = setup(sources, "-q", "sdist", "--dist-dir", str(tmp_path))
    assert run.returncode == 0, run.stderr
    (archive,) = tmp_path.iterdir()
    assert archive.name == f"fastnn_kernels-{fastnn.__version__}.tar.gz"
    with tarfile.open(archive) as tar:
        packed = {Path(*Path(name).parts[1:]) for name in tar.getnames()}
    wanted = {path.relative_to(sources) for folder in ("src", "tests", "bench", "examples")
              for path in (sources / folder).rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".h", ".c")}
    assert wanted <= packed
    assert {Path(name) for name in ("pyproject.toml", "setup.py", "Makefile", "LICENSE", "README.md",
                                    "CONTRIBUTING.md", "CHANGELOG.md")} <= packed
    assert not [path for path in packed if path.suffix == ".c" and path.parent == KERNELS]


@pytest.mark.slow
def test_serial_build(sources):
    run = setup(sources, "build_ext", "--inplace", FASTNN_OPENMP="0")
    assert run.returncode == 0, run.stderr
    program = "import fastnn; fastnn.set_num_threads(2); fastnn.show_config()"
    shown = subprocess.run([sys.executable, "-c", program], cwd=sources / "src", text=True,
                           capture_output=True, check=True).stdout
    assert "none: a serial build" in shown
    assert "threads          1\n" in shown


def test_import_needs_numpy_alone():
    program = """
import sys
for extra in ("tqdm", "safetensors", "sklearn", "scipy", "matplotlib", "names", "Cython"):
    sys.modules[extra] = None  # importing it is now an ImportError
import fastnn
assert "fastnn.reference" not in sys.modules, "the reference is for tests and benchmarks"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_metadata():
    try:
        distribution = importlib.metadata.distribution("fastnn-kernels")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fastnn is not installed but run from its sources")
    assert distribution.version == fastnn.__version__
    required = [line for line in distribution.requires if "extra ==" not in line]
    assert [line.split(">")[0] for line in required] == ["numpy"]
