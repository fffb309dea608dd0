"""A model as a Module: what goes in and out, parameters, gradients, modes."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from arrays import LAYOUTS, draw
from models import model_of
from onnx import helper, numpy_helper

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


# --- Running


def test_by_position_and_by_name(network):
    model = fastnn.onnx.load(network)
    x = draw(2, 3, 5, 5, dtype=np.float32)
    assert model.input_names == ["x"]
    assert model.output_names == ["y"]
    assert model.inputs["x"].shape == ("N", 3, None, None)
    assert model.inputs["x"].dtype == np.float32
    assert list(model.run({"x": x})) == ["y"]
    np.testing.assert_array_equal(model.run({"x": x})["y"], model(x))


def two_by_two():
    """y = a b + a, z = a - b."""
    nodes = [helper.make_node("MatMul", ["a", "b"], ["p"]), helper.make_node("Add", ["p", "a"], ["y"]),
             helper.make_node("Sub", ["a", "b"], ["z"])]
    square = np.float64, [2, 2]
    return fastnn.onnx.load(model_of(nodes, {"a": square, "b": square}, ["y", "z"]))


def test_several_inputs_and_outputs():
    model = two_by_two().train()
    a, b = draw(2, 2), draw(2, 2, seed=1)
    y, z = model(a, b)
    np.testing.assert_allclose(y, a @ b + a, rtol=1e-14)
    np.testing.assert_array_equal(z, a - b)
    grad_y, grad_z = draw(2, 2, seed=2), draw(2, 2, seed=3)
    grad_a, grad_b = model.backward(grad_y, grad_z)
    np.testing.assert_allclose(grad_a, grad_y @ b.T + grad_y + grad_z, rtol=1e-13)
    np.testing.assert_allclose(grad_b, a.T @ grad_y - grad_z, rtol=1e-13)
    model(a, b)
    np.testing.assert_allclose(model.backward((None, grad_z))[1], -grad_z)
    model(a, b)
    assert model.backward(grad_y, grad_z, input_grad=False) is None


@pytest.mark.parametrize(("feeds", "words"), [
    ({}, "'a' is missing, 'b' is missing"),
    ({"a": 1, "b": 2, "c": 3}, "'c' is not an input"),
])
def test_wrong_names(feeds, words):
    with pytest.raises(ValueError, match=words):
        two_by_two().run(feeds)


def test_wrong_number_of_inputs():
    with pytest.raises(ValueError, match="got 1 inputs, expected 2: 'a', 'b'"):
        two_by_two()(np.zeros((2, 2)))


def test_wrong_shape(network):
    model = fastnn.onnx.load(network)
    for shape in ((1, 4, 5, 5), (3, 5, 5), ()):
        with pytest.raises(ValueError, match=r"input 'x' has shape .*, expected \(N, 3, \?, \?\)"):
            model(np.zeros(shape, np.float32))


@pytest.mark.parametrize("x", [np.zeros((1, 3, 5, 5)), np.zeros((1, 3, 5, 5), np.int32), [[[[1]]]]],
                         ids=["float64", "int32", "list"])
def test_wrong_dtype(network, x):
    with pytest.raises(TypeError, match=r"input 'x' has dtype .*, expected float32"):
        fastnn.onnx.load(network)(x)


def test_wrong_gradients(network):
    model = fastnn.onnx.load(network)
    x, grad_y = draw(2, 3, 5, 5, dtype=np.float32), draw(2, 5, dtype=np.float32)
    with pytest.raises(ValueError, match="call forward in training mode first"):
        model.backward(grad_y)
    model.train()(x)
    with pytest.raises(ValueError, match="got 2 gradients, expected 1"):
        model.backward(grad_y, grad_y)
    model(x)
    with pytest.raises(ValueError, match="the gradient of 'y' has shape"):
        model.backward(grad_y[:1])


@pytest.mark.parametrize("layout", ["channels-last", "sliced", "read-only", "byte-swapped", "Fortran"])
def test_memory_layouts(network, layout):
    model = fastnn.onnx.load(network)
    x = draw(2, 3, 6, 5, dtype=np.float32)
    np.testing.assert_array_equal(model(LAYOUTS[layout](x)), model(x))


def test_an_empty_batch(network):
    model = fastnn.onnx.load(network)
    assert model(np.zeros((0, 3, 5, 5), np.float32)).shape == (0, 5)


def test_errors_name_the_node():
    node = helper.make_node("Add", ["a", "b"], ["y"], name="both")
    model = fastnn.onnx.load(model_of([node], {"a": (np.float32, None), "b": (np.float32, None)}, ["y"]))
    with pytest.raises(ValueError, match=r"Add node 'both': .*broadcast"):
        model(np.zeros(2, np.float32), np.zeros(3, np.float32))


def test_infinities_pass_without_a_word():
    node = helper.make_node("Log", ["x"], ["y"])
    model = fastnn.onnx.load(model_of([node], {"x": (np.float32, [2])}, ["y"]))
    np.testing.assert_array_equal(model(np.array([0, -1], np.float32)), [-np.inf, np.nan])


# --- State


def test_state(network):
    model = fastnn.onnx.load(network)
    assert [name for name, _ in model.named_parameters()] == [
        "conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias"]
    assert [name for name, _ in model.named_buffers()] == ["bn.running_mean", "bn.running_var"]
    other = fastnn.onnx.load(network)
    other.load_state_dict({name: array + 1 for name, array in model.state_dict().items()})
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[name] + 1)


def test_what_is_cached_follows_the_parameters(network):
    model = fastnn.onnx.load(network)
    x = draw(2, 3, 5, 5, dtype=np.float32)
    before = model(x)
    getattr(model, "conv.weight").data = np.zeros((8, 3, 3, 3), np.float32)
    after = model(x)
    assert np.ptp(after, axis=0).max() == 0  # nothing of the images is left
    assert not np.array_equal(before, after)
    model.load_state_dict(fastnn.onnx.load(network).state_dict())
    np.testing.assert_array_equal(model(x), before)


def test_outputs_are_not_the_models_own():
    node = helper.make_node("Identity", ["w"], ["y"])
    model = fastnn.onnx.load(model_of([node], {}, ["y"], {"w": np.ones(3, np.float32)}))
    model()[:] = 2
    np.testing.assert_array_equal(model(), [1, 1, 1])


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(network, copy_of):
    model = fastnn.onnx.load(network)
    x = draw(2, 3, 5, 5, dtype=np.float32)
    twin = copy_of(model)
    np.testing.assert_array_equal(twin(x), model(x))
    getattr(twin, "fc.bias").data = getattr(model, "fc.bias").data + 1
    np.testing.assert_allclose(twin(x), model(x) + 1, rtol=1e-6)


def test_names_that_the_class_has_too():
    nodes = [helper.make_node("Mul", ["x", "forward"], ["a"]), helper.make_node("Add", ["a", "graph"], ["y"])]
    constants = {"forward": np.full(2, 3, np.float32), "graph": np.ones(2, np.float32)}
    model = fastnn.onnx.load(model_of(nodes, {"x": (np.float32, [2])}, ["y"], constants))
    np.testing.assert_array_equal(model(np.array([1, 2], np.float32)), [4, 7])
    assert list(model.state_dict()) == ["forward_", "graph_"]


def test_weights_in_constant_nodes_and_through_other_shapes():
    """As some writers have them: in nodes, transposed, with an axis more."""
    weight = numpy_helper.from_array(draw(5, 3, dtype=np.float32))
    nodes = [helper.make_node("Constant", [], ["w"], value=weight),
             helper.make_node("Transpose", ["w"], ["t"]),
             helper.make_node("MatMul", ["x", "t"], ["p"]),
             helper.make_node("Unsqueeze", ["b", "zero"], ["row"]),
             helper.make_node("Add", ["p", "row"], ["y"])]
    constants = {"b": draw(5, dtype=np.float32, seed=1), "zero": np.array([0])}
    model = fastnn.onnx.load(model_of(nodes, {"x": (np.float32, [2, 3])}, ["y"], constants)).train()
    assert sorted(model.state_dict()) == ["b", "w"]
    x, grad_y = draw(2, 3, dtype=np.float32, seed=2), draw(2, 5, dtype=np.float32, seed=3)
    model(x)
    model.backward(grad_y)
    np.testing.assert_allclose(model.w.grad, grad_y.T @ x, rtol=1e-5)
    np.testing.assert_allclose(model.b.grad, grad_y.sum(0), rtol=1e-5)
    # In eval mode the transposed weight is made once, and again after a change.
    model.eval()
    y = model(x)
    model.w.data = 2 * model.w.data
    np.testing.assert_allclose(model(x) - model.b.data, 2 * (y - model.b.data), rtol=1e-5)


def test_what_is_trained():
    """Weights, biases and scales; not the numbers of formulas, nor the statistics of the data."""
    steps = [("Sub", "mean"), ("Div", "deviation"), ("Mul", "scale"), ("Add", "three"), ("Clip", "low"),
             ("Add", "bias")]
    nodes = [helper.make_node(op, [left, name], [right])
             for (op, name), left, right in zip(steps, "xabcde", "abcdey", strict=True)]
    constants = {name: np.ones(3, np.float32) for name in ("mean", "deviation", "scale", "bias")}
    constants |= {"three": np.array(3, np.float32), "low": np.array(0, np.float32)}
    model = fastnn.onnx.load(model_of(nodes, {"x": (np.float32, [2, 3])}, ["y"], constants))
    assert list(model.state_dict()) == ["scale", "bias"]


def test_a_shared_weight_gathers_both_gradients():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    model = fastnn.onnx.load(model_of(nodes, {"x": (np.float64, [1, 2])}, ["y"], {"w": draw(2, 2)})).train()
    x, grad_y = draw(1, 2, seed=1), draw(1, 2, seed=2)
    model(x)
    model.backward(grad_y)
    w = draw(2, 2)
    np.testing.assert_allclose(model.w.grad, x.T @ (grad_y @ w.T) + (x @ w).T @ grad_y, rtol=1e-12)


# --- Modes


def test_batch_norm_tracks_in_training(network):
    model = fastnn.onnx.load(network)
    x = draw(4, 3, 6, 6, dtype=np.float32)
    before = model.state_dict()
    model.train()(x)
    conv = fn.functional.conv2d(x, before["conv.weight"], before["conv.bias"], padding=1)
    after = model.state_dict()
    for name, batch in (("mean", conv.mean((0, 2, 3))), ("var", conv.var((0, 2, 3)))):
        key = f"bn.running_{name}"
        np.testing.assert_allclose(after[key], 0.9 * before[key] + 0.1 * batch, rtol=1e-4, atol=1e-6)


def test_dropout_drops_in_training():
    node = helper.make_node("Dropout", ["x", "ratio"], ["y"])
    model = model_of([node], {"x": (np.float32, [10000])}, ["y"], {"ratio": np.array(0.3, np.float32)})
    model, x = fastnn.onnx.load(model, rng=0), np.ones(10000, np.float32)
    np.testing.assert_array_equal(model(x), x)
    y = model.train()(x)
    assert abs((y == 0).mean() - 0.3) < 0.02
    np.testing.assert_allclose(y[y > 0], 1 / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(model.backward(x), y)


def test_copies_drop_as_the_package_draws():
    node = helper.make_node("Dropout", ["x", "ratio"], ["y"])
    model = model_of([node], {"x": (np.float32, [1000])}, ["y"], {"ratio": np.array(0.3, np.float32)})
    model, x = fastnn.onnx.load(model).train(), np.ones(1000, np.float32)
    fn.manual_seed(4)
    y = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        fn.manual_seed(4)
        np.testing.assert_array_equal(twin(x), y)


def test_eval_stores_nothing_and_serves_many_threads(network):
    model = fastnn.onnx.load(network)
    xs = [draw(2, 3, 9, 9, dtype=np.float32, seed=i) for i in range(16)]
    expected = [model(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for y, e in zip(pool.map(model, xs), expected, strict=True):
            np.testing.assert_array_equal(y, e)
    assert model._saved is None


# --- Branches


def branching():
    """y = x w where x > 0 on the whole, else x - w; the branches read w and x from outside."""
    graphs = [
        helper.make_graph([helper.make_node(op, ["x", "w"], ["inner"]),
                           helper.make_node("Mul", ["inner", "two"], [name])], name, [],
                          [helper.make_empty_tensor_value_info(name)],
                          [numpy_helper.from_array(np.array(2.0), "two")])
        for op, name in (("Mul", "product"), ("Sub", "difference"))]
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["z"], then_branch=graphs[0], else_branch=graphs[1]),
        helper.make_node("Add", ["z", "w"], ["y"]),
    ]
    return model_of(nodes, {"x": (np.float64, [3])}, ["y"], {"w": draw(3), "zero": np.array(0.0)})


@pytest.mark.parametrize("sign", [1, -1])
def test_branches(sign):
    model = fastnn.onnx.load(branching())
    x, w = sign * np.array([1.0, 2, 3]), draw(3)
    expected = 2 * x * w + w if sign > 0 else 2 * (x - w) + w
    np.testing.assert_allclose(model(x), expected)
    np.testing.assert_allclose(model.train()(x), expected)
    grad_y = draw(3, seed=1)
    grad_x = model.backward(grad_y)
    np.testing.assert_allclose(grad_x, 2 * w * grad_y if sign > 0 else 2 * grad_y)
    np.testing.assert_allclose(model.w.grad, (2 * x + 1) * grad_y if sign > 0 else -grad_y)


def test_a_model_in_eval_mode_is_trained_through(tmp_path):
    """A pretrained body whose batch norm is not to change, between layers that are trained."""
    layers = fn.Sequential(fn.Conv2d(2, 3, 3, rng=0), fn.BatchNorm2d(3), fn.ReLU(), fn.MaxPool2d(2))
    layers[1].running_mean = draw(3, dtype=np.float32)
    layers[1].running_var = draw(3, dtype=np.float32) ** 2 + 1
    fastnn.onnx.save(layers, tmp_path / "body.onnx", (None, 2, 6, 6))
    body = fastnn.onnx.load(tmp_path / "body.onnx")
    x, results = draw(4, 2, 6, 6, dtype=np.float32), []
    for part in (layers, body):
        net = fn.Sequential(fn.Conv2d(2, 2, 1, rng=1), part, fn.Flatten(), fn.Linear(12, 2, rng=2)).train()
        part.eval()
        before = [array.copy() for _, array in part.named_buffers()]
        y = net(x)
        grad_x = net.backward(np.ones_like(y))
        results.append([y, grad_x, *(p.grad for _, p in net[0].named_parameters())])
        assert all((a == b).all() for a, (_, b) in zip(before, part.named_buffers(), strict=True))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    assert max(np.abs(p.grad).max() for _, p in body.named_parameters()) > 0
    net.eval()(x)
    assert body._saved is None
