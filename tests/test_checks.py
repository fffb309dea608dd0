"""Arguments are taken as they are, converted without loss, or refused by name."""

import fractions

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnn import _checks


def test_a_good_array_is_returned_itself():
    for dtype in (np.float32, np.float64):
        x = np.zeros((2, 3), dtype)
        assert _checks.as_float_array("f: x", x) is x
        assert _checks.as_float_array("f: x", x, 2, x.dtype) is x
        assert _checks.as_float_array("f: x", x, (2, 3)) is x


@pytest.mark.parametrize(
    "x",
    [
        [[1.0, 2.0]],
        np.array([[1.0, 2.0]], ">f4"),
        np.array([[1.0, 2.0]], ">f8"),
        np.array([(0, 1.0), (0, 2.0)], [("a", "i1"), ("b", "f4")])["b"].reshape(1, 2),
        np.array([[1.0, 2.0]]).view(np.recarray),
        np.frombuffer(b"\0" + np.array([1.0, 2.0]).tobytes(), np.float64, offset=1).reshape(1, 2),
    ],
    ids=["list", "swapped32", "swapped64", "packed_field", "subclass", "unaligned"],
)
def test_odd_arrays_become_plain_ones(x):
    y = _checks.as_float_array("f: x", x, 2)
    assert type(y) is np.ndarray
    assert y.dtype is _checks.FLOAT32 or y.dtype is _checks.FLOAT64
    assert y.flags.aligned
    assert y.tolist() == [[1.0, 2.0]]


def test_a_matrix_becomes_an_array():
    with pytest.warns(PendingDeprecationWarning):
        x = np.matrix([[1.0, 2.0]])
    assert type(_checks.as_float_array("f: x", x)) is np.ndarray


def test_an_equal_dtype_that_is_not_the_singleton_passes():
    dtype = np.dtype(np.float32, metadata={"unit": "m"})
    y = _checks.as_float_array("f: x", np.ones(3, dtype), 1, np.dtype(np.float32))
    assert y.dtype is _checks.FLOAT32


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros(3, np.int64), "f: x has dtype int64, expected float32 or float64"),
        (np.zeros(3, np.float16), "float16"),
        (np.zeros(3, np.longdouble), "expected float32 or float64"),
        (np.zeros(3, complex), "complex128"),
        (np.zeros(3, bool), "bool"),
        (np.zeros(3, object), "object"),
        ([1, 2], "f: x is a list of dtype int64"),
        ("abc", "f: x is a str"),
        ({}, "f: x is a dict"),
        (None, "f: x is None"),
        (np.ma.zeros(3), "masked"),
    ],
)
def test_the_wrong_kind_is_a_type_error(x, words):
    with pytest.raises(TypeError, match=words):
        _checks.as_float_array("f: x", x)


def test_ragged_rank_and_mixed_dtypes_are_named():
    with pytest.raises(ValueError, match="f: x cannot be made an array"):
        _checks.as_float_array("f: x", [[1.0], [2.0, 3.0]])
    with pytest.raises(ValueError, match=r"f: x has 1 dimensions \(shape \(3,\)\), expected 3 or 4"):
        _checks.as_float_array("f: x", np.zeros(3), (3, 4))
    with pytest.raises(TypeError, match="f: x has dtype float64, expected float32"):
        _checks.as_float_array("f: x", np.zeros(3), dtype=_checks.FLOAT32)
    with pytest.raises(TypeError, match="f: x has dtype float64, expected float32"):
        _checks.as_float_array("f: x", np.float64(2.5), dtype=_checks.FLOAT32)


def test_a_list_has_no_dtype_of_its_own():
    array = _checks.as_float_array("f: x", [[0.1, 0.2]], 2, _checks.FLOAT32)
    assert array.dtype is _checks.FLOAT32
    assert (array == np.float32([[0.1, 0.2]])).all()
    assert _checks.as_float_array("f: x", [[0.1, 0.2]]).dtype is _checks.FLOAT64
    with pytest.raises(TypeError, match="f: x is a list of dtype int64, expected an array of float32"):
        _checks.as_float_array("f: x", [1, 2], None, _checks.FLOAT32)


def test_an_object_that_refuses_conversion_is_a_type_error():
    class Stubborn:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("detach me first")

    with pytest.raises(TypeError, match=r"f: x is a Stubborn.*detach me first"):
        _checks.as_float_array("f: x", Stubborn())


