"""Normalisation: functions and layers against the reference, by finite differences, and at their edges."""

import copy
import pickle

import numpy as np
import pytest
from arrays import LAYOUTS, assert_close, assert_gradients, assert_same_bits, draw, in_double

import fastnn as fn
from fastnn import functional, reference

# Errors relative to the largest result, or to 1: of sums of up to some thousand numbers around 1.
TOLERANCE = {np.float32: 4e-6, np.float64: 1e-14}

# Channels around the widths of vectors, rows around the blocks of 64.
SHAPES = [(2, 1), (5, 3), (63, 7), (64, 16), (65, 17), (3, 31, 4), (2, 33, 5, 7), (1, 65, 9, 11), (300, 2)]


def arguments(shape, dtype=np.float64, offset=0.0):
    """Draw x, weight and bias of batch norm."""
    x = (draw(*shape, seed=1) + offset).astype(dtype)
    return x, draw(shape[1], dtype=dtype, seed=2), draw(shape[1], dtype=dtype, seed=3)


def run_batch(module, x, mean, var, weight, bias, grad_y=None, *, training=True):
    """Return y, its gradient (drawn if None), and the gradients of x, weight and bias."""
    grad_y = draw(*x.shape, seed=4).astype(x.dtype) if grad_y is None else grad_y
    return [module.batch_norm(x, mean, var, weight, bias), grad_y,
            *module.batch_norm_backward(grad_y, x, mean, var, weight, bias, training=training)]


def run_layer(module, x, weight, bias, grad_y=None, *, axes=1):
    """The same of layer norm, over the last `axes` axes."""
    grad_y = draw(*x.shape, seed=4).astype(x.dtype) if grad_y is None else grad_y
    shape = x.shape[x.ndim - axes:]
    return [module.layer_norm(x, shape, weight, bias), grad_y,
            *module.layer_norm_backward(grad_y, x, shape, weight, bias)]


def check(run, *args, tolerance=None, **options):
    """Compare the kernel with the reference in float64, from the numbers that the kernel sees."""
    dtype = args[0].dtype.type
    actual = run(functional, *args, **options)
    expected = run(reference, *in_double(*args), *in_double(actual[1]), **options)
    assert_close(actual, expected, tolerance or TOLERANCE[dtype], dtype)


# --- Batch norm


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm(isa, dtype, shape):
    x, weight, bias = arguments(shape, dtype)
    mean, var = functional.batch_norm_stats(x)
    assert_close((mean, var), reference.batch_norm_stats(*in_double(x)), TOLERANCE[dtype], dtype)
    # Of few rows the variance may be small: the results are as large as 1 / sqrt(var).
    for training in (True, False):
        check(run_batch, x, mean, var + dtype(0.1), weight, bias, training=training)
        check(run_batch, x, mean, var + dtype(0.1), None, None, training=training)
        check(run_batch, x, mean, var + dtype(0.1), weight, None, training=training)


@pytest.mark.parametrize("m", [1, 2, 7, 131, 1031])
@pytest.mark.parametrize("channels", [1, 3, 16, 33, 63, 64, 65, 255, 256])
def test_batch_norm_of_a_row_is_the_same_wherever_it_stands(isa, dtype, channels, m):
    # Of few channels many rows are taken as one, and the rest by themselves.
    x, weight, bias = arguments((m, channels), dtype)
    mean, var = functional.batch_norm_stats(x)
    y = functional.batch_norm(x, mean, var, weight, bias)
    rows = [functional.batch_norm(row, mean, var, weight, bias) for row in np.split(x, len(x))]
    assert_same_bits([y], [np.concatenate(rows)])


