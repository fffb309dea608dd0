"""The README's programs run."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
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
