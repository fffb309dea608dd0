"""Embedding: function and layer against the reference, by finite differences, and what they refuse."""

import copy
import pickle

import numpy as np
import pytest
from arrays import assert_close, assert_gradients, assert_same_bits, draw, in_double

import fastnn as fn
from fastnn import functional, reference

ROWS, WIDTH = 11, 5
# Sums of up to some hundred numbers around 1, relative to the largest.
TOLERANCE = {np.float32: 2e-6, np.float64: 4e-15}


def drawn_indices(shape, seed=0):
    return np.random.default_rng(seed).integers(0, ROWS, shape)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 3, 200), (0,), (2, 0)])
@pytest.mark.parametrize("padding_idx", [None, 0, 3, -1])
def test_against_the_reference(dtype, shape, padding_idx):
    indices, weight = drawn_indices(shape), draw(ROWS, WIDTH, dtype=dtype)
    assert_same_bits([functional.embedding(indices, weight, padding_idx)],
                     [reference.embedding(indices, weight, padding_idx)])
    grad_y = draw(*shape, WIDTH, dtype=dtype, seed=1)
    expected = reference.embedding_backward(*in_double(grad_y), indices, ROWS, padding_idx)
    assert_close([functional.embedding_backward(grad_y, indices, ROWS, padding_idx)], [expected],
                 TOLERANCE[dtype], dtype)


def test_gradient_is_a_finite_difference():
    indices, weight, grad_y = drawn_indices((3, 4)), draw(ROWS, WIDTH), draw(3, 4, WIDTH, seed=1)
    grad_weight = functional.embedding_backward(grad_y, indices, ROWS)
    assert_gradients(lambda weight: functional.embedding(indices, weight), [weight], grad_y, [grad_weight])


def test_only_the_rows_that_were_read_have_a_gradient():
    grad_weight = functional.embedding_backward(np.ones((4, WIDTH)), np.array([2, 9, 2, 2]), ROWS)
    expected = np.zeros((ROWS, WIDTH))
    expected[2], expected[9] = 3, 1
    assert_same_bits([grad_weight], [expected])


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64, ">i4"])
def test_indices_of_every_integer_dtype(kind):
    indices, weight = drawn_indices((3, 4)), draw(ROWS, WIDTH)
    assert_same_bits([functional.embedding(indices.astype(kind), weight)], [weight[indices]])
    assert_same_bits([functional.embedding(indices.tolist(), weight)], [weight[indices]])


def test_layouts_and_inputs_left_alone():
    indices, weight = drawn_indices((6, 8)), draw(2 * ROWS, 2 * WIDTH)
    for view in (weight[::2, ::2], np.asfortranarray(weight[::2, ::2])):
        for places in (indices, indices.T.copy().T, indices[::-1, ::2]):
            before = view.copy(), places.copy()
            assert_same_bits([functional.embedding(places, view)], [before[0][before[1]]])
            grad_y = draw(*places.shape, 2 * WIDTH, seed=1)
            assert_same_bits([functional.embedding_backward(grad_y[..., ::2], places, ROWS)],
                             [functional.embedding_backward(grad_y[..., ::2].copy(), places.copy(), ROWS)])
            assert_same_bits([view, places], before)


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: functional.embedding([0, ROWS], draw(ROWS, 2)), ValueError, "indices has the value 11"),
    (lambda: functional.embedding([-1], draw(ROWS, 2)), ValueError, "embedding: indices has the value -1"),
    (lambda: functional.embedding([0.0], draw(ROWS, 2)), TypeError, "indices is a list of dtype float64"),
    (lambda: functional.embedding([0], draw(ROWS)), ValueError, "embedding: weight has 1 dimensions"),
    (lambda: functional.embedding([0], draw(ROWS, 2), ROWS), ValueError, "padding_idx 11 is not a row of 11"),
    (lambda: functional.embedding([0], draw(ROWS, 2), -12), ValueError, "padding_idx must be at least -11"),
    (lambda: functional.embedding([0], draw(ROWS, 2), 1.5), TypeError, "padding_idx must be an integer"),
    (lambda: functional.embedding_backward(draw(3, 2), [0, 1], ROWS), ValueError,
     r"embedding_backward: grad_y has shape \(3, 2\), expected \(2, 2\)"),
    (lambda: functional.embedding_backward(draw(1, 2), [ROWS], ROWS), ValueError, "indices has the value 11"),
    (lambda: fn.Embedding(0, 2), ValueError, "Embedding: num_embeddings must be at least 1"),
    (lambda: fn.Embedding(3, 2, 3), ValueError, "Embedding: padding_idx 3 is not a row of 3"),
    (lambda: fn.Embedding(3, 2, dtype=np.float16), TypeError, "float32 or float64"),
])
def test_refusals_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --- The layer


def test_layer_is_the_function_and_adds_to_the_gradient(dtype):
    layer = fn.Embedding(ROWS, WIDTH, dtype=dtype, rng=0)
    indices, grad_y = drawn_indices((3, 4)), draw(3, 4, WIDTH, dtype=dtype)
    once = functional.embedding_backward(grad_y, indices, ROWS)
    for total in (once, once + once):
        assert_same_bits([layer(indices)], [functional.embedding(indices, layer.weight.data)])
        assert layer.backward(grad_y) is None
        assert_same_bits([layer.weight.grad], [total])


def test_padding_row_is_zero_and_stays_so():
    layer = fn.Embedding(ROWS, WIDTH, padding_idx=-2, rng=0)
    assert layer.padding_idx == ROWS - 2
    assert not layer.weight.data[ROWS - 2].any()
    assert layer.weight.data[ROWS - 1].any()
    layer(np.full(3, ROWS - 2))
    layer.backward(np.ones((3, WIDTH), np.float32))
    assert not layer.weight.grad.any()


def test_a_gradient_of_another_width_is_refused_and_not_spread():
    layer = fn.Embedding(ROWS, WIDTH, rng=0)
    for width in (1, WIDTH + 1):
        layer([0, 1])
        with pytest.raises(ValueError, match=r"Embedding\.backward: grad_y has shape"):
            layer.backward(np.ones((2, width), np.float32))


def test_initial_values_are_standard_normal_and_follow_the_seed():
    table = fn.Embedding(400, 50, rng=3).weight.data
    assert abs(table.mean()) < 0.03
    assert abs(table.std() - 1) < 0.03
    assert_same_bits([fn.Embedding(400, 50, rng=3).weight.data], [table])


def test_eval_mode_stores_nothing_and_copies_agree():
    layer = fn.Embedding(ROWS, WIDTH, rng=0)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same_bits([twin([1, 2])], [layer([1, 2])])
    layer.backward(np.ones((2, WIDTH), np.float32))
    layer.eval()([1, 2])
    with pytest.raises(ValueError, match=r"Embedding\.backward"):
        layer.backward(np.ones((2, WIDTH), np.float32))
    assert repr(layer) == f"Embedding({ROWS}, {WIDTH})"
