"""Arrays for tests: how they are drawn, laid out in memory, and compared."""

import numpy as np
from plain_layers import finite_differences


def draw(*shape, dtype=np.float64, seed=0):
    """Standard normal numbers."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


# --- Memory


def _channels_last(x):
    return x if x.ndim < 3 else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def _sliced(x):
    larger = np.full([2 * size + 1 for size in x.shape], np.nan, x.dtype)
    view = larger[(*(slice(1, 2 * size, 2) for size in x.shape), ...)]
    view[...] = x
    return view


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def _unaligned(x):
    memory = np.empty(x.nbytes + 1, np.uint8)
    view = np.frombuffer(memory.data, x.dtype, x.size, offset=1).reshape(x.shape)
    view[...] = x
    return view


# Copies of an array, equal to it in every number and to no other in memory.
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "channels-last": _channels_last,
    "negative strides": lambda x: np.flip(np.flip(x).copy()),
    "sliced": _sliced,
    "read-only": _read_only,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": _unaligned,
}


# --- Comparison


def assert_close(actual, expected, tolerance, dtype=None):
    """Compare sequences of arrays: shape, dtype, and numbers relative to the largest expected one.

    `dtype` is that of all of `actual`, where it is not that of `expected`. A number below 1 is no scale:
    sums of numbers around 1 that happen to cancel keep the errors of their terms.
    """
    for a, e in zip(actual, expected, strict=True):
        if e is None:
            assert a is None
            continue
        assert a.shape == e.shape
        assert a.dtype == (e.dtype if dtype is None else dtype)
        finite = np.abs(e[np.isfinite(e)])
        scale = max(1.0, finite.max()) if finite.size else 1.0
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * scale)


def assert_same_bits(actual, expected):
    """Compare sequences of arrays to the last bit (but for the payload of a NaN)."""
    for a, e in zip(actual, expected, strict=True):
        if e is None:
            assert a is None
            continue
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(a, e, strict=True)
        np.testing.assert_array_equal(np.signbit(a[a == 0]), np.signbit(e[e == 0]))


def in_double(*values):
    """The values with float32 arrays made float64, exactly: what a reference is best computed in."""
    return [v.astype(np.float64) if isinstance(v, np.ndarray) else v for v in values]


# Central differences with step 1e-6 of a sum of some hundred numbers around 1: rounding leaves 1e-8.
DIFFERENCES = {"rtol": 1e-6, "atol": 2e-8}


def assert_gradients(function, arrays, grad_y, grads):
    """Compare `grads` with finite differences of sum(function(*arrays) * grad_y), for each float64 array."""
    for array, grad in zip(arrays, grads, strict=True):
        expected = finite_differences(lambda: (function(*arrays) * grad_y).sum(), array)
        np.testing.assert_allclose(grad, expected, **DIFFERENCES)
