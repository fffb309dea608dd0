"""Activations: functions and layers against the reference, by finite differences, and at their edges."""

import weakref
from functools import partial

import numpy as np
import pytest
from arrays import LAYOUTS, assert_gradients, assert_same_bits, draw, in_double
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn import functional, reference
from fastnn._kernels import elementwise
from fastnn._kernels.memory import empty_like
from fastnn.functional._elementwise import add

# name: (function, options, what its backward takes)
FUNCTIONS = {
    "relu": ("relu", {}, "y"),
    "leaky_relu": ("leaky_relu", {"negative_slope": 0.2}, "x"),
    "sigmoid": ("sigmoid", {}, "y"),
    "tanh": ("tanh", {}, "y"),
    "silu": ("silu", {}, "x"),
    "gelu": ("gelu", {}, "x"),
    "gelu of tanh": ("gelu", {"approximate": "tanh"}, "x"),
    "elu": ("elu", {"alpha": 0.7}, "x"),
    "hardtanh": ("hardtanh", {"min_val": -0.5, "max_val": 1.25}, "x"),
    "hardsigmoid": ("hardsigmoid", {}, "x"),
    "hardswish": ("hardswish", {}, "x"),
    "softplus": ("softplus", {"beta": 1.5, "threshold": 20.0}, "x"),
    "softmax": ("softmax", {"dim": 1}, "y"),
    "log_softmax": ("log_softmax", {"dim": 1}, "y"),
}
ELEMENTWISE = [name for name in FUNCTIONS if "softmax" not in name]
SOFTMAX = ["softmax", "log_softmax"]

LAYERS = {
    "relu": partial(fn.ReLU), "leaky_relu": partial(fn.LeakyReLU, 0.2), "sigmoid": partial(fn.Sigmoid),
    "tanh": partial(fn.Tanh), "silu": partial(fn.SiLU), "gelu": partial(fn.GELU),
    "gelu of tanh": partial(fn.GELU, "tanh"), "elu": partial(fn.ELU, 0.7),
    "hardtanh": partial(fn.Hardtanh, -0.5, 1.25), "hardsigmoid": partial(fn.Hardsigmoid),
    "hardswish": partial(fn.Hardswish),
    "softplus": partial(fn.Softplus, 1.5, 20.0), "softmax": partial(fn.Softmax, 1),
    "log_softmax": partial(fn.LogSoftmax, 1),
}

# Errors of a result, in units of the machine epsilon, relative to the result or to 1, whichever is more:
# those of exp, tanh, the normal distribution (tests/test_math.py) and of the few operations around them.
EPSILONS = dict.fromkeys(FUNCTIONS, 8)
# In their derivatives 1 - sigmoid or 1 - tanh^2 keeps the rounding of a number near 1, which x or x^3
# multiplies, in the reference no less than in the kernel.
EPSILONS |= {"silu": 40, "gelu of tanh": 80}


def run(module, name, x, grad_y=None):
    """Return y, its gradient (drawn if None), and the gradient of x."""
    function, options, saves = FUNCTIONS[name]
    y = getattr(module, function)(x, **options)
    grad_y = draw(*y.shape, seed=4).astype(y.dtype) if grad_y is None else grad_y
    backward = getattr(module, f"{function}_backward")
    return [y, grad_y, backward(grad_y, y if saves == "y" else x, **options)]


def check(name, x):
    """Compare the kernel with the reference in float64, from the numbers that the kernel sees.

    The gradient of a function of its output is taken at the output that the kernel gave.
    """
    function, options, saves = FUNCTIONS[name]
    y, grad_y, grad_x = run(functional, name, x)
    saved = in_double(y if saves == "y" else x)[0]
    with np.errstate(over="ignore", under="ignore"):  # magnitudes without bounds are meant
        expected = [getattr(reference, function)(*in_double(x), **options),
                    getattr(reference, f"{function}_backward")(*in_double(grad_y), saved, **options)]
    tolerance = EPSILONS[name] * np.finfo(x.dtype).eps
    for actual, e in zip((y, grad_x), expected, strict=True):
        assert actual.dtype == x.dtype
        assert actual.shape == e.shape
        np.testing.assert_allclose(actual, e, rtol=tolerance, atol=tolerance)


