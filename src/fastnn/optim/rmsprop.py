"""RMSprop."""

from __future__ import annotations

from typing import Any

from .. import _checks
from .._kernels import optim as _kernel
from .optimizer import Optimizer


class RMSprop(Optimizer):
    """Gradients over the root of their mean square (Tieleman and Hinton, 2012); torch.optim.RMSprop.

    ::

        g <- g + weight_decay w
        v <- alpha v + (1 - alpha) g^2          centered: a <- alpha a + (1 - alpha) g, v - a^2 for v below
        w <- w - lr g / (sqrt(v) + eps)         with momentum: b <- momentum b + that fraction, w <- w - lr b

    Parameters
    ----------
    params : Module, iterable of Parameter, or list of dict
    lr : float, default 1e-2
    alpha : float, default 0.99
    eps : float, default 1e-8
    weight_decay, momentum : float, default 0
    centered : bool, default False
    maximize : bool, default False
    """

    optional_states = frozenset({"buffer", "average"})

    def __init__(self, params: Any, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False, *,
                 maximize: bool = False):
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay,
                                  "momentum": momentum, "centered": centered, "maximize": maximize})

    @property
    def state_names(self) -> tuple[str, ...]:
        """The mean square, the momentum's buffer where any group has one, the mean where any is centered."""
        heavy = any(group["momentum"] for group in self.param_groups)
        centered = any(group["centered"] for group in self.param_groups)
        return ("square", *(("buffer",) if heavy else ()), *(("average",) if centered else ()))

    def check(self, group):
        super().check(group)
        _checks.real("RMSprop: alpha", group["alpha"], 0.0, 1.0)
        _checks.real("RMSprop: eps", group["eps"], 0.0)
        _checks.real("RMSprop: momentum", group["momentum"], 0.0)
        _checks.flag("RMSprop: centered", group["centered"])

    def update(self, data, grad, state, group, step):
        buffer = state[1] if group["momentum"] else None
        average = state[-1] if group["centered"] else None
        _kernel.rmsprop(data, grad, state[0], buffer, average, group["lr"], group["alpha"], group["eps"],
                        group["weight_decay"], group["momentum"], group["maximize"])
