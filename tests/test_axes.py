"""LastStep and Permute: what recurrent layers give, for others."""

import copy

import numpy as np
import pytest
from arrays import draw
from plain_layers import finite_differences

import fastnn as fn
from fastnn import reference as R


def assert_gradient(layer, x):
    """backward against finite differences of a weighted sum."""
    r = draw(*layer(x).shape, seed=9)
    numeric = finite_differences(lambda: float((layer(x) * r).sum()), x)
    layer(x)
    np.testing.assert_allclose(layer.backward(r), numeric, atol=1e-8)


# --- LastStep


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [fn.RNN, fn.LSTM, fn.GRU])
def test_the_last_step_is_the_final_state(kind, bidirectional, batch_first, single, dtype):
    rnn = kind(3, 4, 2, batch_first=batch_first, bidirectional=bidirectional, dtype=dtype, rng=0)
    x = draw(*((5, 3) if single else (2, 5, 3) if batch_first else (5, 2, 3)), dtype=dtype)
    out, state = rnn(x)
    h = state[0] if kind is fn.LSTM else state
    expected = np.concatenate([h[-2], h[-1]], -1) if bidirectional else h[-1]
    y = fn.LastStep(batch_first, bidirectional)(out)
    np.testing.assert_array_equal(y, expected, strict=True)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (5, 4), (5, 3, 2), (3, 5, 4), (1, 1, 6), (3, 1, 2)])
def test_last_step_gradient(shape, batch_first, bidirectional):
    assert_gradient(fn.LastStep(batch_first, bidirectional), draw(*shape))


def test_last_step_of_no_sequence():
    layer = fn.LastStep()
    assert layer(np.ones((4, 0, 3))).shape == (0, 3)
    assert layer.backward(np.ones((0, 3))).shape == (4, 0, 3)
    assert fn.LastStep(bidirectional=True)(np.ones((4, 2, 0))).shape == (2, 0)


def test_last_step_refusals():
    layer = fn.LastStep()
    with pytest.raises(ValueError, match=r"LastStep: x has shape \(0, 2, 3\), expected at least one step"):
        layer(np.ones((0, 2, 3)))
    with pytest.raises(ValueError, match="LastStep: x has 4 dimensions"):
        layer(np.ones((1, 2, 3, 4)))
    with pytest.raises(TypeError, match="LastStep: x has dtype int64"):
        layer(np.ones((2, 3), int))
    with pytest.raises(ValueError, match="expected an even number of features"):
        fn.LastStep(bidirectional=True)(np.ones((2, 3)))
    with pytest.raises(TypeError, match="LastStep: batch_first"):
        fn.LastStep(1)
    with pytest.raises(ValueError, match="call forward in training mode first"):
        layer.backward(np.ones((2, 3)))
    layer(np.ones((4, 2, 3)))
    with pytest.raises(ValueError, match=r"LastStep.backward: grad_y has shape .*, expected \(2, 3\)"):
        layer.backward(np.ones((4, 2, 3)))
    assert repr(fn.LastStep(True)) == "LastStep(batch_first=True, bidirectional=False)"


# --- Permute


@pytest.mark.parametrize(("dims", "shape"), [
    ((), ()), ((0,), (5,)), ((1, 0), (2, 3)), ((0, 2, 1), (2, 3, 4)), ((-1, 0, 1), (2, 3, 4)),
    ((0, -1, 1, 2), (2, 3, 4, 5)), ((2, 0, 1), (0, 3, 2)),
])
def test_permute(dims, shape, dtype):
    layer, x = fn.Permute(*dims), draw(*shape, dtype=dtype)
    y = layer(x)
    np.testing.assert_array_equal(y, np.transpose(x, dims), strict=True)
    np.testing.assert_array_equal(layer.backward(y), x, strict=True)
    np.testing.assert_array_equal(fn.Permute(list(dims))(x), y)
    assert np.shares_memory(x, y) or not x.size


def test_permute_gradient():
    assert_gradient(fn.Permute(2, 0, 1), draw(2, 3, 4))


@pytest.mark.parametrize(("dims", "error", "words"), [
    ((0, 0), ValueError, "dims must have each axis once"),
    ((0, -2), ValueError, "dims must have each axis once"),
    ((0, 2), ValueError, "dims must be at most 1, got 2"),
    ((0, 1.0), TypeError, "dims must be an integer"),
    ((None,), TypeError, "dims must be a sequence"),
])
def test_permute_refusals(dims, error, words):
    with pytest.raises(error, match=f"Permute: {words}"):
        fn.Permute(*dims)


def test_permute_refuses_other_shapes():
    layer = fn.Permute(0, 2, 1)
    with pytest.raises(ValueError, match="Permute: x has 2 dimensions"):
        layer(np.ones((2, 3)))
    layer(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"Permute.backward: grad_y has shape .*, expected \(2, 4, 3\)"):
        layer.backward(np.ones((2, 3, 4)))
    assert repr(layer) == "Permute(0, 2, 1)"


# --- In networks


def test_a_sequence_is_classified(tmp_path):
    """Which of three numbers comes first, with the rest of the sequence between it and the answer."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (96, 6, 3)).astype(np.float32)
    y = x[:, 0].argmax(-1)
    net = fn.Sequential(fn.GRU(3, 16, batch_first=True, bidirectional=True, rng=0), fn.LastStep(True, True),
                        fn.Linear(32, 3, rng=1))
    optimizer = fn.optim.Adam(net.parameters(), lr=0.02)
    history = net.fit(x, y, loss=fn.losses.CrossEntropyLoss(), optimizer=optimizer, epochs=15, batch_size=16,
                      rng=0, progress=False)
    assert history.history["accuracy"][-1] > 0.9
    fn.save(net, tmp_path / "net.npz")
    again = copy.deepcopy(net)
    again.load_state_dict(fn.load(tmp_path / "net.npz"))
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    assert "(1): LastStep(batch_first=True, bidirectional=True)" in repr(net)


def test_a_class_for_each_step():
    """Axis 1 is the class axis of the losses: logits (N, T, C) go through Permute(0, 2, 1)."""
    net = fn.Sequential(fn.GRU(3, 4, batch_first=True, dtype=np.float64, rng=0),
                        fn.Linear(4, 5, dtype=np.float64, rng=1), fn.Permute(0, 2, 1))
    x, target = draw(2, 6, 3), np.arange(12).reshape(2, 6) % 5
    loss = fn.losses.CrossEntropyLoss()
    logits = net(x)
    assert loss(logits, target) == pytest.approx(
        R.cross_entropy(np.moveaxis(logits, 1, -1).reshape(12, 5), target.ravel()), rel=1e-12)
    net.zero_grad()
    grad_x = net.backward(loss.backward())
    np.testing.assert_allclose(grad_x, finite_differences(lambda: loss(net(x), target), x), atol=1e-8)
