"""Networks written as ONNX models: valid, and the same numbers from whoever runs them."""

import inspect
import os
from functools import partial

import numpy as np
import pytest
from arrays import draw

import fastnn as fn

pytest.importorskip("onnx.checker")  # the folder that this file is in would pass for an empty onnx

import onnx
import peer
from test_networks import TRAINED, contents, feeds_of

from fastnn.onnx.export_graph import _EMITTERS

# float32 products in another order, through a few layers, of numbers around 1.
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


def run_onnxruntime(path, feeds):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds if isinstance(feeds, dict) else {"input": feeds})


def run_fastnn(path, feeds):
    model = fn.onnx.load(path)
    return list(model.run(feeds if isinstance(feeds, dict) else {"input": feeds}).values())


def run_frozen(path, feeds):
    frozen = fn.onnx.load(path).freeze()
    return list(frozen.run(feeds if isinstance(feeds, dict) else {"input": feeds}).values())


RUNNERS = {"onnxruntime": run_onnxruntime, "fastnn": run_fastnn, "frozen": run_frozen}


@pytest.fixture(params=RUNNERS)
def run(request):
    return RUNNERS[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


def outputs(model, x):
    """What the model gives in eval mode, flat: a recurrent layer's states after its output."""
    y = model.eval()(x)
    if not isinstance(y, tuple):
        return [y]
    return [y[0], *(y[1] if isinstance(y[1], tuple) else [y[1]])]


def check(run, path, model, x, shape):
    """Save, validate, run, compare; the sizes that the shape leaves free once more with another batch."""
    fn.onnx.save(model, path, shape)
    onnx.checker.check_model(os.fspath(path), full_check=True)
    for given in (x, np.concatenate([x, x[:1]])) if shape is None or shape[0] is None else (x,):
        expected = outputs(model, given)
        actual = run(path, given)
        for y, e in zip(actual, expected, strict=True):
            assert y.shape == e.shape
            assert y.dtype == e.dtype
            np.testing.assert_allclose(y, e, **TOLERANCE)
    inferred = onnx.load(path).graph.output
    for value, e in zip(inferred, outputs(model, x), strict=True):
        dims = value.type.tensor_type.shape.dim
        assert all(not d.dim_value or d.dim_value == n for d, n in zip(dims, e.shape, strict=True))


# --- Layers one by one

IMAGE, WIDE, SERIES = (2, 4, 9, 7), (2, 4, 12, 10), (2, 4, 11)
FREE, FREE_1D = (None, 4, None, None), (None, 4, None)

# name: (layer, shape of an input, input_shape given to save)
LAYERS = {
    "Linear": (partial(fn.Linear, 4, 3), (5, 4), None),
    "Linear without bias": (partial(fn.Linear, 4, 3, bias=False, activation="tanh"), (5, 4), None),
    "Linear of sequences": (partial(fn.Linear, 7, 3, activation="sigmoid"), (2, 5, 7), (None, None, 7)),
    "Linear of one vector": (partial(fn.Linear, 4, 3), (4,), (4,)),
    "Linear of sequences without bias": (partial(fn.Linear, 7, 3, bias=False), (2, 5, 7), (None, 5, 7)),
    "Conv2d": (partial(fn.Conv2d, 4, 6, 3), IMAGE, None),
    "Conv2d strided": (partial(fn.Conv2d, 4, 6, (3, 2), stride=(2, 3), padding=(1, 2), activation="relu"),
                       IMAGE, None),
    "Conv2d dilated": (partial(fn.Conv2d, 4, 6, 3, padding=2, dilation=2, bias=False), IMAGE, None),
    "Conv2d in groups": (partial(fn.Conv2d, 4, 8, 3, groups=2, activation="tanh"), IMAGE, None),
    "Conv2d depthwise": (partial(fn.Conv2d, 4, 4, 3, groups=4, padding="same"), IMAGE, None),
    "Conv2d same, even": (partial(fn.Conv2d, 4, 5, (2, 4), padding="same", dilation=(1, 3)), WIDE, None),
    "Conv2d valid": (partial(fn.Conv2d, 4, 5, 2, padding="valid", activation="sigmoid"), IMAGE, None),
    "Conv2d of one image": (partial(fn.Conv2d, 4, 5, 3), (4, 9, 7), (4, 9, None)),
    "Conv2d winograd": (partial(fn.Conv2d, 4, 5, 3, padding=1, algorithm="winograd"), IMAGE, None),
    "Conv1d": (partial(fn.Conv1d, 4, 6, 3, stride=2, padding=1), SERIES, None),
    "Conv1d same": (partial(fn.Conv1d, 4, 6, 4, padding="same", groups=2, activation="relu"), SERIES, None),
    "Conv1d of one sequence": (partial(fn.Conv1d, 4, 6, 3, dilation=2), (4, 11), (4, None)),
    "ConvTranspose2d": (partial(fn.ConvTranspose2d, 4, 6, 3), IMAGE, None),
    "ConvTranspose2d strided": (partial(fn.ConvTranspose2d, 4, 6, (3, 2), stride=(3, 2), padding=1,
                                        output_padding=(2, 1), groups=2), IMAGE, (None, 4, 9, 7)),
    "ConvTranspose2d dilated": (partial(fn.ConvTranspose2d, 4, 6, 3, dilation=2, bias=False), IMAGE, None),
    "ConvTranspose2d of one image": (partial(fn.ConvTranspose2d, 4, 6, 3, 2), (4, 9, 7), (4, 9, 7)),
    "MaxPool2d": (partial(fn.MaxPool2d, 2), IMAGE, FREE),
    "MaxPool2d padded": (partial(fn.MaxPool2d, (3, 2), (2, 3), 1), IMAGE, FREE),
    "MaxPool2d dilated": (partial(fn.MaxPool2d, 2, 1, dilation=(2, 3)), IMAGE, FREE),
    "MaxPool2d ceil": (partial(fn.MaxPool2d, 3, 2, ceil_mode=True), WIDE, FREE),
    "MaxPool2d ceil and padded": (partial(fn.MaxPool2d, 3, 2, 1, ceil_mode=True), WIDE, (None, *WIDE[1:])),
    "MaxPool2d ceil, wide strides": (partial(fn.MaxPool2d, 2, 5, 1, ceil_mode=True), WIDE, (None, *WIDE[1:])),
    "MaxPool2d of one image": (partial(fn.MaxPool2d, 2), IMAGE[1:], IMAGE[1:]),
    "MaxPool1d": (partial(fn.MaxPool1d, 3, 2, 1), SERIES, FREE_1D),
    "MaxPool1d ceil": (partial(fn.MaxPool1d, 3, 3, ceil_mode=True), SERIES, FREE_1D),
    "MaxPool1d far past the end": (partial(fn.MaxPool1d, 2, 4, dilation=4, ceil_mode=True), SERIES,
                                   (None, 4, 11)),
    "AvgPool2d": (partial(fn.AvgPool2d, 2), IMAGE, FREE),
    "AvgPool2d padded": (partial(fn.AvgPool2d, 3, 2, 1), IMAGE, FREE),
    "AvgPool2d padding not counted": (partial(fn.AvgPool2d, 3, 2, 1, count_include_pad=False), IMAGE, FREE),
    "AvgPool2d ceil": (partial(fn.AvgPool2d, 3, 2, ceil_mode=True), WIDE, FREE),
    "AvgPool2d ceil and padded": (partial(fn.AvgPool2d, 3, 2, 1, ceil_mode=True), WIDE, (None, *WIDE[1:])),
    "AvgPool2d ceil and not counted": (partial(fn.AvgPool2d, (4, 3), 3, 1, True, False), WIDE,
                                       (None, *WIDE[1:])),
    "AvgPool2d divisor": (partial(fn.AvgPool2d, 3, 2, 1, divisor_override=5), IMAGE, FREE),
    "AvgPool2d divisor, ceil": (partial(fn.AvgPool2d, 3, 2, 1, True, divisor_override=-2), WIDE,
                                (None, *WIDE[1:])),
    "AvgPool2d of one image": (partial(fn.AvgPool2d, 2, 1), IMAGE[1:], IMAGE[1:]),
    "AvgPool1d": (partial(fn.AvgPool1d, 3, 2, 1), SERIES, FREE_1D),
    "AvgPool1d ceil": (partial(fn.AvgPool1d, 4, 3, 1, ceil_mode=True), SERIES, (None, 4, 11)),
    "AdaptiveAvgPool2d to one": (partial(fn.AdaptiveAvgPool2d, 1), IMAGE, FREE),
    "AdaptiveAvgPool2d that divides": (partial(fn.AdaptiveAvgPool2d, (3, 5)), WIDE, (None, *WIDE[1:])),
    "AdaptiveAvgPool2d that overlaps": (partial(fn.AdaptiveAvgPool2d, (5, 3)), WIDE, (None, *WIDE[1:])),
    "AdaptiveAvgPool2d of one axis": (partial(fn.AdaptiveAvgPool2d, (None, 4)), WIDE, (None, *WIDE[1:])),
    "AdaptiveAvgPool2d to more": (partial(fn.AdaptiveAvgPool2d, (20, 7)), IMAGE, (None, *IMAGE[1:])),
    "AdaptiveAvgPool1d": (partial(fn.AdaptiveAvgPool1d, 4), SERIES, (None, *SERIES[1:])),
    "GlobalAvgPool2d": (partial(fn.GlobalAvgPool2d), IMAGE, FREE),
    "GlobalAvgPool1d": (partial(fn.GlobalAvgPool1d), SERIES, FREE_1D),
    "BatchNorm2d": (partial(fn.BatchNorm2d, 4), IMAGE, None),
    "BatchNorm2d not affine": (partial(fn.BatchNorm2d, 4, 1e-3, affine=False), IMAGE, None),
    "BatchNorm2d of the batch": (partial(fn.BatchNorm2d, 4, track_running_stats=False), IMAGE, None),
    "BatchNorm1d": (partial(fn.BatchNorm1d, 4), (5, 4), (None, 4)),
    "BatchNorm1d of sequences": (partial(fn.BatchNorm1d, 4), SERIES, FREE_1D),
    "BatchNorm1d of the batch": (partial(fn.BatchNorm1d, 4, track_running_stats=False), (5, 4), (None, 4)),
    "LayerNorm": (partial(fn.LayerNorm, 7), (5, 7), None),
    "LayerNorm over two axes": (partial(fn.LayerNorm, (9, 7), 1e-3), IMAGE, (None, None, 9, 7)),
    "LayerNorm without bias": (partial(fn.LayerNorm, 7, bias=False), (5, 7), None),
    "LayerNorm not affine": (partial(fn.LayerNorm, 7, elementwise_affine=False), (5, 7), None),
    "PReLU": (partial(fn.PReLU, 4), IMAGE, FREE),
    "PReLU of vectors": (partial(fn.PReLU, 4), (5, 4), (None, 4)),
    "PReLU of one slope": (partial(fn.PReLU), IMAGE, FREE),
    "ReLU": (partial(fn.ReLU), (5, 4), (None, 4)),
    "ReLU6": (partial(fn.ReLU6), (5, 4), (None, 4)),
    "ELU": (partial(fn.ELU, 0.7), (5, 4), (None, 4)),
    "Hardtanh": (partial(fn.Hardtanh, -0.4, 1.3), (5, 4), (None, 4)),
    "Hardsigmoid": (partial(fn.Hardsigmoid), (5, 4), (None, 4)),
    "Hardswish": (partial(fn.Hardswish), (5, 4), (None, 4)),
    "Softplus": (partial(fn.Softplus), (5, 4), (None, 4)),
    "Softplus of another slope": (partial(fn.Softplus, 1.5), (5, 4), (None, 4)),
    "Softplus of another threshold": (partial(fn.Softplus, 1, 0.5), (5, 4), (None, 4)),
    "Softplus of another slope and threshold": (partial(fn.Softplus, -1.5, 0.25), (5, 4), (None, 4)),
    "LocalResponseNorm": (partial(fn.LocalResponseNorm, 3, 0.5, 0.6, 1.5), IMAGE, FREE),
    "LeakyReLU": (partial(fn.LeakyReLU, 0.2), (5, 4), (None, 4)),
    "Sigmoid": (partial(fn.Sigmoid), (5, 4), (None, 4)),
    "Tanh": (partial(fn.Tanh), (5, 4), (None, None)),
    "GELU": (partial(fn.GELU), (5, 4), (None, 4)),
    "GELU of tanh": (partial(fn.GELU, "tanh"), (5, 4), (None, 4)),
    "SiLU": (partial(fn.SiLU), (5, 4), (None, 4)),
    "Softmax": (partial(fn.Softmax), (5, 4), (None, 4)),
    "Softmax of channels": (partial(fn.Softmax, 1), IMAGE, FREE),
    "LogSoftmax": (partial(fn.LogSoftmax, -2), SERIES, FREE_1D),
    "Dropout": (partial(fn.Dropout, 0.9), (5, 4), (None, 4)),
    "Identity": (partial(fn.Identity), (5, 4), (None, 4)),
    "Flatten": (partial(fn.Flatten), IMAGE, (None, *IMAGE[1:])),
    "Flatten of free sizes": (partial(fn.Flatten), IMAGE, FREE),
    "Flatten the end": (partial(fn.Flatten, 2), IMAGE, FREE),
    "Flatten the middle": (partial(fn.Flatten, 1, 2), IMAGE, (None, 4, 9, None)),
    "Flatten the beginning": (partial(fn.Flatten, 0, 1), IMAGE, (None, 4, 9, 7)),
    "Flatten all": (partial(fn.Flatten, 0), IMAGE, FREE),
    "Permute": (partial(fn.Permute, 0, -1, 1, 2), IMAGE, FREE),
    "LastStep": (partial(fn.LastStep), (5, 2, 4), (None, None, 4)),
    "LastStep batch first": (partial(fn.LastStep, True), (5, 2, 4), (None, 2, 4)),
    "LastStep of one sequence": (partial(fn.LastStep, True, True), (5, 4), (None, 4)),
    "LastStep both ways": (partial(fn.LastStep, True, True), (5, 2, 4), (None, None, 4)),
    "Embedding": (partial(fn.Embedding, 10, 3), (5, 4), None),
    "RNNOutput": (partial(fn.RNNOutput, 4, 3, activation="softmax"), (5, 2, 4), (None, None, 4)),
    "RNNOutput sigmoid": (partial(fn.RNNOutput, 2, 3, bidirectional=True, activation="sigmoid"), (5, 4),
                          (None, 4)),
}
for kind in (fn.RNN, fn.LSTM, fn.GRU):
    LAYERS |= {
        kind.__name__: (partial(kind, 4, 3), (5, 2, 4), None),
        f"{kind.__name__} without bias": (partial(kind, 4, 3, bias=False), (5, 2, 4), None),
        f"{kind.__name__} both ways, stacked": (partial(kind, 4, 3, 3, bidirectional=True, batch_first=True),
                                                (2, 5, 4), None),
        f"{kind.__name__} of one sequence": (partial(kind, 4, 3, 2), (5, 4), (None, 4)),
        f"{kind.__name__} with dropout": (partial(kind, 4, 3, 2, dropout=0.5, bidirectional=True), (5, 2, 4),
                                          (None, None, 4)),
    }
LAYERS["RNN relu"] = (partial(fn.RNN, 4, 3, nonlinearity="relu", bidirectional=True), (5, 2, 4), None)


def made(name):
    """A layer whose every number counts, and an input."""
    make, shape, given = LAYERS[name]
    layer = make(rng=1) if "rng" in make.func.__init__.__code__.co_varnames else make()
    rng = np.random.default_rng(2)
    for key, array in layer.state_dict().items():
        if array.dtype.kind == "f" and np.unique(array).size < 2:  # ones and zeros, as of a new batch norm
            layer.load_state_dict({key: rng.uniform(0.5, 2, array.shape)}, strict=False)
    if isinstance(layer, fn.Embedding):
        return layer, rng.integers(0, 10, shape), given
    return layer, 2 * draw(*shape, dtype=np.float32), given


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(run, path, name):
    layer, x, given = made(name)
    check(run, path, layer, x, given)


def test_every_layer_is_among_them():
    tried = {make.func for make, *_ in LAYERS.values()}
    containers = {fn.Sequential, fn.Residual, fn.Parallel}
    layers = {kind for _, kind in inspect.getmembers(fn, inspect.isclass) if issubclass(kind, fn.Module)}
    assert layers - tried - containers == {fn.Module, fn.ModuleList}, "these have no forward of their own"
    assert set(_EMITTERS) == tried | containers


@pytest.mark.parametrize("name", LAYERS)
def test_float64(path, name):
    """By fastnn alone: onnxruntime has no convolution, for one, in float64."""
    make, shape, given = LAYERS[name]
    layer = make(dtype=np.float64)
    x = 2 * draw(*shape) if make.func is not fn.Embedding else np.arange(20).reshape(shape) % 10
    check(run_fastnn, path, layer, x, given)
    kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert kinds <= {onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64}


# --- Networks


def resnet(rng):
    def block(width, out, stride):
        body = fn.Sequential(
            fn.Conv2d(width, out, 3, stride, 1, bias=False, rng=rng), fn.BatchNorm2d(out), fn.ReLU(),
            fn.Conv2d(out, out, 3, 1, 1, bias=False, rng=rng), fn.BatchNorm2d(out))
        shortcut = None
        if stride > 1:
            shortcut = fn.Sequential(
                fn.Conv2d(width, out, 1, stride, bias=False, rng=rng), fn.BatchNorm2d(out))
        return fn.Residual(body, shortcut, "relu" if stride > 1 else fn.PReLU())

    return fn.Sequential({
        "stem": fn.Sequential(fn.Conv2d(3, 8, 7, 2, 3, rng=rng), fn.ReLU(), fn.MaxPool2d(3, 2, 1)),
        "stage1": block(8, 8, 1), "stage2": block(8, 16, 2),
        "branches": fn.Parallel(fn.Conv2d(16, 4, 1, rng=rng), fn.Conv2d(16, 6, 3, padding=1, rng=rng)),
        "sum": fn.Parallel(fn.Identity(), fn.Conv2d(10, 10, 1, rng=rng), merge="sum"),
        "pool": fn.GlobalAvgPool2d(), "flatten": fn.Flatten(), "drop": fn.Dropout(),
        "head": fn.Linear(10, 5, rng=rng)})


def words(rng):
    return fn.Sequential(
        fn.Embedding(20, 6, rng=rng), fn.LSTM(6, 5, 2, batch_first=True, bidirectional=True, rng=rng),
        fn.GRU(10, 7, batch_first=True, rng=rng), fn.LayerNorm(7),
        fn.RNNOutput(7, 4, activation="softmax", rng=rng))


def test_a_residual_network_after_training(run, path):
    net = resnet(0)
    x = draw(4, 3, 32, 40, dtype=np.float32)
    optimizer = fn.optim.SGD(net.parameters(), lr=0.01)
    net.fit(x, np.arange(4), loss=fn.losses.CrossEntropyLoss(), optimizer=optimizer, epochs=2, progress=False)
    check(run, path, net, x, None)
    names = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert {name for name, _ in net.named_parameters()} <= names, "parameters keep their names"
    check(run, path, net, x, ("n", 3, 32, 40))


def test_an_embedding_and_recurrent_layers(run, path):
    check(run, path, words(0), np.random.default_rng(0).integers(0, 20, (3, 8)), None)


def test_a_shared_layer_is_written_once(run, path):
    layer = fn.Linear(4, 4, rng=0)
    check(run, path, fn.Sequential(layer, fn.Tanh(), layer), draw(3, 4, dtype=np.float32), None)
    assert len(onnx.load(path).graph.initializer) == 2


def test_free_sizes_have_their_names(path):
    def names(value):
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    fn.onnx.save(fn.Conv2d(3, 4, 3), path)
    graph = onnx.load(path).graph
    assert names(graph.input[0]) == ["batch", 3, "height", "width"]
    assert names(graph.output[0])[:2] == ["batch", 4]
    fn.onnx.save(fn.LSTM(4, 3), path, ("frames", 2, 4))
    graph = onnx.load(path).graph
    assert [value.name for value in graph.output] == ["output", "h_n", "c_n"]
    assert names(graph.output[0]) == ["frames", 2, 3]


# --- What has been read


# --- Initial states and lengths as inputs of the file


@pytest.mark.parametrize("inputs", [("hx",), ("lengths",), ("lengths", "hx")], ids="+".join)
@pytest.mark.parametrize("options", [{}, {"num_layers": 3, "bidirectional": True, "batch_first": True},
                                     {"num_layers": 2, "bias": False}], ids=["one", "deep", "no bias"])
@pytest.mark.parametrize("kind", [fn.RNN, fn.LSTM, fn.GRU])
def test_states_and_lengths_are_inputs(run, path, kind, options, inputs):
    layer = kind(4, 5, **options, rng=0).eval()
    fn.onnx.save(layer, path, inputs=inputs)
    onnx.checker.check_model(os.fspath(path), full_check=True)
    rows = layer.num_layers * (1 + layer.bidirectional)
    for batch in (3, 2):
        x = draw(batch, 7, 4, dtype=np.float32) if layer.batch_first else draw(7, batch, 4, dtype=np.float32)
        states = [draw(rows, batch, 5, seed=seed, dtype=np.float32) for seed in (1, 2)[: layer._cell.states]]
        lengths = np.array([2, 7, 5], np.int32)[:batch]
        feeds, arguments = {"input": x}, {}
        if "hx" in inputs:
            arguments["hx"] = tuple(states) if kind is fn.LSTM else states[0]
            feeds.update(zip(("h_0", "c_0"), states, strict=False))
        if "lengths" in inputs:
            arguments["lengths"] = feeds["lengths"] = lengths
        y, final = layer(x, **arguments)
        expected = [y, *(final if isinstance(final, tuple) else [final])]
        for found, e in zip(run(path, feeds), expected, strict=True):
            np.testing.assert_allclose(found, e, **TOLERANCE)


def test_states_of_a_single_sequence_are_inputs(run, path):
    layer = fn.LSTM(4, 5, 2, rng=0).eval()
    fn.onnx.save(layer, path, ("time", 4), inputs=["hx"])
    x, h, c = draw(6, 4, dtype=np.float32), draw(2, 5, dtype=np.float32), draw(2, 5, seed=1, dtype=np.float32)
    y, (h_n, c_n) = layer(x, (h, c))
    for found, e in zip(run(path, {"input": x, "h_0": h, "c_0": c}), (y, h_n, c_n), strict=True):
        np.testing.assert_allclose(found, e, **TOLERANCE)


def test_a_state_goes_from_one_run_to_the_next(path):
    """What "h_n" and "c_n" give is what "h_0" and "c_0" take: a stream, a chunk at a time."""
    layer, x = fn.LSTM(4, 5, 2, rng=0).eval(), draw(9, 2, 4, dtype=np.float32)
    fn.onnx.save(layer, path, inputs=("hx",))
    model = fn.onnx.load(path)
    feeds, parts = {"h_0": np.zeros((2, 2, 5), np.float32), "c_0": np.zeros((2, 2, 5), np.float32)}, []
    for chunk in np.split(x, 3):
        found = model.run({"input": chunk, **feeds})
        parts.append(found["output"])
        feeds = {"h_0": found["h_n"], "c_0": found["c_n"]}
    np.testing.assert_allclose(np.concatenate(parts), layer(x)[0], **TOLERANCE)


@pytest.mark.parametrize(("words", "model", "shape", "inputs"), [
    ("inputs is 'hx', expected names", fn.LSTM(4, 3), None, "hx"),
    (r"inputs is \('h0',\), expected names", fn.LSTM(4, 3), None, ("h0",)),
    ("which a Sequential does not take; a recurrent", fn.Sequential(fn.LSTM(4, 3)), None, ("hx",)),
    ("takes no lengths", fn.GRU(4, 3), ("time", 4), ("lengths",)),
])
def test_inputs_that_do_not_fit_are_one_clear_line(path, words, model, shape, inputs):
    with pytest.raises(ValueError, match=rf"^onnx\.save: .*{words}"):
        fn.onnx.save(model, path, shape, inputs=inputs)
    assert os.listdir(path.parent) == []


def test_what_was_read_is_written_with_what_it_has_learnt(run, path, tmp_path):
    net, x = resnet(0), draw(4, 3, 32, 40, dtype=np.float32)
    fn.onnx.save(net, path)
    model = fn.onnx.load(path)
    before = model(x)
    model.train()
    optimizer = fn.optim.SGD(model.parameters(), lr=0.1)
    model.backward(model(x))
    optimizer.step()
    model.eval()
    after = model(x)
    assert np.abs(after - before).max() > 1e-2
    again = tmp_path / "again.onnx"
    fn.onnx.save(model, again)
    onnx.checker.check_model(os.fspath(again), full_check=True)
    np.testing.assert_allclose(run(again, x)[0], after, **TOLERANCE)


@pytest.mark.parametrize("name", TRAINED)
def test_trained_networks_are_written_as_they_were_read(path, name):
    model = fn.onnx.load(contents(name))
    fn.onnx.save(model, path)
    onnx.checker.check_model(os.fspath(path))
    feeds = feeds_of(model, TRAINED[name][0])
    before, after = (peer.run_onnxruntime(file, feeds) for file in (contents(name), path.read_bytes()))
    for y, e in zip(after, before, strict=True):
        np.testing.assert_allclose(y, e, rtol=0, atol=1e-6 * np.abs(e).max())  # the very same operators


def test_arrays_beyond_what_a_message_holds_go_beside_it(run, path, monkeypatch):
    monkeypatch.setattr("fastnn.onnx.export._LARGEST", 1000)
    net = fn.Sequential(fn.Linear(40, 30, rng=0), fn.ReLU(), fn.Linear(30, 2, rng=0))
    check(run, path, net, draw(3, 40, dtype=np.float32), None)
    assert sorted(os.listdir(path.parent)) == ["net.onnx", "net.onnx.data"]
    assert path.stat().st_size < 2000
    assert path.with_name("net.onnx.data").stat().st_size == 30 * 40 * 4  # the small ones stay


# --- Refusals


class Own(fn.Module):
    def forward(self, x):
        return x


def test_layers_that_cannot_be_written_are_all_named(path):
    class Other(fn.Linear):
        def forward(self, x):
            return x

    class Same(fn.Linear):
        pass

    net = fn.Sequential(Own(), fn.Linear(3, 3), fn.Sequential({"inner": Other(3, 3)}))
    with pytest.raises(ValueError, match=r"cannot be written: 0 \(Own\), 2\.inner \(Other\)$"):
        fn.onnx.save(net, path)
    with pytest.raises(ValueError, match=r"cannot be written: the model \(Own\)$"):
        fn.onnx.save(Own(), path)
    assert not path.exists()
    fn.onnx.save(Same(3, 3), path)


@pytest.mark.parametrize(("words", "error", "model", "shape"), [
    ("model is a dict", TypeError, {}, None),
    ("does not tell the shape", ValueError, fn.Sequential(fn.Flatten(), fn.Linear(4, 2)), None),
    ("does not tell the shape", ValueError, fn.Sequential(), None),
    ("input_shape is .*'n', 0", ValueError, fn.Linear(4, 2), ("n", 0)),
    ("input_shape is .*2.5", ValueError, fn.Linear(4, 2), (2.5, 4)),
    (r"layer 1: its input has shape \(5, 3\), expected 4", ValueError,
     fn.Sequential(fn.Linear(2, 3), fn.Linear(4, 2)), (5, 2)),
    (r"layer \(the model\): its input has shape .* 3 or 4 dim", ValueError, fn.Conv2d(4, 2, 3), (4, 2)),
    (r"layer 0.*size of its input; give it in input_shape", ValueError,
     fn.Sequential(fn.AdaptiveAvgPool2d(3)), (None, 4, None, None)),
    ("ceil_mode .*size of its input", ValueError, fn.AvgPool2d(3, 2, 1, True), (None, 4, None, None)),
    ("ceil_mode .*size of its input", ValueError, fn.MaxPool2d(2, 3, ceil_mode=True), (None, 4, None, None)),
    ("start_dim 5 is out of range for an input of 4", ValueError, fn.Flatten(5), IMAGE),
    ("start_dim 2 comes after end_dim 1", ValueError, fn.Flatten(2, 1), IMAGE),
    ("layer 0: Parallel: dim 4 is out of range for outputs of 4", ValueError,
     fn.Sequential(fn.Parallel(fn.ReLU(), fn.Tanh(), dim=4)), IMAGE),
    ("Softmax: dim -5 is out of range for an input of 4", ValueError, fn.Softmax(-5), IMAGE),
    ("LogSoftmax: dim 4 is out of range for an input of 4", ValueError, fn.LogSoftmax(4), IMAGE),
    ("more than one free size", ValueError, fn.Flatten(1, 2), (None, None, 4, None)),
    ("return_indices", ValueError, fn.MaxPool2d(2, return_indices=True), IMAGE),
    ("dtype float32, expected integers", ValueError, fn.Sequential(fn.Tanh(), fn.Embedding(3, 3)), (3, 3)),
])
def test_what_does_not_fit_is_one_clear_line(path, words, error, model, shape):
    with pytest.raises(error, match=rf"^onnx\.save: .*{words}"):
        fn.onnx.save(model, path, shape)
    assert os.listdir(path.parent) == []
