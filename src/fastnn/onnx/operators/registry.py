"""The table of operators, and what an operator's function is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..._checks import FLOATS
from ..graph import Node

OLDEST, NEWEST = 7, 28  # opsets

# Operators by name, each a list of versions, oldest first.
OPERATORS: dict[str, list[Operator]] = {}


class Operator:
    """A version of an ONNX operator.

    `forward(call, *inputs, **attributes)` returns the output, or a tuple of outputs. An input that a node
    leaves out is None; the keywords are the operator's attributes, with ONNX's defaults.
    `backward(call, *grad_outputs, **attributes)` returns the gradient of the input, or a tuple of those of
    all inputs; a gradient that nobody asks for (`call.needs`), or that is zero, may be None.
    Without a backward the derivative is zero or there is none.

    Attributes
    ----------
    since : int
        The first opset of this version, or `OLDEST`.
    weights : tuple of int
        The inputs that are trained where the file gives them: the model's parameters.
    state : tuple of int
        The inputs that training writes: the model's buffers.
    rearranges : bool
        Whether the output holds the input's elements in other places, so that a weight may pass through.
    """

    def __init__(self, name: str, since: int, forward: Callable[..., Any], weights: tuple[int, ...],
                 state: tuple[int, ...], rearranges: bool):
        self.name, self.since, self.forward = name, since, forward
        self.weights, self.state = weights, state
        self.rearranges = rearranges
        self.backward: Callable[..., Any] | None = None
        keywords = inspect.signature(forward).parameters.values()
        self.attributes = {p.name for p in keywords if p.kind is p.KEYWORD_ONLY}

    def gradient(self, backward: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate the function that is the operator's backward; float16 comes to it as float32."""
        self.backward = _widened_gradient(backward)
        return backward

    def __reduce__(self) -> tuple[Any, ...]:
        return find, (self.name, self.since)  # a copy or a pickle is the one of the table


def operator(name: str, since: int = OLDEST, weights: tuple[int, ...] = (), state: tuple[int, ...] = (),
             widen: bool = False, rearranges: bool = False) -> Callable[[Callable[..., Any]], Operator]:
    """Decorate the function that is the forward of an operator, from an opset on.

    With `widen` the function is given float16 and bfloat16 as float32, and its result is rounded back.
    """

    def register(forward: Callable[..., Any]) -> Operator:
        made = Operator(name, since, _widened(forward) if widen else forward, weights, state, rearranges)
        versions = OPERATORS.setdefault(name, [])
        versions.append(made)
        versions.sort(key=lambda version: version.since)
        return made

    return register


def check_one_dtype(*arrays: np.ndarray | None) -> None:
    """Raise TypeError unless the arrays, of which some may be None, have one dtype: ONNX converts nothing."""
    dtypes = dict.fromkeys(array.dtype for array in arrays if array is not None)
    if len(dtypes) > 1:
        raise TypeError(f"inputs of dtypes {' and '.join(map(str, dtypes))}, expected one dtype")


def check_float(*arrays: np.ndarray | None) -> None:
    """Raise TypeError unless the arrays, of which some may be None, are all float32 or all float64."""
    check_one_dtype(*arrays)
    if arrays[0] is not None and arrays[0].dtype not in FLOATS:
        raise TypeError(f"inputs of dtype {arrays[0].dtype}, expected float32 or float64")


def find(name: str, opset: int) -> Operator | None:
    """The version of an operator that an opset means, or None."""
    known = [op for op in OPERATORS.get(name, ()) if op.since <= opset]
    return known[-1] if known else None


def _is_narrow(dtype: np.dtype) -> bool:
    return dtype.kind in "fV" and dtype.itemsize == 2  # bfloat16 is no float in NumPy's eyes


def is_float(dtype: np.dtype) -> bool:
    """Whether a dtype is a float, bfloat16 among them."""
    return dtype.kind == "f" or _is_narrow(dtype)


def _wide(arrays: Sequence[Any], narrow: np.dtype) -> list[Any]:
    return [x.astype(np.float32) if x is not None and x.dtype == narrow else x for x in arrays]


def _rounded(results: Any, narrow: np.dtype) -> Any:
    """What is float of an array, or of each of a tuple, in the narrow dtype."""
    if isinstance(results, tuple):
        return tuple(_rounded(y, narrow) for y in results)
    return results if results is None or results.dtype.kind != "f" else results.astype(narrow)


def _widened(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(call: Call, *inputs: Any, **attributes: Any) -> Any:
        narrow = inputs[0].dtype
        if not _is_narrow(narrow):
            return forward(call, *inputs, **attributes)
        return _rounded(forward(call, *_wide(inputs, narrow), **attributes), narrow)

    run.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    return run


def _widened_gradient(backward: Callable[..., Any]) -> Callable[..., Any]:
    def run(call: Call, *grad_outputs: Any, **attributes: Any) -> Any:
        narrow = call.inputs[0].dtype
        if not _is_narrow(narrow):
            return backward(call, *grad_outputs, **attributes)
        inputs, outputs = call.inputs, call.outputs
        call.inputs, call.outputs = _wide(inputs, narrow), tuple(_wide(outputs, narrow))
        try:
            return _rounded(backward(call, *_wide(grad_outputs, narrow), **attributes), narrow)
        finally:
            call.inputs, call.outputs = inputs, outputs

    return run


class Call:
    """One run of a node, from its forward to its backward.

    Attributes
    ----------
    node : Node
    inputs : list of ndarray or None
    outputs : tuple of ndarray
        After the forward.
    saved
        Whatever the forward leaves there for the backward.
    needs : sequence of bool
        Of the inputs, those whose gradient is wanted: in the backward.
    session
        The run of the whole model: its mode, its random generator, its buffers.
    """

    __slots__ = ("_constants", "inputs", "needs", "node", "outputs", "saved", "session")

    def __init__(self, node: Node, inputs: list[Any], constants: Sequence[bool], session: Any):
        self.node, self.inputs, self.session = node, inputs, session
        self._constants = constants
        self.needs: Sequence[bool] = ()
        self.outputs: tuple[Any, ...] = ()
        self.saved: Any = None

    @property
    def training(self) -> bool:
        """Whether batch norms go by the batch and dropout drops."""
        return bool(self.session.training)

    @property
    def recording(self) -> bool:
        """Whether there will be a `backward`."""
        return bool(self.session.recording)

    def wants(self, i: int) -> bool:
        """Whether the node has an output `i`."""
        return i < len(self.node.outputs) and self.node.outputs[i] != ""

    def cached(self, made_of: tuple[int, ...], key: Any, build: Callable[[], Any]) -> Any:
        """Return ``build()``, made of these inputs: once for all, if they never change in eval mode."""
        if not all(self._constants[i] for i in made_of if i < len(self.inputs) and self.node.inputs[i]):
            return build()
        return self.session.cached((self.node.outputs[0], key), build)
