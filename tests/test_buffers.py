"""Kernels hold arrays by the buffer protocol: until they end, however they end, and no longer."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fastnn._kernels import conv_backward, gemm, unpacked

KERNELS = Path(__file__).parent.parent / "src/fastnn/_kernels"
DECLARED = "cdef HeldArrays arrays\n"
# Of a function's body: the environment, a docstring or the signature come before it.
BEGINNING = r"(?:_caller = default_environment\(\)|\"\"\"|:)\n +"


def view(*shape, kind="f"):
    """Numbers that know whether they are held: memoryview.release refuses then."""
    return memoryview(bytearray(np.ones(shape, kind).tobytes())).cast(kind, shape)


def test_arrays_are_held_no_longer_than_a_call():
    arrays = [view(2, 3), view(4, 3), view(4), view(2, 4)]
    unpacked.linear(*arrays, 0)
    np.testing.assert_array_equal(arrays[3], np.full((2, 4), 4, "f"))
    for array in arrays:
        array.release()


@pytest.mark.parametrize(("wrong", "error"), [
    (view(2, 4, kind="d"), TypeError),          # of another dtype: all are held when that is seen
    (memoryview(bytes(32)), BufferError),       # to be written, and cannot be
    (None, TypeError),
])
def test_arrays_are_held_no_longer_than_a_call_that_fails(wrong, error):
    arrays = [view(2, 3), view(4, 3)]
    with pytest.raises(error):
        unpacked.linear(*arrays, None, wrong, 0)
    for array in arrays:
        array.release()


def test_arrays_that_a_prepared_call_declines_are_not_held():
    panels = np.empty(gemm.panel_size(4, 3, 4), "f")
    gemm.pack_weight(np.ones((4, 3), "f"), panels)
    call = gemm.Prepared(panels, None, 3, 4, 0)
    x = np.ones((2, 6), "f")
    references = sys.getrefcount(x)
    assert call(x) is None
    assert sys.getrefcount(x) == references
    np.testing.assert_array_equal(call(x[:, :3].copy()), np.full((2, 4), 3, "f"))


def test_a_geometry_that_is_none_releases_nothing():
    """No array is held yet when that is found."""
    a = np.ones((1, 5, 5, 2), "f")
    for _ in range(20):
        for call in (conv_backward.backward_input, conv_backward.backward_weight):
            with pytest.raises(ValueError, match="unpack"):
                call(a, a, a, (1, 2))


def test_each_function_that_holds_arrays_holds_none_at_first():
    """Before anything that may end it: what is released then is what `count` says."""
    texts = [path.read_text(encoding="utf-8") for path in KERNELS.glob("*.pyx")]
    assert sum(text.count(DECLARED) for text in texts) > 40
    for text in texts:
        assert len(re.findall(BEGINNING + DECLARED + r" *arrays\.count = 0\n", text)) == text.count(DECLARED)
        assert not re.search(r"^ +cdef Arrays \w+$", text, re.M)
