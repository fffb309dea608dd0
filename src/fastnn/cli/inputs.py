"""What a model is given: arrays from files, or made up for a shape."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import io
from ..onnx import OnnxModel, Value

SHAPE_HELP = """the shape of an input, as 1,3,224,224; with its name before it, as image=1,3,224,224, where
there are several. By default what the model says, with one sample where the batch is free"""


def described(values: Mapping[str, Value]) -> str:
    """Inputs or outputs in words: x float32 (batch, 3, ?, ?)."""
    words = []
    for value in values.values():
        shape = "of any rank"
        if value.shape is not None:
            shape = "(" + ", ".join("?" if n is None else str(n) for n in value.shape) + ")"
        words.append(f"{value.name} {value.dtype or 'of any type'} {shape}")
    return ", ".join(words)


# --- Arrays from files


def read_inputs(model: OnnxModel, arguments: list[str]) -> dict[str, np.ndarray]:
    """Return arrays by name from [NAME=]FILE, .npy files, and .npz files that hold arrays by name."""
    feeds: dict[str, np.ndarray] = {}
    for argument in arguments:
        name, path = _split(model, argument)
        if path.suffix.lower() == ".npz" and not name:
            feeds.update(io.load(path))
            continue
        feeds[name or _next(model, feeds, argument)] = _read_array(path)
    wrong = [name for name in feeds if name not in model.inputs]
    missing = [name for name in model.inputs if name not in feeds]
    if wrong or missing:
        faults = [f"there is no input {name!r}" for name in wrong]
        faults += [f"input {name!r} is missing" for name in missing]
        raise ValueError("; ".join(faults) + f"; the model takes {described(model.inputs)}")
    return feeds


def _split(model: OnnxModel, argument: str) -> tuple[str, Path]:
    """Take NAME=FILE apart; a file's own name may have a = in it, and so may an input's."""
    for name in model.inputs:
        if argument.startswith(f"{name}="):
            return name, Path(argument[len(name) + 1 :])
    name, equals, path = argument.rpartition("=")
    if equals and not Path(argument).exists():
        return name, Path(path)
    return "", Path(argument)


def _next(model: OnnxModel, feeds: Mapping[str, Any], argument: str) -> str:
    """The first input that has no array yet."""
    for name in model.inputs:
        if name not in feeds:
            return name
    raise ValueError(f"{argument} is one array too many; the model takes {described(model.inputs)}")


def _read_array(path: Path) -> np.ndarray:
    """Read an .npy file: mapped first, which compares header and size before anything is allocated."""
    with open(path, "rb") as file:
        start = file.read(6)
    if start != b"\x93NUMPY":
        raise ValueError(f"{path} is not an .npy file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:
        raise ValueError(f"{path} is not a whole .npy file of numbers: {error}") from error
    return np.array(array)


# --- Arrays made up


class FreeSizes(ValueError):
    """Sizes that neither the model nor the command line tells."""


def add_shape_argument(parser: argparse.ArgumentParser) -> None:
    """Add --shape."""
    parser.add_argument("--shape", action="append", default=[], metavar="[NAME=]SIZES", help=SHAPE_HELP)


def make_inputs(model: OnnxModel, arguments: list[str]) -> dict[str, np.ndarray]:
    """Return normal random numbers for inputs of floats, zeros for others, of the shapes given or known."""
    shapes = _given_shapes(model, arguments)
    rng = np.random.default_rng(0)
    feeds = {}
    for name, value in model.inputs.items():
        shape = shapes.get(name) or _known_shape(value)
        dtype = value.dtype or np.dtype(np.float32)
        random = dtype.kind == "f"
        feeds[name] = rng.standard_normal(shape).astype(dtype) if random else np.zeros(shape, dtype)
    return feeds


def _given_shapes(model: OnnxModel, arguments: list[str]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for argument in arguments:
        name, _, sizes = argument.rpartition("=")
        if not name and len(model.inputs) == 1:
            name = next(iter(model.inputs))
        if name not in model.inputs:
            what = f"there is no input {name!r}" if name else f"--shape {argument} names no input"
            raise ValueError(f"{what}; the model takes {described(model.inputs)}")
        try:
            shapes[name] = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        except ValueError:
            raise ValueError(f"--shape {argument}: {sizes!r} is not a shape, as 1,3,224,224") from None
        if min(shapes[name]) < 0:
            raise ValueError(f"--shape {argument}: sizes are at least 0")
    return shapes


def _known_shape(value: Value) -> tuple[int, ...]:
    sizes = value.shape
    if sizes is None or any(not isinstance(n, int) for n in sizes[1:]):
        raise FreeSizes(f"sizes of an input are free, give them by --shape: {described({'': value})}")
    return tuple(n if isinstance(n, int) else 1 for n in sizes)
