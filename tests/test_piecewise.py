"""Activations made of pieces, and local response normalisation: reference, differences, edges, layers."""

from functools import partial

import numpy as np
import pytest
from arrays import LAYOUTS, assert_close, assert_gradients, assert_same_bits, draw, in_double

import fastnn as fn
from fastnn import functional, reference

# name: (arguments, layer)
FUNCTIONS = {
    "elu": ((0.7,), partial(fn.ELU, 0.7)),
    "hardtanh": ((-0.4, 1.3), partial(fn.Hardtanh, -0.4, 1.3)),
    "hardsigmoid": ((), fn.Hardsigmoid),
    "hardswish": ((), fn.Hardswish),
    "softplus": ((1.5, 3.0), partial(fn.Softplus, 1.5, 3.0)),
    "local_response_norm": ((3, 0.5, 0.6, 1.5), partial(fn.LocalResponseNorm, 3, 0.5, 0.6, 1.5)),
}
# A few roundings of numbers around 1 (and a power, in the last); the functions of NumPy are right to a few
# units of the last place.
EPSILONS = 12


def both(module, name):
    arguments, _ = FUNCTIONS[name]
    function, backward = getattr(module, name), getattr(module, f"{name}_backward")
    return (lambda x: function(x, *arguments)), (lambda grad_y, x: backward(grad_y, x, *arguments))


def sample(name, *shape, dtype, seed=0):
    """On all pieces, and nowhere near where two of them meet."""
    x = 3 * draw(*shape, seed=seed)
    edges = {"hardtanh": (-0.4, 1.3), "softplus": (2.0,)}.get(name, (-3, 0, 3))
    for edge in edges:
        x = np.where(np.abs(x - edge) < 1e-3, edge + 1e-3, x)
    return x.astype(dtype)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 3), (2, 5, 3, 4), (0, 5), (3, 5, 0), (2, 1)])
def test_against_the_reference_and_finite_differences(dtype, name, shape):
    function, backward = both(functional, name)
    x, grad_y = sample(name, *shape, dtype=dtype), draw(*shape, dtype=dtype, seed=1)
    wide_y, wide_x = in_double(grad_y, x)
    true, true_backward = both(reference, name)
    expected = [true(wide_x), true_backward(wide_y, wide_x)]
    assert_close([function(x), backward(grad_y, x)], expected, EPSILONS * np.finfo(dtype).eps, dtype)
    assert_gradients(function, [wide_x], wide_y, [expected[1]])


