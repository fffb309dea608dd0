"""exp, tanh, sigmoid and gelu of the kernels: errors in units of the last place, and what is no number."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from arrays import assert_same_bits

from fastnn import functional
from fastnn._kernels import elementwise, runtime

OPERATIONS = {"exp": elementwise.EXP, "tanh": elementwise.TANH, "sigmoid": elementwise.SIGMOID}
OTHERS = {"elu": (elementwise.ELU, 1.0, 0.0), "softplus": (elementwise.SOFTPLUS, 1.0, 1000.0)}
PRODUCTS = {"silu": elementwise.SILU, "gelu_tanh": elementwise.GELU_TANH, "gelu": elementwise.GELU}

# The largest errors measured over one in seven of all floats from 5e-4 to 88 and millions of doubles, with
# AVX-512, AVX2 and the baseline, rounded up: in units of the last place of the exact result. Half a unit is
# the rounding of the result itself. The test takes a coarser sample, on each instruction set.
BOUNDS = {
    np.float32: {"exp": 1.1, "tanh": 1.85, "sigmoid": 1.75},
    np.float64: {"exp": 1.1, "tanh": 1.85, "sigmoid": 1.7},
}
# The baseline has no fused multiply-add, which spares a rounding.
BASELINE = {
    np.float32: {"exp": 1.1, "tanh": 1.85, "sigmoid": 1.8},
    np.float64: {"exp": 1.1, "tanh": 1.85, "sigmoid": 1.75},
}
# Those of the gates of recurrences, whose tanh takes half the time; of the baseline, too.
GATES = {"tanh": 2.6, "sigmoid": 1.8}
# What the truth is computed in. Where long double is no longer than double, its own rounding is added.
WIDER = {np.float32: np.float64, np.float64: np.longdouble}
SLACK = 1.0 if np.finfo(np.longdouble).eps == np.finfo(np.float64).eps else 0.01


def call(name, x):
    x = np.ascontiguousarray(x)
    y = np.empty_like(x)
    elementwise.map({**OPERATIONS, **PRODUCTS}[name], 0.0, 0.0, x, y)
    return y


def truth(name, x):
    x = x.astype(WIDER[x.dtype.type])
    if name == "exp":
        return np.exp(x)
    return np.tanh(x) if name == "tanh" else 1 / (1 + np.exp(-x))


def errors(y, exact):
    """|y - exact| in units of the last place that `exact` has in the dtype of y, subnormal ones included."""
    info = np.finfo(y.dtype)
    _, exponent = np.frexp(exact)
    unit = np.ldexp(np.ones_like(exact), np.maximum(exponent - info.nmant - 1, info.minexp - info.nmant))
    return np.abs(y.astype(exact.dtype) - exact) / unit


def by_pieces(isa, dtype, name):
    """Whether tanh is taken from csrc/tanh_pieces.h: measured over all floats."""
    return name == "tanh" and isa == "avx512" and dtype is np.float32


def bound(isa, dtype, name):
    if by_pieces(isa, dtype, name):
        return 1 + SLACK
    return (BASELINE if isa == "scalar" else BOUNDS)[dtype][name] + SLACK


def every(dtype):
    """Arguments: floats in steps of their bits; doubles drawn over all magnitudes, densest around 1."""
    if dtype is np.float32:
        x = np.arange(0, 2**32, 1999, dtype=np.uint64).astype(np.uint32).view(np.float32)
        return x[np.abs(x) < 88]  # beyond, exp overflows
    rng = np.random.default_rng(0)
    parts = [rng.uniform(-s, s, 200_000) for s in (0.4, 1, 3, 20, 700)]
    return np.concatenate([*parts, rng.choice([-1, 1], 200_000) * 2.0 ** rng.uniform(-1070, 9, 200_000)])


@pytest.mark.parametrize("name", OPERATIONS)
def test_errors_in_units_of_the_last_place(isa, dtype, name):
    if "-O1" in runtime.build_flags():
        pytest.skip("the bounds are those of fused multiply-adds, which GCC does not make at -O1")
    x = every(dtype)
    assert errors(call(name, x), truth(name, x)).max() < bound(isa, dtype, name)


def test_tanh_never_decreases_from_piece_to_piece(isa, dtype):
    if not by_pieces(isa, dtype, "tanh"):
        pytest.skip("tanh is one piece")
    edges = (2.0 ** np.arange(-5, 5)[:, None] * [1, 1.25, 1.5, 1.75]).ravel().astype(np.float32)
    x = (edges.view(np.int32)[:, None] + np.arange(-500, 500)).astype(np.int32).view(np.float32)
    for around in (x, -x[:, ::-1]):
        assert (np.diff(call("tanh", around), axis=1) >= 0).all()


@pytest.mark.parametrize(("name", "units"), {"elu": 1.2, "softplus": 2.3}.items())
def test_errors_of_what_is_made_of_them(isa, dtype, name, units):
    """ELU near 0, and Softplus far below: relative to the result. The bounds are measured, rounded up."""
    if "-O1" in runtime.build_flags():
        pytest.skip("the bounds are those of fused multiply-adds, which GCC does not make at -O1")
    x = every(dtype)
    y, wide = np.empty_like(x), x.astype(WIDER[dtype])
    elementwise.map(*OTHERS[name], x, y)
    below = np.expm1(np.minimum(wide, 0))
    exact = np.where(wide > 0, wide, below) if name == "elu" else np.logaddexp(wide, 0)
    assert errors(y, exact).max() < units + SLACK


@pytest.mark.parametrize("name", OPERATIONS)
def test_results_below_the_normal_numbers_are_rounded_and_not_flushed(isa, dtype, name):
    info = np.finfo(dtype)
    low = np.log(info.smallest_subnormal.astype(np.longdouble))
    x = np.linspace(low - 1, np.log(info.tiny.astype(np.longdouble)) + 1, 10_001).astype(dtype)
    if name == "tanh":  # its own small results are those of small arguments
        x = np.linspace(-2 * info.tiny, 2 * info.tiny, 10_001, dtype=dtype)
    y = call(name, x)
    assert ((y != 0) & (np.abs(y) < info.tiny)).any()
    assert errors(y, truth(name, x)).max() < bound(isa, dtype, name)


@pytest.mark.parametrize(("name", "results"), {
    # at 0, -0, infinity, -infinity, NaN, 1e4, -1e4, 1e30 and -1e30
    "exp": (1, 1, np.inf, 0, np.nan, np.inf, 0, np.inf, 0),
    "tanh": (0.0, -0.0, 1, -1, np.nan, 1, -1, 1, -1),
    "sigmoid": (0.5, 0.5, 1, 0, np.nan, 1, 0, 1, 0),
}.items(), ids=OPERATIONS)
def test_exact_values(isa, dtype, name, results):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e4, -1e4, 1e30, -1e30], dtype)
    assert_same_bits([call(name, x)], [np.array(results, dtype)])


def test_exp_overflows_where_its_result_does(isa, dtype):
    edge = dtype(np.log(np.finfo(dtype).max.astype(np.longdouble)))
    x = np.array([edge * (1 - 4 * np.finfo(dtype).eps), edge * (1 + 4 * np.finfo(dtype).eps)], dtype)
    below, above = call("exp", x)
    assert np.isfinite(below)
    assert above == np.inf


@pytest.mark.parametrize("name", OPERATIONS)
def test_bounded_and_symmetric(isa, dtype, name):
    x = np.abs(every(dtype))
    y, mirrored = call(name, x), call(name, -x)
    if name == "exp":
        assert (y >= 1).all()
        assert ((mirrored >= 0) & (mirrored <= 1)).all()
    elif name == "tanh":
        assert (y <= 1).all()
        assert_same_bits([mirrored], [-y])
    else:
        assert ((y >= 0.5) & (y <= 1)).all()
        assert ((mirrored >= 0) & (mirrored <= 0.5)).all()


@pytest.mark.parametrize("name", [*OPERATIONS, *PRODUCTS])
def test_a_number_has_one_result_wherever_it_stands(isa, dtype, name):
    x = np.linspace(-9, 9, 67, dtype=dtype)
    whole = call(name, x)
    assert_same_bits([call(name, np.resize(x, 600))], [np.resize(whole, 600)])  # of which blocks are made
    for i in range(len(x)):
        assert_same_bits([call(name, x[i:])], [whole[i:]])
        assert_same_bits([call(name, x[:i])], [whole[:i]])


def tail_of_gelu(x):
    """x Phi(x) for x <= -2, by Laplace's continued fraction of the normal distribution, in 40 digits."""
    with localcontext(prec=40):
        a = -Decimal(float(x))
        fraction = a
        for k in range(400, 0, -1):
            fraction = a + k / fraction
        sqrt_2_pi = Decimal("2.506628274631000502415765284811045253006987")
        return np.longdouble(str(-a * (-a * a / 2).exp() / (sqrt_2_pi * fraction)))


