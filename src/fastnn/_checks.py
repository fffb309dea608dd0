"""Checks of arguments: every public function looks at what it was given here, before any arithmetic.

Each helper takes ``name`` first, the function and the argument ("conv2d: stride"), and returns the value
in the one form the code below works with.  The good case is a few attribute reads; words are put together
only to refuse.  TypeError is for the wrong kind of thing (an integer array, a bool for a number),
ValueError for the wrong value.
"""

from __future__ import annotations

import math
import operator
from typing import Any, NoReturn

import numpy as np

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
FLOATS = (FLOAT32, FLOAT64)  # what the kernels compute with
INT64 = np.dtype(np.int64)

# Sizes, strides and paddings stay below 2**31, so sums and products of a few of them cannot wrap in 64 bits.
MAX_SIZE = 2**31 - 1

Rank = int | tuple[int, ...] | None


# --- Arrays


def as_float_array(name: str, x: Any, ndim: Rank = None, dtype: np.dtype | None = None) -> np.ndarray:
    """Return `x` as a plain, aligned, native float32 or float64 array; no copy where it is one already.

    Parameters
    ----------
    name : str
        The function and the argument, for the message.
    x : array_like
        An array, or anything np.asarray makes a float array of.
    ndim : int or tuple of int, optional
        The rank or ranks allowed; None allows any.
    dtype : numpy.dtype, optional
        The dtype `x` must have to go with the arguments checked before.  No array is ever cast to it; a list
        of floats, which has no dtype of its own, is made an array of it.
    """
    if type(x) is np.ndarray:
        found = x.dtype
        # Native dtypes are singletons, so `is` decides the good case; all others go the slow way below.
        # Aligned also says that strides are whole elements (a field of a packed record has neither).
        if ((found is FLOAT32 or found is FLOAT64) and (dtype is None or found is dtype)
                and (ndim is None or x.ndim == ndim or (type(ndim) is tuple and x.ndim in ndim))
                and x.flags.aligned):
            return x
    return _convert_float_array(name, x, ndim, dtype)


def _convert_float_array(name: str, x: Any, ndim: Rank, dtype: np.dtype | None) -> np.ndarray:
    array = plain_array(name, x, "float32 or float64")
    found = array.dtype
    if found != FLOAT32 and found != FLOAT64 and found.newbyteorder("=") not in (FLOAT32, FLOAT64):
        _refuse_dtype(name, x, found, "float32 or float64")
    native = FLOAT32 if found.itemsize == 4 else FLOAT64
    if dtype is not None and native != dtype:
        if hasattr(x, "dtype"):
            raise TypeError(f"{name} has dtype {native}, expected {dtype} as the layer or the other arrays "
                            "have; convert it with .astype")
        native = dtype
    check_ndim(name, array, ndim)
    return _native(array, native)


def as_int_array(
    name: str, x: Any, ndim: Rank = None, low: int | None = None, high: int | None = None
) -> np.ndarray:
    """Return `x` (indices, class labels, lengths) as a plain int64 array with ``low <= x < high``."""
    array = plain_array(name, x, "integers")
    if array.dtype.kind not in "iu" and array.size:
        _refuse_dtype(name, x, array.dtype, "an integer dtype")
    check_ndim(name, array, ndim)
    if array.size and (low is not None or high is not None):
        # Compared before the conversion, in which a uint64 beyond int64 would wrap.
        smallest, largest = int(array.min()), int(array.max())
        if low is not None and smallest < low:
            raise ValueError(f"{name} has the value {smallest}, expected values >= {low}")
        if high is not None and largest >= high:
            raise ValueError(f"{name} has the value {largest}, expected values < {high}")
    elif array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} has the value {int(array.max())}, beyond int64")
    return _native(array, INT64)


def plain_array(name: str, x: Any, expected: str) -> np.ndarray:
    """np.asarray(x), with every failure a TypeError or ValueError that names the argument."""
    if x is None:
        raise TypeError(f"{name} is None, expected an array of {expected}")
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; pass x.filled(value)")
    try:
        return np.asarray(x)
    except ValueError as error:  # a ragged list
        raise ValueError(f"{name} cannot be made an array of {expected}: {error}") from error
    except (TypeError, RuntimeError) as error:  # an object that refuses, as a tensor requiring its gradient
        kind = type(x).__name__
        raise TypeError(f"{name} is a {kind}, expected an array of {expected}: {error}") from error


