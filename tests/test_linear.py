"""The linear map: function and layer against the reference, by finite differences, and against themselves."""

import copy
import pickle
import threading

import numpy as np
import pytest
from arrays import LAYOUTS, assert_close, assert_gradients, assert_same_bits, draw, in_double
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn import functional, reference

# Errors relative to the largest result, of sums of up to a few hundred products of normal numbers: about
# sqrt(n) units in the last place (6e-8, 1.1e-16). Outputs are around 1, so sigmoid and tanh keep the error.
TOLERANCE = {np.float32: 2e-6, np.float64: 4e-15}

ACTIVATIONS = (None, "relu", "sigmoid", "tanh")
SIZES = (1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97)  # around the widths of vectors and register tiles


def arguments(lead, in_features, out_features, dtype=np.float64):
    """Draw x, weight and bias, such that outputs are around 1 whatever the sizes."""
    weight = draw(out_features, in_features, seed=2) / max(1, in_features) ** 0.5
    return (draw(*np.atleast_1d(lead), in_features, dtype=dtype, seed=1), weight.astype(dtype),
            draw(out_features, dtype=dtype, seed=3))


def run(module, args, grad_y=None, **options):
    """Return y, its gradient (drawn if None), and the gradients of all arguments."""
    y = module.linear(*args, **options)
    grad_y = draw(*y.shape, dtype=y.dtype, seed=4) if grad_y is None else grad_y
    return [y, grad_y, *module.linear_backward(grad_y, *args, y=y, **options)]


def check(args, terms=300, **options):
    """Compare the kernel with the reference in float64, from the numbers that the kernel sees.

    The error of a sum grows with the root of the number of its terms.
    """
    dtype = args[0].dtype
    actual = run(functional, args, **options)
    expected = run(reference, in_double(*args), *in_double(actual[1]), **options)
    assert_close(actual, expected, TOLERANCE[dtype.type] * (terms / 300) ** 0.5, dtype)


# --- The function


def test_sizes_around_the_width_of_a_tile(isa, dtype):
    for i, in_features in enumerate(SIZES):
        rows, out_features = SIZES[(3 * i + 5) % len(SIZES)], SIZES[(5 * i + 2) % len(SIZES)]
        check(arguments(rows, in_features, out_features, dtype))
        check(arguments(out_features, rows, in_features, dtype))


@pytest.mark.parametrize("in_features", [1, 16, 97, 160, 1024])
def test_few_rows_have_the_bits_of_packed_weights_wherever_these_lie(isa, dtype, in_features):
    for start in range(0, 64, 12):  # bytes into a line of the caches; 12 is in the middle of a double
        memory = np.zeros(130 * in_features * np.dtype(dtype).itemsize + 192, np.uint8)
        first = -memory.ctypes.data % 64 + start
        weight = memory[first:first + 130 * in_features * np.dtype(dtype).itemsize].view(dtype)
        weight = weight.reshape(130, in_features)
        weight[...] = draw(130, in_features, dtype=dtype, seed=2)
        layer = fn.Linear(in_features, 130, dtype=dtype, rng=0).eval()
        layer.weight.data = weight
        for rows in (1, 2, 5):
            x = draw(rows, in_features, dtype=dtype, seed=1)
            assert_same_bits([functional.linear(x, weight, layer.bias.data)], [layer(x)])


def test_more_than_one_block_of_every_size(isa, dtype):
    check(arguments(300, 700, 530, dtype))


# Rows, features in and out: what decides how the product of the weight's gradient is cut.
CUTS = {
    "by rows, and blocks of columns": (200, 2500, 130),
    "by columns": (400, 1100, 960),
    "by columns and rows": (400, 70, 900),
    "in slices of a small gradient": (5000, 100, 90),
    "in slices of a large gradient": (4300, 280, 270),
    "columns of one set of the cache": (410, 150, 1024),
    "rows of panels beyond the caches": (24000, 100, 40),
    "panels and a vector where they lie": (300, 48, 70),
    "panels and a vector beyond the caches": (24000, 112, 40),
    "a block of columns for more rows than one part has": (300, 4096, 500),
    "turned": (300, 7, 70),
    "turned, of one column": (300, 1, 70),
    "turned, of two": (300, 2, 70),
    "turned, of four": (300, 4, 70),
    "turned, in slices": (5000, 3, 40),
    "just turned": (128, 7, 70),
    "not yet turned": (127, 7, 70),
}


