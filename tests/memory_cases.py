"""Calls for test_memory.py; as a program, fails every allocation of one of them in turn."""

import ctypes
import gc
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from arrays import assert_same_bits, draw

import fastnn as fn

F = fn.functional
SET_HANDLER = 304  # the place of PyDataMem_SetHandler in NumPy's table of functions


class Case(NamedTuple):
    make: Callable  # () -> (the module whose state must not change, or None; the call)
    least: int      # allocations that there are at least: a test that fails none proves nothing


def function(name, *shapes, config=None):
    """A function of float arrays of these shapes, large enough for several tasks."""
    def make():
        arrays = [draw(*shape, dtype=np.float32, seed=i) for i, shape in enumerate(shapes)]
        return None, lambda: getattr(F, name)(*arrays, **(config or {}))
    return make


def training_step(make_net, make_x):
    """Forward, loss, backward; the parameters must be as before."""
    def make():
        net, x = make_net(), make_x()
        loss = fn.losses.MSELoss()

        def call():
            net.zero_grad()
            out = net(x)
            y = out[0] if isinstance(out, tuple) else out
            loss(y, np.zeros_like(y))
            return [y, net.backward(loss.backward()), *(p.grad.copy() for p in net.parameters())]
        return net, call
    return make


def inference(make_net, make_x):
    """A call in eval mode that packs the weights anew."""
    def make():
        net, x = make_net(), make_x()

        def call():
            net.eval()
            out = net(x)
            return out[0] if isinstance(out, tuple) else out
        return net, call
    return make


def large_outputs():
    """Memory that is kept for the next array is first given back, so that it is asked for again."""
    x, weight = draw(1, 16, 140, 140, dtype=np.float32), draw(64, 16, 3, 3, dtype=np.float32, seed=1)

    def call():
        fn.empty_cache()
        y = F.conv2d(x, weight)
        assert y.nbytes > 4 << 20
        return [y, F.relu(y)]
    return None, call


def losses():
    y, target = draw(64, 10, dtype=np.float32), draw(64, 10, dtype=np.float32, seed=1)

    def call():
        results = []
        for name in ("mse_loss", "half_squared_error", "huber_loss", "binary_cross_entropy_with_logits"):
            results += [np.array(getattr(F, name)(y, target)), getattr(F, f"{name}_backward")(y, target)]
        return results
    return None, call


def cross_entropy():
    logits, target = draw(64, 10, dtype=np.float32), np.arange(64) % 10

    def call():
        return [np.array(F.cross_entropy(logits, target)), F.cross_entropy_backward(logits, target),
                F.cross_entropy_backward(logits, target, label_smoothing=0.1)]
    return None, call


def frozen():
    """The first call, which plans and packs, and one that finds all that."""
    net, x = cnn().eval(), picture()

    def call():
        network = net.freeze()
        return [network(x), network(x)]
    return net, call


def chain():
    """An inverted residual, whose convolutions are computed band by band."""
    block = fn.Residual(fn.Sequential(fn.Conv2d(8, 32, 1, rng=0), fn.ReLU6(),
                                      fn.Conv2d(32, 32, 3, padding=1, groups=32, rng=1), fn.ReLU6(),
                                      fn.Conv2d(32, 8, 1, rng=2)))
    net, x = fn.Sequential(block).eval(), draw(1, 8, 24, 24, dtype=np.float32)

    def call():
        network = net.freeze()
        return [network(x), network(x)]
    return net, call


def from_onnx():
    net, x = cnn().eval(), picture()
    path = Path(tempfile.mkdtemp()) / "net.onnx"
    fn.onnx.save(net, path)
    model = fn.onnx.load(path)

    def call():
        return [model(x), model.freeze()(x)]
    return model, call


def stream():
    """A step of a stack in eval mode, as a program calls it that hears one sample at a time."""
    lstm, x = fn.LSTM(12, 16, 2, rng=0).eval(), draw(1, 4, 12, dtype=np.float32)
    state = lstm(x)[1]

    def call():
        y, (h, c) = lstm(x, state)
        return [y, h, c]
    return lstm, call


def optimizer_step(kind):
    """The first step, which makes the optimizer's state; it is undone without an allocation."""
    def make():
        net = fn.Linear(64, 64, bias=False, rng=0)
        net.parameters()  # from now on they lie in one buffer
        weight, start = net.weight._data, net.weight._data.copy()
        net.weight.grad[...] = 1
        found = np.empty_like(start)

        def call():
            kind(net.parameters(), lr=0.1).step()
            np.copyto(found, weight)
            np.copyto(weight, start)
            return found
        return net, call
    return make


