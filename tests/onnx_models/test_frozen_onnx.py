"""Networks in ONNX files, frozen: ONNX's own tests, trained networks and architectures, against the peer."""

import numpy as np
import official
import pytest
from models import model_of
from onnx import helper
from onnx.backend.test.runner import Runner
from peer import assert_same_outputs, run_onnxruntime
from test_networks import ARCHITECTURES, LIGHT, TRAINED, contents, feeds_of, with_random_weights
from test_official import RUN

import fastnn as fn
import fastnn.onnx

node = helper.make_node


@pytest.mark.parametrize("name", RUN)
def test_official(name):
    case = official.CASES[name]
    frozen = fastnn.onnx.load(case.model).freeze()
    for inputs, outputs in case.data_sets:
        expected = official.as_arrays(outputs)
        for _ in range(3):  # the first call prepares, the others run what it has prepared
            found = frozen.run(dict(zip((v.name for v in frozen.graph.inputs), official.as_arrays(inputs),
                                        strict=False)))
            Runner.assert_similar_outputs(expected, list(found.values()), case.rtol, case.atol)


@pytest.mark.parametrize(("name", "shapes"), TRAINED.items())
def test_trained(name, shapes):
    model = fastnn.onnx.load(contents(name))
    frozen = model.freeze()
    for shape in [*shapes, *shapes]:
        feeds = feeds_of(model, shape)
        assert_same_outputs(frozen, run_onnxruntime(contents(name), feeds), feeds)


# But those whose dense layers alone are hundreds of megabytes, in copies of which nothing else is tested.
@pytest.mark.parametrize("name", sorted({*ARCHITECTURES} - {"vgg19", "zfnet512", "bvlc_alexnet"}))
def test_architecture(name):
    proto = with_random_weights(LIGHT / f"light_{name}.onnx")
    frozen = fastnn.onnx.load(proto).freeze()
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32)
    feeds = {frozen.graph.inputs[0].name: x}
    expected = run_onnxruntime(proto.SerializeToString(), feeds)
    for _ in range(2):
        assert_same_outputs(frozen, expected, feeds)


def frozen_of(*args, **options):
    return fastnn.onnx.load(model_of(*args, **options)).freeze()


def test_a_shape_that_follows_from_the_inputs_shape():
    """As torch exports x.reshape(len(x), -1): the shape is worked out once, no step is left of it."""
    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"], axis=0),
             node("Unsqueeze", ["n", "axes"], ["rows"]), node("Concat", ["rows", "rest"], ["shape"], axis=0),
             node("Relu", ["x"], ["r"]), node("Reshape", ["r", "shape"], ["y"])]
    constants = {"zero": np.int64(0), "axes": np.int64([0]), "rest": np.int64([-1])}
    frozen = frozen_of(nodes, {"x": (np.float32, ("n", 2, 3))}, ["y"], constants)
    for n in (1, 4, 1):
        x = np.random.default_rng(n).normal(size=(n, 2, 3)).astype(np.float32)
        for _ in range(2):
            np.testing.assert_array_equal(frozen(x), np.maximum(x, 0).reshape(n, 6))
    assert len(frozen._plans[((1, 2, 3), np.dtype(np.float32), False),][1][0]._steps) == 1


def test_shapes_that_follow_from_the_numbers():
    """The same shape of input, ever other shapes of the output."""
    nodes = [node("NonZero", ["x"], ["places"]), node("Cast", ["places"], ["f"], to=1),
             node("Relu", ["f"], ["y"])]
    frozen = frozen_of(nodes, {"x": (np.float32, (6,))}, ["y"])
    for ones in (3, 5, 0, 6, 6, 2):
        x = np.zeros(6, np.float32)
        x[:ones] = 1
        np.testing.assert_array_equal(frozen(x), [np.arange(ones)])


def test_relu6_and_batch_norm_become_one_convolution():
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(6, 3, 3, 3)), "scale": rng.uniform(1, 2, 6),
                 "bias": rng.normal(size=6), "mean": rng.normal(size=6), "var": rng.uniform(1, 2, 6),
                 "low": np.array(0), "high": np.array(6)}
    constants = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1, 0, 0, 1]),
             node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["n"]),
             node("Clip", ["n", "low", "high"], ["y"])]
    x = 9 * rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    model = model_of(nodes, {"x": x}, ["y"], constants)
    frozen = fastnn.onnx.load(model).freeze()
    assert_same_outputs(frozen, run_onnxruntime(model, {"x": x}), {"x": x})
    (graph,) = frozen._graphs.values()
    assert [n.op for n in graph.nodes] == ["conv"]


MOVES = {
    "Reshape": {"constant": np.int64([-1])}, "Flatten": {"axis": 0}, "Transpose": {"perm": [1, 0]},
    "Squeeze": {"constant": np.int64([0])}, "Unsqueeze": {"constant": np.int64([0])},
    "Identity": {}, "Dropout": {}}


@pytest.mark.parametrize("op", MOVES)
def test_integers_moved_are_still_integers(op):
    """Their quotient is one of integers, which only functions of floats are not."""
    attributes = dict(MOVES[op])
    constants = {"c": attributes.pop("constant")} if "constant" in attributes else {}
    nodes = [*(node(op, [name, *constants], [f"{name}m"], **attributes) for name in "ab"),
             node("Div", ["am", "bm"], ["q"]), node("Relu", ["am"], ["r"])]
    inputs = {"a": np.int64([[7, -7]]), "b": np.int64([[2, 2]])}
    model = fastnn.onnx.load(model_of(nodes, inputs, ["q", "r"], constants))
    for y, e in zip(model.freeze().run(inputs).values(), model.run(inputs).values(), strict=True):
        assert y.dtype == e.dtype == np.int64
        np.testing.assert_array_equal(y, e)


