"""What all optimizers share: groups of parameters, the pass over flat buffers, hooks, state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .. import _checks
from ..layers.module import Module, Parameter, coalesce


def _listed(name: str, params: Any) -> list[Any]:
    if isinstance(params, Module):
        return params.parameters()
    try:
        return list(params)
    except TypeError:
        kind = f"{params!r:.60}"
        raise TypeError(f"{name}: params must be a Module or a list of Parameter, got {kind}") from None


class Optimizer:
    """Base class of optimizers.

    All parameters of a network lie in one flat buffer, so a step is one pass over it: `update` is the rule
    for a run of parameters that lie side by side.

    Parameters
    ----------
    params : Module, iterable of Parameter, or list of dict
        What is trained. Each dict is a group: its "params", and options that differ from the defaults.
    defaults : dict
        The options of groups that do not name them.
    """

    # The names of the arrays that the rule keeps for each parameter, such as a momentum.
    state_names: tuple[str, ...] = ()
    # Those that options ask for, where they are on; a state keeps its arrays of the others.
    optional_states: frozenset[str] = frozenset()

    def __init__(self, params: Module | Iterable[Any], defaults: dict[str, Any]):
        name = type(self).__name__
        params = _listed(name, params)
        if not params:
            raise ValueError(f"{name}: params is empty, expected at least one Parameter")
        groups = params if isinstance(params[0], dict) else [{"params": params}]
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._hooks: list[Callable[[list[np.ndarray]], Any]] = []
        self.state: dict[str, Any] = {"step": 0}
        seen: set[int] = set()
        for group in groups:
            if not isinstance(group, dict):
                kind = type(group).__name__
                raise TypeError(f"{name}: params has a {kind} beside a group, expected groups")
            members = _listed(name, group.get("params"))
            for p in members:
                if not isinstance(p, Parameter):
                    raise TypeError(f"{name}: params has a {type(p).__name__}, expected Parameters")
                if id(p) in seen:
                    raise ValueError(f"{name}: params has {p.name or 'a parameter'} twice")
                seen.add(id(p))
            unknown = set(group) - set(defaults) - {"params"}
            if unknown:
                raise ValueError(f"{name}: params has unknown options {sorted(unknown)}")
            merged = {**defaults, **group, "params": members}
            self.check(merged)
            self.param_groups.append(merged)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError or TypeError, by name, for an option out of range."""
        name = type(self).__name__
        _checks.real(f"{name}: lr", group["lr"], 0.0)
        _checks.real(f"{name}: weight_decay", group["weight_decay"], 0.0)
        _checks.flag(f"{name}: maximize", group["maximize"])

    def update(self, data: np.ndarray, grad: np.ndarray, state: list[np.ndarray], group: dict[str, Any],
               step: int) -> None:
        """Change `data` and `state`, the arrays of state_names, in place by the rule; leave `grad` alone."""
        raise NotImplementedError

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, group after group."""
        return [p for group in self.param_groups for p in group["params"]]

    def add_hook(self, hook: Callable[[list[np.ndarray]], Any]) -> None:
        """Call ``hook(gradients)``, a list of flat arrays, before each step; it may change them in place."""
        self._hooks.append(hook)

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for _, grad in coalesce(self.parameters):
            grad.fill(0)

    def step(self) -> None:
        """Update all parameters from their gradients, which stay as they are."""
        if self._hooks:
            gradients = [grad for _, grad in coalesce(self.parameters)]
            for hook in self._hooks:
                hook(gradients)
        runs = self._runs()  # what fails does so before anything has changed
        self.state["step"] += 1
        try:
            for data, grad, state, group in runs:
                self.update(data, grad, state, group, self.state["step"])
        finally:  # again: a layer that shares them may have been called meanwhile
            for buffer in {p._buffer for p in self.parameters}:
                buffer.drop_caches()

    def _runs(self):
        """List (data, grad, state, group) of each run of parameters that lie side by side."""
        runs = []
        for index, group in enumerate(self.param_groups):
            pairs = coalesce(group["params"])
            if not self.state_names:  # the rest would be a fifth of plain SGD's step of a small network
                runs += [(data, grad, [], group) for data, grad in pairs]
                continue
            sizes: dict[np.dtype, int] = {}
            for data, _ in pairs:
                sizes[data.dtype] = sizes.get(data.dtype, 0) + data.size
            arrays = {dtype: [self._state_array(f"{index}.{name}.{dtype}", size, dtype)
                              for name in self.state_names] for dtype, size in sizes.items()}
            for data, grad in pairs:
                left = arrays[data.dtype]
                runs.append((data, grad, [array[: data.size] for array in left], group))
                arrays[data.dtype] = [array[data.size :] for array in left]
        return runs

    def _state_array(self, key, size, dtype):
        if key not in self.state:
            self.state[key] = np.zeros(size, dtype)
        array, name = self.state[key], f"{type(self).__name__}: state {key}"
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            kind = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"{name} must be an array of {dtype}, got {kind}")
        _checks.same_shape(name, array, (size,))
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} must be contiguous, got strides {array.strides}")
        return array

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the state and the options of the groups, without the parameters."""
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
        state = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` of an optimizer of the same kind and sizes returned."""
        name = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{name}.load_state_dict: state_dict is a {type(state_dict).__name__}, expected "
                            "what state_dict() returns")
        for key in ("state", "param_groups"):
            if key not in state_dict:
                raise ValueError(f"{name}.load_state_dict: state_dict has no {key!r}")
        groups = _checks.list_of(f"{name}.load_state_dict: param_groups", state_dict["param_groups"], Mapping)
        if len(groups) != len(self.param_groups):
            raise ValueError(f"{name}.load_state_dict: state_dict has {len(groups)} groups, expected "
                             f"{len(self.param_groups)}")
        for group in groups:
            if (options := group.keys() - {"params"}) != self.defaults.keys():
                raise ValueError(f"{name}.load_state_dict: state_dict is of an optimizer with the options "
                                 f"{sorted(options)}, expected {sorted(self.defaults)}")
        merged = [{**ours, **theirs, "params": ours["params"]}
                  for ours, theirs in zip(self.param_groups, groups, strict=True)]
        for group in merged:
            self.check(group)
        before, self.param_groups = self.param_groups, merged
        try:
            self.state = self._checked_state(state_dict["state"])
        except BaseException:
            self.param_groups = before
            raise

    def _checked_state(self, found: dict[str, Any]) -> dict[str, Any]:
        """Copies of the arrays of a state, whose names and sizes must be those of this optimizer."""
        name = f"{type(self).__name__}.load_state_dict"
        if not isinstance(found, Mapping):
            raise TypeError(f"{name}: state is a {type(found).__name__}, expected that of state_dict()")
        sizes: dict[str, int] = {}
        for index, group in enumerate(self.param_groups):
            for p in group["params"]:
                for what in {*self.state_names, *self.optional_states}:
                    key = f"{index}.{what}.{p.dtype}"
                    sizes[key] = sizes.get(key, 0) + p.size
        state: dict[str, Any] = {"step": _checks.integer(f"{name}: step", found.get("step"), 0)}
        for key in found.keys() - {"step"}:
            if key not in sizes:
                raise ValueError(f"{name}: state has {key}, expected only {sorted(sizes)}")
            dtype, label = np.dtype(key.rpartition(".")[2]), f"{name}: state {key}"
            _checks.same_shape(label, _checks.plain_array(label, found[key], str(dtype)), (sizes[key],))
            state[key] = _checks.as_float_array(label, found[key], 1, dtype).copy()
        needed = {key for key in sizes if key.split(".")[1] in self.state_names}
        if state["step"] and (missing := sorted(needed - state.keys())):
            raise ValueError(f"{name}: state of step {state['step']} has no {', '.join(missing)}")
        return state

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.defaults.items())
        return f"{type(self).__name__}({len(self.parameters)} parameters, {options})"