@pytest.mark.parametrize("channels", [48, 64, 65])
def test_batch_norm_of_a_row_is_the_same_where_all_are_written_past_the_caches(isa, dtype, channels):
    """From 8 MB on, if channels are whole cache lines, or the rows that are taken for one."""
    x = draw(2**23 // np.dtype(dtype).itemsize // channels + 7, channels).astype(dtype)
    mean, var, weight = x[0], np.abs(x[1]) + 1, x[2]
    y = functional.batch_norm(x, mean, var, weight)
    for part in (slice(0, 1000), slice(len(x) - 1000, len(x))):
        assert_same_bits([y[part]], [functional.batch_norm(x[part], mean, var, weight)])


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_gradients_are_finite_differences(isa, training):
    x, weight, bias = arguments((4, 3, 2))
    mean, var = functional.batch_norm_stats(x)

    def function(x, weight, bias):
        stats = functional.batch_norm_stats(x) if training else (mean, var)
        return functional.batch_norm(x, *stats, weight, bias)

    _, grad_y, *grads = run_batch(functional, x, mean, var, weight, bias, training=training)
    assert_gradients(function, (x, weight, bias), grad_y, grads)


@pytest.mark.parametrize("offset", [1e2, 1e4, -3e5])
def test_batch_norm_keeps_its_digits_far_from_zero(isa, offset):
    x, weight, bias = arguments((500, 19), np.float32, offset)
    mean, var = functional.batch_norm_stats(x)
    exact = reference.batch_norm_stats(*in_double(x))
    np.testing.assert_allclose(mean, exact[0], rtol=1e-7)
    np.testing.assert_allclose(var, exact[1], rtol=1e-6)
    # The mean is a rounded number, off by up to 0.016 of 3e5, which the reference is told too.
    check(run_batch, x, mean, var, weight, bias)


@pytest.mark.parametrize("offset", [0, 1e4, 1e6])
def test_gradients_do_not_lose_what_the_mean_lost_in_rounding(isa, offset):
    x, weight, bias = arguments((500, 67), np.float32, offset)
    mean, var = functional.batch_norm_stats(x)
    grad_y = draw(500, 67, dtype=np.float32)
    grad_x, grad_weight, _ = functional.batch_norm_backward(grad_y, x, mean, var, weight, bias)
    wide = in_double(grad_y, x, weight, bias)
    exact = reference.batch_norm_backward(*wide[:2], *reference.batch_norm_stats(wide[1]), *wide[2:])
    np.testing.assert_allclose(grad_weight, exact[1], rtol=0, atol=2e-6 * np.abs(exact[1]).max())
    np.testing.assert_allclose(grad_x, exact[0], rtol=0, atol=2e-6 * np.abs(exact[0]).max())


def test_statistics_of_rows_far_from_the_first_ones(isa):
    x = draw(1000, 19, dtype=np.float32) + np.float32(3000)
    x[:64] = 0
    mean, var = functional.batch_norm_stats(x)
    np.testing.assert_allclose(mean, x.mean(0, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(var, x.var(0, dtype=np.float64), rtol=1e-6)


def test_sums_of_many_rows_keep_their_digits(isa):
    x = draw(200_003, 2, dtype=np.float32) + np.float32(3)
    mean, var = functional.batch_norm_stats(x)
    np.testing.assert_allclose(mean, x.mean(0, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(var, x.var(0, dtype=np.float64), rtol=2e-7)
    ones = np.ones(2, np.float32)
    _, _, grad_bias = functional.batch_norm_backward(x, x, mean, var, ones, ones)
    np.testing.assert_allclose(grad_bias, x.sum(0, dtype=np.float64), rtol=2e-7)
    _, _, grad_bias = functional.layer_norm_backward(x, x, 2, ones, ones)
    np.testing.assert_allclose(grad_bias, x.sum(0, dtype=np.float64), rtol=2e-7)


def test_a_constant_channel_has_no_variance_and_normalises_to_the_bias(dtype):
    x = np.full((70, 3, 2), 0.1, dtype)
    mean, var = functional.batch_norm_stats(x)
    assert_same_bits([mean, var], [np.full(3, 0.1, dtype), np.zeros(3, dtype)])
    bias = draw(3, dtype=dtype)
    y = functional.batch_norm(x, mean, var, np.ones(3, dtype), bias)
    assert_same_bits([y], [np.broadcast_to(bias[:, None], x.shape).copy()])
    rows = np.full((5, 770), 0.1, dtype)
    assert_same_bits([functional.layer_norm(rows, 770)], [np.zeros_like(rows)])


def test_batch_norm_of_nothing(dtype):
    for shape in ((0, 3), (2, 3, 0), (0, 3, 4, 4), (3, 0)):
        x = np.empty(shape, dtype)
        mean, var = functional.batch_norm_stats(x)
        assert np.isnan(mean).all()
        assert np.isnan(var).all()
        ones = np.ones(shape[1], dtype)
        y, _, grad_x, grad_weight, grad_bias = run_batch(functional, x, ones, ones, ones, ones)
        assert y.shape == grad_x.shape == shape
        assert_same_bits([grad_weight, grad_bias], [np.zeros(shape[1], dtype)] * 2)


def test_not_a_number_stays_in_its_channel(isa, dtype):
    x, weight, bias = arguments((70, 19), dtype)
    x[33, 5] = np.nan
    stats = functional.batch_norm_stats(x)
    y = functional.batch_norm(x, *stats, weight, bias)
    expected = np.zeros(x.shape, bool)
    expected[:, 5] = True
    np.testing.assert_array_equal(np.isnan(y), expected)
    np.testing.assert_array_equal(np.isnan(functional.layer_norm(x, 19)).any(1), np.arange(70) == 33)


# --- Layer norm


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63, 65, 97, 1000])
def test_layer_norm(isa, dtype, n):
    for rows in (1, 3, 65):
        x = draw(rows, n, dtype=dtype, seed=1)
        # With a few numbers a row the variance may be tiny, and the gradient as large as its inverse.
        x += np.arange(n, dtype=dtype)
        weight, bias = draw(n, dtype=dtype, seed=2), draw(n, dtype=dtype, seed=3)
        tolerance = 10 * TOLERANCE[dtype]
        check(run_layer, x, weight, bias, tolerance=tolerance)
        check(run_layer, x, None, None, tolerance=tolerance)
        check(run_layer, x, weight, None, tolerance=tolerance)


@pytest.mark.parametrize("rows", range(1, 10))
@pytest.mark.parametrize("n", [5, 64, 97, 1100])
def test_a_row_has_the_bits_it_has_alone(isa, dtype, rows, n):
    x, grad, (w, b) = (draw(rows, n, dtype=dtype), draw(rows, n, dtype=dtype, seed=1),
                       draw(2, n, dtype=dtype, seed=2))

    def both(grad, x):
        return functional.layer_norm(x, n, w, b), functional.layer_norm_backward(grad, x, n, w, b)[0]

    alone = [both(g, row) for g, row in zip(grad, x, strict=True)]
    assert_same_bits(both(grad, x), [np.vstack(parts) for parts in zip(*alone, strict=True)])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_layer_norm_over_several_axes(isa, dtype, axes):
    x = draw(3, 4, 5, dtype=dtype)
    weight, bias = (draw(*x.shape[3 - axes:], dtype=dtype, seed=seed) for seed in (2, 3))
    check(run_layer, x, weight, bias, axes=axes)


def test_normalized_shape_is_a_size_or_a_sequence_of_them():
    x = draw(3, 5)
    for shape in ((5,), [5], np.int64(5)):
        assert_same_bits([functional.layer_norm(x, shape)], [functional.layer_norm(x, 5)])


def test_layer_norm_gradients_are_finite_differences(isa):
    args = draw(3, 2, 5, seed=1), draw(2, 5, seed=2), draw(2, 5, seed=3)
    _, grad_y, *grads = run_layer(functional, *args, axes=2)
    assert_gradients(lambda x, *affine: functional.layer_norm(x, (2, 5), *affine), args, grad_y, grads)


@pytest.mark.parametrize("offset", [1e2, 1e4, -3e5])
def test_layer_norm_keeps_its_digits_far_from_zero(isa, offset):
    x = draw(4, 1003, seed=1).astype(np.float32) + np.float32(offset)
    check(run_layer, x, draw(1003, dtype=np.float32, seed=2), draw(1003, dtype=np.float32, seed=3))


def test_layer_norm_keeps_its_digits_in_long_rows(isa):
    n = 200_003
    x, grad_y = draw(2, n, dtype=np.float32), draw(2, n, dtype=np.float32, seed=1) + np.float32(1)
    y, grad_x = functional.layer_norm(x, n), functional.layer_norm_backward(grad_y, x, n)[0]
    wide, grad_wide = in_double(x, grad_y)
    # Relative to the largest, near 5; a plain float32 sum along the row gives 8e-7 to 3e-6.
    assert_close([y, grad_x], [reference.layer_norm(wide, n),
                               reference.layer_norm_backward(grad_wide, wide, n)[0]], 3e-7, np.float32)


def test_layer_norm_of_no_rows(dtype):
    ones = np.ones(5, dtype)
    y, _, grad_x, grad_weight, grad_bias = run_layer(functional, np.empty((0, 5), dtype), ones, ones)
    assert y.shape == grad_x.shape == (0, 5)
    assert_same_bits([grad_weight, grad_bias], [np.zeros(5, dtype)] * 2)


# --- Both


def test_bits_do_not_depend_on_the_number_of_threads(isa, dtype, threads):
    # Both large enough for three threads.
    x, weight, bias = arguments((40, 67, 11, 13), dtype)
    rows, row_weight = x.reshape(-1, 143), draw(143, dtype=dtype)
    results = []
    for n in (1, 2, 3):
        threads(n)
        stats = functional.batch_norm_stats(x)
        results.append([*stats, *run_batch(functional, x, *stats, weight, bias),
                        *run_layer(functional, rows, row_weight, row_weight)])
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_inputs_left_alone(layout):
    x, weight, bias = arguments((3, 4, 5, 6))
    grad_y = draw(3, 4, 5, 6, seed=5)
    for run, plain, options in (
        (run_batch, (x, *functional.batch_norm_stats(x), weight, bias, grad_y), {}),
        (run_layer, (x, draw(5, 6, seed=2), draw(5, 6, seed=3), grad_y), {"axes": 2}),
    ):
        laid = [LAYOUTS[layout](array) for array in plain]
        y, _, *grads = run(functional, *laid, **options)
        expected_y, _, *expected_grads = run(functional, *plain, **options)
        assert_same_bits([y, *grads], [expected_y, *expected_grads])
        for array, before in zip(laid, plain, strict=True):
            np.testing.assert_array_equal(array, before)


X, V = draw(2, 3, 4), np.ones(3)


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: functional.batch_norm_stats(np.ones(3)), ValueError, r"batch_norm_stats: x has shape \(3,\)"),
    (lambda: functional.batch_norm_stats(np.ones((3, 2), int)), TypeError, "stats: x has dtype int64"),
    (lambda: functional.batch_norm(X, V[:2], V), ValueError, r"mean has shape \(2,\), expected \(3,\)"),
    (lambda: functional.batch_norm(X, V, V[None]), ValueError, "batch_norm: var has 2 dimensions"),
    (lambda: functional.batch_norm(X, V, V, V.astype(np.float32)), TypeError, "batch_norm: weight has dtype"),
    (lambda: functional.batch_norm(X, V, V, V, V[:1]), ValueError, "batch_norm: bias has shape"),
    (lambda: functional.batch_norm(X, V, V, eps=-1), ValueError, "batch_norm: eps must be at least 0"),
    (lambda: functional.batch_norm(X, None, V), TypeError, "batch_norm: mean is None"),
    (lambda: functional.batch_norm_backward(X[:1], X, V, V), ValueError, "grad_y has shape"),
    (lambda: functional.layer_norm(X, 3), ValueError, r"x has shape \(2, 3, 4\), which does not end"),
    (lambda: functional.layer_norm(X, ()), ValueError, "normalized_shape"),
    (lambda: functional.layer_norm(X, 4.0), TypeError, "layer_norm: normalized_shape must be an integer"),
    (lambda: functional.layer_norm(X, 4, V), ValueError, r"weight has shape \(3,\), expected \(4,\)"),
    (lambda: functional.layer_norm(X, 4, eps=np.inf), ValueError, "layer_norm: eps must be at least 0"),
    (lambda: functional.layer_norm_backward(X[..., :1], X, 4), ValueError, "grad_y has shape"),
    (lambda: fn.BatchNorm2d(3)(np.ones((2, 3), np.float32)), ValueError, "BatchNorm2d: x has 2 dimensions"),
    (lambda: fn.BatchNorm1d(3)(np.ones((2, 4), np.float32)), ValueError, "BatchNorm1d: x has 4 channels"),
    (lambda: fn.BatchNorm1d(3)(np.ones((1, 3), np.float32)), ValueError, "one value a channel"),
    (lambda: fn.BatchNorm1d(3, track_running_stats=False).eval()(np.ones((1, 3), np.float32)), ValueError,
     "one value a channel"),
    (lambda: fn.BatchNorm1d(3)(X), TypeError, "BatchNorm1d: x has dtype float64, expected float32"),
    (lambda: fn.BatchNorm1d(0), ValueError, "BatchNorm1d: num_features must be at least 1"),
    (lambda: fn.BatchNorm1d(3, momentum=2), ValueError, "BatchNorm1d: momentum must be between 0 and 1"),
    (lambda: fn.BatchNorm1d(3, affine=1), TypeError, "BatchNorm1d: affine must be True or False"),
    (lambda: fn.LayerNorm(0), ValueError, "LayerNorm: normalized_shape must be at least 1"),
    (lambda: fn.LayerNorm(()), ValueError, "LayerNorm: normalized_shape"),
    (lambda: fn.LayerNorm(3)(X.astype(np.float32)), ValueError, "does not end in normalized_shape"),
])
def test_refusals_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --- The layers