def test_bytes_transposed_are_pooled_as_bytes():
    x = np.arange(48, dtype=np.uint8).reshape(1, 4, 6, 2)
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
             node("MaxPool", ["t"], ["y"], kernel_shape=[2, 2])]
    model = model_of(nodes, {"x": x}, ["y"])
    assert_same_outputs(fastnn.onnx.load(model).freeze(), run_onnxruntime(model, {"x": x}), {"x": x})


@pytest.mark.parametrize("order", [("y", "b"), ("b", "y")], ids=str)
def test_a_vector_added_to_a_product_is_its_bias(order):
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 5, 4), (4, 3), (3,)))
    nodes = [node("MatMul", ["x", "w"], ["y"]), node("Add", order, ["z"]), node("Relu", ["z"], ["r"])]
    model = model_of(nodes, {"x": x}, ["r"], {"w": w, "b": b})
    frozen = fastnn.onnx.load(model).freeze()
    assert_same_outputs(frozen, run_onnxruntime(model, {"x": x}), {"x": x})
    assert [n.op for n in frozen.nodes({"x": x})] == ["linear"]


def test_inputs_by_name():
    frozen = frozen_of([node("Add", ["a", "b"], ["y"])],
                       {"a": (np.float32, ("n", 2)), "b": (np.float32, (2,))}, ["y"])
    a, b = np.ones((3, 2), np.float32), np.arange(2, dtype=np.float32)
    np.testing.assert_array_equal(frozen.run({"b": b, "a": a})["y"], a + b)
    with pytest.raises(ValueError, match="'b' is missing, 'c' is not an input; the inputs are 'a', 'b'"):
        frozen.run({"a": a, "c": b})
    with pytest.raises(TypeError, match="input 'b' has dtype float64, expected float32"):
        frozen(a, b.astype(np.float64))
    with pytest.raises(ValueError, match=r"input 'b' has shape \(3,\), expected \(2\)"):
        frozen(a, np.ones(3, np.float32))
    with pytest.raises(ValueError, match="got 1 inputs, expected 2"):
        frozen(a)


def test_what_is_trained_further_is_frozen_as_it_is_then(tmp_path):
    net = fn.Sequential(fn.Conv2d(3, 4, 3, rng=0), fn.BatchNorm2d(4), fn.ReLU())
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    fastnn.onnx.save(net, tmp_path / "net.onnx")
    model = fastnn.onnx.load(tmp_path / "net.onnx")
    before = model.freeze()
    first = before(x)
    model.train()
    model(x)
    model.backward(np.ones((2, 4, 6, 6), np.float32))
    fn.optim.SGD(model.parameters(), lr=0.1).step()
    after = model.eval().freeze()
    np.testing.assert_allclose(after(x), model(x), atol=1e-5)
    np.testing.assert_array_equal(before(x), first)
    assert np.abs(after(x) - first).max() > 1e-3


@pytest.mark.parametrize("of", ["x", "weight", "bias"])
@pytest.mark.parametrize("other", [np.float64, np.float16, np.int32])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
def test_inputs_of_several_dtypes_are_refused(op, other, of):
    """Which ONNX does not allow; kernels would read one as the other, beyond its end."""
    image = "Conv" in op
    shapes = {"x": (1, 8, 5, 5) if image else (3, 8), "weight": (8, 8, 3, 3) if image else (8, 8),
              "bias": (8,)}
    if (op == "MatMul" and of == "bias") or (other is np.float16 and of == "x"):
        pytest.skip("MatMul has none; a float16 x is computed in float32")
    arrays = {name: np.ones(shape, other if name == of else np.float32) for name, shape in shapes.items()}
    inputs = ["x", "weight"] if op == "MatMul" else list(shapes)
    x = arrays.pop("x")
    constants = {name: arrays[name] for name in inputs[1:]}
    model = fastnn.onnx.load(model_of([node(op, inputs, ["y"])], {"x": x}, ["y"], constants))
    with pytest.raises(TypeError, match="dtype"):
        model.eval()(x)
    with pytest.raises(TypeError, match="dtype"):
        model.freeze()(x)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_convolutions_of_integers_are_refused(op, dtype):
    x, weight = np.ones((1, 8, 5, 5), dtype), np.ones((8, 8, 3, 3), dtype)
    graph = model_of([node(op, ["x", "weight"], ["y"])], {"x": x}, ["y"], {"weight": weight})
    model = fastnn.onnx.load(graph)
    with pytest.raises(TypeError, match="dtype"):
        model.eval()(x)
    with pytest.raises(TypeError, match="dtype"):
        model.freeze()(x)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("of", ["x", "w", "r", "b", "h0"])
@pytest.mark.parametrize("other", [np.float64, np.int32])
def test_sequences_of_several_dtypes_are_refused(op, of, other):
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    shapes = {"x": (3, 2, 5), "w": (1, gates * 4, 5), "r": (1, gates * 4, 4), "b": (1, gates * 8),
              "h0": (1, 2, 4)}
    arrays = {name: np.ones(shape, other if name == of else np.float32) for name, shape in shapes.items()}
    options = {"linear_before_reset": 1} if op == "GRU" else {}
    x = arrays.pop("x")
    recurrent = node(op, ["x", "w", "r", "b", "", "h0"], ["y"], hidden_size=4, **options)
    model = fastnn.onnx.load(model_of([recurrent], {"x": x}, ["y"], arrays))
    with pytest.raises(TypeError, match="dtype"):
        model.eval()(x)
    with pytest.raises(TypeError, match="dtype"):
        model.freeze()(x)
