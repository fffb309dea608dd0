"""Hugging Face's .safetensors, through the package of that name."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

NESTED = False

_DTYPES = {
    "BOOL": "?",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays`, which must be in C order."""
    package = _package()
    if "__metadata__" in arrays:
        raise ValueError("save: a .safetensors file cannot hold a tensor named __metadata__")
    package.numpy.save_file(arrays, path)


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file."""
    tensors = _package().deserialize(path.read_bytes())
    return {name: _as_array(name, **tensor) for name, tensor in tensors}


def _as_array(name: str, dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype == "BF16":  # the upper half of a float32
        bits = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)
    if dtype not in _DTYPES:
        raise ValueError(f"tensor {name} has the type {dtype}, which NumPy does not have")
    array = np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="))


def _package() -> ModuleType:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        message = '.safetensors files need the safetensors package: pip install "fastnn-kernels[safetensors]"'
        raise ImportError(message) from None
    return safetensors
