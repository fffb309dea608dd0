"""Dropout: what its masks are, and that forward and backward share one."""

import copy
import pickle

import numpy as np
import pytest
from arrays import LAYOUTS, assert_same_bits, draw
from plain_layers import finite_differences

import fastnn as fn
from fastnn import functional, reference

N = 100_000


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_mask_is_the_reference_and_has_mean_one(dtype, p):
    mask = functional.dropout_mask((N,), p, 5, dtype)
    assert_same_bits([mask], [reference.dropout_mask((N,), p, 5, dtype)])
    kept = 1 / (1 - p) if p < 1 else 0
    assert set(np.unique(mask)) <= {dtype(0), dtype(kept)}
    # N trials of probability p: five standard deviations
    assert abs(np.mean(mask == 0) - p) <= 5 * (p * (1 - p) / N) ** 0.5
    if p < 1:
        assert abs(mask.mean(dtype=np.float64) - 1) <= 5 * (p / (1 - p) / N) ** 0.5 + 1e-6


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0), (1,), (2, 3, 4, 5)])
def test_shapes(dtype, shape):
    mask = functional.dropout_mask(shape, 0.5, 0, dtype)
    assert isinstance(mask, np.ndarray)
    assert mask.shape == shape
    assert mask.dtype == dtype
    layer = fn.Dropout(0.5, rng=0)
    x = draw(*shape, dtype=dtype)
    y = layer(x)
    assert isinstance(y, np.ndarray)
    assert isinstance(layer.backward(x), np.ndarray)
    assert_same_bits([y], [np.asarray(x * mask)])


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (3, 5, 7)])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_the_function_is_the_reference(p, shape, dtype):
    x, grad_y = draw(*shape, dtype=dtype), draw(*shape, dtype=dtype, seed=1)
    y, mask = functional.dropout(x, p, rng=7, return_mask=True)
    assert isinstance(y, np.ndarray)
    assert_same_bits([y, mask], [*map(np.asarray, reference.dropout(x, p, rng=7, return_mask=True))])
    assert_same_bits([functional.dropout(x, p, True, rng=7), fn.Dropout(p, rng=7)(x)], [y, y])
    grad_x = functional.dropout_backward(grad_y, mask)
    assert isinstance(grad_x, np.ndarray)
    assert_same_bits([grad_x], [np.asarray(reference.dropout_backward(grad_y, mask))])


def test_the_gradient_of_the_function():
    x, r = draw(3, 4), draw(3, 4, seed=1)
    _, mask = functional.dropout(x, 0.4, rng=3, return_mask=True)
    numeric = finite_differences(lambda: float((functional.dropout(x, 0.4, rng=3) * r).sum()), x)
    np.testing.assert_allclose(functional.dropout_backward(r, mask), numeric, atol=1e-8)


def test_the_function_without_training():
    x = draw(3, 4)
    assert functional.dropout(x, 0.5, training=False) is x
    y, mask = functional.dropout(x, training=False, return_mask=True)
    assert y is x
    assert mask is None
    assert functional.dropout_backward(x, mask) is x


def test_the_function_draws_from_the_generator_of_the_package():
    x = draw(50)
    fn.manual_seed(5)
    first = functional.dropout(x)
    fn.manual_seed(5)
    assert_same_bits([functional.dropout(x)], [first])


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"x": np.ones(3, int)}, TypeError, "dropout: x has dtype int64"),
    ({"p": 1.5}, ValueError, "dropout: p must be between 0 and 1"),
    ({"p": "1"}, TypeError, "dropout: p must be a number"),
    ({"training": 1}, TypeError, "dropout: training must be True or False"),
    ({"rng": "seed"}, TypeError, "dropout: rng must be an integer"),
    ({"return_mask": None}, TypeError, "dropout: return_mask must be True or False"),
])
def test_the_function_refuses(arguments, error, words):
    with pytest.raises(error, match=f"^{words}"):
        functional.dropout(**{"x": np.ones(3), **arguments})


def test_the_backward_function_refuses():
    with pytest.raises(ValueError, match=r"^dropout_backward: grad_y has shape \(3,\), expected \(2,\)"):
        functional.dropout_backward(np.ones(3), np.ones(2))
    with pytest.raises(TypeError, match=r"^dropout_backward: grad_y has dtype float32, expected float64"):
        functional.dropout_backward(np.ones(2, np.float32), np.ones(2))
    with pytest.raises(TypeError, match=r"^dropout_backward: mask has dtype bool"):
        functional.dropout_backward(np.ones(2), np.ones(2, bool))


def test_dtype_is_taken_as_by_every_layer(dtype):
    assert fn.Dropout(0.5, dtype=dtype).dtype == dtype
    with pytest.raises(TypeError, match=r"^Dropout: dtype must be float32 or float64"):
        fn.Dropout(0.5, dtype=np.float16)