def _native(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return `array` with exactly the dtype singleton, aligned; a view where possible."""
    if array.dtype != dtype or not array.flags.aligned:
        return array.astype(dtype)
    return array if array.dtype is dtype else array.view(dtype)


def _refuse_dtype(name: str, x: Any, found: np.dtype, expected: str) -> NoReturn:
    if isinstance(x, np.ndarray):
        raise TypeError(f"{name} has dtype {found}, expected {expected}; convert it with .astype")
    raise TypeError(f"{name} is a {type(x).__name__} of dtype {found}, expected an array of {expected}")


def check_ndim(name: str, array: np.ndarray, ndim: Rank) -> None:
    """Raise ValueError unless the rank of `array` is `ndim` (or one of them); None allows any."""
    if ndim is None or array.ndim == ndim or (type(ndim) is tuple and array.ndim in ndim):
        return
    expected = " or ".join(map(str, ndim)) if type(ndim) is tuple else ndim
    raise ValueError(f"{name} has {array.ndim} dimensions (shape {array.shape}), expected {expected}")


def same_shape(name: str, array: np.ndarray, shape: tuple[int, ...], of: str = "") -> None:
    """Raise ValueError unless ``array.shape == shape``; `of` says in words where the shape comes from."""
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}{' ' + of if of else ''}")


def axis_of(name: str, axis: int, rank: int, of: str = "an input") -> int:
    """Return the place of an axis, of which negative ones count from the end; `of` says what has the rank."""
    if not -rank <= axis < rank:
        raise ValueError(f"{name} {axis} is out of range for {of} of {rank} dimensions")
    return axis % rank


def matrix_shape(name: str, shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Return the shape of a matrix whose rows are the axes before `axis`, none or all of them too."""
    axis = axis_of(name, axis, len(shape) + (axis == len(shape)))
    return math.prod(shape[:axis]), math.prod(shape[axis:])


# --- Numbers


def integer(name: str, value: Any, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
    """Return `value` as an int, ``minimum <= value <= maximum`` (below 2**31); a bool is no integer."""
    if type(value) is int and minimum <= value <= maximum:
        return value
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {_show(value)}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {_show(number)}")
    if number > maximum:
        bound = "below 2**31" if maximum == MAX_SIZE else f"at most {maximum}"
        raise ValueError(f"{name} must be {bound}, got {_show(number)}")
    return number


def single(name: str, value: Any, minimum: int = 0) -> int:
    """Return an integer from an int or a sequence of one (the 1-d form of `pair`)."""
    if type(value) is int and minimum <= value <= MAX_SIZE:
        return value
    return _integers(name, value, 1, minimum)[0]


def pair(name: str, value: Any, minimum: int = 0) -> tuple[int, int]:
    """Return ``(a, b)`` from a pair of integers, or ``(a, a)`` from one; each ``minimum <= a < 2**31``."""
    if type(value) is int:
        if minimum <= value <= MAX_SIZE:
            return value, value
    elif type(value) is tuple and len(value) == 2:
        a, b = value
        if type(a) is int and type(b) is int and minimum <= a <= MAX_SIZE and minimum <= b <= MAX_SIZE:
            return value
    a, b = _integers(name, value, 2, minimum)
    return a, b


def _integers(name: str, value: Any, count: int, minimum: int) -> tuple[int, ...]:
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        if len(value) != count:
            raise ValueError(f"{name} must be an integer or {count} of them, got {_show(value)}")
        return tuple(integer(name, v, minimum) for v in value)
    return (integer(name, value, minimum),) * count


def real(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return `value` as a finite float, ``low <= value <= high`` (a learning rate, an eps, a probability)."""
    if type(value) is float and low <= value <= high and math.isfinite(value):
        return value
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)) or (isinstance(value, np.ndarray) and value.ndim):
            raise TypeError
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {_show(value)}") from None
    if not (low <= number <= high and math.isfinite(number)):
        bounds = ("finite" if low == -math.inf and high == math.inf else
                  f"at least {low:g}" if high == math.inf else
                  f"at most {high:g}" if low == -math.inf else f"between {low:g} and {high:g}")
        raise ValueError(f"{name} must be {bounds}, got {_show(value)}")
    return number


def list_of(name: str, values: Any, kind: type) -> list[Any]:
    """Return an iterable as a list, all of whose elements are of the class `kind`."""
    try:
        found = list(values)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of {kind.__name__}, got {_show(values)}") from None
    for value in found:
        if not isinstance(value, kind):
            raise TypeError(f"{name} has {_show(value)}, expected {kind.__name__} alone")
    return found


# --- Words and dtypes


def choice(name: str, value: Any, options: tuple[str | None, ...]) -> Any:
    """Return `value` if it is one of `options`, a tuple of strings (and perhaps None)."""
    if value is None or type(value) is str:
        if value in options:
            return value
        raise ValueError(f"{name} must be {_any_of(options)}, got {value!r}")
    raise TypeError(f"{name} must be {_any_of(options)}, got {_show(value)}")


def flag(name: str, value: Any) -> bool:
    """Return `value` if it is a bool: a number in a flag's place is an argument in the wrong place."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {_show(value)}")


def float_dtype(name: str, dtype: Any) -> np.dtype:
    """Return numpy.dtype float32 or float64 from whatever names it; anything else is a TypeError."""
    if dtype is np.float32 or dtype is FLOAT32:
        return FLOAT32
    try:
        found = np.dtype(dtype) if dtype is not None else None
    except TypeError:
        found = None
    if found is not None and found == FLOAT32:
        return FLOAT32
    if found is not None and found == FLOAT64:
        return FLOAT64
    raise TypeError(f"{name} must be float32 or float64, got {_show(dtype)}")


def _any_of(options: tuple[str | None, ...]) -> str:
    words = [repr(option) for option in options]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def _show(value: Any) -> str:
    """A short repr with the type, for messages; never a megabyte of one."""
    if isinstance(value, int) and value.bit_length() > 256:  # too long a number to print
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{text} ({type(value).__name__})"
