"""Whole networks, against ONNX Runtime: trained ones, and known architectures with random weights."""

from pathlib import Path

import checkpoints
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from peer import assert_same_outputs, run_onnxruntime

import fastnn as fn
import fastnn.onnx

# --- Trained networks, from packages; each with the shapes of an input or two

TRAINED = {
    "mtcnn_pnet": [(1, 60, 80, 3), (2, 31, 26, 3)],
    "mtcnn_rnet": [(3, 24, 24, 3)],
    "mtcnn_onet": [(3, 48, 48, 3)],
    "ocr_direction": [(2, 3, 48, 192)],
    "ocr_text": [(1, 3, 48, 320), (2, 3, 48, 100)],
    "dnsmos_noise": [(1, 901, 161)],
    "dnsmos_v8": [(2, 900, 120)],
    "dnsmos_signal": [(1, 901, 161)],
    "dnsmos_all": [(1, 144160)],
    "plcmos": [(2, 1, 40, 257)],
}


def contents(name):
    path = checkpoints.file(name)
    if not path.exists():
        pytest.skip("the networks are not there: python tests/checkpoints.py downloads them")
    return path.read_bytes()


def feeds_of(model, shape):
    """Images less their mean, sound, or whatever else there is, in about the range of what is real."""
    rng = np.random.default_rng(0)
    first, *others = model.inputs.values()
    feeds = {first.name: rng.uniform(-1, 1, shape).astype(np.float32)}
    for value in others:
        sizes = [n if isinstance(n, int) else shape[0] for n in value.shape]
        feeds[value.name] = rng.uniform(-1, 1, sizes).astype(np.float32)
    return feeds


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in TRAINED.items()
                                             for shape in shapes])
def test_trained(name, shape):
    model = fastnn.onnx.load(contents(name))
    feeds = feeds_of(model, shape)
    assert_same_outputs(model, run_onnxruntime(contents(name), feeds), feeds)


def test_trained_further():
    """The network that says whether text stands on its head learns to tell noise of two scales apart."""
    model = fastnn.onnx.load(contents("ocr_direction"), rng=0).train()
    assert len(model.parameters()) > 100
    rng = np.random.default_rng(1)
    labels = np.arange(8) % 2
    x = (rng.normal(size=(8, 3, 48, 96)) * (0.2 + labels.reshape(-1, 1, 1, 1))).astype(np.float32)
    loss, optimizer = fn.losses.MSELoss(), fn.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        losses.append(loss(model(x), np.eye(2, dtype=np.float32)[labels]))
        model.zero_grad()
        model.backward(loss.backward(), input_grad=False)
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]


# --- Architectures of the onnx package, whose weights are ones until they are given others

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
ARCHITECTURES = sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("*.onnx"))


def with_random_weights(path):
    """The network with weights that keep the size of what passes, and the scores before the softmax."""
    model = onnx.load(path)
    rng = np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "ConstantOfShape":
            model.graph.node.append(node)
            continue
        shape = tuple(shapes[node.input[0]])
        if len(shape) > 1:
            # Not larger than this, as not all is followed by a relu; the deepest have residuals that add up.
            array = rng.standard_normal(shape, np.float32) * np.float32((1.5 / np.prod(shape[1:])) ** 0.5)
        else:
            array = rng.uniform(0.5, 1, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    scores = [node.input[0] for node in nodes if node.op_type == "Softmax"]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in scores)
    return model


def test_there_are_nine():
    assert len(ARCHITECTURES) == 9


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture(name):
    proto = with_random_weights(LIGHT / f"light_{name}.onnx")
    model = fastnn.onnx.load(proto)
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32)
    feeds = {model.input_names[0]: x}
    expected = run_onnxruntime(proto.SerializeToString(), feeds)
    assert expected[-1].std() > 1e-3 * np.abs(expected[-1]).max()  # scores that tell something
    assert_same_outputs(model, expected, feeds)