@pytest.mark.parametrize(("kind", "shape"), [(fn.BatchNorm1d, (8, 3)), (fn.BatchNorm1d, (4, 3, 5)),
                                             (fn.BatchNorm2d, (4, 3, 5, 6))])
def test_batch_norm_layer_is_the_functions_and_adds_to_gradients(dtype, kind, shape):
    layer = kind(3, dtype=dtype)
    x, weight, bias = arguments(shape, dtype)
    layer.weight.data[:], layer.bias.data[:] = weight, bias
    # The layer keeps its statistics in float64.
    y, grad_y, grad_x, *grads = run_batch(functional, x, *functional.norm.exact_stats(x), weight, bias)
    for count in (1, 2):
        assert_same_bits([layer(x), layer.backward(grad_y)], [y, grad_x])
        assert_same_bits([layer.weight.grad, layer.bias.grad], [count * grad for grad in grads])
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.backward"):
        layer.backward(grad_y)


def test_batch_norm_layer_keeps_the_digits_of_a_mean_far_from_zero():
    # A mean rounded to float32 is up to 1 / 32 off at 1e6, and so would be every output of deviation 1.
    x, layer = (draw(4096, 3) + 1e6).astype(np.float32), fn.BatchNorm1d(3)
    grad_y = draw(4096, 3, seed=4).astype(np.float32)
    mean, var = x.mean(0, dtype=np.float64), x.var(0, dtype=np.float64)
    h = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(layer(x), h, atol=1e-6)
    layer.backward(grad_y)
    np.testing.assert_allclose(layer.weight.grad, (grad_y * h).sum(0), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
def test_running_statistics(momentum):
    layer = fn.BatchNorm1d(3, momentum=momentum, dtype=np.float64)
    mean, var = np.zeros(3), np.ones(3)
    for count in range(1, 5):
        x = draw(6, 3, seed=count) * count + count
        layer(x)
        share = 1 / count if momentum is None else momentum
        mean = (1 - share) * mean + share * x.mean(0)
        var = (1 - share) * var + share * x.var(0, ddof=1)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)
    assert layer.num_batches_tracked == 4
    before = layer.state_dict()
    x = draw(1, 3)
    np.testing.assert_allclose(layer.eval()(x), (x - mean) / np.sqrt(var + 1e-5), rtol=1e-12)
    for name, value in layer.state_dict().items():
        assert_same_bits([value], [before[name]])


