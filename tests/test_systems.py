"""The eleven systems of the README's table, each against its formula written out in loops, in float64."""

import math

import numpy as np
import pytest
from arrays import assert_gradients, draw
from plain_layers import finite_differences

import fastnn as fn

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def check_gradients(value, parameters, x, grad_x):
    """Compare the gradients of a network with finite differences of its loss."""
    for array, grad in [(x, grad_x), *((p.data, p.grad) for p in parameters)]:
        np.testing.assert_allclose(grad, finite_differences(value, array), rtol=1e-6, atol=1e-9)


def test_linear_unit_by_batch_gradient_descent():
    # E(w) = 1/2 sum_i (t_i - y_i)^2; w <- w + eta sum_i (t_i - y_i) x_i, the bias being the weight of x_0 = 1
    x, t, eta = draw(7, 3), draw(7, 1, seed=1), 0.01
    unit = fn.Linear(3, 1, dtype=np.float64, rng=0)
    w, bias = unit.weight.data[0].copy(), unit.bias.data[0]
    loss = fn.losses.HalfSquaredError(reduction="sum")
    value = loss(unit(x), t)
    unit.backward(loss.backward())
    fn.optim.SGD(unit.parameters(), lr=eta).step()
    y = [bias + sum(w[d] * x[i, d] for d in range(3)) for i in range(7)]
    assert value == pytest.approx(0.5 * sum((t[i, 0] - y[i]) ** 2 for i in range(7)), rel=1e-12)
    for d in range(3):
        step = eta * sum((t[i, 0] - y[i]) * x[i, d] for i in range(7))
        assert unit.weight.data[0, d] == pytest.approx(w[d] + step, rel=1e-12)
    assert unit.bias.data[0] == pytest.approx(bias + eta * sum(t[i, 0] - y[i] for i in range(7)), rel=1e-12)


def test_linear_unit_learns_a_line():
    x = draw(60, 2)
    t = x @ np.array([[2.0], [-1.0]]) + 0.5
    unit = fn.Linear(2, 1, dtype=np.float64, rng=0)
    history = unit.fit(x, t, loss=fn.losses.HalfSquaredError(reduction="sum"), progress=False, epochs=300,
                       optimizer=fn.optim.SGD(unit.parameters(), lr=0.01), batch_size=len(x), rng=0)
    assert history.loss[-1] < 1e-9
    np.testing.assert_allclose(unit.weight.data, [[2, -1]], atol=1e-4)
    np.testing.assert_allclose(unit.bias.data, [0.5], atol=1e-4)


def test_sigmoid():
    x = np.array([-1e4, -710, -5, 0, 0.3, 5, 710, 1e4])
    y = fn.functional.sigmoid(x)
    np.testing.assert_allclose(y[2:6], [1 / (1 + math.exp(-v)) for v in x[2:6]], **CLOSE)
    assert y[0] == 0
    assert y[-1] == 1
    assert 0 <= y[1] < 1e-300
    np.testing.assert_allclose(fn.functional.sigmoid_backward(np.ones_like(y), y), y * (1 - y), **CLOSE)
    assert np.isnan(fn.functional.sigmoid(np.array([np.nan]))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fully_connected_network_learns_xor(dtype):
    x, t = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype), np.array([[0], [1], [1], [0]], dtype)
    network = fn.Sequential(fn.Linear(2, 8, activation="tanh", dtype=dtype, rng=1),
                            fn.Linear(8, 1, activation="sigmoid", dtype=dtype, rng=2))
    network.fit(x, t, loss=fn.losses.HalfSquaredError(reduction="sum"), progress=False, epochs=300,
                batch_size=4, optimizer=fn.optim.Adam(network.parameters(), lr=0.05), rng=0)
    np.testing.assert_array_equal(network.predict(x) > 0.5, t > 0.5)


