"""Optimizers against torch's documented formulas, written out for single arrays."""

import math

import numpy as np
import pytest
from plain_layers import PlainLinear

import fastnn as fn
from fastnn._kernels import optim as kernel
from fastnn.optim import SGD, Adam, AdamW, RMSprop, clip_grad_norm_, clip_grad_value_

# The formulas below compute in float64; the optimizers in the dtype of the parameters, over several steps.
RTOL = {np.float32: 2e-5, np.float64: 1e-12}
STEPS = 5


def sgd(w, grads, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False):
    velocity = None
    for g in grads:
        g = (-g if maximize else g) + weight_decay * w
        if momentum:
            velocity = g if velocity is None else momentum * velocity + (1 - dampening) * g
            g = g + momentum * velocity if nesterov else velocity
        w = w - lr * g
    return w


def adam(w, grads, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, maximize=False,
         decoupled=False):
    m = v = largest = 0
    for t, g in enumerate(grads, 1):
        g = -g if maximize else g
        if decoupled:
            w = w * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        largest = np.maximum(largest, v)
        second = (largest if amsgrad else v) / (1 - betas[1] ** t)
        w = w - lr * m / (1 - betas[0] ** t) / (np.sqrt(second) + eps)
    return w


def adamw(w, grads, weight_decay=1e-2, **options):
    return adam(w, grads, weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(w, grads, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False,
            maximize=False):
    v = average = buffer = 0
    for g in grads:
        g = (-g if maximize else g) + weight_decay * w
        v = alpha * v + (1 - alpha) * g * g
        average = alpha * average + (1 - alpha) * g
        step = g / (np.sqrt(v - average**2 if centered else v) + eps)
        buffer = momentum * buffer + step
        w = w - lr * (buffer if momentum else step)
    return w


CASES = [
    (SGD, sgd, {"lr": 0.1}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (SGD, sgd, {"lr": 0.1, "maximize": True}),
    (Adam, adam, {}),
    (Adam, adam, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    (Adam, adam, {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.5)}),
    (Adam, adam, {"lr": 0.1, "maximize": True}),
    (AdamW, adamw, {}),
    (AdamW, adamw, {"lr": 0.1, "weight_decay": 0.3}),
    (RMSprop, rmsprop, {}),
    (RMSprop, rmsprop, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    (RMSprop, rmsprop, {"lr": 0.1, "centered": True, "alpha": 0.5}),
]


def network(dtype=np.float32):
    """Two layers, more numbers than one block of a step holds."""
    return fn.Sequential(PlainLinear(150, 100, dtype=dtype), PlainLinear(100, 3, dtype=dtype, seed=1))


def gradients(net, seed=0):
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(p.shape).astype(p.dtype) for p in net.parameters()] for _ in range(STEPS)]


def run(net, optimizer, steps):
    for grads in steps:
        for p, g in zip(net.parameters(), grads, strict=True):
            p.grad[...] = g
        optimizer.step()


@pytest.mark.parametrize(("kind", "formula", "options"), CASES)
def test_formula(kind, formula, options, dtype):
    net = network(dtype)
    steps = gradients(net)
    before = [p.data.astype(np.float64) for p in net.parameters()]
    run(net, kind(net.parameters(), **options), steps)
    for i, (p, w) in enumerate(zip(net.parameters(), before, strict=True)):
        expected = formula(w, [grads[i].astype(np.float64) for grads in steps], **options)
        np.testing.assert_allclose(p.data, expected, rtol=RTOL[dtype], atol=RTOL[dtype])
        np.testing.assert_array_equal(p.grad, steps[-1][i])  # a step leaves the gradients alone


@pytest.mark.parametrize("size", [1, 7, 17, 63, 20_011])
@pytest.mark.parametrize(("kind", "formula", "options"), CASES)
def test_every_instruction_set_and_number_of_threads(isa, dtype, threads, kind, formula, options, size):
    rng = np.random.default_rng(1)
    weight, steps = rng.standard_normal(size).astype(dtype), rng.standard_normal((STEPS, size)).astype(dtype)
    results = []
    for count in (1, 2, 3):
        threads(count)
        p = fn.Parameter(weight.copy())
        optimizer = kind([p], **options)
        for grad in steps:
            p.grad[...] = grad
            optimizer.step()
        results.append(p.data.copy())
    expected = formula(weight.astype(np.float64), steps.astype(np.float64), **options)
    np.testing.assert_allclose(results[0], expected, rtol=RTOL[dtype], atol=RTOL[dtype])
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@pytest.mark.parametrize(("kind", "options"), [(case[0], case[2]) for case in CASES])
def test_state_goes_on(kind, options):
    one, two = network(), network()
    steps = gradients(one)
    optimizer = kind(one.parameters(), **options)
    run(one, optimizer, steps)
    first = kind(two.parameters(), **options)
    run(two, first, steps[:2])
    second = kind(two.parameters(), lr=123.0)
    second.load_state_dict(first.state_dict())
    run(two, second, steps[2:])
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_groups_with_options_of_their_own():
    net = network()
    steps = gradients(net)
    before = [p.data.astype(np.float64) for p in net.parameters()]
    groups = [{"params": net[0].parameters(), "lr": 0.5}, {"params": net[1].parameters()}]
    run(net, SGD(groups, lr=0.1, momentum=0.9), steps)
    for i, p in enumerate(net.parameters()):
        expected = sgd(before[i], [s[i] for s in steps], lr=0.5 if i < 2 else 0.1, momentum=0.9)
        np.testing.assert_allclose(p.data, expected, rtol=2e-5, atol=1e-5)


def test_dtypes_mixed_and_parameters_of_several_networks():
    parts = [PlainLinear(3, 2), PlainLinear(2, 2, dtype=np.float64), PlainLinear(4, 1)]
    params = [p for part in parts for p in part.parameters()]
    before = [p.data.astype(np.float64) for p in params]
    optimizer = Adam(params, lr=0.1)
    rng = np.random.default_rng(0)
    steps = [[rng.standard_normal(p.shape).astype(p.dtype) for p in params] for _ in range(STEPS)]
    for grads in steps:
        for p, g in zip(params, grads, strict=True):
            p.grad[...] = g
        optimizer.step()
    for i, p in enumerate(params):
        expected = adam(before[i], [grads[i] for grads in steps], lr=0.1)
        np.testing.assert_allclose(p.data, expected, rtol=2e-5, atol=1e-5)


def test_centered_rmsprop_of_equal_gradients():
    # The mean square and the square of the mean come together: their difference must not go below zero.
    net = PlainLinear(100, 1)
    optimizer = RMSprop(net, alpha=0.5, centered=True, lr=0.0)
    rng = np.random.default_rng(0)
    net.weight.grad[...], net.bias.grad[...] = rng.standard_normal((1, 100)), 0.7
    for _ in range(100):
        optimizer.step()
    assert np.isfinite(net.weight.data).all()


@pytest.mark.parametrize(("options", "names"), [
    ({}, ["square"]),
    ({"momentum": 0.9}, ["buffer", "square"]),
    ({"centered": True}, ["average", "square"]),
    ({"momentum": 0.9, "centered": True}, ["average", "buffer", "square"]),
])
def test_rmsprop_keeps_what_it_needs(options, names):
    net = network()
    optimizer = RMSprop(net, **options)
    run(net, optimizer, gradients(net)[:1])
    state = optimizer.state_dict()["state"]
    assert sorted(state) == [*(f"0.{name}.float32" for name in names), "step"]


def test_rmsprop_groups_that_differ():
    net = network()
    options = [{"momentum": 0.9}, {"centered": True}, {}, {"momentum": 0.5, "centered": True}]
    steps, params = gradients(net), net.parameters()
    before = [p.data.astype(np.float64) for p in params]
    run(net, RMSprop([{"params": [p], **o} for p, o in zip(params, options, strict=True)], lr=0.1), steps)
    for i, (p, o) in enumerate(zip(params, options, strict=True)):
        expected = rmsprop(before[i], [grads[i].astype(np.float64) for grads in steps], lr=0.1, **o)
        np.testing.assert_allclose(p.data, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "names"), [
    (RMSprop, ("buffer", "average")), (SGD, ("momentum",)), (Adam, ("largest",)),
])
def test_a_state_may_have_arrays_of_options_that_are_off(kind, names):
    """As of a momentum that was switched off since."""
    one, two = network(), network()
    steps = gradients(one)
    optimizer = kind(one, lr=0.1)
    run(one, optimizer, steps[:2])
    run(two, kind(two, lr=0.1), steps[:2])
    saved = optimizer.state_dict()
    keys = set(saved["state"])
    for name in names:
        saved["state"][f"0.{name}.float32"] = np.ones(sum(p.size for p in one.parameters()), np.float32)
    second = kind(two)
    second.load_state_dict(saved)
    assert second.state.keys() == keys | {f"0.{name}.float32" for name in names}  # kept, but not asked for
    with pytest.raises(ValueError, match="state has 1"):
        second.load_state_dict({**saved, "state": {**saved["state"], f"1.{names[0]}.float32": np.ones(1)}})
    run(one, optimizer, steps[2:])
    run(two, second, steps[2:])
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_hook_sees_and_changes_the_gradient_buffer():
    net = network()
    seen = []

    def hook(flat):
        seen.append([g.size for g in flat])
        for g in flat:
            g *= 0

    optimizer = SGD(net, lr=1.0)
    optimizer.add_hook(hook)
    before = [p.data.copy() for p in net.parameters()]
    run(net, optimizer, gradients(net)[:1])
    assert seen == [[sum(p.size for p in net.parameters())]]
    for p, w in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, w)