@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS)
def test_cuts_of_the_gradient(isa, dtype, size, threads):
    args = arguments(*size, dtype)
    threads(1)
    check(args, terms=max(size))
    expected = run(functional, args)
    threads(3)
    assert_same_bits(run(functional, args), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(isa, dtype, activation):
    check(arguments(19, 33, 37, dtype), activation=activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_by_finite_differences(isa, activation):
    args = arguments((2, 3), 4, 5)
    _, grad_y, *grads = run(functional, args, activation=activation)
    assert_gradients(lambda *args: functional.linear(*args, activation=activation), args, grad_y, grads)


@pytest.mark.parametrize("lead", [(), (1,), (2, 3), (2, 1, 3, 2), (0,), (2, 0)])
def test_leading_axes(dtype, lead):
    x = draw(*lead, 6, dtype=dtype)
    weight, bias = arguments(1, 6, 4, dtype)[1:]
    check((x, weight, bias))
    rows = functional.linear(x.reshape(-1, 6), weight, bias)
    assert_same_bits([functional.linear(x, weight, bias)], [rows.reshape(*lead, 4)])


def test_no_features_in_or_out(dtype):
    # A sum of nothing is zero, and the bias remains.
    bias = draw(3, dtype=dtype)
    nothing = np.empty((3, 0), dtype)
    np.testing.assert_array_equal(functional.linear(np.empty((2, 0), dtype), nothing, bias), [bias, bias])
    check((np.empty((2, 0), dtype), nothing, bias))
    check((draw(2, 3, dtype=dtype), np.empty((0, 3), dtype), bias[:0]))


def test_without_bias_and_without_gradient_of_the_input(dtype):
    x, weight, bias = arguments(5, 6, 7, dtype)
    y, grad_y, grad_x, grad_weight, grad_bias = run(functional, (x, weight, bias))
    assert_close(run(functional, (x, weight), grad_y), [y - bias, grad_y, grad_x, grad_weight, None],
                 TOLERANCE[dtype])
    assert_same_bits(functional.linear_backward(grad_y, x, weight, bias, input_grad=False),
                     [None, grad_weight, grad_bias])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_does_not_matter(dtype, layout):
    args = arguments((3, 4), 19, 18, dtype)
    y, grad_y, *grads = run(functional, args, activation="tanh")
    strange = [LAYOUTS[layout](a) for a in (*args, grad_y)]
    before = [a.copy() for a in strange]
    found_y, _, *found = run(functional, strange[:3], strange[3], activation="tanh")
    assert_same_bits([found_y, *found], [y, *grads])
    assert_same_bits(strange, before)


def test_threads_give_equal_bits(isa, dtype, threads):
    results = []
    for n in (1, 2, 3):
        threads(n)
        results.append(run(functional, arguments(230, 310, 290, dtype), activation="relu"))
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


@pytest.mark.parametrize("size", [(33, 31), (450, 17), (700, 2100)])
def test_a_row_does_not_depend_on_how_many_there_are(isa, dtype, threads, size):
    # Up to 8 rows are multiplied by the weights as they lie, more by packed blocks, 448 by a packed whole.
    out_features, in_features = size
    x, weight, bias = arguments(450, in_features, out_features, dtype)
    check((x[:8], weight, bias), terms=max(size))
    y, grad_y, grad_x, *_ = run(functional, (x, weight, bias))
    for rows in (1, 2, 3, 7, 8, 9, 40):
        for n in (1, 3):
            threads(n)
            found = run(functional, (x[:rows], weight, bias), grad_y[:rows])
            assert_same_bits([found[0], found[2]], [y[:rows], grad_x[:rows]])


@pytest.mark.parametrize("rows", [1, 6, 9, 14])
def test_one_feature_in_and_many_out(isa, dtype, rows):
    # The weights' rows and columns are both contiguous: what is packed is the block that there is room for.
    check(arguments(rows, 1, 5000, dtype), terms=5000)
    check(arguments(rows, 5000, 1, dtype), terms=5000)


@pytest.mark.parametrize("rows", [1, 4, 5, 33, 130, 250])
def test_rows_of_one_set_of_the_cache(isa, dtype, rows, threads):
    """Rows 4 KB apart are copied, once for all blocks of columns."""
    in_features = 4096 // np.dtype(dtype).itemsize
    x, weight, bias = arguments(rows, in_features, 1030, dtype)
    layer = fn.Linear(in_features, 1030, dtype=dtype).eval()
    layer.weight, layer.bias = weight, bias
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(layer(x))
        assert_same_bits([results[-1]], [results[0]])
    assert_close(results[:1], [reference.linear(*in_double(x, weight, bias))], 2 * TOLERANCE[dtype], dtype)


def test_infinity_and_nan_pass(isa, dtype):
    x, weight, bias = arguments(4, 18, 20, dtype)
    x[1, 3], x[2, 4], weight[5, 4] = np.nan, np.inf, -abs(weight[5, 4])
    y = functional.linear(x, weight, bias)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isnan(y), np.isnan(reference.linear(x, weight, bias)))
    assert y[2, 5] == -np.inf
    relu = functional.linear(x, weight, bias, activation="relu")
    assert np.isnan(relu[1]).all()
    assert relu[2, 5] == 0


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 40), in_features=st.integers(0, 70), out_features=st.integers(0, 70),
       dtype=st.sampled_from([np.float32, np.float64]), activation=st.sampled_from(ACTIVATIONS))
