"""Every operator's gradient by finite differences, and the list of those that have none."""

import numpy as np
import pytest
from arrays import DIFFERENCES, draw
from cases import CASES, named, node_of
from models import model_of
from plain_layers import finite_differences

import fastnn.onnx
from fastnn.onnx.operators import OPERATORS

# Functions that are constant where they are smooth, or that give indices, shapes or truth values.
WITHOUT = {
    "And", "ArgMax", "ArgMin", "Ceil", "Constant", "ConstantOfShape", "Equal", "Floor", "Greater",
    "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "NonMaxSuppression", "NonZero", "Not",
    "OneHot", "Or", "Range", "Round", "Shape", "Sign", "Size", "Xor",
    "If",  # whose branches the executor goes back through
}


def test_every_operator_has_a_case():
    with_gradient = {name for name, versions in OPERATORS.items() if any(op.backward for op in versions)}
    assert with_gradient == OPERATORS.keys() - WITHOUT
    assert {case.op for case in CASES.values()} == with_gradient


@pytest.mark.parametrize("name", CASES)
def test_gradient(name):
    op, arrays, _, outputs, opset = CASES[name]
    inputs, node = named(arrays), node_of(name)
    model = fastnn.onnx.load(model_of([node], inputs, node.output, opset=opset)).train()

    def run():
        ys = model(*inputs.values())
        return ys if outputs > 1 else (ys,)

    # Seeds that no input has: with grad_y = x the gradient through a norm is nearly zero, but for roundings.
    grads = [draw(*y.shape, seed=10 + i) if y.dtype == np.float64 else None for i, y in enumerate(run())]
    found = model.backward(*grads)
    found = found if len(inputs) > 1 else (found,)
    constants = {"x3", "x4"} if op == "BatchNormalization" else {"x1"} if op == "CastLike" else set()
    for (key, x), grad in zip(inputs.items(), found, strict=True):
        if x.dtype != np.float64 or key in constants:
            continue
        assert grad.shape == x.shape
        expected = finite_differences(
            lambda: np.concatenate([(y * g).ravel() for y, g in zip(run(), grads, strict=True)
                                    if g is not None]), x)
        np.testing.assert_allclose(grad, expected, **DIFFERENCES, err_msg=key)