@pytest.mark.parametrize("size", [1, 2, 4, 5, 9])
def test_sizes_of_neighbourhoods(size):
    x, grad_y = draw(2, 5, 3), draw(2, 5, 3, seed=1)
    arguments = size, 0.5, 0.75, 2.0
    actual = [functional.local_response_norm(x, *arguments),
              functional.local_response_norm_backward(grad_y, x, *arguments)]
    expected = [reference.local_response_norm(x, *arguments),
                reference.local_response_norm_backward(grad_y, x, *arguments)]
    assert_close(actual, expected, 1e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_of_arguments_changes_no_bit_and_is_not_written(dtype, name, layout):
    function, backward = both(functional, name)
    x, grad_y = sample(name, 3, 5, 6, 7, dtype=dtype), draw(3, 5, 6, 7, dtype=dtype, seed=1)
    copies = [LAYOUTS[layout](a) for a in (x, grad_y)]
    actual = [function(copies[0]), backward(copies[1], copies[0])]
    assert_same_bits(actual, [function(x), backward(grad_y, x)])
    for copy, array in zip(copies, (x, grad_y), strict=True):
        np.testing.assert_array_equal(copy, array)


EDGES = [-np.inf, -1e4, 1e4, np.inf]


@pytest.mark.parametrize(("name", "values", "slopes"), [
    ("elu", (-0.7, -0.7, 1e4, np.inf), (0, 0, 1, 1)),
    ("hardtanh", (-0.4, -0.4, 1.3, 1.3), (0, 0, 0, 0)),
    ("hardsigmoid", (0, 0, 1, 1), (0, 0, 0, 0)),
    ("hardswish", (0, 0, 1e4, np.inf), (0, 0, 1, 1)),
    ("softplus", (0, 0, 1e4, np.inf), (0, 0, 1, 1)),
])
def test_far_out(dtype, name, values, slopes):
    function, backward = both(functional, name)
    x = np.array(EDGES, dtype)
    np.testing.assert_array_equal(function(x), np.array(values, dtype))
    np.testing.assert_array_equal(backward(np.ones_like(x), x), slopes)
    assert np.isnan(function(np.array([np.nan], dtype))).all()


def test_no_gradient_where_pieces_meet():
    """As torch has it."""
    one = np.ones(2)
    np.testing.assert_array_equal(functional.hardtanh_backward(one, np.array([-1.0, 1.0])), [0, 0])
    np.testing.assert_array_equal(functional.hardsigmoid_backward(one, np.array([-3.0, 3.0])), [0, 0])
    np.testing.assert_array_equal(functional.hardswish_backward(one, np.array([-3.0, 3.0])), [0, 1])
    np.testing.assert_array_equal(functional.elu_backward(one, np.zeros(2), 0.5), [0.5, 0.5])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers(dtype, name):
    function, backward = both(functional, name)
    layer = FUNCTIONS[name][1](dtype=dtype)
    x, grad_y = sample(name, 2, 4, 3, dtype=dtype), draw(2, 4, 3, dtype=dtype, seed=1)
    assert_same_bits([layer(x), layer.backward(grad_y)], [function(x), backward(grad_y, x)])
    with pytest.raises(ValueError, match=r"\.backward: call forward in training mode first"):
        layer.backward(grad_y)
    layer.eval()(x)
    assert layer._saved is None
    assert layer.state_dict() == {}


def test_relu6():
    x = np.array([-1, 0, 3, 6, 7], np.float32)
    layer = fn.ReLU6()
    np.testing.assert_array_equal(layer(x), [0, 0, 3, 6, 6])
    np.testing.assert_array_equal(layer.backward(np.ones_like(x)), [0, 0, 1, 0, 0])


def test_reprs():
    assert repr(fn.ELU(0.5)) == "ELU(alpha=0.5)"
    assert repr(fn.Hardtanh()) == "Hardtanh(min_val=-1.0, max_val=1.0)"
    assert repr(fn.ReLU6()) == "ReLU6()"
    assert repr(fn.Softplus()) == "Softplus(beta=1.0, threshold=20.0)"
    assert repr(fn.LocalResponseNorm(5)) == "LocalResponseNorm(size=5, alpha=0.0001, beta=0.75, k=1.0)"


def test_window_of_more_channels_than_there_are():
    """Of any size: no work is done for channels that do not exist."""
    x, grad_y = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    for size in (7, 2**31 - 1):
        alpha = 0.1 * size  # which is divided by the size
        expected = x / (1 + 0.1 * np.square(x).sum(1, keepdims=True)) ** 0.75
        np.testing.assert_allclose(functional.local_response_norm(x, size, alpha), expected, rtol=1e-14)
        functional.local_response_norm_backward(grad_y, x, size, alpha)


@pytest.mark.parametrize(("kind", "words", "call"), [
    (TypeError, r"^elu: x has dtype int64", lambda: functional.elu(np.arange(3))),
    (TypeError, r"^elu: alpha must be a number", lambda: functional.elu(np.ones(2), "1")),
    (TypeError, r"^hardswish_backward: grad_y has dtype float32, expected float64",
     lambda: functional.hardswish_backward(np.ones(2, np.float32), np.ones(2))),
    (ValueError, r"^softplus_backward: grad_y has shape \(2,\), expected \(3,\)",
     lambda: functional.softplus_backward(np.ones(2), np.ones(3))),
    (ValueError, r"^softplus: beta must not be 0", lambda: functional.softplus(np.ones(2), 0.0)),
    (ValueError, r"^Softplus: beta must not be 0", lambda: fn.Softplus(0.0)),
    (ValueError, r"^hardtanh: min_val = 2 is above max_val = 1",
     lambda: functional.hardtanh(np.ones(2), 2, 1)),
    (ValueError, r"^Hardtanh: min_val = 2 is above max_val = 1", lambda: fn.Hardtanh(2, 1)),
    (ValueError, r"^local_response_norm: x has shape \(3,\), expected \(N, C\)",
     lambda: functional.local_response_norm(np.ones(3), 3)),
    (ValueError, r"^local_response_norm: size must be at least 1",
     lambda: functional.local_response_norm(np.ones((2, 3)), 0)),
    (ValueError, r"^LocalResponseNorm: size must be at least 1", lambda: fn.LocalResponseNorm(0)),
])
def test_refusals(kind, words, call):
    with pytest.raises(kind, match=words):
        call()