def test_backward_uses_the_mask_of_forward_whatever_is_drawn_between(dtype):
    layer = fn.Dropout(0.3, rng=1)
    x, grad_y = draw(40, 50, dtype=dtype) + 10, draw(40, 50, dtype=dtype, seed=1)
    mask = functional.dropout_mask(x.shape, 0.3, 1, dtype)
    y = layer(x)
    layer._rng.random(7)
    assert_same_bits([y, layer.backward(grad_y)], [x * mask, grad_y * mask])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_inputs_left_alone(layout):
    x = draw(3, 4, 5, 6)
    view = LAYOUTS[layout](x)
    layer, twin = fn.Dropout(rng=2), fn.Dropout(rng=2)
    assert_same_bits([layer(view), layer.backward(view)], [twin(x), twin.backward(x)])
    np.testing.assert_array_equal(view, x)


def test_masks_differ_from_call_to_call_and_follow_the_seed():
    x = np.ones(1000, np.float32)
    layer, twin = fn.Dropout(rng=3), fn.Dropout(rng=3)
    first, second = layer(x), layer(x)
    assert (first != second).any()
    assert_same_bits([twin(x), twin(x)], [first, second])
    fn.manual_seed(4)
    default = fn.Dropout()
    drawn = default(x)
    fn.manual_seed(4)
    assert_same_bits([default(x)], [drawn])


def test_eval_mode_is_the_identity_and_draws_nothing():
    x = draw(10, 10, dtype=np.float32)
    layer, twin = fn.Dropout(rng=5), fn.Dropout(rng=5)
    assert_same_bits([layer.eval()(x)], [x])
    assert_same_bits([layer.train()(x)], [twin(x)])


def test_backward_wants_a_forward_in_training_mode_and_once():
    layer = fn.Dropout(rng=0)
    x = draw(3, 4)
    with pytest.raises(ValueError, match=r"Dropout\.backward"):
        layer.backward(x)
    layer(x)
    layer.backward(x)
    with pytest.raises(ValueError, match=r"Dropout\.backward"):
        layer.backward(x)


def test_copies_draw_the_same_masks():
    layer = fn.Dropout(rng=6)
    twins = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    x = np.ones(1000, np.float32)
    y = layer(x)
    for twin in twins:
        assert_same_bits([twin(x)], [y])
    assert repr(layer) == "Dropout(p=0.5)"


@pytest.mark.parametrize("of", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_draw_from_the_package_as_the_layer_does(of):
    x = np.ones((1, 1000, 1), np.float32)
    for layer in (fn.Dropout(), fn.GRU(1, 5, num_layers=2, dropout=0.5)):
        twin = of(layer)
        drawn = []
        for each in (layer, twin):
            fn.manual_seed(4)
            y = each(x)
            drawn.append(y[0] if isinstance(y, tuple) else y)
        assert_same_bits(drawn[:1], drawn[1:])
        fn.manual_seed(4)
        first, second = layer(x), twin(x)  # one stream of numbers for both
        assert (first[0] != second[0]).any()


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: functional.dropout_mask((2,), 1.5), ValueError, "p must be between 0 and 1, got 1.5"),
    (lambda: functional.dropout_mask((2,), -0.1), ValueError, "dropout_mask: p must be between 0 and 1"),
    (lambda: functional.dropout_mask((2,), np.nan), ValueError, "dropout_mask: p must be between 0 and 1"),
    (lambda: functional.dropout_mask((2,), "a"), TypeError, "dropout_mask: p must be a number"),
    (lambda: functional.dropout_mask((2,), 0.5, "a"), TypeError, "dropout_mask: rng must be an integer"),
    (lambda: functional.dropout_mask((2,), 0.5, 0, int), TypeError, "dropout_mask: dtype must be float32"),
    (lambda: fn.Dropout(2), ValueError, "Dropout: p must be between 0 and 1"),
    (lambda: fn.Dropout(rng=-1), ValueError, "Dropout: rng must be a seed >= 0"),
    (lambda: fn.Dropout()(np.ones(3, int)), TypeError, "Dropout: x has dtype int64"),
])
def test_refusals_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_gradient_of_another_shape_or_dtype_is_refused():
    layer = fn.Dropout(rng=0)
    for grad_y, error in ((draw(1, 4), ValueError), (draw(3, 4, dtype=np.float32), TypeError)):
        layer(draw(3, 4))
        with pytest.raises(error, match=r"Dropout\.backward: grad_y has"):
            layer.backward(grad_y)


def test_dropout_in_eval_mode_is_trained_through():
    net = fn.Sequential(fn.Linear(3, 4, rng=0), fn.Dropout(0.5))
    net[1].eval()
    x, grad_y = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    y = net(x)
    assert (y == net[0](x)).all()
    assert (net[1].backward(grad_y) == grad_y).all()
    net(x)
    with pytest.raises(ValueError, match=r"Dropout\.backward: grad_y has shape \(2, 3\)"):
        net.backward(np.ones((2, 3), np.float32))


def test_inplace_is_taken_and_changes_nothing():
    x = np.ones((4, 5), np.float32)
    assert_same_bits([fn.Dropout(0.5, True, rng=3)(x), x], [fn.Dropout(0.5, rng=3)(x), np.ones_like(x)])
    with pytest.raises(TypeError, match="Dropout: inplace"):
        fn.Dropout(0.5, "yes")