def test_without_running_statistics_eval_mode_normalises_by_the_batch():
    layer = fn.BatchNorm1d(3, affine=False, track_running_stats=False, dtype=np.float64)
    x = draw(6, 3) + 5
    assert_same_bits([layer.eval()(x)], [layer.train()(x)])
    assert layer.running_mean is None
    assert layer.parameters() == []
    assert layer.state_dict() == {}
    layer.backward(x)


@pytest.mark.parametrize(("affine", "bias", "names"), [
    (True, True, ["weight", "bias"]), (True, False, ["weight"]), (False, True, [])])
def test_layer_norm_layer_is_the_function_and_adds_to_gradients(dtype, affine, bias, names):
    layer = fn.LayerNorm((4, 5), elementwise_affine=affine, bias=bias, dtype=dtype)
    assert [name for name, _ in layer.named_parameters()] == names
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data[:] = draw(4, 5, seed=seed)
    arrays = [None if p is None else p.data for p in (layer.weight, layer.bias)]
    y, grad_y, grad_x, *grads = run_layer(functional, draw(3, 4, 5, dtype=dtype), *arrays, axes=2)
    for count in (1, 2):
        assert_same_bits([layer(draw(3, 4, 5, dtype=dtype)), layer.backward(grad_y)], [y, grad_x])
        assert_same_bits([p.grad for p in layer.parameters()], [count * g for g in grads if g is not None])