def test_relu_and_its_share_of_active_units():
    relu = fn.ReLU()
    x = np.array([[-2.0, -0.0, 0.0, 3.0], [1.0, 5.0, -1.0, np.inf]])
    np.testing.assert_array_equal(relu(x), [[0, 0, 0, 3], [1, 5, 0, np.inf]])
    assert relu.active_share == 4 / 8
    np.testing.assert_array_equal(relu.backward(np.full_like(x, 7)), [[0, 0, 0, 7], [7, 7, 0, 7]])


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), ((1, 3), (2, 0))])
def test_convolution_layer(stride, padding):
    # a[k, i, j] = f(sum_d sum_m sum_n w[k, d, m, n] x[d, i s + m - p, j s + n - p] + b[k])
    layer = fn.Conv2d(2, 3, (3, 2), stride, padding, activation="tanh", dtype=np.float64, rng=0)
    x, w, b = draw(2, 6, 7), layer.weight.data, layer.bias.data
    s, p = np.broadcast_to(stride, 2), np.broadcast_to(padding, 2)
    size = [(n + 2 * q - k) // t + 1 for n, q, k, t in zip((6, 7), p, (3, 2), s, strict=True)]
    expected = np.empty((3, *size))
    for k, i, j in np.ndindex(*expected.shape):
        total = b[k]
        for d, m, n in np.ndindex(2, 3, 2):
            row, column = i * s[0] + m - p[0], j * s[1] + n - p[1]
            if 0 <= row < 6 and 0 <= column < 7:
                total += w[k, d, m, n] * x[d, row, column]
        expected[k, i, j] = math.tanh(total)
    np.testing.assert_allclose(layer(x[None])[0], expected, **CLOSE)


def test_pooling_layers():
    x = draw(2, 3, 4, 6)
    largest, mean = fn.MaxPool2d(2)(x), fn.AvgPool2d(2)(x)
    assert largest.shape == mean.shape == (2, 3, 2, 3)
    for n, d, i, j in np.ndindex(2, 3, 2, 3):
        window = [x[n, d, 2 * i + m, 2 * j + k] for m in (0, 1) for k in (0, 1)]
        assert largest[n, d, i, j] == max(window)
        assert mean[n, d, i, j] == pytest.approx(sum(window) / 4, rel=1e-12)


def test_gradients_through_pooling():
    # Of a maximum to the winner, of equals the first in row order; of a mean evenly.
    x = np.array([[1.0, 7, 5, 5], [7, 0, 5, 5]])[None, None]
    grad_y = np.array([[[[10.0, 20]]]])
    largest, mean = fn.MaxPool2d(2), fn.AvgPool2d(2)
    largest(x)
    mean(x)
    np.testing.assert_array_equal(largest.backward(grad_y)[0, 0], [[0, 10, 20, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(mean.backward(grad_y)[0, 0], [[2.5, 2.5, 5, 5], [2.5, 2.5, 5, 5]])


def test_gradients_of_a_convolutional_network():
    rng = np.random.default_rng(0)
    network = fn.Sequential(
        fn.Conv2d(1, 3, 3, padding=1, activation="tanh", dtype=np.float64, rng=rng), fn.MaxPool2d(2),
        fn.Conv2d(3, 4, 2, activation="sigmoid", dtype=np.float64, rng=rng), fn.AvgPool2d(2, 1),
        fn.Flatten(), fn.Linear(4, 3, dtype=np.float64, rng=rng))
    x, target, loss = draw(2, 1, 6, 6), np.array([0, 2]), fn.losses.CrossEntropyLoss()
    loss(network(x), target)
    grad_x = network.backward(loss.backward())
    check_gradients(lambda: loss(network(x), target), network.parameters(), x, grad_x)


def states(x, u, w, f, *, backwards=False):
    """s_t = f(U x_t + W s_{t-1}); or from the end, s'_t = f(U' x_t + W' s'_{t+1})."""
    s, found = np.zeros(len(w)), [None] * len(x)
    for t in reversed(range(len(x))) if backwards else range(len(x)):
        s = found[t] = f(u @ x[t] + w @ s)
    return np.array(found)


def weights(rnn, layer, backwards=False):
    suffix = f"_l{layer}" + ("_reverse" if backwards else "")
    return getattr(rnn, "weight_ih" + suffix).data, getattr(rnn, "weight_hh" + suffix).data


F = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}


@pytest.mark.parametrize("f", F)
def test_simple_recurrent_network(f):
    # o_t = g(V s_t)
    rnn = fn.RNN(3, 5, nonlinearity=f, bias=False, dtype=np.float64, rng=0)
    head = fn.RNNOutput(5, 2, bias=False, activation="sigmoid", dtype=np.float64, rng=1)
    x = draw(6, 3)
    out, last = rnn(x)
    s = states(x, *weights(rnn, 0), F[f])
    np.testing.assert_allclose(out, s, **CLOSE)
    np.testing.assert_allclose(last[0], s[-1], **CLOSE)
    np.testing.assert_allclose(head(out), 1 / (1 + np.exp(-s @ head.weight.data.T)), **CLOSE)


@pytest.mark.parametrize("layers", [1, 3])
def test_bidirectional_and_deep_recurrent_network(layers):
    # s^(i)_t = f(U^(i) [s^(i-1)_t, s'^(i-1)_t] + W^(i) s^(i)_{t-1}), s'^(i) likewise from the end with
    # weights of its own; o_t = g(V s_t + V' s'_t)
    rnn = fn.RNN(3, 4, layers, bias=False, bidirectional=True, dtype=np.float64, rng=0)
    head = fn.RNNOutput(4, 2, bidirectional=True, bias=False, activation="tanh", dtype=np.float64, rng=1)
    below = x = draw(5, 3)
    for layer in range(layers):
        s = states(below, *weights(rnn, layer), np.tanh)
        s_reverse = states(below, *weights(rnn, layer, True), np.tanh, backwards=True)
        below = np.concatenate([s, s_reverse], axis=1)
    v, v_reverse = head.weight.data[:, :4], head.weight.data[:, 4:]
    np.testing.assert_allclose(head(rnn(x)[0]), np.tanh(s @ v.T + s_reverse @ v_reverse.T), **CLOSE)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True}],
                         ids=["simple", "bidirectional", "deep"])
