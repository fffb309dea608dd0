"""Save and load state dicts; the format is told by the suffix."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..layers.module import Module
from .refusal import Refusal

if TYPE_CHECKING:
    from pathlib import Path  # loaded when it is first needed: a fifth of the time of `import fastnn`

# A format is a module with write(path, arrays) and read(path) -> arrays in native byte order, loaded when it
# is first needed; NESTED says whether it writes containers, numbers and text as well.
_FORMATS = {".npz": "npz", ".safetensors": "safetensors_file", ".pt": "torch_file", ".pth": "torch_file"}


def save(model: Module | Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the state of a model, or all of a checkpoint, to a file.

    The file is written beside its place, flushed to the disk and then moved there: whatever happens
    meanwhile, there is the old file or the new one, whole.

    Parameters
    ----------
    model : Module or mapping of str to array_like
        A network, or a state dict.  For a "*.pt" or "*.pth" file, which keeps their structure, also dicts,
        lists and tuples within one another, of arrays, numbers, text and None, with strings and integers as
        keys: the state of an optimizer or a schedule, or ``{"model": ..., "optimizer": ..., "epoch": 3}``.
        NumPy's scalars are written as tensors of shape ().
    path : path-like
        The file: "*.npz", "*.safetensors" (needs the safetensors package), or "*.pt" or "*.pth", which
        torch.load reads, with ``weights_only=True`` as well (and which needs no torch).

    Raises
    ------
    TypeError, ValueError
        Naming what the file cannot hold.
    """
    from .atomic import replacing
    from .values import as_arrays, as_nested

    target, form = _resolve("save", path)
    state = model.state_dict() if isinstance(model, Module) else model
    if not isinstance(state, Mapping):
        raise TypeError(f"save: model is a {type(state).__name__}, expected a Module or a mapping of arrays")
    plain = as_nested("", state) if form.NESTED else as_arrays(state)
    with replacing(target) as temporary:
        form.write(temporary, plain)


def load(path: str | os.PathLike[str]) -> Any:
    """Read the tensors of a file by name, for `Module.load_state_dict`.

    Parameters
    ----------
    path : path-like
        A file that `save`, NumPy's savez, the safetensors package or torch.save has written; "*.pt" and
        "*.pth" files both of today and of before torch 1.6.

    Returns
    -------
    dict of str to ndarray
        New arrays in native byte order; bfloat16 tensors are widened to float32, the others keep their type.
        A PyTorch file may hold more than a state dict, and is returned as it is: dicts, lists, tuples, sets,
        numbers, strings, and arrays for the tensors.  As in torch, tensors that shared memory when they were
        saved share it again.

    Raises
    ------
    ValueError
        If the file is damaged, the suffix unknown, or the file holds anything else.  No code of a file is
        run, and no more memory is taken than its size warrants.
    """
    source, form = _resolve("load", path)
    with open(source, "rb"):  # a file that is missing or not ours to read is an OSError, not a damaged one
        pass
    try:
        return form.read(source)
    except (ImportError, MemoryError):
        raise
    except Refusal as refusal:
        raise ValueError(f"load: {source} {refusal}") from refusal
    except Exception as error:  # the parsers below raise a dozen kinds on damaged bytes
        raise ValueError(f"load: {source} is not a whole {source.suffix} file: {error}") from error


def _resolve(function: str, path: Any) -> tuple[Path, ModuleType]:
    from pathlib import Path

    try:
        path = Path(os.fsdecode(path))
    except TypeError:
        raise TypeError(f"{function}: path is a {type(path).__name__}, expected a path") from None
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        known = " or ".join(_FORMATS)
        raise ValueError(f"{function}: {path} has the suffix {path.suffix!r}, expected {known}")
    return path, import_module(f".{form}", __package__)
