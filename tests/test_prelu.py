"""PReLU: against the reference, by finite differences, and at its edges."""

import numpy as np
import pytest
from arrays import LAYOUTS, assert_close, assert_gradients, assert_same_bits, draw, in_double

import fastnn as fn
from fastnn import functional, reference

# A product and, in the gradient of the slopes, sums of blocks, of which float64 are added.
EPSILONS = 4


@pytest.mark.parametrize("shape", [(7,), (4, 5), (2, 5, 3), (2, 5, 3, 4), (0, 5), (3, 5, 0), ()])
@pytest.mark.parametrize("slopes", [1, 5])
def test_against_the_reference_and_finite_differences(dtype, shape, slopes):
    x, weight = draw(*shape, dtype=dtype), draw(slopes, dtype=dtype, seed=1)
    grad_y = draw(*shape, dtype=dtype, seed=2)
    if slopes > 1 and len(shape) < 2:
        with pytest.raises(ValueError, match=r"^prelu: weight has 5 elements, expected 1"):
            functional.prelu(x, weight)
        return
    actual = [functional.prelu(x, weight), *functional.prelu_backward(grad_y, x, weight)]
    wide = in_double(grad_y, x, weight)
    expected = [reference.prelu(*wide[1:]), *reference.prelu_backward(*wide)]
    assert_close(actual, expected, EPSILONS * np.finfo(dtype).eps, dtype)
    assert_gradients(functional.prelu, wide[1:], wide[0], expected[1:])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_of_arguments_changes_no_bit_and_is_not_written(dtype, layout):
    x, weight = draw(3, 5, 6, 7, dtype=dtype), draw(5, dtype=dtype)
    grad_y = draw(3, 5, 6, 7, dtype=dtype, seed=2)
    expected = [functional.prelu(x, weight), *functional.prelu_backward(grad_y, x, weight)]
    copies = [LAYOUTS[layout](a) for a in (grad_y, x, weight)]
    actual = [functional.prelu(*copies[1:]), *functional.prelu_backward(*copies)]
    assert_same_bits(actual, expected)
    for copy, array in zip(copies, (grad_y, x, weight), strict=True):
        np.testing.assert_array_equal(copy, array)


def assert_right(found, x, weight, grad_y):
    """y, grad_x and grad_weight, of whose terms, of both signs, little may be left."""
    *actual, grad_weight = found
    wide = in_double(grad_y, x, weight)
    *expected, exact = reference.prelu(*wide[1:]), *reference.prelu_backward(*wide)
    tolerance = EPSILONS * np.finfo(x.dtype).eps
    assert_close(actual, expected, tolerance, x.dtype)
    _, size = reference.prelu_backward(-np.abs(wide[0]), *wide[1:])
    assert grad_weight.dtype == x.dtype
    assert (np.abs(grad_weight - exact) <= tolerance * size).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 15, 17, 63, 64, 65, 130])
def test_channels_around_the_width_of_a_row(isa, dtype, channels):
    """Short rows are taken several at once, and the last ones need not fill one."""
    x, grad_y = draw(3, channels, 7, dtype=dtype), draw(3, channels, 7, dtype=dtype, seed=1)
    for slopes in {1, channels}:
        weight = draw(slopes, dtype=dtype, seed=2)
        found = [functional.prelu(x, weight), *functional.prelu_backward(grad_y, x, weight)]
        assert_right(found, x, weight, grad_y)


@pytest.mark.parametrize("shape", [(37, 5, 61, 29), (3, 20000)])
def test_equal_bits_for_any_number_of_threads(dtype, threads, shape):
    """Of several blocks, also where one is a single row."""
    x, grad_y, weight = (draw(*s, dtype=dtype, seed=i) for i, s in enumerate((shape, shape, shape[1:2])))
    found = []
    for number in (1, 2, 3):
        threads(number)
        found.append([functional.prelu(x, weight), *functional.prelu_backward(grad_y, x, weight)])
        assert_same_bits(found[-1], found[0])
    assert_right(found[0], x, weight, grad_y)


def test_no_channels(dtype):
    x = np.empty((4, 0, 3), dtype)
    for weight in (np.empty(0, dtype), np.ones(1, dtype)):
        assert functional.prelu(x, weight).shape == x.shape
        grad_x, grad_weight = functional.prelu_backward(x, x, weight)
        assert grad_x.shape == x.shape
        assert_same_bits([grad_weight], [np.zeros_like(weight)])


def test_edges(dtype):
    x, weight = np.array([[-np.inf, np.inf, np.nan, 0.0, -0.0]], dtype).T, np.array([0.5], dtype)
    np.testing.assert_array_equal(functional.prelu(x, weight).ravel(), [-np.inf, np.inf, np.nan, 0, 0])
    grad_x, _ = functional.prelu_backward(np.ones_like(x), x, weight)
    np.testing.assert_array_equal(grad_x.ravel(), [0.5, 1, 0.5, 0.5, 0.5])  # at 0 as torch's


def test_the_layer_learns_its_slopes(dtype):
    layer, x = fn.PReLU(3, 0.1, dtype=dtype), draw(4, 3, 5, dtype=dtype)
    np.testing.assert_array_equal(layer.weight.data, np.full(3, 0.1, dtype))
    grad_y = draw(4, 3, 5, dtype=dtype, seed=1)
    expected = functional.prelu_backward(grad_y, x, layer.weight.data)
    assert_same_bits([layer(x)], [functional.prelu(x, layer.weight.data)])
    assert_same_bits([layer.backward(grad_y), layer.weight.grad], expected)
    with pytest.raises(ValueError, match=r"PReLU\.backward: call forward"):
        layer.backward(grad_y)
    assert list(layer.state_dict()) == ["weight"]
    assert repr(layer) == "PReLU(num_parameters=3)"


def test_refusals_name_the_argument():
    x = draw(2, 3, 4, dtype=np.float32)
    with pytest.raises(ValueError, match=r"^prelu: weight has 2 elements, expected 1 .*, 3 \(x has shape"):
        functional.prelu(x, np.ones(2, np.float32))
    with pytest.raises(TypeError, match=r"^prelu: weight has dtype float64, expected float32"):
        functional.prelu(x, np.ones(3))
    with pytest.raises(TypeError, match=r"^prelu: x has dtype int64"):
        functional.prelu(np.arange(3), np.ones(1))
    with pytest.raises(ValueError, match=r"^prelu_backward: grad_y has shape"):
        functional.prelu_backward(x[:1], x, np.ones(3, np.float32))
    with pytest.raises(ValueError, match=r"^PReLU: num_parameters"):
        fn.PReLU(0)
