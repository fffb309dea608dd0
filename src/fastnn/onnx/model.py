"""A network read from an ONNX file, as a Module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _checks, _random
from .._kernels.runtime import in_default_environment
from ..layers import Module, Parameter
from .executor import Program, Session
from .graph import Graph, Value
from .operators import find


class OnnxModel(Module):
    """A network read from an ONNX file: runs, and can be trained further.

    Parameters
    ----------
    graph : Graph
        The network as data. Its constants that are weights become parameters under their own names, the
        running statistics of batch norms become buffers.
    rng : int or numpy.random.Generator, optional
        For dropout.

    Attributes
    ----------
    graph : Graph
        Without the arrays that became parameters and buffers.
    inputs, outputs : dict of str to Value
        Name, dtype and shape of what goes in and comes out; in a shape a str or None is a free size.

    Notes
    -----
    The model is in eval mode when read. After `train` batch norms use the statistics of the batch (and track
    them) and dropout drops, as torch's layers do, whatever the file says of a mode.
    """

    def __init__(self, graph: Graph, *, rng: _random.Rng = None):
        trained, written = _roles(graph)
        dtypes = [graph.constants[name].dtype for name in trained]
        super().__init__(dtype=dtypes[0] if dtypes else np.float32)
        self.graph = graph
        self.inputs = {value.name: value for value in graph.inputs}
        self.outputs = {value.name: value for value in graph.outputs}
        self._rng = _random.own_generator("OnnxModel: rng", rng)
        self._constants = dict(graph.constants)
        self._attributes: dict[str, str] = {}  # of values that are parameters or buffers, by their names
        for name in trained + written:
            array = self._constants.pop(name)
            attribute = self._attributes[name] = self._free_name(name)
            if name in trained:
                setattr(self, attribute, Parameter(array))
            else:
                self.register_buffer(attribute, array)
        differentiable = [v.name for v in graph.inputs if v.dtype in _checks.FLOATS]
        self.graph = Graph(graph.inputs, graph.outputs, graph.nodes, self._constants, graph.name, graph.opset)
        self._program = Program(self.graph, self._attributes,
                                {True: trained + differentiable, False: trained})
        self._dynamic = [step for step in self._program.steps if not step.static]
        self._trained = trained
        self.eval()

    def _free_name(self, name: str) -> str:
        """The name of an attribute for a value: its own, or, where the class has that, one like it."""
        while hasattr(self, name):
            name += "_"
        return name

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in order."""
        return list(self.inputs)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return list(self.outputs)

    def forward(self, *arrays: np.ndarray) -> Any:
        """Return the output (a tuple if there are several) for the inputs, in their order."""
        if len(arrays) != len(self.inputs):
            raise ValueError(f"OnnxModel: got {len(arrays)} inputs, expected {len(self.inputs)}: "
                             + ", ".join(map(repr, self.inputs)))
        outputs = self._run(dict(zip(self.inputs, arrays, strict=True)))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name, for the inputs by name."""
        faults = [f"{name!r} is missing" for name in self.inputs if name not in feeds]
        faults += [f"{name!r} is not an input" for name in feeds if name not in self.inputs]
        if faults:
            raise ValueError("OnnxModel.run: " + ", ".join(faults) + "; the inputs are "
                             + ", ".join(map(repr, self.inputs)))
        return dict(zip(self.outputs, self._run(feeds), strict=True))

    @in_default_environment
    def _run(self, feeds: Mapping[str, Any]) -> list[np.ndarray]:
        feeds = {name: _checked(value, feeds[name]) for name, value in self.inputs.items()}
        # An overflow or a NaN is a result like another, of which the operators need not speak.
        with np.errstate(all="ignore"):
            return self._run_checked(feeds)

    def _run_checked(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        program = self._program
        if self.recording:
            session = Session(self.training, True, lambda key, build: build(), self._buffers(), self._rng)
            values = {**self._initial(), **feeds}
            tape = program.run(values, session)
            self._save(tape, feeds, tuple(values[name] for name in self.outputs))
        else:
            session = Session(self.training, False, self._cached, self._buffers(), self._rng)
            # The arrays that no run changes, and all that follows from them, once for many runs.
            known = self._cached("values", lambda: self._static_values(session))
            values = {**known, **feeds}
            program.run(values, session, self._dynamic)
        # Not the model's own arrays, which the caller might write to.
        return [values[name].copy() if name in program.constant else values[name] for name in self.outputs]

    def _initial(self) -> dict[str, Any]:
        """All arrays that a run begins with, by name."""
        weights = {name: getattr(self, self._attributes[name])._data for name in self._trained}
        return {**self._constants, **weights, **self._buffers()}

    def _buffers(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, attribute) for name, attribute in self._attributes.items()
                if attribute in self._buffer_names}

    def _static_values(self, session: Session) -> dict[str, Any]:
        values = self._initial()
        self._program.run(values, session, [step for step in self._program.steps if step.static])
        return values

    @in_default_environment
    def backward(self, *grad_outputs: Any, input_grad: bool = True) -> Any:
        """Add to the parameters' gradients and return the gradient of the input of the last `forward`.

        Parameters
        ----------
        grad_outputs : ndarray or None, for each output
            None for zeros.
        input_grad : bool, default True
            Whether to compute the gradients of the inputs.

        Returns
        -------
        grad_inputs : ndarray, or a tuple of them if there are several inputs
            None for inputs that are no floats, and without `input_grad`.
        """
        tape, feeds, outputs = self._take()
        if len(grad_outputs) == 1 and isinstance(grad_outputs[0], tuple | list):
            grad_outputs = tuple(grad_outputs[0])
        if len(grad_outputs) != len(outputs):
            raise ValueError(f"OnnxModel.backward: got {len(grad_outputs)} gradients, expected "
                             f"{len(outputs)}, one for each output")
        grads: dict[str, Any] = {}
        for name, y, grad in zip(self.outputs, outputs, grad_outputs, strict=True):
            if grad is not None:
                what = f"OnnxModel.backward: the gradient of {name!r}"
                grads[name] = _checks.as_float_array(what, grad, None, y.dtype)
                _checks.same_shape(what, grads[name], y.shape, "as the output has")
        with np.errstate(all="ignore"):
            self._program.backward(tape, grads, _checks.flag("OnnxModel.backward: input_grad", input_grad))
        for name in self._trained:
            if name in grads:
                getattr(self, self._attributes[name])._grad += grads[name]
        if not input_grad:
            return None
        found = tuple(grads.get(name, np.zeros_like(x)) if x.dtype in _checks.FLOATS else None
                      for name, x in feeds.items())
        return found[0] if len(found) == 1 else found

    def extra_repr(self) -> str:
        """Return the configuration as `repr` shows it."""
        inputs = ", ".join(f"{value.name}: {_shape(value)}" for value in self.inputs.values())
        graph = self.graph
        return f"{graph.name or 'graph'}({inputs}), {len(graph.nodes)} nodes, opset {graph.opset}"


def _roles(graph: Graph) -> tuple[list[str], list[str]]:
    """Constants that are trained, and those that training writes, in the order of the file.

    A lone number, of shape (), is part of a formula, as the 3 of a hard sigmoid made of parts.
    """
    trained, written = set(), set()
    for node in reversed(graph.nodes):
        op = find(node.op, graph.opset)
        trained.update(node.inputs[i] for i in op.weights if i < len(node.inputs))
        written.update(node.inputs[i] for i in op.state if i < len(node.inputs))
        # A weight may come transposed or in another shape.
        if op.rearranges and node.outputs[0] in trained:
            trained.add(node.inputs[0])
    trained -= written
    floats = [name for name, array in graph.constants.items()
              if array.dtype in _checks.FLOATS and array.size and array.ndim]
    return [name for name in floats if name in trained], [name for name in floats if name in written]


def _shape(value: Value) -> str:
    if value.shape is None:
        return "any shape"
    return "(" + ", ".join("?" if n is None else str(n) for n in value.shape) + ")"


def _checked(value: Value, x: Any) -> np.ndarray:
    """The array given for an input, if it is of the dtype and shape that the model wants."""
    name = f"OnnxModel: input {value.name!r}"
    x = _checks.plain_array(name, x, "numbers")
    if value.dtype is not None and x.dtype != value.dtype:
        if x.dtype.newbyteorder("=") != value.dtype:
            raise TypeError(f"{name} has dtype {x.dtype}, expected {value.dtype}; convert it with .astype")
        x = x.astype(value.dtype)
    if value.shape is not None:
        fits = x.ndim == len(value.shape) and all(
            n == size for n, size in zip(x.shape, value.shape, strict=True) if isinstance(size, int))
        if not fits:
            raise ValueError(f"{name} has shape {x.shape}, expected {_shape(value)}")
    return x if x.flags.aligned else x.copy()  # a field of packed records has strides of no whole elements