def save_and_load(suffix):
    def make():
        net = fn.Linear(64, 64, rng=0)
        path = Path(tempfile.mkdtemp()) / f"net{suffix}"
        fn.save(net, path)
        start = path.read_bytes()

        def call():
            try:
                fn.save(net, path)
                net.load_state_dict(fn.load(path))
            finally:
                assert len(list(path.parent.iterdir())) == 1
                assert fn.load is not None
                if suffix != ".npz":  # whose archive carries the time
                    assert path.read_bytes() == start
            return list(net.state_dict().values())
        return net, call
    return make


def cnn():
    return fn.Sequential(
        fn.Conv2d(3, 16, 3, padding=1, activation="relu", rng=0), fn.BatchNorm2d(16),
        fn.Residual(fn.Conv2d(16, 16, 3, padding=1, algorithm="winograd", rng=1)),
        fn.Conv2d(16, 16, 3, padding=1, groups=16, rng=2), fn.MaxPool2d(2), fn.AvgPool2d(2), fn.GELU(),
        fn.ConvTranspose2d(16, 4, 2, stride=2, rng=3), fn.Flatten(), fn.LayerNorm(256),
        fn.Linear(256, 10, activation="tanh", rng=4), fn.Softmax())


def picture():
    return draw(2, 3, 16, 16, dtype=np.float32)


CASES = {
    "conv2d direct": Case(function("conv2d", (2, 8, 20, 20), (24, 8, 3, 3)), 4),
    "conv2d few channels": Case(function("conv2d", (2, 3, 20, 20), (24, 3, 5, 5), config={"stride": 2}), 4),
    "conv2d winograd": Case(function("conv2d", (9, 4, 20, 20), (6, 4, 3, 3),
                                     config={"algorithm": "winograd", "padding": 1}), 4),
    "conv2d winograd, few tiles": Case(function("conv2d", (2, 16, 20, 20), (24, 16, 3, 3),
                                                config={"algorithm": "winograd", "padding": 1}), 3),
    "conv2d winograd, strips": Case(function("conv2d", (2, 3, 32, 32), (24, 3, 3, 3)), 3),
    "conv2d depthwise": Case(function("conv2d", (2, 16, 20, 20), (16, 1, 3, 3), config={"groups": 16}), 2),
    "conv2d_backward direct": Case(function("conv2d_backward", (2, 24, 18, 18), (2, 8, 20, 20), (24, 8, 3, 3),
                                            config={"algorithm": "direct"}), 8),
    "conv2d_backward few channels": Case(function("conv2d_backward", (2, 24, 8, 8), (2, 3, 20, 20),
                                                  (24, 3, 5, 5), config={"stride": 2}), 8),
    "conv2d_backward winograd": Case(function("conv2d_backward", (9, 6, 20, 20), (9, 4, 20, 20), (6, 4, 3, 3),
                                              config={"algorithm": "winograd", "padding": 1}), 8),
    "conv2d_backward winograd, few tiles": Case(
        function("conv2d_backward", (2, 24, 20, 20), (2, 16, 20, 20), (24, 16, 3, 3),
                 config={"algorithm": "winograd", "padding": 1}), 7),
    "conv2d_backward winograd, many filters": Case(
        function("conv2d_backward", (2, 160, 20, 20), (2, 160, 20, 20), (160, 160, 3, 3),
                 config={"algorithm": "winograd", "padding": 1}), 4),
    "conv2d_backward depthwise": Case(function("conv2d_backward", (2, 16, 18, 18), (2, 16, 20, 20),
                                               (16, 1, 3, 3), config={"groups": 16}), 8),
    "conv2d narrow groups": Case(function("conv2d", (2, 16, 20, 20), (16, 4, 3, 3), config={"groups": 4}), 2),
    "conv2d_backward narrow groups": Case(function("conv2d_backward", (2, 16, 18, 18), (2, 16, 20, 20),
                                                   (16, 4, 3, 3), config={"groups": 4}), 6),
    "conv2d_backward few pixels": Case(function("conv2d_backward", (2, 64, 4, 4), (2, 32, 6, 6),
                                                (64, 32, 3, 3), config={"algorithm": "direct"}), 6),
    "conv_transpose2d": Case(function("conv_transpose2d", (2, 8, 9, 9), (8, 16, 3, 3)), 3),
    "linear_backward": Case(function("linear_backward", (64, 48), (64, 32), (48, 32)), 3),
    "linear": Case(function("linear", (9, 600), (80, 600)), 2),
    "training a Linear": Case(training_step(lambda: fn.Linear(600, 80, rng=0),
                                            lambda: draw(9, 600, dtype=np.float32)), 5),
    "training with few sequences": Case(training_step(lambda: fn.LSTM(8, 128, bidirectional=True, rng=0),
                                                      lambda: draw(4, 1, 8, dtype=np.float32)), 20),
    "max_pool2d": Case(function("max_pool2d", (2, 16, 20, 20),
                                config={"kernel_size": 3, "return_indices": True}), 3),
    "avg_pool2d": Case(function("avg_pool2d", (2, 16, 20, 20), config={"kernel_size": 3}), 2),
    "large outputs": Case(large_outputs, 4),
    "cross entropy": Case(cross_entropy, 6),
    "losses": Case(losses, 6),
    "local_response_norm": Case(function("local_response_norm", (2, 16, 20, 20), config={"size": 5}), 2),
    "prelu_backward": Case(function("prelu_backward", (2, 16, 20, 20), (2, 16, 20, 20), (16,)), 2),
    "a frozen CNN": Case(frozen, 20),
    "a frozen chain": Case(chain, 10),
    "a CNN from ONNX": Case(from_onnx, 20),
    "a stream": Case(stream, 4),
    "batch_norm_stats": Case(function("batch_norm_stats", (8, 16, 20, 20)), 3),
    "layer_norm_backward": Case(function("layer_norm_backward", (64, 48), (64, 48),
                                         config={"normalized_shape": 48}), 2),
    "log_softmax": Case(function("log_softmax", (64, 48)), 1),
    "training a CNN": Case(training_step(cnn, picture), 60),
    "inference of a CNN": Case(inference(cnn, picture), 20),
    "training an LSTM": Case(training_step(lambda: fn.LSTM(12, 16, 2, bidirectional=True, rng=0),
                                           lambda: draw(9, 4, 12, dtype=np.float32)), 30),
    "inference of a GRU": Case(inference(lambda: fn.GRU(12, 16, rng=0),
                                         lambda: draw(9, 4, 12, dtype=np.float32)), 4),
    "SGD": Case(optimizer_step(fn.optim.SGD), 0),
    "Adam": Case(optimizer_step(fn.optim.Adam), 2),
    "AdamW": Case(optimizer_step(fn.optim.AdamW), 2),
    "RMSprop": Case(optimizer_step(fn.optim.RMSprop), 1),
    "save .npz": Case(save_and_load(".npz"), 4),
    "save .safetensors": Case(save_and_load(".safetensors"), 2),
}


