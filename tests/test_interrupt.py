"""Ctrl-C ends a long call within a second, and leaves everything as usable as before."""

import math
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from arrays import assert_same_bits, draw

import fastnn as fn
from fastnn._kernels import elementwise, runtime

pytestmark = pytest.mark.usefixtures("interrupts_are_heard")

F = fn.functional

SECONDS = 3  # what a call would take; the signal comes after a tenth of a second


def linear(rows):
    x, w = np.zeros((64 * rows, 512)), np.zeros((512, 512))
    return lambda: F.linear(x, w)


def trained_linear(n):
    """A layer in training, its weights packed block by block within the product.

    With as many rows as that is done for: the fewer they are, the larger the weights that take 3 s.
    """
    layer, x = fn.Linear(1024, 512 * n, dtype=np.float64, rng=0), np.zeros((440, 1024))
    return lambda: layer.backward(layer(x))


def linear_backward(rows):
    x, w, grad_y = np.zeros((64 * rows, 512)), np.zeros((512, 512)), np.zeros((64 * rows, 512))
    return lambda: F.linear_backward(grad_y, x, w)


def images(n, channels=64):
    return np.moveaxis(np.zeros((n, 28, 28, channels), np.float32), 3, 1)


def conv(n, algorithm):
    x, w = images(n), np.zeros((64, 64, 3, 3), np.float32)
    return lambda: F.conv2d(x, w, padding=1, algorithm=algorithm)


def conv_backward(n, algorithm):
    x, w, grad_y = images(n), np.zeros((64, 64, 3, 3), np.float32), images(n)
    return lambda: F.conv2d_backward(grad_y, x, w, padding=1, algorithm=algorithm)


