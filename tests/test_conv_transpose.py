"""Transposed convolution: against the reference, by finite differences, and as the transpose it is."""

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest
from arrays import LAYOUTS, assert_close, assert_gradients, assert_same_bits, draw, in_double
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn import functional, reference

# Sums of a few hundred products of numbers around 1, relative to the largest; as of a direct convolution.
TOLERANCE = {np.float32: 2e-6, np.float64: 4e-15}


class Case(NamedTuple):
    """Sizes and options of a transposed convolution."""

    n: int
    c: int
    h: int
    w: int
    k: int
    kernel: tuple[int, int] = (3, 3)
    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    groups: int = 1
    dilation: Any = 1

    @property
    def options(self):
        return dict(zip(("stride", "padding", "output_padding", "groups", "dilation"), self[6:], strict=True))

    def arrays(self, dtype=np.float64):
        """Draw x, weight and bias, such that outputs are around 1 whatever the sizes."""
        weight = draw(self.c, self.k // self.groups, *self.kernel, seed=2)
        weight = (weight / (self.c // self.groups) ** 0.5).astype(dtype)
        x, bias = draw(self.n, self.c, self.h, self.w, dtype=dtype, seed=1), draw(self.k, dtype=dtype, seed=3)
        return x, weight, bias


def run(module, args, grad_y=None, **options):
    """Return y, its gradient (drawn if None), and the gradients of all arguments."""
    y = module.conv_transpose2d(*args, **options)
    grad_y = draw(*y.shape, seed=4).astype(y.dtype) if grad_y is None else grad_y
    return [y, grad_y, *module.conv_transpose2d_backward(grad_y, *args, **options)]


def check(args, **options):
    """Compare the kernels with the reference in float64, from the numbers that the kernels see."""
    dtype = args[0].dtype
    actual = run(functional, args, **options)
    expected = run(reference, in_double(*args), *in_double(actual[1]), **options)
    assert_close(actual, expected, TOLERANCE[dtype.type], dtype)


GEOMETRIES = {
    "1x1": Case(2, 5, 4, 3, 7, (1, 1)),
    "plain": Case(2, 17, 4, 5, 9),
    "one pixel": Case(3, 4, 1, 1, 6, (2, 3)),
    "doubling": Case(2, 16, 5, 6, 8, (4, 4), stride=2, padding=1),
    "output padding": Case(2, 3, 5, 6, 4, stride=(2, 3), padding=1, output_padding=(1, 2)),
    "output padding by dilation": Case(1, 3, 4, 5, 2, (2, 3), output_padding=1, dilation=2),
    "output padding alone": Case(2, 3, 4, 5, 2, (1, 2), stride=2, output_padding=3, dilation=4),
    "stride beyond kernel": Case(1, 18, 4, 3, 5, (2, 2), stride=(4, 5)),
    "dilated and strided": Case(2, 4, 5, 6, 3, (3, 2), stride=(2, 3), padding=2, dilation=(3, 2)),
    "padding takes all but one": Case(1, 3, 3, 3, 4, padding=2),
    "groups": Case(2, 12, 5, 4, 9, stride=2, groups=3),
    "groups of many channels": Case(1, 66, 4, 5, 34, (2, 2), stride=2, groups=2),
    "depthwise": Case(2, 17, 5, 6, 17, (4, 3), stride=2, padding=1, groups=17),
    "depth multiplier": Case(1, 4, 5, 6, 12, stride=2, output_padding=1, groups=4),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometries(isa, dtype, name):
    check(GEOMETRIES[name].arrays(dtype), **GEOMETRIES[name].options)


def test_channels_around_the_width_of_a_tile(isa, dtype):
    sizes = (1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97)
    for i, c in enumerate(sizes):
        check(Case(1 + i % 3, c, 3, 4, sizes[(5 * i + 3) % len(sizes)]).arrays(dtype), stride=2, padding=1)


few = st.integers(1, 4)
pairs = st.tuples(few, few)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2), st.integers(1, 9), st.integers(1, 9), few, pairs, pairs, pairs, pairs,
       st.tuples(st.integers(0, 4), st.integers(0, 4)), st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_any_geometry(n, c, k, groups, size, kernel, stride, dilation, padding, extra):
    case = Case(n, c * groups, *size, k * groups, kernel, stride, padding, extra, groups, dilation)
    assume(all(e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)))
    assume(all((i - 1) * s + d * (r - 1) + e + 1 > 2 * p for i, s, d, r, e, p in zip(
        size, stride, dilation, kernel, extra, padding, strict=True)))
    check(case.arrays(), **case.options)


def test_it_is_the_transpose_of_the_convolution(dtype):
    """<conv2d(a), b> = <a, conv_transpose2d(b)>: one weight, read once each way."""
    for options in ({}, {"stride": 2, "padding": 1}, {"dilation": 2, "groups": 2}):
        a, weight = draw(2, 6, 9, 9, dtype=dtype), draw(4, 6 // options.get("groups", 1), 3, 3, dtype=dtype)
        b = draw(*functional.conv2d(a, weight, **options).shape, dtype=dtype)
        back = functional.conv_transpose2d(b, weight, **options)
        grad_x, _, _ = functional.conv2d_backward(b, a, weight, **options)
        assert_same_bits([back], [grad_x])
        there = np.vdot(*in_double(functional.conv2d(a, weight, **options), b))
        assert there == pytest.approx(np.vdot(*in_double(a, back)), rel=100 * TOLERANCE[dtype])


@pytest.mark.parametrize("module", [functional, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("case", [
    Case(2, 2, 3, 4, 3, (2, 3)), Case(1, 4, 3, 2, 2, stride=2, padding=1, output_padding=1, groups=2),
    Case(1, 3, 2, 3, 3, (2, 2), dilation=2, groups=3),
], ids=["plain", "groups", "depthwise"])
def test_gradients_are_finite_differences(module, case):
    args = case.arrays()
    _, grad_y, *grads = run(module, args, **case.options)
    assert_gradients(functools.partial(module.conv_transpose2d, **case.options), args, grad_y, grads)


# --- Memory, threads, numbers that are none


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["doubling", "groups", "depthwise", "1x1"])
def test_memory_of_arguments_changes_no_bit_and_is_not_written(dtype, name, layout):
    options, args = GEOMETRIES[name].options, GEOMETRIES[name].arrays(dtype)
    expected = run(functional, args, **options)
    copies = [LAYOUTS[layout](a) for a in args]
    actual = run(functional, copies, LAYOUTS[layout](expected[1]), **options)
    assert_same_bits(copies, [LAYOUTS[layout](a) for a in args])
    actual[1] = expected[1]
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("case", [
    Case(3, 40, 20, 21, 40, (4, 4), stride=2), Case(4, 64, 20, 21, 64, groups=64), Case(2, 3, 60, 61, 5),
], ids=["strided", "depthwise", "few channels"])
def test_equal_bits_for_any_number_of_threads(threads, case):
    results = []
    for n in (1, 2, 3):
        threads(n)
        results.append(run(functional, case.arrays(np.float32), **case.options))
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


@pytest.mark.parametrize("name", ["doubling", "groups", "depthwise"])
def test_empty_batch(name):
    case = GEOMETRIES[name]._replace(n=0)
    args = case.arrays()
    y, _, grad_x, grad_weight, grad_bias = run(functional, args, **case.options)
    assert y.shape == reference.conv_transpose2d(*args, **case.options).shape
    assert grad_x.shape == args[0].shape
    assert_same_bits([grad_weight, grad_bias], [np.zeros_like(args[1]), np.zeros_like(args[2])])


def test_not_a_number_and_infinity_reach_what_reads_them_and_nothing_else(isa, dtype):
    for name in ("doubling", "groups", "depthwise"):
        x, weight, bias = GEOMETRIES[name].arrays(dtype)
        x[0, -1, 2, 2], x[1, 0, 3, 1] = np.nan, np.inf
        y = functional.conv_transpose2d(x, weight, bias, **GEOMETRIES[name].options)
        with np.errstate(invalid="ignore"):
            expected = reference.conv_transpose2d(*in_double(x, weight, bias), **GEOMETRIES[name].options)
        assert np.isnan(y).any()
        assert np.isinf(y).any()
        assert_close([y], [expected], TOLERANCE[dtype], dtype)


# --- The layer


def make(**options):
    return fn.ConvTranspose2d(6, 4, (3, 2), 2, 1, 1, 2, rng=0, **options)


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_its_function(dtype, bias):
    layer = make(bias=bias, dtype=dtype)
    x = draw(2, 6, 5, 6, dtype=dtype)
    parameters = [p.data for p in layer.parameters()]
    options = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    y, grad_y, grad_x, *grads = run(functional, (x, *parameters), **options)
    for times in (1, 2):  # gradients are added
        assert_same_bits([layer(x), layer.backward(grad_y)], [y, grad_x])
        assert_same_bits([p.grad for p in layer.parameters()], [times * g for g in grads if g is not None])
    layer(x)
    assert layer.backward(grad_y, input_grad=False) is None
    assert_same_bits([layer(x[0]), layer.backward(grad_y[0])],
                     [a[0] for a in run(functional, (x[:1], *parameters), grad_y[:1], **options)[:3:2]])
    assert_same_bits([layer.eval()(x)], [y])
    with pytest.raises(ValueError, match=r"ConvTranspose2d\.backward: call forward in training mode first"):
        layer.backward(grad_y)


def test_representation_shows_what_is_not_default():
    assert repr(make()) == ("ConvTranspose2d(6, 4, kernel_size=(3, 2), stride=(2, 2), padding=(1, 1), "
                            "groups=2, output_padding=(1, 1))")
    assert repr(fn.ConvTranspose2d(6, 4, 2)) == "ConvTranspose2d(6, 4, kernel_size=(2, 2), stride=(1, 1))"


# --- Refusals

HUGE = 2**31 - 1


def refusals():
    """Rows (error, words of the message, call): the message names the function and the argument."""
    x, weight, bias = Case(2, 4, 5, 6, 6, groups=2).arrays(np.float32)
    y = functional.conv_transpose2d(x, weight, bias, groups=2)
    up = functools.partial(functional.conv_transpose2d, groups=2)
    back = functools.partial(functional.conv_transpose2d_backward, groups=2)
    yield TypeError, r"conv_transpose2d: x has dtype int64", lambda: up(x.astype(int), weight)
    yield TypeError, r"conv_transpose2d: weight has dtype float64", lambda: up(x, weight.astype(float))
    yield (TypeError, r"conv_transpose2d: bias has dtype float16",
           lambda: up(x, weight, bias.astype(np.float16)))
    yield ValueError, r"conv_transpose2d: x has 2 dimensions", lambda: up(x[0, 0], weight)
    yield ValueError, r"conv_transpose2d: weight has 5 dimensions", lambda: up(x, weight[None])
    yield (ValueError, r"conv_transpose2d: x has 3 channels, weight expects 4 \(weight.shape\[0\]\)",
           lambda: up(x[:, 1:], weight))
    yield (ValueError, r"conv_transpose2d: x has 3 channels, which groups = 2 does not divide",
           lambda: up(x[:, 1:], weight[1:]))
    yield (ValueError, r"conv_transpose2d: bias has shape \(5,\), expected \(6,\)",
           lambda: up(x, weight, bias[1:]))
    yield ValueError, r"conv_transpose2d: weight has shape .*no zero sizes", lambda: up(x, weight[:, :0])
    yield ValueError, r"conv_transpose2d: an input of 0 pixels along axis H", lambda: up(x[:, :, :0], weight)
    yield (ValueError, r"conv_transpose2d: an input of 5 pixels along axis H leaves an output of 0",
           lambda: up(x, weight, padding=4))
    yield (ValueError, r"conv_transpose2d: an input of 6 pixels along axis W leaves an output of 0",
           lambda: up(x, weight, padding=(0, 4)))  # exactly 0: (6 - 1) - 2 * 4 + (3 - 1) + 1
    yield (ValueError, r"conv_transpose2d: output_padding 2 of axis W must be smaller than stride 2",
           lambda: up(x, weight, stride=2, output_padding=(1, 2)))
    for name, low in (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1), ("groups", 1)):
        call = functools.partial(functional.conv_transpose2d, x, weight)
        words = f"conv_transpose2d: {name} must be"
        yield ValueError, f"{words} at least {low}", functools.partial(call, **{name: low - 1})
        yield ValueError, rf"{words} below 2\*\*31", functools.partial(call, **{name: HUGE + 1})
        yield TypeError, f"{words} an integer", functools.partial(call, **{name: 1.0})
    yield (ValueError, r"conv_transpose2d: padding must be", lambda: up(x, weight, padding=(1, 1, 1)))
    yield ValueError, r"conv_transpose2d_backward: grad_y has shape", lambda: back(y[:, :, 1:], x, weight)
    yield ValueError, r"conv_transpose2d_backward: grad_y has 3 dim", lambda: back(y[0], x, weight)
    yield TypeError, r"conv_transpose2d_backward: grad_y has dtype", lambda: back(y.astype(float), x, weight)
    yield ValueError, r"ConvTranspose2d: in_channels must be", lambda: fn.ConvTranspose2d(0, 4, 3)
    yield (ValueError, r"ConvTranspose2d: out_channels = 3 is not",
           lambda: fn.ConvTranspose2d(4, 3, 3, groups=2))
    yield (ValueError, r"ConvTranspose2d: output_padding",
           lambda: fn.ConvTranspose2d(4, 4, 3, output_padding=-1))
    yield TypeError, r"ConvTranspose2d: padding", lambda: fn.ConvTranspose2d(4, 4, 3, padding="same")
    yield TypeError, r"ConvTranspose2d: x has dtype float64", lambda: make()(x.astype(float))
    yield ValueError, r"ConvTranspose2d: x has 2 dimensions", lambda: make()(x[0, 0])


@pytest.mark.parametrize(("error", "words", "call"), [*refusals()])
def test_refusals_name_the_argument(error, words, call):
    with pytest.raises(error, match=words):
        call()


def test_options_near_the_largest_are_computed_where_the_output_is_small():
    """The padding leaves of two far rows, of two far taps of one pixel, what lies between them: nothing."""
    x, weight, bias = Case(1, 3, 2, 1, 4, (1, 1)).arrays()
    args = {"stride": (HUGE, 1), "padding": (HUGE // 2, 0)}
    y, _, grad_x, grad_weight, _ = run(functional, (x, weight, bias), **args)
    assert_same_bits([y], [np.broadcast_to(bias[:, None, None], (1, 4, 2, 1))])
    assert not grad_x.any()
    assert not grad_weight.any()
    x, weight, bias = Case(1, 3, 1, 1, 4, (2, 1)).arrays()
    y = functional.conv_transpose2d(x, weight, bias, dilation=(HUGE, 1), padding=(HUGE // 2, 0))
    assert_same_bits([y], [np.broadcast_to(bias[:, None, None], (1, 4, 2, 1))])
    x, weight, bias = Case(1, 3, 1, 1, 4).arrays()
    check((x, weight, bias), stride=HUGE)
    for huge in (draw(1, 3, 9, 9), draw(1, 3, 3, 3)):  # more bytes than there are numbers for, or than memory
        with pytest.raises(MemoryError):
            functional.conv_transpose2d(huge, weight, stride=HUGE)