def watch_our_allocations(shim):
    """All of the compiled modules, and the arrays that NumPy makes on our behalf.

    Not NumPy's own small things: it crashes where an iterator's fail (2.4; ``np.zeros((2, 4, 16, 16)) +
    np.ones((4, 1, 1))``), whoever calls it.
    """
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            if "fastnn/_kernels/" in line:
                low, high = (int(end, 16) for end in line.split()[0].split("-"))
                shim.shim_watch(ctypes.c_size_t(low), ctypes.c_size_t(high))
    python = ctypes.pythonapi
    python.PyCapsule_GetPointer.restype = ctypes.POINTER(ctypes.c_void_p)
    python.PyCapsule_New.restype = ctypes.py_object
    table = python.PyCapsule_GetPointer(ctypes.py_object(np._core._multiarray_umath._ARRAY_API), None)
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SET_HANDLER])
    handler = ctypes.c_char.in_dll(shim, "shim_arrays")
    set_handler(python.PyCapsule_New(ctypes.byref(handler), b"mem_handler", None))
    assert np._core.multiarray.get_handler_name() == "failing"


def fail_each(shim, call, module, expected):
    """Fail the first allocation of `call`, the second, ... until none is left; return their number."""
    # Of a module in training mode: a batch norm that was passed before memory ran out has seen the batch.
    state = {name: p.data.copy() for name, p in module.named_parameters()} if module else {}
    n = 0
    while True:
        n += 1
        shim.shim_fail(ctypes.c_long(n))
        try:
            call()
        except MemoryError:
            failed = True
        else:
            failed = False
        asked = shim.shim_asked()
        shim.shim_fail(ctypes.c_long(0))
        if not failed:
            assert asked < n, f"allocation {n} of {asked} failed unnoticed"
            return n - 1
        if module:
            assert_same_bits([p.data for _, p in module.named_parameters()], state.values())
        assert_same_bits(call(), expected)


def main(name):
    # The serial path allocates what the parallel one does.
    fn.set_num_threads(2)
    shim = ctypes.CDLL(None)
    shim.shim_asked.restype = shim.shim_alive.restype = ctypes.c_long
    module, once = CASES[name].make()

    def call():
        result = once()
        return [*result] if isinstance(result, (tuple, list)) else [result]

    expected = [None if value is None else np.copy(value) for value in call()]
    watch_our_allocations(shim)  # now that all modules of the call are there
    alive = []
    for _ in range(3):
        count = fail_each(shim, call, module, expected)
        gc.collect()
        alive.append(shim.shim_alive())
    # NumPy keeps a few small blocks for the next arrays; the second round finds them.
    assert alive[2] <= alive[1], f"{alive[2] - alive[1]} blocks of memory lost"
    print(count, alive)


if __name__ == "__main__":
    main(sys.argv[1])