def test_any_size(rows, in_features, out_features, dtype, activation):
    check(arguments(rows, in_features, out_features, dtype), activation=activation)


X, WEIGHT, BIAS = arguments(4, 3, 2, np.float32)


@pytest.mark.parametrize(("args", "error", "message"), [
    ((X[:, :2], WEIGHT), ValueError, r"linear: x has 2 features \(shape \(4, 2\)\), weight expects 3"),
    ((np.float32(1), WEIGHT), ValueError, "linear: x has no features"),
    ((X, WEIGHT[0]), ValueError, "linear: weight has 1 dimensions"),
    ((X, WEIGHT, BIAS[:1]), ValueError, r"linear: bias has shape \(1,\), expected \(2,\)"),
    ((X, WEIGHT.astype(np.float64)), TypeError, "linear: x has dtype float32, expected float64"),
    ((X, WEIGHT, BIAS.astype(np.float64)), TypeError, "linear: bias has dtype float64, expected float32"),
    ((X.astype(np.float16), WEIGHT), TypeError, "linear: x has dtype float16"),
    ((X.astype(int), WEIGHT), TypeError, "linear: x has dtype int64"),
    (([[1, 2, 3]], WEIGHT), TypeError, "linear: x is a list of dtype int64"),
    (([[1.0], [1.0, 2.0]], WEIGHT), ValueError, "linear: x cannot be made an array"),
    (("abc", WEIGHT), TypeError, "linear: x is a str"),
    ((None, WEIGHT), TypeError, "linear: x is None"),
])
def test_wrong_arguments(args, error, message):
    with pytest.raises(error, match=message):
        functional.linear(*args)


def test_wrong_activation_and_gradient():
    with pytest.raises(ValueError, match="linear: activation must be None, 'relu', 'sigmoid' or 'tanh'"):
        functional.linear(X, WEIGHT, activation="gelu")
    with pytest.raises(ValueError, match=r"grad_y has shape \(4, 3\), expected \(4, 2\)"):
        functional.linear_backward(X, X, WEIGHT)
    with pytest.raises(TypeError, match="linear_backward: y is None"):
        functional.linear_backward(np.ones((4, 2), np.float32), X, WEIGHT, activation="tanh")


# --- The layer


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layer(dtype, activation):
    x, weight, bias = args = arguments((2, 5), 6, 3, dtype)
    layer = fn.Linear(6, 3, activation=activation, dtype=dtype)
    layer.weight, layer.bias = weight, bias
    y, grad_y, grad_x, grad_weight, grad_bias = run(functional, args, activation=activation)
    assert_same_bits([layer(x), layer.backward(grad_y), layer.weight.grad, layer.bias.grad],
                     [y, grad_x, grad_weight, grad_bias])
    # Gradients are added up, term by term.
    assert_same_bits([layer(x), layer.backward(grad_y)], [y, grad_x])
    assert_close([layer.weight.grad, layer.bias.grad], [2 * grad_weight, 2 * grad_bias], TOLERANCE[dtype])
    layer(x)
    assert layer.backward(grad_y, input_grad=False) is None


@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS)
def test_gradients_are_added_to_those_there(isa, dtype, size):
    x, weight, bias = arguments(*size, dtype)
    layer = fn.Linear(size[1], size[2], dtype=dtype)
    layer.weight, layer.bias = weight, bias
    grad_y = draw(size[0], size[2], dtype=dtype, seed=4)
    for _ in range(3):
        layer(x)
        layer.backward(grad_y, input_grad=False)
    _, grad_weight, grad_bias = reference.linear_backward(*in_double(grad_y, x, weight, bias))
    assert_close([layer.weight.grad, layer.bias.grad], [3 * grad_weight, 3 * grad_bias],
                 TOLERANCE[dtype] * (max(size) / 300) ** 0.5, dtype)