# --- Numbers


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sizes_around_the_width_of_a_vector(isa, dtype, name):
    for size in (1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97):
        check(name, 3 * draw(3, size, dtype=dtype))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_all_magnitudes(isa, dtype, name):
    magnitudes = 10.0 ** np.arange(-37, 10)
    x = np.concatenate([np.linspace(-30, 30, 3001), magnitudes, -magnitudes, [0.0, -0.0]])
    check(name, x.astype(dtype))


@pytest.mark.parametrize(("name", "limits", "slopes"), [
    ("relu", (0, np.inf), (0, 1)), ("leaky_relu", (-np.inf, np.inf), (0.2, 1)), ("sigmoid", (0, 1), (0, 0)),
    ("tanh", (-1, 1), (0, 0)), ("silu", (0, np.inf), (0, 1)), ("gelu", (0, np.inf), (0, 1)),
    ("gelu of tanh", (0, np.inf), (0, 1)),
])
def test_infinity_gives_the_limit_and_not_a_number_stays(isa, dtype, name, limits, slopes):
    y, _, grad_x = run(functional, name, np.array([-np.inf, np.inf, np.nan] * 7, dtype), np.ones(21, dtype))
    np.testing.assert_array_equal(y.reshape(7, 3), np.tile([*limits, np.nan], (7, 1)))
    at_nan = {"relu": 1, "leaky_relu": 0.2}.get(name, np.nan)  # which side it is on, none can say
    np.testing.assert_allclose(grad_x.reshape(7, 3), np.tile([*slopes, at_nan], (7, 1)), rtol=1e-7)


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_a_gradient_that_is_no_number_does_not_pass_a_unit_that_is_off(isa, dtype, name):
    x = np.array([-1, 0, 2, np.nan] * 5, dtype)
    for grad in (np.nan, np.inf):
        grad_x = run(functional, name, x, np.full_like(x, grad))[2].reshape(5, 4)
        off = 0 if name == "relu" else grad
        np.testing.assert_array_equal(grad_x, np.tile([off, off, grad, grad], (5, 1)))


@pytest.mark.parametrize(("name", "flat"), {
    "hardtanh": (-1, -0.5, 1.25, 9), "hardsigmoid": (-9, -3, 3, 9), "hardswish": (-9, -3.5, -3, -np.inf),
}.items())
def test_nor_a_piece_that_is_flat(isa, dtype, name, flat):
    x = np.array(flat * 5, dtype)
    for grad in (np.nan, np.inf):
        np.testing.assert_array_equal(run(functional, name, x, np.full_like(x, grad))[2], 0)


