"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from .. import _checks
from .._kernels import optim as _kernel
from .optimizer import Optimizer


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, 2015); torch.optim.Adam.

    ::

        g <- g + weight_decay w
        m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
        w <- w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Parameters
    ----------
    params : Module, iterable of Parameter, or list of dict
    lr : float, default 1e-3
    betas : pair of float, default (0.9, 0.999)
    eps : float, default 1e-8
    weight_decay : float, default 0
    amsgrad : bool, default False
        Divide by the largest v so far (Reddi et al., 2018).
    maximize : bool, default False
    """

    decoupled = False
    optional_states = frozenset({"largest"})

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0, amsgrad: bool = False, *,
                 maximize: bool = False):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "maximize": maximize})

    @property
    def state_names(self) -> tuple[str, ...]:
        """The two moments, and the largest second one for amsgrad."""
        amsgrad = any(group["amsgrad"] for group in self.param_groups)
        return ("first", "second", "largest") if amsgrad else ("first", "second")

    def check(self, group):
        super().check(group)
        name = type(self).__name__
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{name}: betas must be a pair of numbers, got {betas!r}")
        for i, beta in enumerate(betas):
            if _checks.real(f"{name}: betas[{i}]", beta, 0.0, 1.0) == 1.0:
                raise ValueError(f"{name}: betas[{i}] must be below 1, got {beta}")
        _checks.real(f"{name}: eps", group["eps"], 0.0)
        _checks.flag(f"{name}: amsgrad", group["amsgrad"])

    def update(self, data, grad, state, group, step):
        first, second = state[:2]
        largest = state[2] if group["amsgrad"] else None
        _kernel.adam(data, grad, first, second, largest, group["lr"], *group["betas"], group["eps"],
                     group["weight_decay"], self.decoupled, group["maximize"], step)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019); torch.optim.AdamW.

    The decay is w <- w - lr weight_decay w, not a part of the gradient.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, maximize
        As for `Adam`.
    weight_decay : float, default 1e-2
    """

    decoupled = True

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *,
                 maximize: bool = False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
