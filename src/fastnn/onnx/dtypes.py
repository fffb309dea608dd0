"""ONNX's numbers of dtypes, and the dtypes."""

from __future__ import annotations

import functools

import numpy as np

# Those that networks run in here. Floats of 8 and 4 bits and integers of 4 and 2 are not among them.
NAMES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "object",
         9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"}


@functools.cache
def dtype_of(number: int) -> np.dtype:
    """The dtype of a number that is among `NAMES`; text is an array of objects."""
    if NAMES[number] == "bfloat16":
        import ml_dtypes  # which the onnx package depends on

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(NAMES[number])
