"""Runs a graph, forward and backward.

A `Program` is a graph with an operator looked up for each node and, for each step, what follows from the
graph alone: which inputs are constant, which need a gradient, which values nobody reads any more. It holds no
arrays: values come and go in a dict by name, one for each run, so one program serves many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Graph, Node
from .operators import Call, Operator, find

Values = dict[str, Any]


@dataclass
class Session:
    """What a run has from the model: the modes, the cache of packed weights, the buffers, a generator."""

    training: bool
    recording: bool
    cached: Callable[[Any, Callable[[], Any]], Any]
    buffers: Mapping[str, np.ndarray]
    rng: Any = None

    def track(self, names: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
        """Write running statistics to the buffers they came from, in training mode."""
        if self.training:
            for name, array in zip(names, arrays, strict=True):
                if name in self.buffers:
                    self.buffers[name][...] = array.reshape(self.buffers[name].shape)


class Step:
    """A node ready to run.

    Attributes
    ----------
    constants : tuple of bool
        Of the inputs, those that no run in eval mode changes.
    static : bool
        Whether that goes for the outputs, too.
    needs : dict of bool to tuple of bool
        Of the inputs, those whose gradient is needed if that of the model's input is (True) and if not.
    dead : list of str
        Values that nobody reads after this step.
    branches : dict of str to Program
        Of an If.
    """

    def __init__(self, node: Node, operator: Operator):
        self.node, self.operator = node, operator
        self.constants: tuple[bool, ...] = ()
        self.static = False
        self.needs: dict[bool, tuple[bool, ...]] = {}
        self.dead: list[str] = []
        self.branches: dict[str, Program] = {}

    def run(self, values: Values, session: Session) -> Call:
        """Run the node on the values it reads; put its outputs among them."""
        node = self.node
        inputs = [values[name] if name else None for name in node.inputs]
        call = Call(node, inputs, self.constants, session)
        try:
            if self.branches:
                outputs = self._run_branch(call, values, session)
            else:
                outputs = self.operator.forward(call, *inputs, **node.attributes)
        except (ValueError, TypeError, IndexError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{node}: {error}") from error
        call.outputs = outputs if type(outputs) is tuple else (outputs,)
        for name, value in zip(node.outputs, call.outputs, strict=False):
            if name:
                values[name] = np.asarray(value)  # arithmetic makes numbers of arrays of shape ()
        return call

    def _run_branch(self, call: Call, values: Values, session: Session) -> tuple[np.ndarray, ...]:
        program = self.branches[self.operator.forward(call, *call.inputs, **self.node.attributes)]
        inner = {**values, **program.graph.constants}
        call.saved = program, program.run(inner, session)
        return tuple(inner[output.name] for output in program.graph.outputs)


class Program:
    """A graph's steps.

    Parameters
    ----------
    graph : Graph
    constant : iterable of str
        Values that no run in eval mode changes: constants, parameters, buffers.
    tracked : dict of bool to iterable of str
        Values whose gradient is wanted if that of the model's input is (True), and if not.

    Attributes
    ----------
    constant : set of str
        With all that follows from them.
    """

    def __init__(self, graph: Graph, constant: Iterable[str], tracked: Mapping[bool, Iterable[str]]):
        self.graph = graph
        constant = {*constant, *graph.constants}
        reached = {key: set(names) for key, names in tracked.items()}
        self.steps = []
        for node in graph.nodes:
            operator = find(node.op, graph.opset)
            assert operator is not None, "the reader refuses a graph with an unknown operator"
            step = Step(node, operator)
            step.constants = tuple(name in constant for name in node.inputs)
            step.static = all(name in constant for name in node.reads())
            if step.static:
                constant.update(node.outputs)
            for key, names in reached.items():
                step.needs[key] = tuple(name in names for name in node.inputs)
                if node.op == "If" or (operator.backward is not None and any(step.needs[key])):
                    names.update(node.outputs)
            step.branches = {key: Program(value, constant, reached)
                             for key, value in node.attributes.items() if isinstance(value, Graph)}
            self.steps.append(step)
        self.constant = constant
        self._mark_dead({*constant, *(value.name for value in graph.outputs)})

    def _mark_dead(self, kept: set[str]) -> None:
        """Let each step name the values that it is the last to read, or that nobody reads."""
        seen = set(kept)
        for step in reversed(self.steps):
            for name in [*step.node.reads(), *step.node.outputs]:
                if name and name not in seen:
                    seen.add(name)
                    step.dead.append(name)

    def run(self, values: Values, session: Session, steps: Sequence[Step] | None = None) -> list[Call]:
        """Run the steps (or some of them); return what `backward` needs, if the run is recorded."""
        tape = []
        for step in self.steps if steps is None else steps:
            call = step.run(values, session)
            if session.recording:
                tape.append((step, call))
            for name in step.dead:
                values.pop(name, None)
        return tape

    def backward(self, tape: list[Any], grads: Values, input_grad: bool) -> None:
        """Go back through a run: `grads` has the gradients of the outputs, and gets those of all else."""
        for step, call in reversed(tape):
            grad_outputs = [grads.pop(name, None) for name in step.node.outputs]
            if all(grad is None for grad in grad_outputs):
                continue
            if step.branches:
                program, inner = call.saved
                for value, grad in zip(program.graph.outputs, grad_outputs, strict=False):
                    _add(grads, value.name, grad)
                program.backward(inner, grads, input_grad)
                continue
            call.needs = step.needs[input_grad]
            if step.operator.backward is None or not any(call.needs):
                continue
            found = step.operator.backward(call, *grad_outputs, **step.node.attributes)
            found = found if type(found) is tuple else (found,)
            for name, needed, grad in zip(step.node.inputs, call.needs, found, strict=False):
                if needed:
                    _add(grads, name, grad)


def _add(grads: Values, name: str, grad: Any) -> None:
    """Add a gradient to that of a value. Never in place: operators may hand on the array they were given."""
    if grad is not None:
        grads[name] = grads[name] + grad if name in grads else grad