# Filters of few channels are large here: with small ones memory would be the limit, and 3 s of it too much.
def depthwise(n, group=1, gradient=False):
    x, w = np.zeros((n, 64, 40, 40), np.float32), np.zeros((64, group, 31, 31), np.float32)
    config = {"padding": 15, "groups": 64 // group}
    if gradient:
        return lambda: F.conv2d_backward(x, x, w, **config)
    return lambda: F.conv2d(x, w, **config)


def few_channels(n, gradient=False):
    x, w = np.zeros((n, 3, 64, 64), np.float32), np.zeros((64, 3, 15, 15), np.float32)
    if gradient:
        grad_y = np.zeros((n, 64, 50, 50), np.float32)
        return lambda: F.conv2d_backward(grad_y, x, w)
    return lambda: F.conv2d(x, w)


def rows_of_few_channels(n):
    """With large filters that go row by row still: of 3 x 3, 3 s are 25 GB of outputs on a fast processor."""
    x, w = np.zeros((n, 3, 64, 64), np.float32), np.zeros((64, 3, 7, 7), np.float32)
    return lambda: F.conv2d(x, w)


def signal_of_one_channel(n):
    x, w = np.zeros((1, 1, 2000 * n), np.float32), np.zeros((512, 1, 100), np.float32)
    return lambda: F.conv1d(x, w)


def few_pixels(n):
    """A gradient of many filters from fewer than two pixels each.

    Of very many: a task writes to all rows of the gradient, and of 800 MB, which 1024 filters would take, a
    machine that is slow to give new memory needs 2 s for the first one.
    """
    channels = 16 * n
    x, w = np.zeros((8, channels, 30, 30), np.float32), np.zeros((4096, channels, 3, 3), np.float32)
    grad_y = np.zeros((8, 4096, 28, 28), np.float32)
    return lambda: F.conv2d_backward(grad_y, x, w, algorithm="direct", input_grad=False)


def few_tiles(n, gradient=False):
    """Winograd's tiles of small images of many channels."""
    channels = 512 * math.isqrt(n)
    x = np.zeros((1, channels, 14, 14), np.float32)
    w = np.zeros((channels, channels, 3, 3), np.float32)
    if gradient:
        return lambda: F.conv2d_backward(x, x, w, padding=1)
    return lambda: F.conv2d(x, w, padding=1)


def in_c_order(n):
    """Images of many channels that are copied before all else, and by as few operations as can be."""
    x, w = np.zeros((n, 64, 64, 64), np.float32), np.zeros((2, 64, 1, 1), np.float32)
    return lambda: F.conv2d_backward(F.conv2d(x, w), x, w)


def padded_copies(n):
    x, w = np.zeros((n, 3, 64, 64), np.float32), np.zeros((2, 3, 2, 2), np.float32)
    return lambda: F.conv2d_backward(F.conv2d(x, w), x, w, np.zeros(2, np.float32))


def conv_transpose(n):
    x, w = images(n), np.zeros((64, 64, 3, 3), np.float32)
    return lambda: F.conv_transpose2d(x, w, stride=2)


def many_strides(n):
    """256 classes of pixels, none of which takes long by itself, but the first, which gets new memory."""
    x, w = np.zeros((64 * n, 512, 2, 2), np.float32), np.zeros((512, 16, 16, 16), np.float32)
    return lambda: F.conv_transpose2d(x, w, stride=16)


def lstm(steps):
    layer, x = fn.LSTM(64, 256, rng=0).eval(), np.zeros((4 * steps, 32, 64), np.float32)
    return lambda: layer(x)


def lstm_backward(steps):
    layer, x = fn.LSTM(64, 256, rng=0), np.zeros((4 * steps, 32, 64), np.float32)
    out, _ = layer(x)
    return lambda: layer.backward(out)


def gru(steps):
    layer, x = fn.GRU(64, 256, bidirectional=True, rng=0).eval(), np.zeros((4 * steps, 32, 64), np.float32)
    return lambda: layer(x)


def gru_backward(steps):
    layer, x = fn.GRU(64, 256, rng=0), np.zeros((4 * steps, 32, 64), np.float32)
    out, _ = layer(x)
    return lambda: layer.backward(out)


def rnn_shared_by_threads(steps):
    """One long sequence, whose steps are long enough for threads to share their columns."""
    layer, x = fn.LSTM(64, 768, rng=0).eval(), np.zeros((steps, 1, 64), np.float32)
    return lambda: layer(x)


def rnn_backward_shared_by_threads(steps):
    layer, x = fn.LSTM(64, 768, rng=0), np.zeros((steps, 1, 64), np.float32)
    out, _ = layer(x)
    return lambda: layer.backward(out)


def cnn():
    return fn.Sequential(fn.Conv2d(64, 64, 3, padding=1, rng=0), fn.BatchNorm2d(64), fn.ReLU(),
                         fn.Conv2d(64, 64, 3, padding=1, rng=0)).eval()


def frozen(n):
    network, x = cnn().freeze(), images(n)
    return lambda: network(x)


def chain(n):
    """An inverted residual of MobileNetV2, whose convolutions go band by band."""
    block = fn.Residual(fn.Sequential(fn.Conv2d(32, 192, 1, rng=0), fn.ReLU6(),
                                      fn.Conv2d(192, 192, 3, padding=1, groups=192, rng=1), fn.ReLU6(),
                                      fn.Conv2d(192, 32, 1, rng=2)))
    network, x = fn.Sequential(block).eval().freeze(), images(n, 32)
    return lambda: network(x)


def from_onnx(n):
    pytest.importorskip("onnx")
    with tempfile.TemporaryDirectory() as folder:
        fn.onnx.save(cnn(), Path(folder, "net.onnx"))
        network = fn.onnx.load(Path(folder, "net.onnx"))
    x = images(n)
    return lambda: network(x)


def fit(n):
    x, y = draw(64 * n, 64, dtype=np.float32), np.zeros(64 * n, np.int64)
    net = fn.Sequential(fn.Linear(64, 256, rng=0), fn.ReLU(), fn.Linear(256, 10, rng=0))
    return lambda: net.fit(x, y, loss=fn.losses.CrossEntropyLoss(), epochs=1, batch_size=64, progress=False,
                           optimizer=fn.optim.Adam(net.parameters()))


CASES = {
    "linear": linear,
    "linear_backward": linear_backward,
    "Linear in training": trained_linear,
    "conv2d direct": lambda n: conv(n, "direct"),
    "conv2d winograd": lambda n: conv(n, "winograd"),
    "conv2d_backward direct": lambda n: conv_backward(n, "direct"),
    "conv2d_backward winograd": lambda n: conv_backward(n, "winograd"),
    "conv2d few channels": few_channels,
    "conv2d few channels, rows": rows_of_few_channels,
    "conv1d one channel": signal_of_one_channel,
    "conv2d_backward few channels": lambda n: few_channels(n, gradient=True),
    "conv2d_backward few pixels": few_pixels,
    "conv2d depthwise": depthwise,
    "conv2d_backward depthwise": lambda n: depthwise(n, gradient=True),
    "conv2d narrow groups": lambda n: depthwise(n, 4),
    "conv2d_backward narrow groups": lambda n: depthwise(n, 4, gradient=True),
    "conv2d few tiles": few_tiles,
    "conv2d_backward few tiles": lambda n: few_tiles(n, gradient=True),
    "conv2d in C order": in_c_order,
    "conv2d padded copies": padded_copies,
    "conv_transpose2d": conv_transpose,
    "lstm": lstm,
    "lstm_backward": lstm_backward,
    "gru": gru,
    "gru_backward": gru_backward,
    "lstm shared by threads": rnn_shared_by_threads,
    "lstm_backward shared by threads": rnn_backward_shared_by_threads,
    "frozen": frozen,
    "frozen in bands": chain,
    "onnx": from_onnx,
}


def long_enough(make, seconds=SECONDS):
    """The case at the size that takes `seconds` of processor time, estimated from a hundredth of that.

    The least of three counts: threads that wait for one another take time, too, which says nothing of size.
    """

    def processor_time(call):
        start = time.process_time()
        call()
        return time.process_time() - start

    make(1)()  # what is done once, such as imports, is not the call's
    size = 1
    while True:
        taken = min(processor_time(make(size)) for _ in range(3))
        if taken > seconds / 100:
            return make(int(size * seconds / taken) + 1)
        size *= 2


def interrupted(call, after=0.1):
    """Press Ctrl-C `after` seconds into `call`; return what it returned or raised, and after how long."""
    pressed = []

    def press():
        pressed.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after, press)
    timer.start()
    try:
        result = call()
    except KeyboardInterrupt as error:
        result = error
    ended = time.perf_counter()
    try:
        timer.join()
    except KeyboardInterrupt:
        pytest.fail("the call ended before Ctrl-C was pressed")
    return result, ended - pressed[0]


