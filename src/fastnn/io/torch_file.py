"""PyTorch's .pt and .pth: a pickle that says what there is, and the elements of storages beside it.

Since version 1.6 a zip archive, with all records stored as they are::

    name/data.pkl      the pickle; a tensor is a view of a storage, a storage has a key
    name/byteorder     "little" or "big"
    name/data/KEY      the elements of a storage

and before that one stream: three pickles of what wrote it, the pickle, a pickle of the list of keys, and for
each key the number of its elements, 8 bytes, and the elements.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import torch_pickle
from .refusal import Refusal
from .torch_tensors import DTYPES, STORAGES, Storage, StorageType

NESTED = True

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_BYTEORDERS = ("little", "big")


# --- Reading


def read(path: Path) -> Any:
    """Return what a file holds, its tensors as arrays."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(512)
        file.seek(0)
        if start[:4] in (b"PK\3\4", b"PK\5\6"):
            with zipfile.ZipFile(file) as archive:
                return _read_zip(archive, size)
        if start[257:262] == b"ustar":
            raise Refusal("is a tar archive, as torch wrote them before version 0.1.10")
        if start[:1] != pickle.PROTO:
            raise ValueError("it does not begin as one")
        return _read_stream(torch_pickle.Source(file, size))


class _Storages:
    """The storages of a file by key, in all no larger than the file; `fill` reads one at once."""

    def __init__(self, size: int, fill: Callable[[str, Storage], None] | None = None):
        self.known: dict[str, Storage] = {}
        self._left, self._fill = size, fill

    def __call__(self, kind: StorageType, key: str, count: int) -> Storage:
        if key not in self.known:
            self._left -= count * kind.dtype.itemsize
            if self._left < 0:
                raise ValueError("its tensors are larger than the file")
            storage = Storage(kind, count)
            if self._fill is not None:
                self._fill(key, storage)
            self.known[key] = storage
        storage = self.known[key]
        if (storage.kind, storage.elements.size) != (kind, count):
            raise ValueError(f"it describes storage {key} in two ways")
        return storage


def _read_stream(source: torch_pickle.Source) -> Any:
    def nothing(*_: Any) -> Any:
        raise ValueError("it has a tensor out of place")

    if torch_pickle.load(source, nothing) != _MAGIC:
        raise ValueError("it does not begin as one")
    protocol = torch_pickle.load(source, nothing)
    if protocol != _PROTOCOL:
        raise Refusal(f"has the format's version {protocol}, which is unknown")
    little = torch_pickle.load(source, nothing)["little_endian"]
    storages = _Storages(source.left)
    result = torch_pickle.load(source, storages)
    keys = torch_pickle.load(source, nothing)
    if sorted(keys) != sorted(storages.known):
        raise ValueError("its storages are not those of its tensors")
    for key in keys:
        storage = storages.known[key]
        if source.number("<q") != storage.elements.size:
            raise ValueError(f"storage {key} is not of the size that its tensors expect")
        if storage.bytes_in_file > source.left:
            raise EOFError("it ends before its tensors do")
        storage.fill(source, "little" if little else "big")
    if source.left:
        raise ValueError("it goes on after its tensors")
    return result


def _read_zip(archive: zipfile.ZipFile, size: int) -> Any:
    members = {info.filename: info for info in archive.infolist()}
    for info in members.values():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"{info.filename} is compressed, which torch does not do")
    if sum(info.file_size for info in archive.infolist()) > size:
        raise ValueError("its records claim to be larger than the file")
    names = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(names) != 1:
        raise ValueError("it has no data.pkl")
    root = names[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in members:
        raise Refusal("is a TorchScript program; save the state_dict() of the module instead")
    byteorder = "little"  # as long as there was no record of it
    if f"{root}byteorder" in members:
        byteorder = archive.read(members[f"{root}byteorder"]).decode("ascii")
        if byteorder not in _BYTEORDERS:
            raise ValueError(f"its byte order is {byteorder!r}")

    def fill(key: str, storage: Storage) -> None:
        info = members.get(f"{root}data/{key}")
        if info is None:
            raise ValueError(f"it has no record data/{key}")
        if info.file_size != storage.bytes_in_file:
            raise ValueError(f"storage {key} is not of the size that its tensors expect")
        with archive.open(info) as record:
            storage.fill(record, byteorder)
            record.read()  # to the end, where the checksum is compared

    content = archive.read(members[names[0]])
    return torch_pickle.load(torch_pickle.Source(io.BytesIO(content), len(content)), _Storages(size, fill))


# --- Writing


_STORAGE_NAMES = {
    kind.dtype: name for name, kind in STORAGES.items() if kind.name not in ("BFloat16", "Untyped")
}
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write(path: Path, state: dict[Any, Any]) -> None:
    """Write containers, numbers, text and arrays in C order and native byte order as ``torch.save`` does.

    Python's pickler would have to import torch to name its globals, so the instructions are written here.
    """
    arrays: list[np.ndarray] = []
    program = _program(state, arrays)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("data.pkl", program), ("byteorder", sys.byteorder.encode()),
                              ("version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
        for key, array in enumerate(arrays):
            info = zipfile.ZipInfo(f"archive/data/{key}")
            info.file_size = array.nbytes  # by which zipfile chooses the form of the header
            with archive.open(info, "w") as record:
                record.write(memoryview(array.reshape(-1).view(np.uint8)))


def _program(state: dict[Any, Any], arrays: list[np.ndarray]) -> bytes:
    """Return a pickle of protocol 2, where calls of torch's functions rebuild tensors; append the arrays."""
    return b"".join([pickle.PROTO, b"\2", _value(state, arrays), pickle.STOP])


def _value(value: Any, arrays: list[np.ndarray]) -> bytes:
    """The instructions that push a value."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return _tensor(len(arrays) - 1, value)
    if isinstance(value, dict):
        items = [_value(part, arrays) for item in value.items() for part in item]
        return b"".join([pickle.EMPTY_DICT, pickle.MARK, *items, pickle.SETITEMS])
    if isinstance(value, list):
        return b"".join([pickle.EMPTY_LIST, pickle.MARK, *(_value(v, arrays) for v in value), pickle.APPENDS])
    if isinstance(value, tuple):
        return _tuple(*(_value(v, arrays) for v in value))
    if value is None or isinstance(value, bool):
        return {None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}[value]
    if isinstance(value, float):
        return pickle.BINFLOAT + struct.pack(">d", value)
    return _text(value) if isinstance(value, str) else _integer(value)


def _tensor(key: int, array: np.ndarray) -> bytes:
    own = array.dtype in _STORAGE_NAMES
    kind = _global(_STORAGE_NAMES.get(array.dtype, "torch.storage.UntypedStorage"))
    storage = _tuple(_text("storage"), kind, _text(str(key)), _text("cpu"),
                     _integer(array.size if own else array.nbytes))
    # Of the shape: where a dimension has one element or none, NumPy's strides may be anything.
    stride = [math.prod(max(n, 1) for n in array.shape[i + 1 :]) for i in range(array.ndim)]
    hooks = _global("collections.OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = [storage + pickle.BINPERSID, _integer(0), _tuple(*map(_integer, array.shape)),
                 _tuple(*map(_integer, stride)), pickle.NEWFALSE, hooks]
    if not own:
        arguments.append(_global(_DTYPE_NAMES[array.dtype]))
    function = _global(f"torch._utils._rebuild_tensor_v{2 if own else 3}")
    return function + _tuple(*arguments) + pickle.REDUCE


def _global(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(data)]) + data