def test_back_propagation_through_time(options):
    rnn = fn.RNN(2, 3, dtype=np.float64, rng=0, **options)
    head = fn.RNNOutput(3, 2, "bidirectional" in options, dtype=np.float64, rng=1)
    x, target, loss = draw(4, 2, 2), draw(4, 2, 2, seed=1), fn.losses.HalfSquaredError()
    loss(head(rnn(x)[0]), target)
    grad_x = rnn.backward(head.backward(loss.backward()))
    check_gradients(lambda: loss(head(rnn(x)[0]), target), (*rnn.parameters(), *head.parameters()), x, grad_x)


def test_truncated_back_propagation_through_time():
    # The state passes from chunk to chunk, its gradient does not.
    x, grad_out = draw(9, 2, 3), draw(9, 2, 4, seed=1)
    whole, chunked = (fn.RNN(3, 4, dtype=np.float64, rng=0) for _ in range(2))
    whole(x)
    grad_x = whole.backward(grad_out, truncate=3)
    state, parts = None, []
    for start in (0, 3, 6):
        _, state = chunked(x[start:start + 3], state)
        parts.append(chunked.backward(grad_out[start:start + 3]))
    np.testing.assert_allclose(grad_x, np.concatenate(parts), **CLOSE)
    for a, b in zip(whole.parameters(), chunked.parameters(), strict=True):
        np.testing.assert_allclose(a.grad, b.grad, **CLOSE)


def test_recurrent_network_learns_to_remember():
    # The sum of two marked numbers in a sequence, far apart: nothing that the last inputs tell.
    rng = np.random.default_rng(0)
    numbers, marks = rng.random((12, 512)), np.zeros((12, 512))
    columns = np.arange(512)
    for half in (0, 6):
        marks[half + rng.integers(0, 6, 512), columns] = 1
    x = np.stack([numbers, marks], axis=2).astype(np.float32)
    t = (numbers * marks).sum(0).astype(np.float32)[:, None]
    rnn, head, loss = fn.GRU(2, 24, rng=0), fn.Linear(24, 1, rng=1), fn.losses.MSELoss()
    optimizer = fn.optim.Adam(rnn.parameters() + head.parameters(), lr=0.01)
    for _ in range(150):
        _, state = rnn(x)
        value = loss(head(state[0]), t)
        optimizer.zero_grad()
        rnn.backward(None, head.backward(loss.backward())[None], input_grad=False)
        optimizer.step()
    assert value < 0.1 * t.var()


def test_gradients_of_the_convolution_of_matrices():
    # The gradient of a convolution by its input is the cross-correlation of what comes back with the filter.
    a, b = draw(4, 5), draw(2, 3, seed=1)
    grad_c = draw(5, 7, seed=2)
    grad_a = fn.functional.conv2d(grad_c[None, None], b[None, None])[0, 0]
    assert_gradients(lambda a: fn.functional.convolve2d(a, b), [a], grad_c, [grad_a])
