"""Worked examples with every figure known: back-propagation through a small network, convolution by hand."""

import numpy as np
import pytest

import fastnn as fn

NINE_DIGITS = {"rtol": 0, "atol": 5e-10}


def worked_network():
    """Two inputs, two hidden units, two outputs, sigmoid throughout."""
    hidden = fn.Linear(2, 2, activation="sigmoid", dtype=np.float64)
    output = fn.Linear(2, 2, activation="sigmoid", dtype=np.float64)
    hidden.weight.data[...], hidden.bias.data[...] = [[0.15, 0.20], [0.25, 0.30]], 0.35
    output.weight.data[...], output.bias.data[...] = [[0.40, 0.45], [0.50, 0.55]], 0.60
    return hidden, output


X, TARGET = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])
OUT_HIDDEN, OUT = [[0.593269992, 0.596884378]], [[0.751365070, 0.772928465]]
GRAD_HIDDEN = [[0.000438568, 0.000877135], [0.000497713, 0.000995425]]
GRAD_OUTPUT = [[0.082167041, 0.082667628], [-0.022602540, -0.022740242]]


def test_back_propagation_forward():
    hidden, output = worked_network()
    net = fn.functional.linear(X, hidden.weight.data, hidden.bias.data)
    np.testing.assert_allclose(net, [[0.3775, 0.3925]], **NINE_DIGITS)
    out_hidden = fn.functional.sigmoid(net)
    np.testing.assert_allclose(out_hidden, OUT_HIDDEN, **NINE_DIGITS)
    np.testing.assert_array_equal(hidden(X), out_hidden)
    net = fn.functional.linear(out_hidden, output.weight.data, output.bias.data)
    np.testing.assert_allclose(net, [[1.105905967, 1.224921404]], **NINE_DIGITS)
    out = fn.functional.sigmoid(net)
    np.testing.assert_allclose(out, OUT, **NINE_DIGITS)
    assert fn.functional.half_squared_error(out, TARGET) == pytest.approx(0.298371109, abs=5e-10)


def test_back_propagation_gradients():
    hidden, output = worked_network()
    network, loss = fn.Sequential(hidden, output), fn.losses.HalfSquaredError()
    assert loss(network(X), TARGET) == pytest.approx(0.298371109, abs=5e-10)
    network.backward(loss.backward())
    np.testing.assert_allclose(output.weight.grad, GRAD_OUTPUT, **NINE_DIGITS)
    np.testing.assert_allclose(hidden.weight.grad, GRAD_HIDDEN, **NINE_DIGITS)


def test_back_propagation_step():
    network, loss = fn.Sequential(*worked_network()), fn.losses.HalfSquaredError()
    optimizer = fn.optim.SGD(network.parameters(), lr=0.5)
    before = loss(network(X), TARGET)
    network.backward(loss.backward())
    optimizer.step()
    for layer, start, grad in [(network[0], [[0.15, 0.20], [0.25, 0.30]], GRAD_HIDDEN),
                               (network[1], [[0.40, 0.45], [0.50, 0.55]], GRAD_OUTPUT)]:
        np.testing.assert_allclose(layer.weight.data, np.array(start) - 0.5 * np.array(grad), **NINE_DIGITS)
    assert loss(network(X), TARGET) < before


def test_back_propagation_in_float32():
    # Each figure is the end of at most 20 roundings of 6e-8 of numbers around 1.
    network, loss = fn.Sequential(*(fn.Linear(2, 2, activation="sigmoid") for _ in range(2))), \
        fn.losses.HalfSquaredError()
    for layer, known in zip(network, worked_network(), strict=True):
        layer.load_state_dict({key: value.astype(np.float32) for key, value in known.state_dict().items()})
    loss(network(X.astype(np.float32)), TARGET.astype(np.float32))
    network.backward(loss.backward())
    np.testing.assert_allclose(network[1].weight.grad, GRAD_OUTPUT, rtol=0, atol=1e-6)
    np.testing.assert_allclose(network[0].weight.grad, GRAD_HIDDEN, rtol=0, atol=1e-6)


IMAGE = ["11100", "01110", "00111", "00110", "01100"]
FILTER = ["101", "010", "101"]


def matrix(rows, dtype=np.float64):
    return np.array([list(row) for row in rows], dtype)


@pytest.mark.parametrize("algorithm", ["auto", "direct", "winograd"])
def test_convolution_stride_1(dtype, algorithm):
    y = fn.functional.conv2d(matrix(IMAGE, dtype)[None, None], matrix(FILTER, dtype)[None, None],
                             np.zeros(1, dtype), algorithm=algorithm)
    # Winograd's algorithm divides by 24; the sums are small whole numbers.
    np.testing.assert_allclose(y[0, 0], matrix(["434", "243", "234"]), rtol=0,
                               atol=0 if algorithm != "winograd" else 100 * np.finfo(dtype).eps)


def test_convolution_stride_2(dtype):
    layer = fn.Conv2d(1, 1, 3, stride=2, dtype=dtype)
    layer.weight.data[0, 0], layer.bias.data[...] = matrix(FILTER), 0
    np.testing.assert_array_equal(layer(matrix(IMAGE, dtype)[None, None])[0, 0], matrix(["44", "24"]))


def test_convolution_identity(dtype):
    # Cross-correlation with the filter turned by 180 degrees, padded to the full size, is the convolution.
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 10, (5, 7)).astype(dtype), rng.integers(-9, 10, (3, 2)).astype(dtype)
    c = fn.functional.convolve2d(a, b)
    assert c.shape == (5 + 3 - 1, 7 + 2 - 1)
    turned = np.ascontiguousarray(b[::-1, ::-1])
    np.testing.assert_array_equal(
        fn.functional.conv2d(a[None, None], turned[None, None], padding=(2, 1))[0, 0], c)
    sums = [[sum(a[m, n] * b[s - m, t - n] for m in range(5) for n in range(7)
                 if 0 <= s - m < 3 and 0 <= t - n < 2) for t in range(8)] for s in range(7)]
    np.testing.assert_array_equal(c, sums)
