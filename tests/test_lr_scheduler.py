"""Learning-rate schedules against their closed forms."""

import math

import pytest
from plain_layers import PlainLinear

from fastnn.optim import SGD
from fastnn.optim import lr_scheduler as S


def rates(make, steps, lr=1.0):
    """The learning rates of `steps` steps."""
    optimizer = SGD(PlainLinear(2, 1), lr=lr)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return found


CASES = {
    "StepLR": (lambda o: S.StepLR(o, 2, 0.5), [1, 1, 0.5, 0.5, 0.25]),
    "MultiStepLR": (lambda o: S.MultiStepLR(o, [1, 3], 0.1), [1, 0.1, 0.1, 0.01, 0.01]),
    "ExponentialLR": (lambda o: S.ExponentialLR(o, 0.9), [1, 0.9, 0.81, 0.729, 0.6561]),
    "LinearLR": (lambda o: S.LinearLR(o, 0.5, total_iters=4), [0.5, 0.625, 0.75, 0.875, 1, 1]),
    "CosineAnnealingLR": (lambda o: S.CosineAnnealingLR(o, 4, 0.2),
                          [0.2 + 0.4 * (1 + math.cos(math.pi * t / 4)) for t in range(5)]),
    "LambdaLR": (lambda o: S.LambdaLR(o, lambda t: 1 / (1 + t)), [1, 1 / 2, 1 / 3, 1 / 4]),
}


@pytest.mark.parametrize("case", CASES)
def test_closed_form(case):
    make, expected = CASES[case]
    assert rates(make, len(expected)) == pytest.approx(expected)


def test_one_cycle():
    optimizer = SGD(PlainLinear(2, 1), lr=1.0)
    scheduler = S.OneCycleLR(optimizer, max_lr=2.0, total_steps=10)
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(9):
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    assert found[0] == pytest.approx(2 / 25)
    assert max(found) == found[2] == pytest.approx(2.0)  # 0.3 * 10 - 1 steps up
    assert found[-1] == pytest.approx(2 / 25 / 1e4)
    scheduler.step()  # after the last of the steps: nothing is left to go
    assert optimizer.param_groups[0]["lr"] == found[-1]
    with pytest.raises(ValueError, match="total_steps"):
        scheduler.step()


@pytest.mark.parametrize(("pct_start", "expected"), [
    (0.0, [1.5, 0.5 + 1e-8, 2e-8]),  # as in torch the peak is at pct_start * total_steps - 1: at step -1
    (1 / 3, [2, 1 + 1e-8, 2e-8]),
    (1.0, [2e-4, 1 + 1e-4, 2]),
])
def test_one_cycle_whose_peak_is_at_an_end(pct_start, expected):
    found = rates(lambda o: S.OneCycleLR(o, 2.0, 3, pct_start, div_factor=1e4, final_div_factor=1e4), 3)
    assert found == pytest.approx(expected, rel=1e-7)


def test_plateau():
    optimizer = SGD(PlainLinear(2, 1), lr=1.0)
    scheduler = S.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    found = []
    for metric in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0):
        scheduler.step(metric)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == [1, 1, 1, 0.5, 0.5, 0.25]
    with pytest.raises(TypeError, match="metric"):
        scheduler.step()


@pytest.mark.parametrize(("lr", "expected"), [(1.0, 0.3), (0.1, 0.1)])
def test_plateau_has_a_floor_and_never_raises_the_rate(lr, expected):
    optimizer = SGD(PlainLinear(2, 1), lr=lr)
    scheduler = S.ReduceLROnPlateau(optimizer, mode="max", patience=0, min_lr=0.3)
    for metric in (1.0, math.nan, 0.5):
        scheduler.step(metric)
    assert optimizer.param_groups[0]["lr"] == expected


