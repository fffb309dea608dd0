"""From a graph and the shapes of its inputs to a list of prepared steps over planned memory.

A node's function in `steps` is called in two situations, and does the same in both:

1. `Recorder`, once for each set of shapes: every array that the function asks for is made, its steps run at
   once on the caller's own input, and written down is how long each array is needed. From that follow the
   places of all arrays in one block of memory (`Plan`).
2. `Binder`, once for each thread that calls at the same time: the arrays are views of the thread's own block,
   and the steps become a list. A call walks that list (`Workspace.run`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .graph import Graph, Node
from .steps import STEPS, Known, as_arrays, copy_results

_LINE = 64  # bytes: arrays begin with a cache line

Cached = Callable[[Any, Callable[[], Any]], Any]


def owner_of(array: np.ndarray) -> np.ndarray:
    """The array whose memory a view shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class _Walk:
    """What the two have in common: nodes one after the other, values by name; `done` is called after each.

    Attributes
    ----------
    node : Node
        The one whose steps are being made.
    """

    def __init__(self, graph: Graph, inputs: Sequence[np.ndarray], cached: Cached,
                 done: Callable[[], object] = bool):
        self._graph = graph
        self._done = done
        self._cached = cached
        self.node: Node = Node("", (), ())
        self._values: dict[str, Any] = dict(graph.constants)
        self._values.update(zip((value.name for value in graph.inputs), inputs, strict=True))
        self._known = set(graph.constants)
        self._shared: dict[str, np.ndarray] = {}

    def walk(self) -> None:
        """Make the steps of all nodes."""
        for number, node in enumerate(self._graph.nodes):
            self._begin(number, node)
            operands = [self._values[name] if name else None for name in node.inputs]
            outputs = STEPS[node.op](self, node, *operands)
            self._end(number, node, outputs if isinstance(outputs, tuple) else (outputs,))
            self._done()

    def _begin(self, number: int, node: Node) -> None:
        self.node = node

    def _end(self, number: int, node: Node, outputs: tuple[Any, ...]) -> None:
        for name, value in zip(node.outputs, outputs, strict=False):
            if isinstance(value, Known):
                self._known.add(name)
                value = value.array
            self._values[name] = value

    # --- What the functions in `steps` ask for

    def shared(self, name: str, shape: tuple[int, ...] = (), dtype: Any = None) -> np.ndarray:
        """An array of the plan's that several nodes write to, made when it is first asked for."""
        if name not in self._shared:
            self._shared[name] = self.empty(shape, dtype)
        return self._shared[name]

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of the plan's."""
        raise NotImplementedError

    def step(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have ``function(*arguments)`` called."""
        raise NotImplementedError

    def call(self, function: Callable[..., Any], *arguments: Any) -> tuple[np.ndarray, ...]:
        """Arrays of the plan's with what a function returns, an array or a tuple of them."""
        raise NotImplementedError

    def overwrites(self, i: int) -> bool:
        """Whether the memory of operand `i` is the plan's, and nobody but this node needs it."""
        raise NotImplementedError

    def known(self, i: int) -> bool:
        """Whether operand `i` of the node is the same in every call."""
        return not self.node.inputs[i] or self.node.inputs[i] in self._known

    def all_known(self) -> bool:
        """Whether all operands are."""
        return all(map(self.known, range(len(self.node.inputs))))

    def cached(self, key: Any, build: Callable[[], Any]) -> Any:
        """``build()``, which depends on the node's constants alone: once for all plans."""
        return self._cached((self.node.inputs[1:], key), build)

    def outputs(self) -> list[Any]:
        """The graph's outputs."""
        return [self._values[name] for name in self._graph.outputs]


class Recorder(_Walk):
    """The first run for some shapes: executes every step at once, and writes down the life of each array."""

    def __init__(self, graph: Graph, inputs: Sequence[np.ndarray], cached: Cached,
                 done: Callable[[], object]):
        super().__init__(graph, inputs, cached, done)
        self.sizes: list[int] = []          # of the arrays, in bytes
        self.lives: list[list[int]] = []    # of each, the first and last node that needs it
        self.answers: list[Any] = []        # to what only this run can know, in order
        self._uses = graph.uses()
        self._number = 0
        self._storages: dict[int, int] = {}      # the array's number by the id of its owner
        self._values_in: dict[int, set[str]] = {}   # those that lie in an array, by its number
        self._fresh: list[np.ndarray] = []       # made by the node in hand

    def _begin(self, number: int, node: Node) -> None:
        super()._begin(number, node)
        self._number = number

    def _end(self, number: int, node: Node, outputs: tuple[Any, ...]) -> None:
        super()._end(number, node, outputs)
        for name in node.outputs:
            storage = self._storage(self._values.get(name))
            if storage is not None:
                self._values_in[storage].add(name)
        for name in filter(None, node.inputs):
            self._uses[name] -= 1
            storage = self._storage(self._values[name])
            if storage is not None:
                self.lives[storage][1] = number
        for name in {*node.inputs, *node.outputs} - self._known - {""}:
            if self._uses[name] <= 0:
                storage = self._storage(self._values.pop(name, None))
                if storage is not None:
                    self._values_in[storage].discard(name)
        # An array that is gone leaves its id to others.
        self._storages = {key: n for key, n in self._storages.items() if self._values_in[n]}
        self._fresh.clear()

    def finish(self) -> list[Any]:
        """Let the arrays of the outputs live to the end; return copies of them."""
        for value in self.outputs():
            storage = self._storage(value)
            if storage is not None:
                self.lives[storage][1] = len(self._graph.nodes)
        return [value.copy(order="K") for value in self.outputs()]

    def _storage(self, value: Any) -> int | None:
        return self._storages.get(id(owner_of(value))) if isinstance(value, np.ndarray) else None

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array = np.empty(shape, dtype)
        self._fresh.append(array)
        self._storages[id(array)] = len(self.sizes)
        self._values_in[len(self.sizes)] = set()
        self.sizes.append(array.nbytes)
        self.lives.append([self._number, self._number])
        return array

    def step(self, function: Callable[..., Any], *arguments: Any) -> None:
        function(*arguments)

    def call(self, function: Callable[..., Any], *arguments: Any) -> tuple[np.ndarray, ...]:
        results = as_arrays(function(*arguments))
        self.answers.append([(y.shape, y.dtype) for y in results])
        outputs = tuple(self.empty(y.shape, y.dtype) for y in results)
        for y, result in zip(outputs, results, strict=True):
            y[...] = result
        return outputs

    def overwrites(self, i: int) -> bool:
        storage = self._storage(self._values[self.node.inputs[i]])
        here = self.node.inputs
        answer = storage is not None and all(
            self._uses[name] == here.count(name) for name in self._values_in[storage])
        self.answers.append(answer)
        return answer


class Plan:
    """What follows from a graph and the shapes of its inputs: places of all arrays in one block of memory.

    Parameters
    ----------
    graph : Graph
    inputs : sequence of ndarray
        Contiguous, or images that lie channels-last.
    buffers : sequence of ndarray
        The same memory, in C order.
    cached : callable
        Keeps what is made of constants, packed filters above all.
    done : callable, optional
        Called after each node of this run.

    Attributes
    ----------
    results : list of ndarray
        The outputs for these inputs.
    nbytes : int
        The size of the block.
    """

    def __init__(self, graph: Graph, inputs: Sequence[np.ndarray], buffers: Sequence[np.ndarray],
                 cached: Cached, done: Callable[[], object] = bool):
        # In place of the inputs while steps are bound; untouched memory costs nothing.
        self.stand_ins = [np.empty_like(x) for x in inputs]
        # The inputs with the same strides, also along axes of size 1, so that both walks see the same.
        views = [np.ndarray(x.shape, x.dtype, buffer, 0, x.strides)
                 for x, buffer in zip(self.stand_ins, buffers, strict=True)]
        recorder = Recorder(graph, views, cached, done)
        recorder.walk()
        self.results = recorder.finish()
        self.graph, self.cached, self.answers = graph, cached, recorder.answers
        self.offsets, self.nbytes = _places(recorder.sizes, recorder.lives)

    def workspace(self) -> Workspace:
        """Memory and steps for one caller at a time."""
        return Workspace(self)


def _places(sizes: Sequence[int], lives: Sequence[Sequence[int]]) -> tuple[list[int], int]:
    """Offsets at which arrays do not meet others of the same time, and the size of all.

    The largest first, each at the lowest place that is free for as long as it lives (Pisarchyk and Lee, 2020:
    greedy by size).
    """
    offsets, end = [0] * len(sizes), 0
    placed: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        place = 0
        for j in sorted((j for j in placed if lives[j][0] <= lives[i][1] and lives[i][0] <= lives[j][1]),
                        key=lambda j: offsets[j]):
            if place + sizes[i] <= offsets[j]:
                break
            place = max(place, _whole_lines(offsets[j] + sizes[j]))
        offsets[i] = place
        placed.append(i)
        end = max(end, place + sizes[i])
    return offsets, end


def _whole_lines(size: int) -> int:
    return -(-size // _LINE) * _LINE


class Workspace(_Walk):
    """The steps of a plan over memory of their own."""

    def __init__(self, plan: Plan):
        super().__init__(plan.graph, plan.stand_ins, plan.cached)
        memory = np.empty(plan.nbytes + _LINE, np.uint8)
        begin = -memory.__array_interface__["data"][0] % _LINE
        self._memory = memory[begin : begin + plan.nbytes]
        self._stand_ins = {id(x): i for i, x in enumerate(plan.stand_ins)}
        self._offsets, self._answers = iter(plan.offsets), iter(plan.answers)
        self._steps: list[tuple[Callable[..., Any], list[Any]]] = []
        self._nodes: list[Node] = []        # of each step
        # Arguments that are views of an input: where they stand, and how they are made of it.
        self._views: list[tuple[list[Any], int, int, tuple[Any, ...]]] = []
        self.walk()
        self._results: list[Any] = self.outputs()
        self._find_views(self._results)
        # What only the making of the steps needs.
        del self._values, self._shared, self._offsets, self._answers, self._graph, self._cached

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        offset = next(self._offsets)
        if dtype.hasobject:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, self._memory, offset)

    def step(self, function: Callable[..., Any], *arguments: Any) -> None:
        given = list(arguments)
        self._steps.append((function, given))
        self._nodes.append(self.node)
        self._find_views(given)

    def _find_views(self, given: list[Any]) -> None:
        for place, array in enumerate(given):
            if isinstance(array, np.ndarray) and id(owner_of(array)) in self._stand_ins:
                base = owner_of(array)
                offset = (array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
                          if array.size else 0)
                self._views.append((given, place, self._stand_ins[id(base)],
                                    (array.shape, array.dtype, offset, array.strides)))

    def call(self, function: Callable[..., Any], *arguments: Any) -> tuple[np.ndarray, ...]:
        outputs = tuple(self.empty(shape, dtype) for shape, dtype in next(self._answers))
        self.step(copy_results, outputs, function, *arguments)
        return outputs

    def overwrites(self, i: int) -> bool:
        answer: bool = next(self._answers)
        return answer

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs, in memory of their own, for inputs that lie in memory as the plan's did.

        Each as the bytes of a C-ordered array.
        """
        self._take(inputs)
        for function, given in self._steps:
            function(*given)
        return self._give()

    def timed(self, inputs: Sequence[np.ndarray]) -> list[tuple[Node, float]]:
        """Run likewise; return the seconds of each node, but for those that need no step."""
        seconds = dict.fromkeys(map(id, self._nodes), 0.0)
        self._take(inputs)
        for node, (function, given) in zip(self._nodes, self._steps, strict=True):
            start = time.perf_counter()
            function(*given)
            seconds[id(node)] += time.perf_counter() - start
        by_id = {id(node): node for node in self._nodes}
        self._give()
        return [(by_id[key], value) for key, value in seconds.items()]

    def _take(self, inputs: Sequence[np.ndarray]) -> None:
        for given, place, number, (shape, dtype, offset, strides) in self._views:
            given[place] = np.ndarray(shape, dtype, inputs[number], offset, strides)

    def _give(self) -> list[np.ndarray]:
        results = [y.copy(order="K") for y in self._results]
        for given, place, _, _ in self._views:
            given[place] = None  # the caller's array is the caller's
        return results
