"""NumPy's .npz: a zip archive with an .npy file for each array."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

NESTED = False

# Deflate cannot do better than this, so a larger claim is a lie.
_DEFLATE_LIMIT = 1032


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays`; unlike np.savez, under any names (savez has arguments called `file` and the like)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an archive, allocating no more than its size warrants."""
    with zipfile.ZipFile(path) as archive:
        size, members = path.stat().st_size, archive.infolist()
        return {info.filename.removesuffix(".npy"): _read_array(archive, info, size) for info in members}


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, archive_size: int) -> np.ndarray:
    if not info.filename.endswith(".npy"):
        raise ValueError(f"{info.filename} is not an array")
    ratio = 1 if info.compress_type == zipfile.ZIP_STORED else _DEFLATE_LIMIT
    if info.compress_size > archive_size or info.file_size > ratio * info.compress_size:
        raise ValueError(f"{info.filename} claims to be larger than the file")
    with archive.open(info) as member:
        shape, _, dtype = _read_header(member)
        expected = member.tell() + math.prod(shape) * dtype.itemsize
    if dtype.kind not in "fiub":
        raise ValueError(f"{info.filename} has dtype {dtype}, expected numbers")
    if expected != info.file_size:
        raise ValueError(f"{info.filename} does not hold the array its header describes")
    with archive.open(info) as member:
        array = npy.read_array(member, allow_pickle=False)
        member.read()  # to the end, where the checksum is compared
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(member)
    if version == (1, 0):
        return npy.read_array_header_1_0(member)
    if version == (2, 0):
        return npy.read_array_header_2_0(member)
    raise ValueError(f"unknown .npy version {version}")
