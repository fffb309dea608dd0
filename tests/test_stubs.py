"""Type stubs are those of the code, and a typed program runs and checks."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn

CLONE = Path(__file__).parent.parent
PACKAGE = Path(fastnn.__file__).parent
COMPILED = sorted(path.stem for path in (CLONE / "src/fastnn/_kernels").glob("*.pyx"))


def stub_functions(path):
    """Names of the functions of a stub, and of the parameters of each."""
    return {node.name: [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def real_functions(module):
    """The same of a module; imported functions are not its own."""
    return {name: list(inspect.signature(value).parameters) for name, value in vars(module).items()
            if callable(value) and not name.startswith("_") and not inspect.isclass(value)
            and getattr(value, "__module__", module.__name__) == module.__name__}


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_modules_are_as_their_stubs_say(name):
    module = importlib.import_module(f"fastnn._kernels.{name}")
    assert real_functions(module) == stub_functions(PACKAGE / f"_kernels/{name}.pyi")


def test_stubs_are_up_to_date():
    sys.path.insert(0, str(CLONE / "tools"))
    try:
        import make_stubs
    finally:
        sys.path.pop(0)
    old = [str(path) for path, text in make_stubs.stubs().items()
           if not path.exists() or path.read_text(encoding="utf-8") != text]
    assert not old, "run `python tools/make_stubs.py`"


def test_marked_as_typed():
    assert (PACKAGE / "py.typed").exists()


def test_typed_program_runs():
    subprocess.run([sys.executable, "-W", "error", str(CLONE / "tests/typing/public_api.py")], check=True)