def test_zero_grad():
    net = network()
    optimizer = SGD(net)
    net.parameters()[0].grad[...] = 1
    optimizer.zero_grad()
    assert not any(p.grad.any() for p in net.parameters())


BAD = {
    "no parameters": (lambda p: SGD([]), ValueError, "params is empty"),
    "an array of no dimensions": (lambda p: Adam(np.array(0.0)), TypeError, "params must be a Module or a"),
    "a group without": (lambda p: SGD([{"lr": 0.1}]), TypeError, "params must be a Module or a list"),
    "no group": (lambda p: SGD([{"params": p}, 3]), TypeError, "params has a int beside a group"),
    "not a parameter": (lambda p: SGD([np.ones(3)]), TypeError, "params has a ndarray"),
    "twice": (lambda p: SGD([p[0], p[0]]), ValueError, "twice"),
    "lr": (lambda p: SGD(p, lr=-1.0), ValueError, "SGD: lr"),
    "lr NaN": (lambda p: Adam(p, lr=math.nan), ValueError, "Adam: lr"),
    "betas": (lambda p: Adam(p, betas=(0.9, 1.0)), ValueError, r"betas\[1\]"),
    "one beta": (lambda p: Adam(p, betas=0.9), TypeError, "betas"),
    "nesterov": (lambda p: SGD(p, nesterov=True), ValueError, "nesterov"),
    "option": (lambda p: SGD([{"params": p, "speed": 1}]), ValueError, "speed"),
    "alpha": (lambda p: RMSprop(p, alpha=2.0), ValueError, "alpha"),
    "max_norm": (lambda p: clip_grad_norm_(p, -1.0), ValueError, "max_norm"),
    "error_if_nonfinite": (lambda p: clip_grad_norm_(p, 1.0, error_if_nonfinite=np.array([])), TypeError,
                           "error_if_nonfinite must be True or False"),
    "maximize": (lambda p: SGD(p, maximize=1), TypeError, "maximize"),
    "amsgrad": (lambda p: Adam(p, amsgrad="no"), TypeError, "amsgrad"),
    "centered": (lambda p: RMSprop(p, centered=0.0), TypeError, "centered"),
    "state of nothing": (lambda p: SGD(p).load_state_dict({}), ValueError, "no 'state'"),
    "state of other groups": (lambda p: SGD(p).load_state_dict(
        SGD([{"params": [q]} for q in p]).state_dict()), ValueError, "4 groups, expected 1"),
    "state of another kind": (lambda p: Adam(p).load_state_dict(SGD(p).state_dict()), ValueError,
                              "options .*nesterov.*, expected .*amsgrad"),
    "state of other names": (lambda p: load_adam(p, {"0.third.float32": np.ones(1)}), ValueError,
                             "state has 0.third.float32, expected only"),
    "state without a name": (lambda p: load(RMSprop(p), {7: np.ones(1)}), ValueError, "state has 7, exp"),
    "state of other sizes": (lambda p: load_adam(p, {"0.first.float32": np.ones(1)}), ValueError,
                             r"0.first.float32 has shape \(1,\), expected"),
}