def test_groups_keep_their_bases():
    one, two = PlainLinear(2, 1), PlainLinear(2, 1)
    optimizer = SGD([{"params": one.parameters(), "lr": 4.0}, {"params": two.parameters()}], lr=1.0)
    scheduler = S.StepLR(optimizer, 1, 0.5)
    scheduler.step()
    assert scheduler.get_last_lr() == [2.0, 0.5]


def test_state_goes_on():
    optimizer = SGD(PlainLinear(2, 1), lr=1.0)
    scheduler = S.StepLR(optimizer, 2, 0.5)
    scheduler.step()
    again = S.StepLR(optimizer, 7, 0.1)
    again.load_state_dict(scheduler.state_dict())
    again.step()
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_state_of_another_kind_is_refused():
    scheduler = S.StepLR(SGD(PlainLinear(2, 1), lr=1.0), 2)
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match=r"^StepLR\.load_state_dict: T_max, eta_min is not expected; the "):
        scheduler.load_state_dict(S.CosineAnnealingLR(SGD(PlainLinear(2, 1)), 5).state_dict())
    with pytest.raises(TypeError, match=r"^StepLR\.load_state_dict: state_dict is a list, expected what"):
        scheduler.load_state_dict([1])
    for state in ({"base_lrs": []}, {"base_lrs": 0.1}):
        with pytest.raises(ValueError, match=r"^StepLR\.load_state_dict: base_lrs is .*, expected 1 numbers"):
            scheduler.load_state_dict(state)
    for state in ({"base_lrs": ["x"]}, {"gamma": "x"}, {"step_size": True}):
        with pytest.raises(TypeError, match=r"^StepLR\.load_state_dict: \w+ is .*, expected a number"):
            scheduler.load_state_dict(state)
    with pytest.raises(TypeError, match=r"load_state_dict: mode is 1, expected a string"):
        S.ReduceLROnPlateau(SGD(PlainLinear(2, 1))).load_state_dict({"mode": 1})
    assert scheduler.state_dict() == before


@pytest.mark.parametrize(("make", "state"), [
    (lambda o: S.StepLR(o, 2), {"step_size": 0}), (lambda o: S.CosineAnnealingLR(o, 5), {"T_max": 0}),
    (lambda o: S.MultiStepLR(o, [3]), {"milestones": [-1]}), (lambda o: S.StepLR(o, 2), {"last_epoch": -1}),
    (lambda o: S.OneCycleLR(o, 1.0, 5), {"pct_start": 2.0}), (S.ReduceLROnPlateau, {"mode": "best"}),
])
def test_a_state_out_of_range_is_refused(make, state):
    scheduler = make(SGD(PlainLinear(2, 1), lr=1.0))
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match=rf"^{type(scheduler).__name__}: {next(iter(state))} must be"):
        scheduler.load_state_dict(state)
    assert scheduler.state_dict() == before


def test_a_step_that_fails_does_not_count():
    cycle = S.OneCycleLR(SGD(PlainLinear(2, 1)), 1.0, 2)
    for _ in range(2):
        cycle.step()
    plateau = S.ReduceLROnPlateau(SGD(PlainLinear(2, 1)))
    for scheduler, error, metric in ((cycle, ValueError, None), (plateau, TypeError, "low")):
        before = scheduler.state_dict()
        with pytest.raises(error):
            scheduler.step(metric)
        assert scheduler.state_dict() == before


def test_lambda_is_a_function():
    with pytest.raises(TypeError, match="LambdaLR: lr_lambda must be a function, got 5"):
        S.LambdaLR(SGD(PlainLinear(2, 1)), 5)


@pytest.mark.parametrize("make", [lambda o: S.StepLR(o, 0), lambda o: S.ExponentialLR(o, -1.0),
                                  lambda o: S.CosineAnnealingLR(o, 0), lambda o: S.LinearLR(o, 2.0)])
def test_refused(make):
    with pytest.raises(ValueError, match="LR: "):
        make(SGD(PlainLinear(2, 1)))
