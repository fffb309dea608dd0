"""PReLU: against the reference, by finite differences, and at its edges."""

import numpy as np
import pytest
from arrays import LAYOUTS, assert_close, assert_gradients, assert_same_bits, draw, in_double

import fastnn as fn
from fastnn import functional, reference

# A product and, in the gradient of the slopes, a sum in float64: the rounding of each term stays.
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
