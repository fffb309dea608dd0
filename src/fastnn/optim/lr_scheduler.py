"""Learning-rate schedules; torch.optim.lr_scheduler's names and values.

A scheduler is made with an optimizer, whose groups' learning rates at that time are the bases, and stepped
once an epoch (or once a batch, as one likes): each `step` sets the rates for the new count of steps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from .. import _checks
from .._kernels.runtime import in_default_environment
from .optimizer import Optimizer


class LRScheduler:
    """Base class: a subclass gives the learning rate as a closed form of the number of steps."""

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: optimizer must be an Optimizer, got {optimizer!r:.60}")
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.last_epoch = 0
        self.check()
        self._apply(0)

    def check(self) -> None:
        """Bring the attributes into their types; an error names the one that is out of range."""
        name = type(self).__name__
        self.last_epoch = _checks.integer(f"{name}: last_epoch", self.last_epoch, 0)
        self.base_lrs = [_checks.real(f"{name}: base_lrs", base, 0.0) for base in self.base_lrs]

    def lr_at(self, step: int, base: float) -> float:
        """Return the learning rate after `step` steps for a base rate."""
        raise NotImplementedError

    @in_default_environment
    def _apply(self, epoch: int) -> None:
        rates = [self.lr_at(epoch, base) for base in self.base_lrs]  # before anything changes
        self.last_epoch = epoch
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def step(self, metric: float | None = None) -> None:
        """Go one step on. `metric` is what `ReduceLROnPlateau` watches; the others do not look at it."""
        self._apply(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return all but the optimizer."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer" and not callable(v)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        name, known = type(self).__name__, self.state_dict()
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{name}.load_state_dict: state_dict is a {type(state_dict).__name__}, expected "
                            "what state_dict() returns")
        if unknown := sorted(map(str, state_dict.keys() - known.keys())):
            raise ValueError(f"{name}.load_state_dict: {', '.join(unknown)} is not expected; the state of a "
                             f"{name} has {', '.join(known)}")
        for key, value in state_dict.items():
            _check_like(f"{name}.load_state_dict: {key}", value, known[key])
        trial = copy.copy(self)
        trial.__dict__.update(state_dict)
        trial.check()
        self.__dict__.update(trial.__dict__)


def _check_like(name: str, value: Any, current: Any) -> None:
    """Raise TypeError or ValueError unless `value` can stand where `current` stands in a state."""
    if isinstance(current, list):
        if not isinstance(value, list | tuple) or len(value) != len(current):
            raise ValueError(f"{name} is {value!r:.60}, expected {len(current)} numbers")
        for part, old in zip(value, current, strict=True):
            _check_like(name, part, old)
    elif isinstance(current, str):
        if not isinstance(value, str):
            raise TypeError(f"{name} is {value!r:.60}, expected a string")
    elif isinstance(current, Real) and (not isinstance(value, Real) or isinstance(value, bool)):
        raise TypeError(f"{name} is {value!r:.60}, expected a number")


class LambdaLR(LRScheduler):
    """base * lr_lambda(step)."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]):
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def check(self):
        super().check()
        if not callable(self.lr_lambda):
            raise TypeError(f"LambdaLR: lr_lambda must be a function, got {self.lr_lambda!r:.60}")

    def lr_at(self, step, base):
        return base * self.lr_lambda(step)


class StepLR(LRScheduler):
    """base * gamma^(step // step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def check(self):
        super().check()
        self.step_size = _checks.integer("StepLR: step_size", self.step_size)
        self.gamma = _checks.real("StepLR: gamma", self.gamma, 0.0)

    def lr_at(self, step, base):
        return base * self.gamma ** (step // self.step_size)


class MultiStepLR(LRScheduler):
    """base * gamma^(number of milestones passed)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1):
        self.milestones, self.gamma = milestones, gamma
        super().__init__(optimizer)

    def check(self):
        super().check()
        milestones = _checks.list_of("MultiStepLR: milestones", self.milestones, object)
        self.milestones = sorted(_checks.integer("MultiStepLR: milestones", m, 0) for m in milestones)
        self.gamma = _checks.real("MultiStepLR: gamma", self.gamma, 0.0)

    def lr_at(self, step, base):
        return base * self.gamma ** sum(step >= m for m in self.milestones)


class ExponentialLR(LRScheduler):
    """base * gamma^step."""

    def __init__(self, optimizer: Optimizer, gamma: float):
        self.gamma = gamma
        super().__init__(optimizer)

    def check(self):
        super().check()
        self.gamma = _checks.real("ExponentialLR: gamma", self.gamma, 0.0)

    def lr_at(self, step, base):
        return base * self.gamma**step


