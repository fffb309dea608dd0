"""Frozen networks: the numbers of the model they come from, for any shape and any number of threads."""

import copy
import inspect
import pickle
import threading
import tracemalloc

import numpy as np
import pytest
from arrays import LAYOUTS, assert_close, assert_same_bits, draw

import fastnn as fn
from fastnn._kernels.memory import copy_in_order
from fastnn.frozen.plan import Plan

# Batch norms folded into filters round once more, and sums come in another order; on outputs around 1.
TOLERANCE = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-12}
WORKERS, CALLS = 8, 5


def with_statistics(net, seed=0):
    """The network in eval mode, its batch norms with running statistics of their own."""
    rng = np.random.default_rng(seed)
    for module in net.modules():
        if isinstance(module, fn.BatchNorm1d | fn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean[...] = rng.normal(size=module.num_features)
            module.running_var[...] = rng.uniform(0.5, 2, module.num_features)
            if module.affine:
                module.weight.data[...] = rng.uniform(0.5, 2, module.num_features)
                module.bias.data[...] = rng.normal(size=module.num_features)
    return net.eval()


def arrays_of(outputs):
    """The arrays in nested tuples."""
    return [a for part in outputs for a in arrays_of(part)] if isinstance(outputs, tuple) else [outputs]


def structure(outputs):
    return tuple(map(structure, outputs)) if isinstance(outputs, tuple) else None


def assert_same_network(net, frozen, *inputs):
    for x in inputs:
        outputs, actual = net(x), frozen(x)
        assert structure(actual) == structure(outputs)
        # Layers that return what they were given return it in any byte order.
        expected = [y.astype(y.dtype.newbyteorder("=")) for y in arrays_of(outputs)]
        assert_close(arrays_of(actual), expected, TOLERANCE[expected[0].dtype])
        assert_same_bits(arrays_of(frozen(x)), arrays_of(actual))


# --- Reference networks


def conv_norm(c, k, size=3, stride=1, groups=1, activation=True, **options):
    layers = [fn.Conv2d(c, k, size, stride, size // 2, groups=groups, bias=False, **options),
              fn.BatchNorm2d(k, dtype=options["dtype"])]
    return fn.Sequential(*layers, *([fn.ReLU()] if activation else []))


def resnet(dtype, rng):
    o = {"dtype": dtype, "rng": rng}

    def block(c, k, stride):
        body = fn.Sequential(conv_norm(c, k, 3, stride, **o), conv_norm(k, k, activation=False, **o))
        shortcut = None if (c, stride) == (k, 1) else conv_norm(c, k, 1, stride, activation=False, **o)
        return fn.Residual(body, shortcut, "relu")

    return fn.Sequential(conv_norm(3, 16, 7, 2, **o), fn.MaxPool2d(3, 2, 1), block(16, 16, 1),
                         block(16, 32, 2), block(32, 32, 1), fn.AdaptiveAvgPool2d(1), fn.Flatten(),
                         fn.Linear(32, 10, **o))


def squeezenet(dtype, rng):
    o = {"dtype": dtype, "rng": rng}

    def fire(c, s, e):
        return fn.Sequential(fn.Conv2d(c, s, 1, activation="relu", **o), fn.Parallel(
            fn.Conv2d(s, e, 1, activation="relu", **o),
            fn.Conv2d(s, e, 3, padding=1, activation="relu", **o)))

    return fn.Sequential(fn.Conv2d(3, 16, 3, 2, activation="relu", **o), fn.MaxPool2d(3, 2, ceil_mode=True),
                         fire(16, 4, 8), fire(16, 8, 16), fn.Dropout(0.5),
                         fn.Conv2d(32, 10, 1, **o), fn.ReLU(),
                         fn.GlobalAvgPool2d(), fn.Flatten())


def mobilenet(dtype, rng):
    o = {"dtype": dtype, "rng": rng}

    def inverted(c):
        return fn.Residual(fn.Sequential(conv_norm(c, 6 * c, 1, **o),
                                         conv_norm(6 * c, 6 * c, groups=6 * c, **o),
                                         conv_norm(6 * c, c, 1, activation=False, **o)))

    return fn.Sequential(conv_norm(3, 8, 3, 2, **o), inverted(8), inverted(8), fn.GlobalAvgPool2d(),
                         fn.Flatten(), fn.Linear(8, 5, activation="sigmoid", **o), fn.Softmax())


def vgg(dtype, rng):
    o = {"dtype": dtype, "rng": rng}
    return fn.Sequential(
        fn.Conv2d(3, 16, 3, padding=1, **o), fn.ReLU(), fn.Conv2d(16, 16, 3, padding=1, **o), fn.ReLU(),
        fn.MaxPool2d(2), fn.Conv2d(16, 32, 3, padding=1, **o), fn.LeakyReLU(0.1), fn.AdaptiveAvgPool2d(3),
        fn.Flatten(), fn.Linear(288, 20, **o), fn.BatchNorm1d(20, dtype=dtype), fn.Tanh(),
        fn.Linear(20, 5, **o), fn.LogSoftmax())


class Crnn(fn.Module):
    """Columns of features of an image as a sequence, through two bidirectional layers."""

    def __init__(self, dtype, rng):
        super().__init__(dtype=dtype)
        o = {"dtype": dtype, "rng": rng}
        self.features = fn.Sequential(fn.Conv2d(3, 8, 3, padding=1, activation="relu", **o), fn.MaxPool2d(2),
                                      conv_norm(8, 16, **o), fn.AdaptiveAvgPool2d((1, None)))
        self.steps = fn.Flatten(2)
        self.lstm = fn.LSTM(16, 12, 2, bidirectional=True, **o)
        self.head = fn.RNNOutput(12, 7, bidirectional=True, **o)

    def forward(self, x):
        x = self.steps(self.features(x)).transpose(2, 0, 1)
        states, _ = self.lstm(x)
        return self.head(states)


class Own(fn.Module):
    """What is followed: layers in a ModuleList, arithmetic, concatenation, flattening."""

    def __init__(self, dtype, rng):
        super().__init__(dtype=dtype)
        o = {"dtype": dtype, "rng": rng}
        self.first = fn.Conv2d(3, 6, 3, padding=1, **o)
        self.norm = fn.BatchNorm2d(6, dtype=dtype)
        self.more = fn.ModuleList([fn.Conv2d(6, 6, 1, **o) for _ in range(2)])
        self.scale = fn.layers.Parameter(np.full((6, 1, 1), 0.5, dtype))
        self.pool = fn.AdaptiveAvgPool2d(2)
        self.head = fn.Linear(48, 4, **o)

    def forward(self, x):
        y = self.norm(self.first(x))
        for layer in self.more:
            y = y + layer(y) * self.scale
        z = (0.5 - y) / 3 - -y / (2 + y * y) + 1 / (3 + y * y)
        y = self.pool(np.concatenate([z, 1 + 2 * y], axis=1))
        return self.head(y.reshape(y.shape[0], -1))


class Opaque(fn.Module):
    """What is not followed: a look at the numbers."""

    def __init__(self, dtype, rng):
        super().__init__(dtype=dtype)
        self.conv = fn.Conv2d(4, 4, 3, dtype=dtype, rng=rng)

    def forward(self, x):
        return np.abs(self.conv(x)) + np.sort(x, axis=1)[:, :, 1:-1, 1:-1]


def around_opaque(dtype, rng):
    o = {"dtype": dtype, "rng": rng}
    return fn.Sequential(fn.Conv2d(3, 4, 3, **o), Opaque(dtype, rng), fn.Conv2d(4, 2, 1, **o), fn.ReLU())


IMAGE_NETWORKS = [resnet, squeezenet, mobilenet, vgg, Crnn, Own, around_opaque]


@pytest.mark.parametrize("build", IMAGE_NETWORKS)
def test_networks_of_images(build, dtype):
    net = with_statistics(build(dtype, np.random.default_rng(0)))
    frozen = net.freeze()
    shapes = [(1, 3, 32, 32), (2, 3, 33, 40), (1, 3, 32, 32), (5, 3, 32, 32), (2, 3, 33, 40)]
    assert_same_network(net, frozen, *(draw(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)))


@pytest.mark.parametrize("kind", [fn.RNN, fn.LSTM, fn.GRU])
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_layers(kind, batch_first, dtype):
    net = kind(5, 6, 2, batch_first=batch_first, bidirectional=True, dtype=dtype, rng=0).eval()
    assert_same_network(net, net.freeze(), draw(4, 3, 5, dtype=dtype), draw(7, 1, 5, dtype=dtype),
                        draw(4, 5, dtype=dtype))


def test_a_text_network(dtype):
    net = fn.Sequential(fn.Embedding(20, 6, dtype=dtype, rng=0), fn.GRU(6, 5, dtype=dtype, rng=1),
                        fn.RNNOutput(5, 4, activation="softmax", dtype=dtype, rng=2)).eval()
    frozen = net.freeze()
    assert_same_network(net, frozen, np.arange(12).reshape(4, 3), np.arange(4).reshape(2, 2))
    with pytest.raises(ValueError, match="indices"):
        frozen(np.array([[20]]))


SINGLE_LAYERS = [
    (lambda **o: fn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, dilation=2, activation="sigmoid", **o), 4),
    (lambda **o: fn.Conv2d(4, 6, (3, 2), padding="same", **o), 4),
    (lambda **o: fn.Conv1d(4, 6, 3, padding=1, activation="tanh", **o), 3),
    (lambda **o: fn.ConvTranspose2d(4, 6, 3, stride=2, **o), 4),
    (lambda **o: fn.Linear(9, 6, bias=False, activation="relu", **o), 4),
    (lambda **o: fn.Linear(9, 6, **o), 2),
    (lambda **o: fn.BatchNorm2d(4, **o), 4),
    (lambda **o: fn.BatchNorm2d(4, affine=False, **o), 4),
    (lambda **o: fn.BatchNorm2d(4, track_running_stats=False, **o), 4),
    (lambda **o: fn.BatchNorm1d(4, **o), 3),
    (lambda **o: fn.LayerNorm((8, 9), **o), 4),
    (lambda **o: fn.LayerNorm(9, bias=False, **o), 3),
    (lambda **o: fn.MaxPool2d(3, 2, 1, ceil_mode=True), 4),
    (lambda **o: fn.MaxPool1d(2, dilation=2), 3),
    (lambda **o: fn.AvgPool2d(3, 2, 1, count_include_pad=False), 4),
    (lambda **o: fn.AvgPool1d(2), 3),
    (lambda **o: fn.GlobalAvgPool1d(), 3),
    (lambda **o: fn.ReLU(), 4), (lambda **o: fn.Sigmoid(), 2), (lambda **o: fn.Tanh(), 1),
    (lambda **o: fn.SiLU(), 3), (lambda **o: fn.GELU(), 4), (lambda **o: fn.GELU("tanh"), 4),
    (lambda **o: fn.ReLU6(), 4), (lambda **o: fn.Hardtanh(-0.5, 0.25), 2), (lambda **o: fn.ELU(0.5), 3),
    (lambda **o: fn.Hardsigmoid(), 4), (lambda **o: fn.Hardswish(), 4), (lambda **o: fn.Softplus(2.0), 2),
    (lambda **o: fn.LocalResponseNorm(3), 4), (lambda **o: fn.PReLU(4, **o), 4),
    (lambda **o: fn.Softmax(1), 4), (lambda **o: fn.LogSoftmax(), 3),
    (lambda **o: fn.Flatten(2), 4), (lambda **o: fn.Flatten(0, 1), 3), (lambda **o: fn.Identity(), 3),
    (lambda **o: fn.Dropout(0.5), 2), (lambda **o: fn.LastStep(), 3), (lambda **o: fn.LastStep(True), 3),
    (lambda **o: fn.LastStep(True), 2), (lambda **o: fn.Permute(0, 2, 1), 3),
    (lambda **o: fn.Permute(-1, 0, 2, 1), 4),
]


@pytest.mark.parametrize(("layer", "ndim"), SINGLE_LAYERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_single_layers_in_any_memory(layer, ndim, layout, dtype):
    net = with_statistics(layer(dtype=dtype))
    x = draw(*(2, 4, 8, 9)[:ndim - 1], 9, dtype=dtype)
    before = x.copy()
    given = LAYOUTS[layout](x)
    assert_same_network(net, net.freeze(), given)
    np.testing.assert_array_equal(given, before)


def test_every_layer_is_known():
    from fastnn.frozen.layers import _LOWERINGS

    layers = {value for _, value in inspect.getmembers(fn, inspect.isclass) if issubclass(value, fn.Module)}
    # A list is not called; the others are as their bases.
    assert {layer.__name__ for layer in layers - _LOWERINGS.keys()} == {"Module", "ModuleList", "ReLU6"}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_last_steps(bidirectional, batch_first, dtype):
    o = {"dtype": dtype, "rng": 0}
    net = fn.Sequential(
        fn.LSTM(4, 5, 2, batch_first=batch_first, bidirectional=bidirectional, **o),
        fn.LastStep(batch_first, bidirectional), fn.ReLU(), fn.Linear(10 if bidirectional else 5, 3, **o))
    net.eval()
    frozen = net.freeze()
    for shape in ((7, 3, 4), (1, 2, 4), (3, 0, 4) if not batch_first else (0, 3, 4), (6, 4)):
        assert_same_network(net, frozen, draw(*shape, dtype=dtype))
    with pytest.raises(ValueError, match=r"LastStep.*x has shape \(0, 4\), expected at least one step"):
        fn.LastStep().eval().freeze()(np.ones((0, 4), dtype))
    with pytest.raises(ValueError, match=r"LastStep.*expected an even number of features"):
        fn.LastStep(False, True).eval().freeze()(np.ones((2, 3), dtype))
    with pytest.raises(ValueError, match=r"LastStep.*x has 1 dimensions"):
        fn.LastStep().eval().freeze()(np.ones(4, dtype))
    with pytest.raises(ValueError, match=r"Permute.*x has 2 dimensions .*expected 3"):
        fn.Permute(0, 2, 1).eval().freeze()(np.ones((2, 4), dtype))


@pytest.mark.parametrize("shape", [(0, 3, 12, 12), (3, 12, 12)])
def test_empty_batches_and_single_images(shape, dtype):
    net = fn.Sequential(fn.Conv2d(3, 16, 3, padding=1, dtype=dtype, rng=0), fn.ReLU(), fn.MaxPool2d(2),
                        fn.Conv2d(16, 16, 3, padding=1, dtype=dtype, rng=1)).eval()
    assert_same_network(net, net.freeze(), draw(*shape, dtype=dtype))


# --- Random networks


def random_network(rng, dtype):
    """Layers drawn one after the other, each made for what the one before gives."""
    o = {"dtype": dtype, "rng": rng}

    def layers(c, depth, keeps):
        made = []
        for _ in range(int(rng.integers(1, 5))):
            kind = rng.choice(["conv", "norm", "act", "pool", "residual", "parallel", "chain"])
            if kind == "conv":
                k = c if keeps else int(rng.integers(1, 20))
                made.append(fn.Conv2d(c, k, int(rng.choice([1, 3])), padding="same", groups=int(
                    rng.choice([1, c])) if k % c == 0 else 1, activation=rng.choice([None, "relu", "tanh"]),
                    bias=bool(rng.integers(2)), **o))
                c = k
            elif kind == "norm":
                made.append(fn.BatchNorm2d(c, dtype=dtype))
            elif kind == "act":
                made.append([fn.ReLU(), fn.Sigmoid(), fn.LeakyReLU(0.2), fn.Identity(), fn.GELU(),
                             fn.PReLU(dtype=dtype)][rng.integers(6)])
            elif kind == "pool":
                made.append(fn.MaxPool2d(3, 1, 1) if rng.integers(2) else fn.AvgPool2d(3, 1, 1))
            elif depth:
                if kind == "residual":
                    body, _ = layers(c, depth - 1, True)
                    shortcut = layers(c, depth - 1, True)[0] if rng.integers(2) else None
                    made.append(fn.Residual(body, shortcut, [None, "relu", fn.Tanh()][rng.integers(3)]))
                elif kind == "parallel" and not keeps:
                    branches = [layers(c, depth - 1, False) for _ in range(int(rng.integers(1, 4)))]
                    made.append(fn.Parallel(*(branch for branch, _ in branches)))
                    c = sum(count for _, count in branches)
                elif kind == "parallel":
                    made.append(fn.Parallel(*(layers(c, depth - 1, True)[0] for _ in range(2)), merge="sum"))
                else:
                    part, c = layers(c, depth - 1, keeps)
                    made.append(part)
        return fn.Sequential(*made), c

    net, c = layers(3, 2, False)
    if rng.integers(2):
        net = fn.Sequential(net, fn.AdaptiveAvgPool2d(2), fn.Flatten(), fn.Linear(4 * c, 5, **o),
                            fn.BatchNorm1d(5, dtype=dtype), fn.ReLU())
    return net


@pytest.mark.parametrize("seed", range(60))
def test_random_networks(seed, dtype):
    rng = np.random.default_rng(seed)
    net = with_statistics(random_network(rng, dtype), seed)
    frozen = net.freeze()
    shapes = [(int(rng.integers(1, 4)), 3, *rng.integers(4, 14, 2)) for _ in range(2)]
    inputs = [draw(*map(int, shape), dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    assert_same_network(net, frozen, inputs[0], inputs[1], inputs[0])


# --- The same memory for many calls


def test_weights_changed_later_do_not_matter(dtype):
    net = with_statistics(resnet(dtype, np.random.default_rng(0)))
    frozen, x = net.freeze(), draw(1, 3, 20, 20, dtype=dtype)
    before = frozen(x)
    net.train()
    for _, parameter in net.named_parameters():
        parameter.data[...] = 0
    for _, buffer in net.named_buffers():
        buffer[...] = 0
    assert_same_bits([frozen(x)], [before])
    assert_same_bits([frozen(draw(1, 3, 20, 20, dtype=dtype))], [before])
    other = draw(2, 3, 20, 20, dtype=dtype, seed=1)
    assert np.abs(frozen(other)).max() > 0


def test_results_are_the_callers(dtype):
    frozen = with_statistics(vgg(dtype, np.random.default_rng(0))).freeze()
    x = draw(1, 3, 16, 16, dtype=dtype)
    first = frozen(x)
    kept = first.copy()
    first[...] = np.nan
    assert_same_bits([frozen(x)], [kept])
    second = frozen(x)
    frozen(-x)
    assert_same_bits([second], [kept])


def test_the_caller_keeps_no_input_alive():
    frozen = fn.Sequential(fn.Conv2d(3, 4, 3), fn.ReLU()).eval().freeze()
    frozen(draw(1, 3, 8, 8, dtype=np.float32))
    (_, free), = frozen._plans.values()
    x = draw(1, 3, 8, 8, dtype=np.float32)
    frozen(x)
    assert len(free) == 1
    assert not any(np.may_share_memory(argument, x) for _, given in free[0]._steps for argument in given
                   if isinstance(argument, np.ndarray))


def test_arrays_share_memory():
    """A chain of equal layers needs two arrays, not one for each layer."""
    layers = [fn.Conv2d(16, 16, 3, padding=1, rng=i) for i in range(8)]
    frozen = fn.Sequential(*layers).eval().freeze()
    x = draw(1, 16, 32, 32, dtype=np.float32)
    frozen(x)
    (plan, _), = frozen._plans.values()
    assert isinstance(plan, Plan)
    assert plan.nbytes == 2 * x.nbytes


def test_convolutions_that_are_joined_write_to_their_places(dtype):
    o = {"dtype": dtype, "rng": 0}
    net = fn.Sequential(
        fn.Conv2d(3, 16, 3, padding=1, **o),
        fn.Parallel(fn.Conv2d(16, 16, 3, padding=1, algorithm="winograd", **o),
                    fn.Conv2d(16, 5, 1, activation="relu", **o),
                    fn.Sequential(fn.Conv2d(16, 16, 3, padding=1, groups=16, **o), fn.ReLU6()),
                    fn.Conv2d(16, 8, 3, padding=1, groups=4, algorithm="direct", **o)),
        fn.Conv2d(45, 3, 1, **o)).eval()
    frozen = net.freeze()
    assert_same_network(net, frozen, *(3 * draw(n, 3, 9, 7, dtype=dtype, seed=n) for n in (1, 3)))
    for _, free in frozen._plans.values():
        assert len(free[0]._steps) == 6
    narrow = fn.Parallel(fn.Conv2d(2, 3, 1), fn.Conv2d(2, 3, 3)).eval().freeze()
    for _ in range(2):
        with pytest.raises(ValueError, match="images of 4 x 5 pixels cannot be joined with those of 6 x 7"):
            narrow(draw(1, 2, 6, 7, dtype=np.float32))


def test_relu6_is_the_kernels_own(dtype):
    o = {"dtype": dtype, "rng": 0}
    for layer in (fn.Conv2d(16, 16, 3, algorithm="winograd", **o), fn.Conv2d(16, 16, 3, groups=16, **o),
                  fn.Conv2d(16, 16, 3, groups=4, **o), fn.Conv2d(3, 16, 3, **o), fn.Conv2d(600, 16, 1, **o),
                  fn.Linear(20, 16, **o)):
        net = fn.Sequential(layer, fn.ReLU6()).eval()
        x = 20 * draw(2, layer.weight.shape[1] * getattr(layer, "groups", 1), 20, 20, dtype=dtype)
        frozen = net.freeze()
        assert_same_network(net, frozen, x)
        assert frozen(x).min() == 0
        assert frozen(x).max() == 6
        ((_, free),) = frozen._plans.values()
        # x is not channels-last: it may be copied first.
        assert sum(function is not copy_in_order for function, _ in free[0]._steps) == 1


@pytest.mark.parametrize("activation", [
    fn.ELU(0.5), fn.Hardsigmoid(), fn.Hardswish(), fn.Softplus(2.0), fn.Hardtanh(-0.25, 0.5), fn.SiLU(),
    fn.GELU(), fn.GELU("tanh"), fn.LeakyReLU(0.2), fn.PReLU()], ids=repr)
def test_activations_are_computed_in_place(activation):
    """By the step before, in its own output."""
    o = {"rng": 0}
    for layer, x in ((fn.Conv2d(4, 8, 3, **o), draw(2, 4, 40, 40)), (fn.Linear(7, 5, **o), draw(20, 7)),
                     (fn.ConvTranspose2d(4, 6, 3, 2, 1, 1, **o), draw(1, 4, 9, 9)),
                     (fn.LayerNorm(6), draw(3, 2, 6)),
                     (fn.Sequential(fn.Conv2d(4, 8, 1, **o), fn.Conv2d(8, 8, 3, groups=8, **o)),
                      draw(1, 4, 12, 12))):
        net, x = fn.Sequential(layer, activation).eval(), x.astype(np.float32)
        frozen = net.freeze()
        assert_same_network(net, frozen, x)
        (graph,) = frozen._graphs.values()
        assert len(graph.nodes) == 1


def test_slopes_of_channels_take_no_memory_of_their_own():
    """NaN, infinities and zeros of either sign; an infinite slope is kept from the zeros."""
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3.0, -3.0, 1e-45], np.float32)
    x = np.stack([special] * 4, 1)[:, :, None, None] * np.ones((1, 1, 2, 3), np.float32)
    for slopes in ([0.25, 0.0, -2.0, 1.5], [0.25, np.inf, np.nan, 1.0]):
        layer = fn.PReLU(4)
        layer.weight.data[:] = slopes
        frozen = layer.eval().freeze()
        for _ in range(2):
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(frozen(x), layer(x))
    net = fn.Sequential(fn.Conv2d(3, 4, 3, rng=0), fn.PReLU(4)).eval()
    frozen, image = net.freeze(), draw(1, 3, 200, 200).astype(np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(frozen(image), net(image))
    tracemalloc.start()
    try:
        frozen(image)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * net(image).nbytes, "the output and nothing besides"


def test_norms_after_convolutions_overwrite_them():
    net = fn.Sequential(fn.Linear(16, 16, rng=0), fn.LayerNorm(16), fn.ELU()).eval()
    frozen, x = net.freeze(), draw(64, 16, dtype=np.float32)
    assert_same_network(net, frozen, x)
    (plan, _), = frozen._plans.values()
    assert plan.nbytes == x.nbytes


def test_many_shapes_do_not_fill_the_memory():
    frozen = fn.Conv2d(1, 2, 3).eval().freeze()
    for n in range(1, 40):
        frozen(draw(n, 1, 4, 4, dtype=np.float32))
    assert len(frozen._plans) == 16


# --- Threads


@pytest.mark.parametrize("build", [resnet, Crnn])
def test_threads_get_the_same_bits(build, threads):
    net = with_statistics(build(np.float32, np.random.default_rng(0)))
    frozen = net.freeze()
    inputs = [draw(1 + i % 2, 3, 24 + 8 * (i % 3), 32, dtype=np.float32, seed=i) for i in range(6)]
    threads(1)
    alone = [net.freeze()(x) for x in inputs]
    threads(2)
    faults, barrier = [], threading.Barrier(WORKERS)

    def work(number):
        try:
            barrier.wait(timeout=30)
            for call in range(CALLS):
                i = (number + call) % len(inputs)
                assert_same_bits([frozen(inputs[i])], [alone[i]])
        except Exception as error:  # the test's own thread raises it
            faults.append(error)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not faults, faults[0]


def test_instruction_sets(isa):
    net = with_statistics(resnet(np.float32, np.random.default_rng(0)))
    assert_same_network(net, net.freeze(), draw(2, 3, 32, 32, dtype=np.float32))


def test_another_instruction_set_after_a_call():
    from fastnn._kernels import runtime

    net = with_statistics(resnet(np.float32, np.random.default_rng(0)))
    frozen, x = net.freeze(), draw(1, 3, 32, 32, dtype=np.float32)
    before = runtime.get_isa()
    expected = frozen(x)
    try:
        for isa in runtime.available_isas():
            runtime.set_isa(isa)
            assert_close([frozen(x)], [expected], TOLERANCE[x.dtype])
    finally:
        runtime.set_isa(before)


# --- Copies


def test_copies_and_pickles(dtype):
    frozen = with_statistics(resnet(dtype, np.random.default_rng(0))).freeze()
    x = draw(1, 3, 20, 20, dtype=dtype)
    expected = frozen(x)
    for other in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        assert_same_bits([other(x)], [expected])


def test_the_model_stays_as_it_was():
    net = with_statistics(resnet(np.float32, np.random.default_rng(0))).train()
    before = net.state_dict()
    net.freeze()(draw(1, 3, 20, 20, dtype=np.float32))
    assert net.training
    assert_same_bits(net.state_dict().values(), before.values())


# --- Bad input


@pytest.mark.parametrize(("x", "error", "words"), [
    (draw(1, 4, 8, 8, dtype=np.float32), ValueError, "Conv2d 0: x has 4 channels, weight expects 3"),
    (draw(1, 3, 1, 8, dtype=np.float32), ValueError, "Conv2d 0: the kernel spans 3 pixels of axis H"),
    (draw(1, 3, 9, 9, dtype=np.float32), ValueError, "Linear 2: x has shape .1, 98., weight expects 72"),
    (draw(3, dtype=np.float32), ValueError, "Conv2d 0: x has shape .3,., expected 3 or 4 dimensions"),
    (draw(1, 3, 8, 8, dtype=np.float64), TypeError, "Conv2d 0: x has dtype float64, expected float32"),
    (np.zeros((1, 3, 8, 8), np.int64), TypeError, "Conv2d 0: x has dtype int64, expected float32"),
    ("text", TypeError, "Conv2d 0: x has dtype <U4"),
])
def test_bad_input_is_refused_by_name(x, error, words):
    frozen = fn.Sequential(fn.Conv2d(3, 2, 3), fn.Flatten(), fn.Linear(72, 2)).eval().freeze()
    for _ in range(2):
        with pytest.raises(error, match=words):
            frozen(x)
    assert frozen(draw(1, 3, 8, 8, dtype=np.float32)).shape == (1, 2)


def test_number_of_inputs():
    with pytest.raises(ValueError, match="ReLU: got 2 inputs, expected 1"):
        fn.ReLU().freeze()(np.zeros(3), np.zeros(3))


class Computed(fn.Module):
    """A function of the input, and perhaps an activation after it."""

    def __init__(self, function, activation=None):
        super().__init__()
        self.function, self.activation = function, activation

    def forward(self, x):
        y = self.function(x)
        return y if self.activation is None else self.activation(y)


@pytest.mark.parametrize("dtype", ["u1", "i4", "i8", "?", "f2", "f4", "f8"])
@pytest.mark.parametrize("function", [
    lambda x: (x - 127.5) / 127.5, lambda x: x * 2, lambda x: 1 - x * np.float32(0.01), lambda x: x / 3,
    lambda x: x + np.float64(0.5), lambda x: 3 + -x, lambda x: x * np.array(0.1), lambda x: x + np.int64(3)],
    ids=list("abcdefgh"))
def test_numbers_in_arithmetic_have_numpys_dtypes(function, dtype):
    x = (np.arange(12).reshape(3, 4) * 17 % 251).astype(dtype)
    model = Computed(function).eval()
    try:
        with np.errstate(over="ignore"):
            expected = model(x)
    except TypeError:  # of booleans NumPy has no difference
        with pytest.raises(TypeError):
            model.freeze()(x)
        return
    with np.errstate(over="ignore"):
        found = model.freeze()(x)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i8", "?", "f2"])
@pytest.mark.parametrize("activation", [fn.ReLU, fn.Sigmoid, fn.GELU])
def test_activations_are_for_floats(activation, dtype):
    model = Computed(lambda x: x + x, activation()).eval()
    with pytest.raises(TypeError, match=f"has dtype {np.dtype(dtype)}, expected float32 or float64"):
        model.freeze()(np.ones((5, 6), dtype))


def test_shortcut_of_another_shape():
    frozen = fn.Residual(fn.Conv2d(3, 3, 3)).eval().freeze()
    with pytest.raises(ValueError, match=r"shortcut has shape \(1, 3, 8, 8\), expected \(1, 3, 6, 6\)"):
        frozen(draw(1, 3, 8, 8, dtype=np.float32))


LOOKS = {
    "rank": lambda x: x if len(x.shape) == 3 else -x,
    "size": lambda x: x if x.shape[0] == 1 else -x,
    "another size": lambda x: x if x.shape[0] != 2 else -x,
    "size in a set": lambda x: x if x.shape[0] in {1, 2} else -x,
    "no size": lambda x: x if x.shape[0] else -x,
    "smaller size": lambda x: x if x.shape[0] > 1 else -x,
    "last size": lambda x: x.reshape(x.shape[-1], -1),
    "size of axis 1": lambda x: x.shape[1] * x,
    "sizes": lambda x: sum(x.shape) * x,
    "number": lambda x: -x if x else x,
    "equal numbers": lambda x: -x if (x == 1).all() else x,
    "larger numbers": lambda x: -x if (x > 0).all() else x,
}


@pytest.mark.parametrize("look", LOOKS)
def test_what_depends_on_sizes_or_numbers_is_not_followed(look):
    function = LOOKS[look]
    with pytest.raises(ValueError, match="freeze: Computed: its forward cannot be followed"):
        Computed(function).eval().freeze()
    net, x = fn.Sequential(Computed(function), fn.ReLU()).eval(), np.ones((1, 1), np.float32)
    assert_same_bits([net.freeze()(x)], [net(x)])


def test_norm_behind_a_signal_without_a_batch_axis_is_not_folded():
    """The channels are axis 0 of what the convolution gives; the norm takes axis 1."""
    net = with_statistics(fn.Sequential(fn.Conv1d(2, 4, 1, rng=0), fn.BatchNorm1d(4)))
    x = draw(2, 4, dtype=np.float32)
    assert_close([net.freeze()(x)], [net(x)], 1e-6, np.float32)


def test_what_cannot_be_frozen():
    from fastnn.frozen import freeze

    with pytest.raises(TypeError, match="model is a str, expected a Module"):
        freeze("model")
    with pytest.raises(ValueError, match=r"freeze: Opaque: its forward cannot be followed: numpy\.absolute"):
        Opaque(np.float32, 0).freeze()