def load_adam(params, arrays):
    load(Adam(params), arrays)


def load(optimizer, arrays):
    optimizer.load_state_dict(optimizer.state_dict() | {"state": {"step": 1} | arrays})


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call(network().parameters())


@pytest.mark.parametrize(("norm_type", "expected"), [(2.0, 13.0), (1.0, 19.0), (math.inf, 12.0)])
def test_clip_grad_norm(norm_type, expected):
    net = PlainLinear(2, 1)
    net.weight.grad[...], net.bias.grad[...] = [[3, -4]], 12
    assert clip_grad_norm_(net.parameters(), 100.0, norm_type) == pytest.approx(expected)
    np.testing.assert_array_equal(net.weight.grad, [[3, -4]])
    clip_grad_norm_(net.parameters(), 1.0, norm_type)
    np.testing.assert_allclose(net.weight.grad, np.array([[3, -4]]) / expected, rtol=1e-5)


def test_clip_grad_norm_of_many_numbers():
    layer = fn.Linear(2048, 2048)
    grad = layer.weight.grad
    grad[...] = np.random.default_rng(0).standard_normal(grad.shape, np.float32)
    expected = np.linalg.norm(grad.astype(np.float64))
    assert clip_grad_norm_(layer, math.inf) == pytest.approx(expected, rel=1e-6)