def test_values_where_pieces_meet(isa, dtype):
    x = np.array([-3, 3] * 9, dtype)
    np.testing.assert_array_equal(functional.hardsigmoid(x), [0, 1] * 9)
    np.testing.assert_array_equal(functional.hardswish(x), [0, 3] * 9)
    above = np.nextafter(x, dtype(0))[::2]
    expected = above * (above + 3) / 6
    np.testing.assert_allclose(functional.hardswish(above), expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_axes_of_one_number_may_have_any_stride(name):
    """Of arrays kept in memory used before (memory.pyx), and of others."""
    for channels in (16, 1024):
        x, grad_y = (draw(64, channels, 1, 1, dtype=np.float32, seed=seed) for seed in (0, 1))
        expected = run(functional, name, x, grad_y)
        for strides in ((4, 4), (0, -4), (12, 99 * 4), (4 * channels, 4 * channels)):
            odd = np.lib.stride_tricks.as_strided(x, strides=(4 * channels, 4, *strides))
            assert_same_bits(run(functional, name, odd, grad_y), expected)
            assert_same_bits(run(functional, name, x, odd)[2], run(functional, name, x, odd.copy())[2])


def test_rows_that_overlap_are_copied():
    x = np.lib.stride_tricks.as_strided(draw(5, dtype=np.float32), (3, 3), (4, 4))
    assert empty_like(x) is None
    assert_same_bits([functional.gelu(x)], [functional.gelu(x.copy())])


def test_signs_of_zeros_and_values_at_zero(dtype):
    zeros = np.array([0.0, -0.0], dtype)
    assert_same_bits([functional.tanh(zeros)], [zeros])
    assert_same_bits([functional.sigmoid(zeros)], [np.full(2, 0.5, dtype)])
    for name in ("relu", "leaky_relu", "silu", "gelu"):
        np.testing.assert_array_equal(run(functional, name, zeros)[0], 0)
    np.testing.assert_array_equal(functional.relu_backward(zeros + 1, zeros), 0)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("module", [functional, reference], ids=["kernels", "reference"])
def test_gradients_are_finite_differences(module, name):
    function, options, _ = FUNCTIONS[name]
    x = 2 * draw(3, 5, 2)
    _, grad_y, grad_x = run(module, name, x)
    assert_gradients(partial(getattr(module, function), **options), [x], grad_y, [grad_x])


# --- Softmax


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.data())
def test_softmax_along_any_axis(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = 5 * draw(*shape)
    for name in SOFTMAX:
        y = getattr(functional, name)(x, dim)
        grad_y = draw(*shape, seed=4)
        grad_x = getattr(functional, f"{name}_backward")(grad_y, y, dim)
        assert y.shape == grad_x.shape == x.shape
        if x.size:
            np.testing.assert_allclose(y, getattr(reference, name)(x, dim), rtol=1e-14, atol=1e-14)
            expected = getattr(reference, f"{name}_backward")(grad_y, y, dim)
            np.testing.assert_allclose(grad_x, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_of_large_and_of_infinite_numbers(isa, dtype, name):
    far = np.array([[1e30, -1e30, 0], [1000, 999, -1000], [-1e4, -1e4 - 1, -2e4], [0, -np.inf, 1]], dtype)
    check(name, np.concatenate([np.tile(far, (1, 7)), far.repeat(7, axis=1)]))
    hopeless = np.array([[np.nan, 0, 1], [np.inf, 0, 1], [-np.inf, -np.inf, -np.inf]], dtype)
    y = run(functional, name, hopeless)[0]
    with np.errstate(invalid="ignore"):
        assert_same_bits([np.isnan(y)], [np.isnan(run(reference, name, hopeless)[0])])


def test_terms_of_softmax_are_zero_from_the_end_of_the_normal_numbers_on(isa, dtype):
    """e^x across the end of the normal numbers, in every lane of a vector; the largest x is 0."""
    least = np.log(np.finfo(dtype).tiny)
    x = np.append(0, np.linspace(least - 3, least + 3, 601)).astype(dtype)
    exact = np.exp(x.astype(np.longdouble)).astype(dtype)
    normal = x > least
    for shift in range(17):
        y = np.roll(functional.softmax(np.roll(x, shift)), -shift)
        np.testing.assert_allclose(y[normal], exact[normal], rtol=4 * np.finfo(dtype).eps)
        assert (y[x < least - 0.35] == 0).all()
        assert (y <= np.maximum(exact, np.finfo(dtype).tiny) * (1 + 4 * np.finfo(dtype).eps)).all()


def test_softmax_sums_to_one_and_is_invariant_to_a_shift(isa, dtype):
    x = np.round(20 * draw(4, 1000, dtype=dtype))
    y = functional.softmax(x)
    np.testing.assert_allclose(y.sum(1, dtype=float), 1, rtol=20 * np.finfo(dtype).eps)
    assert_same_bits([functional.softmax(x + 4096)], [y])  # exact in both dtypes
    np.testing.assert_allclose(np.exp(functional.log_softmax(x)), y, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("rows", range(1, 10))
@pytest.mark.parametrize("n", [5, 64, 97, 1100])
def test_a_row_of_softmax_has_the_bits_it_has_alone(isa, dtype, rows, n):
    x = draw(rows, n, dtype=dtype)
    for function in (functional.softmax, functional.log_softmax):
        assert_same_bits([function(x)], [np.vstack([function(row) for row in x])])


def test_softmax_keeps_its_digits_in_long_rows(isa):
    x, grad_y = draw(2, 200_003, dtype=np.float32), draw(2, 200_003, dtype=np.float32, seed=1) + np.float32(1)
    y, log_y = functional.softmax(x), functional.log_softmax(x)
    # Those of exp and of the division; a plain float32 sum on the narrowest vectors gives 4e-6.
    np.testing.assert_allclose(y, reference.softmax(*in_double(x)), rtol=1e-6)
    for function, saved in (("softmax_backward", y), ("log_softmax_backward", log_y)):
        expected = getattr(reference, function)(*in_double(grad_y, saved))
        grad_x = getattr(functional, function)(grad_y, saved)
        np.testing.assert_allclose(grad_x, expected, rtol=0, atol=3e-7 * np.abs(expected).max())


# --- Memory, threads, shapes


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_memory_of_arguments_changes_no_bit_and_is_not_written(dtype, name, layout):
    x = draw(2, 9, 3, 5, dtype=dtype)
    expected = run(functional, name, x)
    copy, grad_y = LAYOUTS[layout](x), LAYOUTS[layout](expected[1])
    for actual in (run(functional, name, copy, grad_y), run(functional, name, x, grad_y),
                   run(functional, name, copy, expected[1])):
        assert_same_bits(actual[::2], expected[::2])
    assert_same_bits([copy, grad_y], [LAYOUTS[layout](x), LAYOUTS[layout](expected[1])])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_dense_memory_keeps_its_layout(name):
    for layout in ("Fortran", "channels-last"):
        x = LAYOUTS[layout](draw(2, 9, 3, 5))
        y, _, grad_x = run(functional, name, x)
        assert y.strides == grad_x.strides == x.strides


@pytest.mark.parametrize("name", FUNCTIONS)
def test_equal_bits_for_any_number_of_threads(threads, name):
    x = draw(300, 700, dtype=np.float32)
    results = []
    for n in (1, 2, 3):
        threads(n)
        results.append(run(functional, name, x))
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


@pytest.mark.parametrize("name", ["relu", "hardswish", "tanh", "gelu"])
def test_arrays_that_are_written_past_the_caches_have_the_bits_of_their_parts(isa, dtype, name):
    """From 8 MB on; also into memory that begins in the midst of a line, or in place."""
    x = draw(2**23 // np.dtype(dtype).itemsize + 5).astype(dtype)
    whole = run(functional, name, x)
    halves = [run(functional, name, part, grad) for part, grad in
              zip(np.array_split(x, 2), np.array_split(whole[1], 2), strict=True)]
    assert_same_bits(whole, [np.concatenate(parts) for parts in zip(*halves, strict=True)])
    op = getattr(elementwise, name.upper())
    within, place = empty_like(np.append(x, x[:1]))[1:], x.copy()
    for y in (within, place):
        elementwise.map(op, 0, 0, x if y is within else place, y)
        assert_same_bits([y], whole[:1])


def test_sums_that_are_written_past_the_caches(isa, dtype):
    a, b = draw(2, 2**23 // np.dtype(dtype).itemsize + 5).astype(dtype)
    for relu, expected in ((False, a + b), (True, np.maximum(a + b, 0))):
        assert_same_bits([add(a, b, relu)], [expected])
        y = a.copy()
        elementwise.add(y, b, relu, y)
        assert_same_bits([y], [expected])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_empty_and_zero_dimensional_arrays(dtype, name):
    for shape in ((0, 3), (2, 0), (0, 4, 5)):
        x = np.empty(shape, dtype)
        assert_same_bits(run(functional, name, x), [x] * 3)
    if name in ELEMENTWISE:
        x = draw(dtype=dtype)
        y, _, grad_x = run(functional, name, x, np.ones((), dtype))
        expected = run(functional, name, x[None], np.ones(1, dtype))
        assert_same_bits([y, grad_x], [expected[0].reshape(()), expected[2].reshape(())])
    else:
        assert_same_bits([getattr(functional, name)(np.array(3, dtype))],
                         [np.array(name == "softmax", dtype)])


def test_active_share():
    assert functional.active_share(np.array([0, 1, 0, 2.0])) == 0.5
    assert functional.active_share(np.array([[0.0, -0.0]])) == 0
    assert np.isnan(functional.active_share(np.empty(0)))


# --- Layers


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_are_their_functions(dtype, name):
    layer, x = LAYERS[name](), draw(3, 5, dtype=dtype)
    y, grad_y, grad_x = run(functional, name, x)
    assert_same_bits([layer(x), layer.backward(grad_y)], [y, grad_x])
    message = rf"{type(layer).__name__}\.backward: call forward in training mode first"
    with pytest.raises(ValueError, match=message):
        layer.backward(grad_y)
    assert_same_bits([layer.eval()(x)], [y])
    with pytest.raises(ValueError, match=message):
        layer.backward(grad_y)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_take_a_dtype_as_every_layer_does(dtype, name):
    make = LAYERS[name]
    assert make(dtype=dtype).dtype == dtype
    with pytest.raises(TypeError, match=f"^{make.func.__name__}: dtype must be float32 or float64"):
        make(dtype=np.float16)


def test_relu_tells_its_share_of_active_units():
    layer = fn.ReLU()
    assert np.isnan(layer.active_share)
    layer(np.array([1.0, -1, 2, 3]))
    assert layer.active_share == 0.75
    layer.eval()(np.array([1.0]))
    assert layer.active_share == 0.75


def test_relu_lets_go_of_its_output_after_training():
    net = fn.Sequential(fn.Linear(3, 4, rng=0), fn.ReLU(), fn.Linear(4, 1, rng=1))
    layer, x = net[1], np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    y = layer(net[0](x))
    share, output = layer.active_share, weakref.ref(y)
    del y
    assert output() is not None
    net._release()
    assert output() is None
    assert layer.active_share == share


def test_representations():
    assert [repr(LAYERS[name]()) for name in FUNCTIONS] == [
        "ReLU()", "LeakyReLU(negative_slope=0.2)", "Sigmoid()", "Tanh()", "SiLU()",
        "GELU(approximate='none')", "GELU(approximate='tanh')", "ELU(alpha=0.7)",
        "Hardtanh(min_val=-0.5, max_val=1.25)", "Hardsigmoid()", "Hardswish()",
        "Softplus(beta=1.5, threshold=20.0)", "Softmax(dim=1)", "LogSoftmax(dim=1)"]


# --- Refusals


@pytest.mark.parametrize("function", sorted({function for function, _, _ in FUNCTIONS.values()}))
def test_functions_refuse_arrays_by_name(function):
    call, backward = getattr(functional, function), getattr(functional, f"{function}_backward")
    saved = next(saves for name, _, saves in FUNCTIONS.values() if name == function)
    x = draw(2, 3, dtype=np.float32)
    for value, words in ((np.arange(3), "has dtype int64"), (np.ones(3, np.float16), "has dtype float16"),
                         (np.ones(3, bool), "has dtype bool"), ([1, 2], "is a list of dtype int64"),
                         (None, "is None"), ("1.0", "is a str of dtype")):
        with pytest.raises(TypeError, match=f"^{function}: x {words}"):
            call(value)
        with pytest.raises(TypeError, match=f"^{function}_backward: {saved} {words}"):
            backward(x, value)
    grad_y = f"^{function}_backward: grad_y has"
    with pytest.raises(TypeError, match=f"{grad_y} dtype float64, expected float32"):
        backward(x.astype(float), x)
    with pytest.raises(ValueError, match=rf"{grad_y} shape \(3,\), expected \(2, 3\)"):
        backward(x[0], x)


@pytest.mark.parametrize(("error", "words", "call"), [
    (TypeError, r"^leaky_relu: negative_slope must be a number, got '1'",
     lambda: functional.leaky_relu(np.ones(1), "1")),
    (ValueError, r"^leaky_relu: negative_slope must be finite",
     lambda: functional.leaky_relu(np.ones(1), np.nan)),
    (ValueError, r"^gelu: approximate must be 'none' or 'tanh', got 'erf'",
     lambda: functional.gelu(np.ones(1), "erf")),
    (ValueError, r"^softmax: dim = 2 is out of range for 2 dimensions",
     lambda: functional.softmax(np.ones((1, 1)), 2)),
    (ValueError, r"^log_softmax: dim must be at least -2, got -3",
     lambda: functional.log_softmax(np.ones((1, 1)), -3)),
    (TypeError, r"^softmax: dim must be an integer, got 1.0",
     lambda: functional.softmax(np.ones((1, 1)), 1.0)),
    (TypeError, r"^log_softmax: dim must be an integer, got array",
     lambda: functional.log_softmax(np.ones((1, 1)), np.array([], np.float32))),
    (TypeError, r"^softmax: dim must be an integer, got -1.0",
     lambda: functional.softmax(np.ones((1, 1)), -1.0)),
    (TypeError, r"^active_share: y has dtype int64", lambda: functional.active_share(np.arange(3))),
    (TypeError, r"^LeakyReLU: negative_slope must be a number", lambda: fn.LeakyReLU(None)),
    (ValueError, r"^GELU: approximate must be", lambda: fn.GELU("no")),
    (TypeError, r"^Softmax: dim must be an integer", lambda: fn.Softmax(None)),
])
def test_refusals_name_the_argument(error, words, call):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("layer", [fn.ReLU, fn.ReLU6, fn.LeakyReLU, fn.ELU, fn.Hardtanh, fn.Hardsigmoid,
                                   fn.Hardswish, fn.SiLU])
def test_inplace_is_taken_and_changes_nothing(layer):
    x = draw(3, 5, dtype=np.float32)
    before = x.copy()
    assert_same_bits([layer(inplace=True)(x), x], [layer()(x), before])
    with pytest.raises(TypeError, match=f"{layer.__name__}: inplace"):
        layer(inplace="yes")