posix = pytest.mark.skipif(os.name != "posix", reason="sends itself a signal of POSIX")


def quickest_end(call, attempts=3, after=0.1):
    """What an interrupted call returned or raised, and the least seconds of several attempts until it ended.

    A machine that stalls does so once; a kernel that does not ask whether Ctrl-C was pressed, every time.
    """
    least = math.inf
    for _ in range(attempts):
        result, took = interrupted(call, after)
        least = min(least, took)
        if least < 1:
            break
    return result, least


@posix
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_long_kernels_end(case, number, threads):
    threads(number)
    result, took = quickest_end(long_enough(CASES[case]))
    assert isinstance(result, KeyboardInterrupt)
    assert took < 1


@posix
@pytest.mark.parametrize("number", [1, 2])
def test_many_short_parts_end(number, threads):
    """Each is done before it would look for Ctrl-C."""
    threads(number)
    result, took = quickest_end(long_enough(many_strides), after=0.5)
    assert isinstance(result, KeyboardInterrupt)
    assert took < 1


def passes(name):
    """A kernel that passes over memory once: a call with a given number of rows, and what it writes."""
    def make(rows):
        x, y = np.zeros((rows, 1000)), np.full((rows, 1000), np.nan)
        call = {
            "map": lambda: elementwise.map(GELU, 0.0, 0.0, x, y),
            "map_backward": lambda: elementwise.map_backward(GELU, 0.0, 0.0, x, x, y),
            "loss": lambda: elementwise.loss(BINARY_CROSS_ENTROPY, x, x, None, None, y),
        }[name]
        call.written = y
        return call
    return make


GELU, BINARY_CROSS_ENTROPY = 5, 2  # of csrc/kernels.h


@posix
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", ["map", "map_backward", "loss"])
def test_passes_over_memory_end(name, number, threads):
    """Before the end of what they write: the loop is that of softmax, norms, poolings, too (share.pyx).

    By the portable bodies: with others memory would be the limit.
    """
    threads(number)
    isa = runtime.get_isa()
    runtime.set_isa("scalar")
    try:
        call = long_enough(passes(name), seconds=0.6)
        assert np.isnan(call.written[-1, -1])
        result, _ = interrupted(call, after=0.03)
    finally:
        runtime.set_isa(isa)
    assert isinstance(result, KeyboardInterrupt)
    assert np.isfinite(call.written[0]).all()
    assert np.isnan(call.written).any()


@posix
def test_what_was_not_summed_is_not_added_to_a_gradient(threads):
    """Ctrl-C in the first of backward's products, of the input's gradient: that of the weight, whose sum is
    cut in slices, has not begun. By the portable bodies, of which it takes longer than two looks."""
    threads(1)
    x, grad_y = draw(4096, 1024, dtype=np.float32), draw(4096, 1024, dtype=np.float32)
    isa = runtime.get_isa()
    runtime.set_isa("scalar")
    try:
        layer = fn.Linear(1024, 1024, rng=0)
        layer(x)
        layer.backward(grad_y)
        before = [p.grad.copy() for p in layer.parameters()]
        layer(x)
        result, _ = interrupted(lambda: layer.backward(grad_y), after=0.01)
    finally:
        runtime.set_isa(isa)
    assert isinstance(result, KeyboardInterrupt)
    assert_same_bits([p.grad for p in layer.parameters()], before)


@posix
def test_fit_ends_and_says_so():
    history, took = quickest_end(long_enough(fit))
    assert history.interrupted
    assert took < 1


@posix
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_model_is_usable_afterwards(method):
    net = fn.Sequential(fn.Linear(512, 512, rng=0), fn.Tanh(), fn.Linear(512, 512, rng=0))
    x = draw(8, 512, dtype=np.float32)
    expected, state = net(x), net.state_dict()
    grads = [net.backward(expected), *(p.grad.copy() for p in net.parameters())]
    many = np.zeros((50_000, 512), np.float32)
    if method == "forward":
        result, _ = interrupted(lambda: [net(many) for _ in range(60)])
    else:
        y = net(many)
        result, _ = interrupted(lambda: [(net.backward(y), net(many)) for _ in range(60)])
    assert isinstance(result, KeyboardInterrupt)
    assert_same_bits(net.state_dict().values(), state.values())
    net.zero_grad()
    assert_same_bits([net(x), net.backward(expected), *(p.grad for p in net.parameters())],
                     [expected, *grads])