def test_clip_grad_norm_of_what_leaves_float32():
    net = PlainLinear(2, 1)
    net.weight.grad[...] = 3e30
    assert clip_grad_norm_(net, 1.0) == pytest.approx(3e30 * math.sqrt(2), rel=1e-6)
    assert np.linalg.norm(net.weight.grad) == pytest.approx(1, rel=1e-5)


def test_clip_grad_norm_of_nothing_and_with_no_limit():
    net = PlainLinear(2, 1)
    assert clip_grad_norm_(net, 1.0) == clip_grad_norm_([], 1.0) == 0
    assert not net.weight.grad.any()
    net.weight.grad[...] = [[3, 4]]
    assert clip_grad_norm_(net, math.inf) == 5
    np.testing.assert_array_equal(net.weight.grad, [[3, 4]])


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_clip_grad_norm_with_no_limit_leaves_what_is_not_finite(value):
    net = PlainLinear(2, 1)
    net.weight.grad[...] = [[value, 1]]
    np.testing.assert_equal(clip_grad_norm_(net, math.inf), value)
    np.testing.assert_array_equal(net.weight.grad, [[value, 1]])


def test_clip_grad_norm_not_finite():
    net = PlainLinear(2, 1)
    net.weight.grad[...] = np.nan
    net.bias.grad[...] = 1
    with pytest.raises(ValueError, match="norm of the gradients is nan"):
        clip_grad_norm_(net, 1.0, error_if_nonfinite=True)
    assert net.bias.grad == 1
    assert math.isnan(clip_grad_norm_(net, 1.0))
    net.weight.grad[...], net.bias.grad[...] = [[1, 2]], np.inf
    with np.errstate(invalid="ignore"):
        assert clip_grad_norm_(net, 1.0) == math.inf
    np.testing.assert_array_equal(net.weight.grad, [[0, 0]])
    assert math.isnan(net.bias.grad[0])


def test_clip_grad_value():
    net = PlainLinear(2, 1)
    net.weight.grad[...] = [[3, -0.5]]
    clip_grad_value_(net, 1.0)
    np.testing.assert_array_equal(net.weight.grad, [[1, -0.5]])
    net.weight.grad[...] = [[np.nan, -np.inf]]
    clip_grad_value_(net, 1.0)
    np.testing.assert_array_equal(net.weight.grad, [[np.nan, -1]])


