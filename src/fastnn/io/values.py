"""What `save` is given, in the one form that the writers of files work with; the rest is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._checks import plain_array
from . import torch_pickle

_MAX_BITS = 8 * 255 - 1  # of an integer: a pickle says in one byte how many it has, the sign's among them


def as_arrays(state: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of a state dict, for a file of arrays alone."""
    arrays = {}
    for name, value in state.items():
        if not isinstance(name, str):
            raise TypeError(f"save: {name!r} is a {type(name).__name__}, expected a string as name")
        if "\0" in name:
            raise ValueError(f"save: the name {name!r} has a null character")
        arrays[name] = _as_array(name, value, "; nested dicts and lists, text and None go into a .pt file")
    return arrays


def as_nested(name: str, value: Any, depth: int = 1) -> Any:
    """Return what a .pt file can hold: dicts, lists, tuples, arrays, numbers, text and None."""
    if value is None or type(value) in (bool, float, str):
        return value
    if type(value) is int:
        if value.bit_length() > _MAX_BITS:
            raise ValueError(f"save: {name} is an integer of {value.bit_length()} bits, expected at most "
                             f"{_MAX_BITS}")
        return value
    if not isinstance(value, (Mapping, list, tuple)):
        what = "; save its state_dict()" if hasattr(value, "state_dict") else ""
        return _as_array(name, value, f", or dicts, lists and tuples of numbers, text and None{what}")
    if depth > torch_pickle.MAX_DEPTH:
        raise ValueError(f"save: {name:.60} nests containers more than {torch_pickle.MAX_DEPTH} deep, or "
                         "within themselves")
    if not isinstance(value, Mapping):
        items = [as_nested(f"{name}[{i}]", item, depth + 1) for i, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    for key in value:
        if type(key) is not str and not (type(key) is int and -(2**63) <= key < 2**63):
            raise TypeError(f"save: {key!r:.60} is a {type(key).__name__}, expected a string or an integer "
                            f"of 64 bits as key{f' in {name}' if name else ''}")
    return {key: as_nested(f"{name}.{key}" if name else str(key), item, depth + 1)
            for key, item in value.items()}


def _as_array(name: str, value: Any, else_: str) -> np.ndarray:
    """Return an array in C order and native byte order."""
    try:
        array = np.asarray(value) if value is None else plain_array(f"save: {name}", value, "numbers")
    except ValueError as error:  # a ragged list
        raise ValueError(f"save: {name} cannot be made an array: {error.__cause__}{else_}") from error
    except TypeError as error:  # a mask, an object that refuses
        raise TypeError(f"{error}{else_}") from error
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(f"save: {name} has dtype {array.dtype}, expected numbers of at most 64 bits{else_}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