def test_integers_of_any_width_become_int64_within_bounds():
    for dtype in (np.int8, np.uint16, np.int64, ">i4"):
        y = _checks.as_int_array("f: i", np.array([0, 3], dtype), low=0, high=4)
        assert y.dtype is _checks.INT64
        assert y.tolist() == [0, 3]
    assert _checks.as_int_array("f: i", []).dtype is _checks.INT64
    for x, words in [
        ([4], "the value 4, expected values < 4"),
        ([-1], "the value -1, expected values >= 0"),
        (np.array([2**64 - 1], np.uint64), "18446744073709551615"),
    ]:
        with pytest.raises(ValueError, match=words):
            _checks.as_int_array("f: i", x, low=0, high=4)
    with pytest.raises(ValueError, match="beyond int64"):
        _checks.as_int_array("f: i", np.array([2**63], np.uint64))
    for x in ([1.0], [True], "a", None):
        with pytest.raises(TypeError, match="f: i"):
            _checks.as_int_array("f: i", x)


@pytest.mark.parametrize("value", [3, np.int8(3), (3, 3), [3, 3], np.array([3, 3]), np.array(3)])
def test_pairs(value):
    assert _checks.pair("f: stride", value, 1) == (3, 3)
    assert all(type(v) is int for v in _checks.pair("f: stride", value, 1))


@pytest.mark.parametrize("value", [3, np.uint64(3), (3,), [3]])
def test_singles(value):
    assert _checks.single("f: stride", value) == 3
    for wrong in (-1, (3, 3), True, "same"):
        with pytest.raises((TypeError, ValueError), match="f: stride must be"):
            _checks.single("f: stride", wrong)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (2**31, ValueError),
        ((1, 2, 3), ValueError),
        ((), ValueError),
        ((1, 0), ValueError),
        (True, TypeError),
        (np.True_, TypeError),
        ((1, True), TypeError),
        (1.0, TypeError),
        ("same", TypeError),
        (None, TypeError),
        (((1, 2), 3), TypeError),
        (np.ones((2, 2), int), TypeError),
    ],
)
def test_pairs_that_are_refused(value, error):
    with pytest.raises(error, match="f: stride must be"):
        _checks.pair("f: stride", value, 1)


def test_numbers_too_long_to_print_are_refused_too():
    for value in (10**5000, -(10**5000)):
        with pytest.raises(ValueError, match="got an integer of 16610 bits"):
            _checks.pair("f: stride", value, 1)


numbers = st.integers() | st.integers(-2, 3) | st.floats() | st.booleans()


@given(numbers | st.text() | st.none() | st.tuples(numbers, numbers) | st.lists(numbers))
def test_any_value_gives_a_pair_in_bounds_or_a_named_refusal(value):
    given_pair = (value, value) if isinstance(value, int) else value
    good = isinstance(given_pair, (tuple, list)) and len(given_pair) == 2
    if good and all(type(v) is int and 1 <= v < 2**31 for v in given_pair):
        assert _checks.pair("f: stride", value, 1) == tuple(given_pair)
    else:
        with pytest.raises((TypeError, ValueError), match="f: stride must be"):
            _checks.pair("f: stride", value, 1)


def test_real():
    assert _checks.real("f: p", np.float32(0.5), 0, 1) == 0.5
    assert _checks.real("f: p", fractions.Fraction(1, 2)) == 0.5
    for value in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="f: p must be between 0 and 1"):
            _checks.real("f: p", value, 0, 1)
    for value in ("0.5", None, True, [0.5], 1j):
        with pytest.raises(TypeError, match="f: p must be a number"):
            _checks.real("f: p", value)
    with pytest.raises(ValueError, match="at least 0"):
        _checks.real("f: p", -1, low=0)
    with pytest.raises(ValueError, match="finite"):
        _checks.real("f: p", 10**400)


def test_choice_flag_dtype_and_shape():
    assert _checks.choice("f: mode", "a", ("a", None)) == "a"
    assert _checks.choice("f: mode", None, ("a", None)) is None
    with pytest.raises(ValueError, match="f: mode must be 'a', 'b' or None, got 'c'"):
        _checks.choice("f: mode", "c", ("a", "b", None))
    with pytest.raises(TypeError, match="f: mode must be 'a'"):
        _checks.choice("f: mode", ["a"], ("a",))
    assert _checks.flag("f: bias", np.True_) is True
    with pytest.raises(TypeError, match="f: bias must be True or False, got 1"):
        _checks.flag("f: bias", 1)
    for dtype in (np.float32, "float32", "<f4", np.dtype("float32")):
        assert _checks.float_dtype("f: dtype", dtype) is _checks.FLOAT32
    assert _checks.float_dtype("f: dtype", float) is _checks.FLOAT64
    for dtype in (np.float16, int, None, "no such", 3):
        with pytest.raises(TypeError, match="f: dtype must be float32 or float64"):
            _checks.float_dtype("f: dtype", dtype)
    with pytest.raises(ValueError, match=r"f: g has shape \(2,\), expected \(3,\) as y has"):
        _checks.same_shape("f: g", np.zeros(2), (3,), "as y has")