@pytest.mark.parametrize(("kind", "name"), [(SGD, "momentum"), (Adam, "first"), (RMSprop, "square")])
@pytest.mark.parametrize(("state", "error", "message"), [
    (np.zeros(4, np.float32), ValueError, r"\(4,\), expected \(5,\)"),
    (np.zeros(6, np.float32), ValueError, r"\(6,\), expected \(5,\)"),
    (np.zeros((5, 1), np.float32), ValueError, r"\(5, 1\), expected \(5,\)"),
    (np.zeros(10, np.float32)[::2], ValueError, "contiguous"), (np.zeros(5, np.int32), TypeError, "int32"),
    ([0.0] * 5, TypeError, "list"),
])
def test_a_state_that_does_not_fit_is_refused_before_anything_changes(kind, name, state, error, message):
    """It is the second group's; the first would have been changed before it."""
    params = [fn.Parameter(np.ones(n, np.float32)) for n in (3, 5)]
    optimizer = kind([{"params": [p]} for p in params], **({"momentum": 0.5} if kind is SGD else {}))
    for p in params:
        p.grad[...] = 1
    optimizer.step()
    before = [p.data.copy() for p in params]
    optimizer.state[f"1.{name}.float32"] = state
    with pytest.raises(error, match=f"{kind.__name__}: state 1.{name}.float32 .*{message}"):
        optimizer.step()
    assert optimizer.state["step"] == 1
    for p, old in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.data, old)


@pytest.mark.parametrize(("change", "error", "message"), [
    (lambda s: None, TypeError, "state_dict is a NoneType"),
    (lambda s: {**s, "state": 5}, TypeError, "state is a int"),
    (lambda s: {**s, "param_groups": [5]}, TypeError, r"param_groups has 5 \(int\), expected Mapping"),
    (lambda s: {**s, "state": {"step": 1000}}, ValueError, "state of step 1000 has no 0.first"),
    (lambda s: {**s, "state": {**s["state"], "0.first.float32": np.ones(3)}}, TypeError, "dtype float64"),
    (lambda s: {**s, "state": {**s["state"], "0.first.float32": "three"}}, ValueError, r"has shape \(\)"),
    (lambda s: {**s, "state": {**s["state"], "0.first.float32": ["a"] * 3}}, TypeError, "expected an array"),
])
def test_a_state_that_is_none_is_refused(change, error, message):
    optimizer = Adam(PlainLinear(2, 1))
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises(error, match=rf"^Adam\.load_state_dict: .*{message}"):
        optimizer.load_state_dict(change(optimizer.state_dict()))
    assert optimizer.state_dict()["state"].keys() == before["state"].keys()
    assert optimizer.state_dict()["state"]["step"] == 1
    optimizer.load_state_dict({**before, "state": {"step": 0}})  # of an optimizer that was not stepped yet


@pytest.mark.parametrize(("kind", "needed", "options"), [
    (kernel.sgd, 0, (1e-3, 0.0, 0.0, 0.0, False, False, True)),
    (kernel.adam, 2, (1e-3, 0.9, 0.999, 1e-8, 0.0, False, False, 1)),
    (kernel.rmsprop, 1, (1e-2, 0.99, 1e-8, 0.0, 0.0, False)),
])
def test_kernels_refuse_arrays_that_do_not_lie_alike(kind, needed, options):
    states = 1 if kind is kernel.sgd else 3
    for i in range(2 + states):
        for wrong in (np.zeros(4, np.float32), np.zeros(5, np.float64), np.zeros(10, np.float32)[::2],
                      np.zeros(5, np.float32)[::-1], np.zeros((2, 0), np.float32)):
            arrays = [np.ones(5, np.float32) for _ in range(2 + states)]
            arrays[i] = wrong
            with pytest.raises(ValueError, match="contiguous and of one size"):
                kind(*arrays, *options)
        if i < 2 + needed:
            arrays[i] = None
            with pytest.raises(TypeError):
                kind(*arrays, *options)
    assert kind(*[np.ones(5, np.float32)] * 2, *[np.ones(5, np.float32)] * needed,
                *[None] * (states - needed), *options) is None