@pytest.mark.parametrize(("weight", "error", "words"), [
    (np.ones(2, np.float32), ValueError, r"^LayerNorm: weight has shape \(2,\), expected \(4096,\)"),
    (np.ones(4096), TypeError, r"^LayerNorm: weight has dtype float64, expected float32")])
def test_layer_norm_looks_at_a_weight_that_was_replaced(weight, error, words):
    layer, x = fn.LayerNorm(4096), draw(2, 4096, dtype=np.float32)
    layer.weight = fn.Parameter(weight)
    with pytest.raises(error, match=words):
        layer(x)
    with pytest.raises(error, match=words):
        layer.eval()(x)
    with pytest.raises(ValueError, match="LayerNorm: a weight or bias has shape"):
        layer.freeze()(x)


@pytest.mark.parametrize("layer", [fn.BatchNorm1d(4), fn.BatchNorm1d(4, momentum=None), fn.LayerNorm(4)],
                         ids=repr)
def test_copies_and_states(layer):
    x = draw(8, 4, dtype=np.float32) + 1
    layer(x)
    fresh = copy.deepcopy(layer)
    fresh.load_state_dict(layer.state_dict())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        assert_same_bits([twin.eval()(x)], [copy.deepcopy(layer).eval()(x)])


# --- Statistics that are not to change


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_in_eval_mode_is_trained_through(dtype):
    net = fn.Sequential(fn.Linear(3, 5, dtype=dtype, rng=0), fn.BatchNorm1d(5, dtype=dtype),
                        fn.Linear(5, 2, dtype=dtype, rng=1))
    norm = net[1]
    norm.running_mean, norm.running_var = draw(5, dtype=dtype), draw(5, dtype=dtype, seed=1) ** 2 + 1
    norm.weight, norm.bias = draw(5, dtype=dtype, seed=2), draw(5, dtype=dtype, seed=3)
    norm.eval()
    x, grad_y = draw(7, 3, dtype=dtype, seed=4), draw(7, 2, dtype=dtype, seed=5)
    mean, var = norm.running_mean.copy(), norm.running_var.copy()
    y, grad_x = net(x), net.backward(grad_y)
    hidden = x @ net[0].weight.data.T + net[0].bias.data
    normalised = reference.batch_norm(hidden, mean, var, norm.weight.data, norm.bias.data)
    grad_normalised = grad_y @ net[2].weight.data
    grad_hidden, grad_weight, grad_bias = reference.batch_norm_backward(
        grad_normalised, hidden, mean, var, norm.weight.data, norm.bias.data, training=False)
    assert_close([y, grad_x, norm.weight.grad, norm.bias.grad, net[0].weight.grad],
                 [normalised @ net[2].weight.data.T + net[2].bias.data, grad_hidden @ net[0].weight.data,
                  grad_weight, grad_bias, grad_hidden.T @ x], TOLERANCE[dtype])
    assert_same_bits(norm.running_mean, mean)
    assert norm.num_batches_tracked == 0
