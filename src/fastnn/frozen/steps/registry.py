"""The table of how nodes become steps, and what the entries share.

An entry is a function (build, node, *operands) -> arrays, which stands for one node and the shapes of its
operands. It asks `build` for memory and has it call kernels: see `fastnn.frozen.plan`. It runs when steps are
made, not when the network is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._checks import FLOATS
from ..._kernels import elementwise as _elementwise
from ..._kernels.memory import copy_in_order
from ...functional._layout import memory_order
from ...functional.prelu import slope_rows

STEPS: dict[str, Callable[..., Any]] = {}

# Functions that have a kernel, by name; their numbers follow in an activation.
MAPS = {"relu": _elementwise.RELU, "leaky_relu": _elementwise.LEAKY_RELU, "sigmoid": _elementwise.SIGMOID,
        "tanh": _elementwise.TANH, "silu": _elementwise.SILU, "gelu": _elementwise.GELU,
        "gelu_tanh": _elementwise.GELU_TANH, "exp": _elementwise.EXP, "elu": _elementwise.ELU,
        "hardsigmoid": _elementwise.HARDSIGMOID, "hardswish": _elementwise.HARDSWISH,
        "softplus": _elementwise.SOFTPLUS, "clip": _elementwise.HARDTANH}


@dataclass(frozen=True)
class Known:
    """A result that is the same in every call: it needs no step."""

    array: np.ndarray


class Moved(Exception):
    """A function gave an array of another shape or dtype than when the steps were made."""


def steps_of(op: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function in the table."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        STEPS[op] = function
        return function

    return enter


def as_arrays(results: Any) -> tuple[np.ndarray, ...]:
    """What a function returned, as a tuple of arrays."""
    return tuple(map(np.asarray, results if isinstance(results, tuple | list) else (results,)))


def copy_results(outputs: tuple[np.ndarray, ...], function: Callable[..., Any], *arguments: Any) -> None:
    """A step: call a function that makes its own arrays, copy them to the plan's."""
    results = as_arrays(function(*arguments))
    for y, result in zip(outputs, results, strict=True):
        if y.shape != result.shape or y.dtype != result.dtype:
            raise Moved
        y[...] = result


def check_float(node: Any, x: np.ndarray, dtype: np.dtype | None = None, name: str = "x") -> None:
    """Raise TypeError unless x is of a float dtype of ours, or of the one given."""
    if x.dtype not in FLOATS or (dtype is not None and x.dtype != dtype):
        expected = "float32 or float64" if dtype is None else dtype
        raise TypeError(f"{node.label}: {name} has dtype {x.dtype}, expected {expected}")


# --- Memory


def dense_order(x: np.ndarray) -> tuple[int, ...] | None:
    """The axes from the slowest to the fastest, if the memory of x has no gaps."""
    order = tuple(memory_order(x))
    return order if x.transpose(order).flags.c_contiguous else None


def flat(x: np.ndarray) -> np.ndarray:
    """The memory of a dense array."""
    order = dense_order(x)
    assert order is not None
    return x.transpose(order).reshape(-1)


def contiguous(build: Any, x: np.ndarray) -> np.ndarray:
    """x itself or, by a step, a copy in C order."""
    if x.flags.c_contiguous:
        return x
    y: np.ndarray = build.empty(x.shape, x.dtype)
    build.step(copy_in_order, y, x)
    return y


def empty_as(build: Any, x: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """An array of the plan's whose axes lie in memory in the order of those of x."""
    order = memory_order(x)
    shape = x.shape if shape is None else shape
    y: np.ndarray = build.empty(tuple(shape[axis] for axis in order), x.dtype)
    return y.transpose(np.argsort(order))


# --- Activations


def activate(build: Any, activation: tuple[Any, ...] | None, y: np.ndarray) -> np.ndarray:
    """Steps that apply an activation to a dense array in place."""
    if activation is not None:
        check_float(build.node, y)
        _apply(build, activation, flat(y), flat(y))
    return y


def _apply(build: Any, activation: tuple[Any, ...], x: np.ndarray, y: np.ndarray) -> None:
    name, *numbers = activation
    if name == "clip":
        low, high = numbers
        numbers = [-math.inf if low is None else low, math.inf if high is None else high]
    alpha, beta = (*numbers, 0.0, 0.0)[:2]
    build.step(_elementwise.map, MAPS[name], alpha, beta, x, y)


def split_relu(activation: tuple[Any, ...] | None) -> tuple[int, tuple[Any, ...] | None]:
    """What the kernels of products apply themselves, 1 for relu, 2 for that up to six; and what is left."""
    if activation == ("relu",):
        return 1, None
    if activation == ("clip", 0, 6):
        return 2, None
    return 0, activation


@steps_of("map")
def map_steps(build, node, x):
    """An activation by itself."""
    check_float(node, x)
    if dense_order(x) is None:
        y = contiguous(build, x)
        return activate(build, node.attributes["activation"], y)
    y = x if build.overwrites(0) else empty_as(build, x)
    _apply(build, node.attributes["activation"], flat(x), flat(y))
    return y


@steps_of("prelu")
def prelu_steps(build, node, x, slope):
    """A leaky ReLU with slopes of channels or, by max(x, 0) + slope min(x, 0), as they spread over x."""
    check_float(node, x, slope.dtype)
    if node.attributes["by_channel"]:
        if x.ndim < 2 or x.shape[1] != len(slope):
            raise ValueError(f"{node.label}: x has shape {x.shape}, expected {len(slope)} channels in "
                             "dimension 1")
        return _prelu_by_channel(build, x, slope)
    if x.ndim > 1 and slope.shape == (x.shape[1], *(1,) * (x.ndim - 2)):
        return _prelu_by_channel(build, x, slope.reshape(-1))
    below = empty_as(build, x)
    y = x if build.overwrites(0) else empty_as(build, x)
    build.step(np.clip, x, None, 0, below)
    build.step(np.multiply, below, slope, below)
    build.step(np.clip, x, 0, None, y)
    build.step(np.add, y, below, y)
    return y


def _prelu_by_channel(build: Any, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    pixels = np.moveaxis(x, 1, -1)
    rows = contiguous(build, pixels)
    y = rows if rows is not pixels or build.overwrites(0) else build.empty(rows.shape, x.dtype)
    build.step(_elementwise.prelu, rows, slope_rows(len(slope), slope), y)
    return np.moveaxis(y, -1, 1)
