"""Nodes without a kernel of their own: functions and Modules that make their own arrays."""

from __future__ import annotations

from functools import partial

import numpy as np

from ... import functional
from ...onnx.executor import Session
from .registry import Known, as_arrays, steps_of


def call(build, function, operands):
    """The results of a function; known ones where all operands are."""
    if build.all_known():
        return tuple(map(Known, as_arrays(function(*operands))))
    return build.call(function, *operands)


@steps_of("function")
def function_steps(build, node, *operands):
    """A function of `fastnn.functional`."""
    given = node.attributes
    function = getattr(functional, given["name"])

    def run(*arrays):
        return function(**dict(zip(given["operands"], arrays, strict=True)), **given["arguments"])

    return call(build, run, operands)


@steps_of("onnx")
def onnx_steps(build, node, *operands):
    """An operator of an ONNX file, by the function that runs it in the model."""
    step = node.attributes["step"]
    names, rng = node.inputs, node.attributes["rng"]
    if step.node.op in ("Shape", "Size"):
        return Known(_run(step, names, rng, operands[0])[0])
    return call(build, partial(_run, step, names, rng), operands)


def _run(step, names, rng, *arrays):
    session = Session(False, False, lambda key, build: build(), {}, rng)
    values = dict(zip(names, arrays, strict=True))
    with np.errstate(all="ignore"):
        outputs = step.run(values, session).outputs
    return tuple(np.zeros(0) if y is None else np.asarray(y) for y in outputs)


@steps_of("module")
def module_steps(build, node, x):
    """A Module that is kept as it is."""
    return call(build, partial(_flat_outputs, node.attributes["module"]), (x,))


def _flat_outputs(module, x):
    y = module(x)
    return tuple(_flattened(y)) if isinstance(y, tuple) else y


def _flattened(outputs):
    for y in outputs:
        yield from _flattened(y) if isinstance(y, tuple) else (y,)