def test_gelu_keeps_its_digits_far_below_zero(isa, dtype):
    # To where the results become subnormal; x of all digits, as the square of a short one is exact.
    lowest = {np.float32: -13, np.float64: -37}[dtype]
    x = np.random.default_rng(0).uniform(lowest, -2, 300).astype(dtype)
    y = np.empty_like(x)
    elementwise.map(elementwise.GELU, 0.0, 0.0, x, y)
    exact = np.array([tail_of_gelu(v) for v in x])
    # Measured: 3.7 and 3.8; of 4,000 floats, without multiply-adds, 4.04. The rounding of x^2 alone, were it
    # left in, would be hundreds.
    assert errors(y, exact.astype(np.longdouble)).max() < 4 + SLACK


def gates(x, width=512):
    """tanh and sigmoid of x, up to `width` at a time, as the kernels of recurrences take them."""
    y, h, c = np.empty_like(x), np.empty_like(x), np.ones((1, width), x.dtype)
    step, state = np.zeros((1, 1, 1), x.dtype), np.zeros((1, width), x.dtype)
    for first in range(0, len(x), width):
        part = x[first : first + width]
        bias = np.zeros(4 * width, x.dtype)
        bias[width : width + len(part)] = part  # of the gate f: c = f * 1 + i * tanh(0)
        n, blank = len(part), np.zeros((4 * width, width), x.dtype)
        y[first : first + n] = functional.rnn(step, state, blank[:width, :1], blank[:width],
                                              bias[width : 2 * width])[0][0, 0, :n]
        h[first : first + n] = functional.lstm(step, state, c, blank[:, :1], blank, bias)[2][0, :n]
    return {"tanh": y, "sigmoid": h}


def test_gates_in_units_of_the_last_place(isa, dtype):
    if "-O1" in runtime.build_flags():
        pytest.skip("the bounds are those of fused multiply-adds, which GCC does not make at -O1")
    x = every(dtype)[::37]
    x = np.concatenate([x[np.abs(x) < (87 if dtype is np.float32 else 708)],
                        np.linspace(-11, 11, 50_001, dtype=dtype)])
    for name, y in gates(x).items():
        assert errors(y, truth(name, x)).max() < GATES[name] + SLACK


def test_gates_of_what_is_no_number(isa, dtype):
    x = np.array([0, np.inf, -np.inf, np.nan, -np.nan, 1e4, -1e4, 1e30, -1e30], dtype)
    x = np.append(x, x[3])
    bits = x.view(np.int32 if dtype is np.float32 else np.int64)
    bits[-1] |= 0x1FF  # a NaN with a payload
    y = gates(x)
    np.testing.assert_array_equal(y["tanh"], [0, 1, -1, np.nan, np.nan, 1, -1, 1, -1, np.nan])
    np.testing.assert_allclose(y["sigmoid"], [0.5, 1, 0, np.nan, np.nan, 1, 0, 1, 0, np.nan], rtol=0,
                               atol=1e-37)
