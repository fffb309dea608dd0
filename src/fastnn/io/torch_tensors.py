"""What a PyTorch file says of tensors: storages, their types, and views of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .refusal import Refusal


class StorageType(NamedTuple):
    """The elements of a storage: as they are in the file, and as they are read."""

    name: str
    dtype: np.dtype
    widened: bool = False  # bfloat16, which NumPy does not have: the upper half of a float32

    @property
    def read_as(self) -> np.dtype:
        return np.dtype(np.float32) if self.widened else self.dtype


STORAGES = {
    f"torch.{name}Storage": StorageType(name, np.dtype(code))
    for name, code in (
        ("Double", "f8"),
        ("Float", "f4"),
        ("Half", "f2"),
        ("Long", "i8"),
        ("Int", "i4"),
        ("Short", "i2"),
        ("Char", "i1"),
        ("Byte", "u1"),
        ("Bool", "?"),
        ("ComplexFloat", "c8"),
        ("ComplexDouble", "c16"),
    )
} | {
    "torch.BFloat16Storage": StorageType("BFloat16", np.dtype("u2"), widened=True),
    "torch.storage.UntypedStorage": StorageType("Untyped", np.dtype("u1")),
}

# The types that have no storage class of their own: their bytes are in an untyped one.
DTYPES = {f"torch.{name}": np.dtype(name) for name in ("uint16", "uint32", "uint64")}


class Storage:
    """A row of elements in memory, which may be filled later than the tensors on it are made."""

    def __init__(self, kind: StorageType, size: int):
        self.kind = kind
        self.elements = np.empty(size, kind.read_as)

    @property
    def bytes_in_file(self) -> int:
        return self.elements.size * self.kind.dtype.itemsize

    def fill(self, file: Any, byteorder: str) -> None:
        """Read the elements from a file with `readinto`."""
        raw = np.empty(self.elements.size, self.kind.dtype) if self.kind.widened else self.elements
        view, done = memoryview(raw.view(np.uint8)), 0
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                raise EOFError("it ends within a tensor")
            done += count
        if not raw.dtype.newbyteorder(byteorder).isnative:
            raw.byteswap(inplace=True)
        if self.kind.widened:
            np.left_shift(raw, 16, out=self.elements.view(np.uint32), dtype=np.uint32)


def view(storage: Any, offset: Any, size: Any, stride: Any, dtype: Any = None) -> np.ndarray:
    """Return the array of that size and strides, counted in elements, which begins at `offset`.

    It is a view, so tensors that share a storage share memory here as well.
    """
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    elements = storage.elements
    if dtype is not None:
        if not isinstance(dtype, np.dtype) or storage.kind.name != "Untyped":
            raise Refusal("has a tensor of an unknown type")
        elements = elements[: elements.size // dtype.itemsize * dtype.itemsize].view(dtype)
    if not all(isinstance(numbers, tuple) and all(type(n) is int and n >= 0 for n in numbers)
               for numbers in ((offset,), size, stride)) or len(size) != len(stride):
        raise ValueError(f"a tensor has offset {offset}, size {size}, stride {stride}")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else -1
    if last >= elements.size or count > elements.size:
        raise ValueError(f"a tensor of size {size}, stride {stride} and offset {offset} is not within "
                         f"its storage of {elements.size} elements")
    if not count:
        return np.empty(size, elements.dtype)
    strides = [step * elements.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(elements[offset:], size, strides)
