"""Each floor of the package knows only the floors below it."""

import ast
from pathlib import Path

import pytest

import fastnn

PACKAGE = Path(fastnn.__file__).parent
# From the ground up; a module may import from its own floor and from those below.
FLOORS = (
    {"_version", "_late", "_checks", "_kernels", "_random", "_config"},
    {"functional"},
    {"init", "layers", "losses", "optim", "io"},
    {"training", "onnx"},
    {"frozen"},
    {"cli", "__main__"},
)
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def part_of(path):
    """The first name below fastnn: "layers" of layers/conv.py."""
    return path.parts[0].removesuffix(".py")


def imported_parts(path):
    """First names below fastnn that the module imports when it is itself imported."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == len(path.parts):
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module.startswith("fastnn"):
            yield from node.module.split(".")[1:2] or [alias.name for alias in node.names]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_downward(path):
    part = part_of(path)
    if part == "__init__":
        return
    for other in set(imported_parts(path)) - {part}:
        if part == "reference":
            assert other == "_random", "the reference owes nothing to what it is the truth for"
        else:
            assert FLOOR_OF[other] <= FLOOR_OF[part], f"{path} imports {other}, which lies above"
