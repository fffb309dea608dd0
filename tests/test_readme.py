"""The README's programs run; the tests that documents name exist."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
RELIABILITY = HERE.parent / "docs/reliability.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_programs():
    assert len(PROGRAMS) == 5


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program(number, tmp_path, monkeypatch, capsys):
    from fastnn import get_num_threads, set_num_threads

    if "onnx" in PROGRAMS[number]:
        pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    threads = get_num_threads()
    try:
        exec(compile(PROGRAMS[number], f"README.md, program {number + 1}", "exec"), {"__name__": "readme"})
    finally:
        set_num_threads(threads)


def test_named_tests_exist():
    """In docs/reliability.md a name without a file is in the file that was named last."""
    names = re.findall(r"`(test_\w+\.py)?(?:::(\w+))?`", RELIABILITY.read_text(encoding="utf-8"))
    path, found = None, 0
    for file, test in names:
        path = HERE / file if file else path
        if test:
            assert f"\ndef {test}(" in path.read_text(encoding="utf-8"), f"{path.name}::{test}"
        elif file:
            assert path.exists(), file
        found += bool(file or test)
    assert found > 40
