"""Every operator in float32, old opsets and odd attributes included, against ONNX Runtime."""

import numpy as np
import pytest
from cases import CASES, named, node_of
from models import model_of
from peer import run_onnxruntime

import fastnn.onnx

# Of float32, of numbers around 1: sums of a few hundred products, and functions in a few units of their last
# place.
TOLERANCE = {"rtol": 2e-5, "atol": 5e-6}

# Not in ONNX Runtime's CPU provider, or not so: these have ONNX's own tests alone.
ALONE = {
    "lstm, batch first": "no layout=1",
    "lrn, even": "odd sizes alone",
}


@pytest.mark.parametrize("name", [name for name in CASES if name not in ALONE])
def test_against_onnxruntime(name):
    _, arrays, _, _, opset = CASES[name]
    inputs = {key: array.astype(np.float32) if array.dtype == np.float64 else array
              for key, array in named(arrays).items()}
    node = node_of(name)
    content = model_of([node], inputs, node.output, opset=opset)
    expected = run_onnxruntime(content, inputs)
    for y, e in zip(fastnn.onnx.load(content).run(inputs).values(), expected, strict=True):
        assert y.dtype == e.dtype
        assert y.shape == e.shape
        np.testing.assert_allclose(y, e, **TOLERANCE)
