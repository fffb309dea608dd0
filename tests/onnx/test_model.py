"""A model as a Module: what goes in and out, parameters, gradients, modes."""

import numpy as np
import pytest
from arrays import draw
from models import model_of
from onnx import helper

import fastnn as fn
import fastnn.onnx


@pytest.fixture
def network():
    """Conv, batch norm, relu, a mean over pixels, a linear layer."""
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "bn.weight", "bn.bias", "bn.running_mean",
                                                "bn.running_var"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    constants = {
        "conv.weight": draw(8, 3, 3, 3, seed=1), "conv.bias": draw(8, seed=2), "bn.weight": draw(8, seed=3),
        "bn.bias": draw(8, seed=4), "bn.running_mean": draw(8, seed=5),
        "bn.running_var": draw(8, seed=6) ** 2 + 0.5, "fc.weight": draw(5, 8, seed=7),
        "fc.bias": draw(5, seed=8),
    }
    constants = {name: array.astype(np.float32) for name, array in constants.items()}
    return model_of(nodes, {"x": (np.float32, ["N", 3, None, None])}, ["y"], constants)


def same_in_layers():
    net = fn.Sequential(fn.Conv2d(3, 8, 3, padding=1), fn.BatchNorm2d(8), fn.ReLU(), fn.GlobalAvgPool2d(),
                        fn.Flatten(), fn.Linear(8, 5))
    return net, {"conv": "0", "bn": "1", "fc": "5"}


def test_equals_the_layers(network):
    model = fastnn.onnx.load(network)
    net, names = same_in_layers()
    state = {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": array
             for key, array in model.state_dict().items()}
    net.load_state_dict({**state, "1.num_batches_tracked": np.zeros((), np.int64)})
    x, grad_y = draw(4, 3, 9, 7, dtype=np.float32), draw(4, 5, dtype=np.float32, seed=1)
    np.testing.assert_array_equal(model(x), net.eval()(x))
    model.train()
    net.train()
    np.testing.assert_array_equal(model(x), net(x))
    np.testing.assert_array_equal(model.backward(grad_y), net.backward(grad_y))
    for ours, theirs in zip(model.parameters(), net.parameters(), strict=True):
        np.testing.assert_array_equal(ours.grad, theirs.grad)
