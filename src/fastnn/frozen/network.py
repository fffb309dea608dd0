"""A frozen network: what `Module.freeze` returns."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._checks import plain_array
from .._kernels.runtime import in_default_environment, packed_for_isa
from .graph import Graph, Input, Node
from .passes import optimise
from .plan import Plan, Workspace
from .steps import Moved

# Shapes of inputs whose plans are kept; each holds memory for the arrays of a call.
MAX_PLANS = 16

_Key = tuple[Any, ...]


class FrozenNetwork:
    """A network for inference alone, which owns copies of its weights.

    Calling it gives what the model's `forward` gives in eval mode, within rounding: batch norms are folded
    into the products before them, activations and sums are computed with the products, weights are packed
    once, and the arrays between the layers lie in memory that is planned once for each shape of the inputs
    and used again by the next call. Any number of threads may call at the same time; each works in memory of
    its own and gets the same bits.

    Parameters
    ----------
    graph : Graph
    form : nested tuples of int
        The model's own form of its outputs: their numbers in the graph's.
    name : str
        For messages.

    Notes
    -----
    The first call with other shapes takes longer than those that follow: it prepares them. Plans of the last
    16 shapes are kept. Results are arrays of the caller's.
    """

    def __init__(self, graph: Graph, form: Any, name: str):
        self.graph, self.name = graph, name
        self._form = form
        self._lock = threading.Lock()
        self._forget()
        packed_for_isa.add(self)

    def _forget(self) -> None:
        self._plans: OrderedDict[_Key, tuple[Plan, list[Workspace]]] = OrderedDict()
        self._graphs: dict[tuple[int, ...], Graph] = {}
        self._packed: dict[Any, Any] = {}

    def _drop_cache(self) -> None:
        """Forget what depends on the instruction set: called when another is chosen."""
        with self._lock:
            self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"graph": self.graph, "_form": self._form, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["graph"], state["_form"], state["name"])  # type: ignore[misc]

    # --- Calling

    def __call__(self, *inputs: Any) -> Any:
        """Return what the model's `forward` returns for these inputs."""
        expected = self.graph.inputs
        if len(inputs) != len(expected):
            raise ValueError(f"{self.name}: got {len(inputs)} inputs, expected {len(expected)}")
        return _formed(self._form, self._results(inputs))

    forward = __call__

    def run(self, feeds: Mapping[str, Any], done: Callable[[], object] = bool) -> dict[str, np.ndarray]:
        """Return the outputs by name, for inputs by name; of what was read from an ONNX file.

        `done` is called after each of `nodes` where inputs have these shapes for the first time.
        """
        results = self._results(self._ordered(feeds), done)
        return dict(zip(self.graph.outputs, results, strict=True))

    @in_default_environment
    def nodes(self, feeds: Mapping[str, Any]) -> list[Node]:
        """What runs for inputs by name: nodes into which others have been fused."""
        return self._optimised(tuple(np.ndim(x) for x in self._ordered(feeds))).nodes

    @in_default_environment
    def timed(self, feeds: Mapping[str, Any]) -> list[tuple[Node, float]]:
        """Run on inputs by name; return the seconds of each node but those that need no step."""
        key, arrays, buffers = self._prepared(self._ordered(feeds))
        if key not in self._plans:
            self._first_run(key, arrays, buffers, bool)
        plan, free = self._plans[key]
        workspace = free.pop() if free else plan.workspace()
        times = workspace.timed(buffers)
        free.append(workspace)
        return times

    def _ordered(self, feeds: Mapping[str, Any]) -> list[Any]:
        names = [value.name for value in self.graph.inputs]
        faults = [f"{name!r} is missing" for name in names if name not in feeds]
        faults += [f"{name!r} is not an input" for name in feeds if name not in names]
        if faults:
            raise ValueError(f"{self.name}.run: " + ", ".join(faults) + "; the inputs are "
                             + ", ".join(map(repr, names)))
        return [feeds[name] for name in names]

    def _prepared(self, inputs: Sequence[Any]) -> tuple[_Key, list[np.ndarray], list[np.ndarray]]:
        """What decides on the plan; the inputs; their memory."""
        arrays, buffers, key = [], [], []
        for value, x in zip(self.graph.inputs, inputs, strict=True):
            x = _as_input(self.name, value, x)
            x, buffer, order = _as_it_lies(x)
            arrays.append(x)
            buffers.append(buffer)
            key.append((x.shape, x.dtype, order))
        return tuple(key), arrays, buffers

    @in_default_environment
    def _results(self, inputs: Sequence[Any], done: Callable[[], object] = bool) -> list[np.ndarray]:
        key, arrays, buffers = self._prepared(inputs)
        entry = self._plans.get(key)
        if entry is None:
            return self._first_run(key, arrays, buffers, done)
        plan, free = entry
        try:
            workspace = free.pop()  # atomic, so that no two threads have the same one
        except IndexError:
            workspace = plan.workspace()
        try:
            return workspace.run(buffers)
        except Moved:
            return self._first_run(key, arrays, buffers, done)
        finally:
            free.append(workspace)

    def _optimised(self, ranks: tuple[int, ...]) -> Graph:
        if ranks not in self._graphs:
            self._graphs[ranks] = optimise(self.graph, ranks)
        return self._graphs[ranks]

    def _first_run(self, key: _Key, arrays: list[np.ndarray], buffers: list[np.ndarray],
                   done: Callable[[], object]) -> list[np.ndarray]:
        with self._lock:
            plan = Plan(self._optimised(tuple(x.ndim for x in arrays)), arrays, buffers, self._cached, done)
            self._plans[key] = plan, []
            if len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)
        results, plan.results = plan.results, []
        return results

    def _cached(self, key: Any, build: Callable[[], Any]) -> Any:
        if key not in self._packed:
            self._packed[key] = build()
        return self._packed[key]

    def __repr__(self) -> str:
        return f"<frozen {self.name}: {len(self.graph.nodes)} nodes>"


def _formed(form: Any, results: list[np.ndarray]) -> Any:
    """The results in the model's form."""
    if isinstance(form, tuple):
        return tuple(_formed(part, results) for part in form)
    return results[form]


def _as_input(name: str, value: Input, x: Any) -> np.ndarray:
    """The array given for an input, if it is of the dtype and shape that the network wants."""
    if type(x) is not np.ndarray:
        x = plain_array(f"{name}: input {value.name!r}", x, "numbers")
    if not (x.dtype.isnative and x.flags.aligned):
        x = x.astype(x.dtype.newbyteorder("="))
    if value.dtype is not None and x.dtype != value.dtype:
        raise TypeError(f"{name}: input {value.name!r} has dtype {x.dtype}, expected {value.dtype}; convert "
                        "it with .astype")
    if value.shape is not None and not (len(value.shape) == x.ndim and all(
            n == size for n, size in zip(x.shape, value.shape, strict=True) if isinstance(size, int))):
        expected = ", ".join("?" if n is None else str(n) for n in value.shape)
        raise ValueError(f"{name}: input {value.name!r} has shape {x.shape}, expected ({expected})")
    return x


def _as_it_lies(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """An array in C order or channels-last, its memory in C order, and which of the two it is."""
    if x.flags.c_contiguous:
        return x, x, False
    if x.ndim == 4 and (pixels := x.transpose(0, 2, 3, 1)).flags.c_contiguous:
        return x, pixels, True
    x = np.ascontiguousarray(x)
    return x, x, False
