"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from .. import _checks
from .._kernels import optim as _kernel
from .optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent, with momentum; torch.optim.SGD.

    ::

        g <- g + weight_decay w
        v <- momentum v + (1 - dampening) g          (v = g in the first step)
        w <- w - lr v          with nesterov  w <- w - lr (g + momentum v)

    Parameters
    ----------
    params : Module, iterable of Parameter, or list of dict
    lr : float, default 1e-3
    momentum, dampening, weight_decay : float, default 0
    nesterov : bool, default False
        Needs a momentum and no dampening.
    maximize : bool, default False
        Go up instead of down.
    """

    optional_states = frozenset({"momentum"})

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False):
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening,
                                  "weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize})

    @property
    def state_names(self) -> tuple[str, ...]:
        """The momentum, where any group has one."""
        return ("momentum",) if any(group["momentum"] for group in self.param_groups) else ()

    def check(self, group):
        super().check(group)
        _checks.real("SGD: momentum", group["momentum"], 0.0)
        _checks.real("SGD: dampening", group["dampening"], 0.0, 1.0)
        if _checks.flag("SGD: nesterov", group["nesterov"]) and not (group["momentum"] and
                                                                     not group["dampening"]):
            raise ValueError("SGD: nesterov needs momentum > 0 and dampening = 0, got "
                             f"momentum {group['momentum']}, dampening {group['dampening']}")

    def update(self, data, grad, state, group, step):
        velocity = state[0] if group["momentum"] else None
        _kernel.sgd(data, grad, velocity, group["lr"], group["momentum"], group["dampening"],
                    group["weight_decay"], group["nesterov"], group["maximize"], step == 1)
