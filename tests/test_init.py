"""Initial values: distributions, bounds, seeds."""

import math

import numpy as np
import pytest

import fastnn
from fastnn import Parameter, init

RANDOM = [
    init.uniform_,
    init.normal_,
    init.trunc_normal_,
    init.xavier_uniform_,
    init.xavier_normal_,
    init.kaiming_uniform_,
    init.kaiming_normal_,
    init.orthogonal_,
]


@pytest.mark.parametrize("function", RANDOM)
def test_seeds_dtypes_and_targets(function):
    a = np.empty((20, 5, 3, 3), np.float64)
    assert function(a, rng=3) is a
    b = function(np.empty_like(a), rng=np.random.default_rng(3))
    assert (a == b).all()
    assert (function(np.empty(a.shape, np.float32), rng=3) == a.astype(np.float32)).all()
    p = Parameter(np.zeros(a.shape))
    assert function(p, rng=3) is p
    assert (p.data == a).all()
    strided = np.empty((40, 5, 3, 3))[::2]
    assert (function(strided, rng=3) == a).all()
    fastnn.manual_seed(7)
    first = function(a).copy()
    assert (function(b) != first).any()
    fastnn.manual_seed(7)
    assert (function(b) == first).all()
    assert function(np.empty((0, 3)), rng=0).size == 0
    assert function(np.empty((3, 0)), rng=0).size == 0


def test_constants():
    assert init.constant_(np.empty(3), 2).tolist() == [2] * 3
    assert init.zeros_(np.empty(3, np.float32)).tolist() == [0] * 3
    p = init.ones_(Parameter(np.zeros(3)))
    assert p.data.tolist() == [1] * 3


def test_fans_and_bounds():
    weight = np.empty((64, 32, 3, 3))
    assert init.fan_in_and_fan_out(weight) == (32 * 9, 64 * 9)
    for values, bound in [
        (init.kaiming_uniform_(weight, a=math.sqrt(5), rng=0).copy(), 1 / math.sqrt(32 * 9)),
        (init.kaiming_uniform_(weight, nonlinearity="relu", rng=0).copy(), math.sqrt(6 / (32 * 9))),
        (init.kaiming_uniform_(weight, mode="fan_out", rng=0).copy(), math.sqrt(6 / (64 * 9))),
        (init.xavier_uniform_(weight, gain=2, rng=0).copy(), 2 * math.sqrt(6 / (96 * 9))),
        (init.uniform_(weight, -3, 3, rng=0).copy(), 3),
    ]:
        assert 0.999 * bound < np.abs(values).max() <= bound
        assert abs(values.mean()) < 0.02 * bound
    for values, std in [
        (init.kaiming_normal_(weight, rng=0).copy(), math.sqrt(2 / (32 * 9))),
        (init.xavier_normal_(weight, rng=0).copy(), math.sqrt(2 / (96 * 9))),
        (init.normal_(weight, 0, 3, rng=0).copy(), 3),
    ]:
        assert values.std() == pytest.approx(std, rel=0.02)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (6, 2, 3), (3, 2, 2)])
def test_orthogonal(shape):
    w = init.orthogonal_(np.empty(shape), gain=2, rng=0).reshape(shape[0], -1) / 2
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        (0, 1, -2, 2),
        (0, 0.02, -2, 2),
        (3, 1, -2, 2),
        (0, 1, 5, math.inf),
        (0, 1, -math.inf, -30),
        (0, 1, 50, 60),
    ],
)
def test_trunc_normal_stays_within_its_bounds(mean, std, a, b):
    values = init.trunc_normal_(np.empty(1000), mean, std, a, b, rng=0)
    assert values.min() >= a
    assert values.max() <= b
    assert np.isfinite(values).all()


def test_trunc_normal_has_the_right_moments():
    values = init.trunc_normal_(np.empty(40000), 0, 1, 5, math.inf, rng=0)
    assert values.mean() == pytest.approx(5.1865, abs=2e-3)  # the density at 5 over the tail beyond 5
    values = init.trunc_normal_(np.empty(40000), rng=0)
    assert values.std() == pytest.approx(0.8796, rel=0.01)


def test_gains():
    assert init.calculate_gain("linear") == 1
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / (1 + 0.01**2)))
    assert init.calculate_gain("leaky_relu", 1) == 1
    assert init.calculate_gain("leaky_relu", 1e200) == 0
    with pytest.raises(ValueError, match="calculate_gain: nonlinearity"):
        init.calculate_gain("swish")


def test_what_cannot_be_filled_is_refused():
    for tensor in ([1.0], np.zeros(3, int), np.zeros(3, np.float16)):
        with pytest.raises(TypeError, match="normal_: tensor"):
            init.normal_(tensor)
    frozen = np.zeros((2, 2))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="uniform_: tensor is read-only"):
        init.uniform_(frozen)
    for function in (init.xavier_uniform_, init.kaiming_normal_, init.orthogonal_):
        with pytest.raises(ValueError, match="at least 2 dimensions"):
            function(np.zeros(3))
    with pytest.raises(ValueError, match="normal_: std"):
        init.normal_(np.zeros(3), std=-1)
    with pytest.raises(ValueError, match="a must be below b"):
        init.trunc_normal_(np.zeros(3), a=1, b=1)
    with pytest.raises(ValueError, match="kaiming_normal_: mode"):
        init.kaiming_normal_(np.zeros((2, 2)), mode="fan")
    for rng, error in [(-1, ValueError), ("0", TypeError), (1.0, TypeError), (True, TypeError)]:
        with pytest.raises(error, match="uniform_: rng must be"):
            init.uniform_(np.zeros(3), rng=rng)
        with pytest.raises(error, match="manual_seed: seed must be"):
            fastnn.manual_seed(rng)
    with pytest.raises(TypeError, match="manual_seed: seed must be an integer, got a NoneType"):
        fastnn.manual_seed(None)


def test_a_negative_zero_is_no_spread():
    assert (init.normal_(np.empty(9), 2.0, -0.0, rng=0) == 2).all()
    assert (init.xavier_normal_(np.empty((3, 3)), -0.0, rng=0) == 0).all()
    assert (init.uniform_(np.empty(9), 0.0, -0.0, rng=0) == 0).all()
    assert (init.xavier_uniform_(np.empty((3, 3)), -0.0, rng=0) == 0).all()


def test_manual_seed_resets_the_generator_that_others_hold():
    held = init.default_generator()
    assert fastnn.manual_seed(1) is held
    first = held.random()
    fastnn.manual_seed(1)
    assert held.random() == first