class LinearLR(LRScheduler):
    """From base * start_factor to base * end_factor in `total_iters` steps: a warm-up."""

    def __init__(self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0,
                 total_iters: int = 5):
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def check(self):
        super().check()
        self.start_factor = _checks.real("LinearLR: start_factor", self.start_factor, 0.0, 1.0)
        self.end_factor = _checks.real("LinearLR: end_factor", self.end_factor, 0.0, 1.0)
        self.total_iters = _checks.integer("LinearLR: total_iters", self.total_iters)

    def lr_at(self, step, base):
        done = min(step, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) (1 + cos(pi step / T_max)) / 2 (Loshchilov and Hutter, 2017)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def check(self):
        super().check()
        self.T_max = _checks.integer("CosineAnnealingLR: T_max", self.T_max)
        self.eta_min = _checks.real("CosineAnnealingLR: eta_min", self.eta_min, 0.0)

    def lr_at(self, step, base):
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * step / self.T_max)) / 2


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr and down to max_lr / (div_factor final_div_factor), by cosines.

    By default from 1/25 of max_lr, and down to 1/250,000 of it (Smith, 2017). torch's cycle_momentum is not
    offered: the momentum stays as it is.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float, total_steps: int, pct_start: float = 0.3,
                 div_factor: float = 25.0, final_div_factor: float = 1e4):
        self.max_lr, self.total_steps, self.pct_start = max_lr, total_steps, pct_start
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        super().__init__(optimizer)

    def check(self):
        super().check()
        self.max_lr = _checks.real("OneCycleLR: max_lr", self.max_lr, 0.0)
        self.total_steps = _checks.integer("OneCycleLR: total_steps", self.total_steps, 2)
        self.pct_start = _checks.real("OneCycleLR: pct_start", self.pct_start, 0.0, 1.0)
        self.div_factor = _checks.real("OneCycleLR: div_factor", self.div_factor, 1.0)
        self.final_div_factor = _checks.real("OneCycleLR: final_div_factor", self.final_div_factor, 1.0)

    def lr_at(self, step, base):
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: step {step} of {self.total_steps} total_steps")
        first = self.max_lr / self.div_factor
        peak = self.pct_start * self.total_steps - 1
        last = self.total_steps - 1
        step = min(step, last)  # stepped after each of total_steps, it is asked once more
        if step <= peak and peak > 0:
            return _cosine(first, self.max_lr, step / peak)
        return _cosine(self.max_lr, first / self.final_div_factor, (step - peak) / (last - peak))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class ReduceLROnPlateau(LRScheduler):
    """Multiply by `factor` when the metric given to `step` did not improve for more than `patience` steps.

    An improvement is one by more than `threshold` times the size of the best metric. (torch takes the metric
    itself for its size, and so of negative ones what is slightly worse for an improvement.)
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, min_lr: float = 0.0):
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.min_lr = threshold, min_lr
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_epochs = 0
        super().__init__(optimizer)

    def check(self):
        super().check()
        self.mode = _checks.choice("ReduceLROnPlateau: mode", self.mode, ("min", "max"))
        self.factor = _checks.real("ReduceLROnPlateau: factor", self.factor, 0.0, 1.0)
        self.patience = _checks.integer("ReduceLROnPlateau: patience", self.patience, 0)
        self.threshold = _checks.real("ReduceLROnPlateau: threshold", self.threshold, 0.0)
        self.min_lr = _checks.real("ReduceLROnPlateau: min_lr", self.min_lr, 0.0)
        self.bad_epochs = _checks.integer("ReduceLROnPlateau: bad_epochs", self.bad_epochs, 0)

    def _apply(self, epoch: int) -> None:
        pass

    @in_default_environment
    def step(self, metric: float | None = None) -> None:
        """Look at the metric of one more epoch."""
        if not isinstance(metric, Real):
            raise TypeError(f"ReduceLROnPlateau.step: metric is {metric!r:.60}, expected a number")
        self.last_epoch += 1
        sign = 1 if self.mode == "min" else -1
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if sign * metric < sign * self.best - margin:
            self.best, self.bad_epochs = metric, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            self.bad_epochs = 0
            for group in self.optimizer.param_groups:
                group["lr"] = min(group["lr"], max(group["lr"] * self.factor, self.min_lr))