def test_backward_needs_a_forward_in_training_mode():
    layer, grad_y = fn.Linear(3, 2), np.ones((4, 2), np.float32)
    with pytest.raises(ValueError, match=r"Linear.backward: call forward in training mode first"):
        layer.backward(grad_y)
    layer(X)
    layer.backward(grad_y)
    with pytest.raises(ValueError, match="each forward serves one backward"):
        layer.backward(grad_y)
    layer.eval()(X)
    with pytest.raises(ValueError, match="call forward in training mode first"):
        layer.backward(grad_y)


def test_initial_values_are_those_of_torch(dtype):
    layer = fn.Linear(400, 300, dtype=dtype, rng=0)
    assert layer.weight.shape == (300, 400)
    assert layer.bias.shape == (300,)
    for parameter in layer.parameters():
        assert parameter.dtype == dtype
        largest = np.abs(parameter.data).max()
        assert 0.95 / 20 < largest <= np.nextafter(dtype(1 / 20), dtype(1))
    assert_same_bits(fn.Linear(400, 300, dtype=dtype, rng=0).state_dict().values(),
                     layer.state_dict().values())
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert list(fn.Linear(2, 3, bias=False).state_dict()) == ["weight"]


def test_eval_mode_keeps_packed_weights_until_they_change():
    layer = fn.Linear(3, 2, rng=0)
    y = layer.eval()(X)
    assert_same_bits([layer(X)], [y])
    layer.load_state_dict({"weight": 2 * WEIGHT, "bias": BIAS})
    assert_same_bits([layer(X)], [functional.linear(X, 2 * WEIGHT, BIAS)])
    layer.train().weight.data[...] = WEIGHT
    assert_same_bits([layer.eval()(X)], [functional.linear(X, WEIGHT, BIAS)])
    with pytest.raises(ValueError, match="read-only"):
        layer.weight.data[...] = 0


def test_copies_and_pickles():
    layer = fn.Linear(3, 2, activation="relu", rng=0)
    y = layer(X)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same_bits([other(X)], [y])
        other.weight.data[...] = 0
    assert_same_bits([layer(X)], [y])


def test_one_layer_in_many_threads():
    layer = fn.Linear(40, 30, rng=0).eval()
    inputs = [draw(50, 40, dtype=np.float32, seed=seed) for seed in range(4)]
    expected, found = [layer(x) for x in inputs], [None] * 4

    def work(i):
        for _ in range(20):
            found[i] = layer(inputs[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert_same_bits(found, expected)


def test_repr():
    assert repr(fn.Linear(3, 2)) == "Linear(in_features=3, out_features=2, bias=True)"
    assert repr(fn.Linear(3, 2, bias=False, activation="relu")) \
        == "Linear(in_features=3, out_features=2, bias=False, activation='relu')"


@pytest.mark.parametrize(("args", "error", "message"), [
    ((0, 2), ValueError, "Linear: in_features must be at least 1"),
    ((3, -1), ValueError, "Linear: out_features must be at least 1"),
    ((3.0, 2), TypeError, "Linear: in_features must be an integer"),
    ((3, 2, 1), TypeError, "Linear: bias must be True or False"),
])
def test_wrong_configuration(args, error, message):
    with pytest.raises(error, match=message):
        fn.Linear(*args)


@pytest.mark.parametrize("flag", ["no", 1, None, np.array([True, False])])
def test_backward_looks_at_its_flag(flag):
    layers = [fn.Linear(3, 3), fn.Sequential(fn.Linear(3, 3)), fn.Residual(fn.Linear(3, 3)),
              fn.Parallel(fn.Linear(3, 3)), fn.RNN(3, 3)]
    for layer in layers:
        layer(np.zeros((2, 3), np.float32))
        with pytest.raises(TypeError, match=rf"^{type(layer).__name__}\.backward: input_grad must be True "):
            layer.backward(np.zeros((2, 3), np.float32), input_grad=flag)


def test_layer_names_itself_in_errors():
    layer = fn.Linear(3, 2)
    with pytest.raises(ValueError, match="Linear: x has 2 features"):
        layer(X[:, :2])
    with pytest.raises(TypeError, match="Linear: x has dtype float64, expected float32"):
        layer(X.astype(np.float64))
    layer(X)
    with pytest.raises(ValueError, match="grad_y has shape"):
        layer.backward(X)
