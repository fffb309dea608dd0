"""Results do not depend on the caller's floating-point environment, which is as it was after each call."""

import ctypes
import os
import platform
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import fuzz_cases
import numpy as np
import pytest
from arrays import assert_same_bits, draw

import fastnn as fn
from fastnn._kernels import gemm, runtime

F = fn.functional

# Of the C library's fenv_t: which 32-bit word controls the arithmetic of vectors, and its settings.
WORDS = {
    "x86_64": (7, {"upward": 0x5f80, "downward": 0x3f80, "toward zero": 0x7f80, "no denormals": 0x9fc0}),
    "aarch64": (0, {"upward": 1 << 22, "downward": 2 << 22, "toward zero": 3 << 22, "no denormals": 1 << 24}),
}
WORD, MODES = WORDS.get(platform.machine(), (0, {}))
SETTINGS = ~0x3f if platform.machine() == "x86_64" else ~0  # the rest says what has happened so far

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not MODES,
                                reason="knows the fenv_t of GNU/Linux on x86-64 and 64-bit ARM")


def get_word(library, words):
    library.fegetenv(words)
    return words[WORD] & SETTINGS & 0xffffffff


@contextmanager
def environment(mode):
    """Compute in this mode; at the end it must still be set."""
    library, words = ctypes.CDLL(None), (ctypes.c_uint32 * 16)()
    before = get_word(library, words)
    words[WORD] = MODES[mode]
    library.fesetenv(words)
    try:
        yield
    finally:
        after = get_word(library, words)
        words[WORD] = before
        library.fesetenv(words)
    assert after == MODES[mode], "the call has changed the caller's environment"


def flat(result):
    """The arrays and numbers of a result, as arrays."""
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in flat(part)]
    return [np.array(result)] if isinstance(result, (np.ndarray, float)) else []


def denormal(arguments):
    """The same arguments, those that a function is applied to scaled so that their numbers are denormal."""
    power = {4: -127, 8: -1023}
    return {name: np.ldexp(value, power[value.itemsize])
            if name in ("x", "y", "a", "grad_y", "logits") and isinstance(value, np.ndarray) else value
            for name, value in arguments.items()}


@pytest.mark.parametrize("mode", MODES)
def test_modes_make_a_difference_to_numpy(mode):
    """Otherwise the other tests prove nothing."""
    x, tiny = draw(100, dtype=np.float32), np.full(20, 1e-39, np.float32)
    expected = [x / 3, tiny * np.float32(0.5)]
    with environment(mode):
        found = [x / 3, tiny * np.float32(0.5)]
    assert any((a != b).any() for a, b in zip(found, expected, strict=True))


KERNELS = Path(__file__).parent.parent / "src/fastnn/_kernels"


def functions_of(path):
    """Name and text of each `def` of a .pyx file: up to the next line that is indented no further."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"^( *)def (\w+)\(", text, re.M):
        rest = text[text.index("\n", found.end()):]
        end = re.search(rf"^ {{0,{len(found[1])}}}\S", rest, re.M)
        yield found[2], rest[:end.start() if end else None]


def test_each_compiled_function_that_computes_has_it():
    """Such functions ask for the bodies or for threads, by themselves or by run_*, or may be interrupted."""
    computing = [(f"{path.stem}.{name}", text) for path in KERNELS.glob("*.pyx") if path.stem != "runtime"
                 for name, text in functions_of(path)
                 if re.search(r"\b(kernels|team_size|share|run_\w+|finish|raise_interrupt)\(", text)]
    assert len(computing) > 20
    assert not [name for name, text in computing if "_caller = default_environment()\n" not in text]


@pytest.mark.parametrize("name", sorted(fuzz_cases.FUNCTIONS))
def test_functions(name, dtype):
    sizes = dict.fromkeys(fuzz_cases.AXES, 5) | {"R": 3, "S": 3}
    function = getattr(F, name)
    for scaled in (dict, denormal):
        for mode in MODES:
            arguments, same = (scaled(fuzz_cases.FUNCTIONS[name](sizes, dtype)) for _ in range(2))
            expected = flat(function(**arguments))
            with environment(mode):
                found = flat(function(**same))
            assert_same_bits(found, expected)


@pytest.mark.parametrize("mode", MODES)
def test_slopes_below_the_normal_numbers(mode):
    x, slope = np.array([-1e10, 2, -3], np.float32), np.float32(1e-40)
    calls = [lambda: F.prelu(x, np.array([slope])), lambda: F.leaky_relu(x, slope), lambda: F.elu(x, slope),
             lambda: F.elu_backward(x, x, slope), lambda: F.hardtanh(x, -slope, slope),
             lambda: F.softplus(x, slope)]
    for call in calls:
        expected = call()
        with environment(mode):
            found = call()
        assert_same_bits([found], [expected])


@pytest.mark.parametrize("mode", MODES)
def test_networks(mode, isa, threads):
    """A CNN, an LSTM and one whose steps threads share, forward and backward; in eval mode and frozen.

    Their gradients start at zero.
    """
    x, sequence = draw(2, 3, 16, 16, dtype=np.float32), draw(6, 4, 12, dtype=np.float32)
    threads(2)

    def made():
        net = fn.Sequential(
            fn.Conv2d(3, 16, 3, padding=1, activation="relu", rng=0), fn.BatchNorm2d(16), fn.GELU(),
            fn.Conv2d(16, 16, 3, padding=1, algorithm="winograd", rng=1), fn.MaxPool2d(2), fn.AvgPool2d(2),
            fn.Conv2d(16, 16, 3, padding=1, groups=16, rng=2), fn.ConvTranspose2d(16, 4, 2, stride=2, rng=3),
            fn.Flatten(), fn.LayerNorm(256), fn.Linear(256, 10, activation="tanh", rng=4), fn.Softmax())
        lstm = fn.LSTM(12, 16, 2, bidirectional=True, rng=0)
        shared = fn.LSTM(12, 160, rng=1)
        chain = fn.Sequential(fn.Conv2d(8, 32, 1, rng=1), fn.ReLU6(),
                              fn.Conv2d(32, 32, 3, padding=1, groups=32, rng=2), fn.ReLU6(),
                              fn.Conv2d(32, 8, 1, rng=3))
        frozen = fn.Sequential(fn.Conv2d(3, 8, 3, rng=0), fn.BatchNorm2d(8), fn.ReLU(),
                               fn.Residual(chain)).eval().freeze()
        return net, lstm, shared, frozen, Arithmetic().eval().freeze()

    def computed(net, lstm, shared, frozen, arithmetic):
        y, (out, _), (alone, _) = net(x), lstm(sequence), shared(sequence[:, :1])
        results = [y, net.backward(y), out, lstm.backward(out), alone, shared.backward(alone), frozen(x)]
        results += [arithmetic(sequence[0]) for _ in range(2)]  # the first call is another
        results += [p.grad for p in net.parameters() + lstm.parameters() + shared.parameters()]
        return flat([*results, net.eval()(x), lstm.eval()(sequence)])

    expected = computed(*made())
    networks = made()
    with environment(mode):
        found = computed(*networks)
    assert_same_bits(found, expected)


class Arithmetic(fn.Module):
    """Of which a frozen network does some by NumPy, between steps of its own and where these cannot add."""

    def __init__(self):
        super().__init__()
        self.linear = fn.Residual(fn.Linear(12, 12, rng=0))
        self.scale = fn.layers.Parameter(draw(12, dtype=np.float32))

    def forward(self, x):
        y = self.linear(x)
        return y / 3 + y * self.scale - x


def made_layer(name, dtype):
    """A layer whose gradients are not zero, so that what is added to them is rounded, and its input."""
    sizes = dict.fromkeys(fuzz_cases.AXES, 5) | {"R": 3, "S": 3}
    if name in BLOCKS:
        net, x = BLOCKS[name](dtype), draw(4, 5, dtype=dtype)
    else:
        arguments = fuzz_cases.LAYERS[name](sizes, dtype)
        x = arguments.pop("x")
        net = fuzz_cases.made(getattr(fn, name), arguments)
    for p in net.parameters():
        p.grad[...] = draw(*p.shape, dtype=dtype, seed=1)
    return net, x


BLOCKS = {
    "Embedding": lambda dtype: fn.Sequential(Places(), fn.Embedding(3, 7, dtype=dtype, rng=0)),
    "Parallel": lambda dtype: fn.Parallel(fn.Linear(5, 5, dtype=dtype, rng=0), fn.Tanh(), merge="sum"),
    "Residual": lambda dtype: fn.Residual(fn.Linear(5, 5, dtype=dtype, rng=0), activation="tanh"),
}


class Places(fn.Module):
    """Rows of a table, of which some are read more than once."""

    def forward(self, x):
        return np.arange(x.size).reshape(x.shape) % 3

    def backward(self, grad_y):
        return grad_y


@pytest.mark.parametrize("name", [*fuzz_cases.LAYERS, *BLOCKS])
def test_layers(name, dtype):
    def computed(net, x):
        y = net(x)
        grad_x = net.backward(y[0] if isinstance(y, tuple) else y)
        return flat([y, grad_x, *(p.grad for p in net.parameters()), *(b for _, b in net.named_buffers())])

    expected = computed(*made_layer(name, dtype))
    for mode in MODES:
        made = made_layer(name, dtype)
        with environment(mode):
            found = computed(*made)
        assert_same_bits(found, expected)


INITIALIZERS = [name for name in fuzz_cases.OTHERS if name.startswith("init.")]
DRAWN = [name for name, case in fuzz_cases.LAYERS.items()
         if "rng" in case(dict.fromkeys(fuzz_cases.AXES, 3), np.float32)]


@pytest.mark.parametrize("name", [*INITIALIZERS, *DRAWN])
def test_initial_values(name, dtype):
    sizes = dict.fromkeys(fuzz_cases.AXES, 5) | {"R": 3, "S": 3}

    def drawn():
        arguments = fuzz_cases.CASES[name](sizes, dtype)
        if name in INITIALIZERS:
            return flat(getattr(fn.init, name[len("init."):])(**arguments))
        del arguments["x"]
        return flat([p.data for p in getattr(fn, name)(**arguments).parameters()])

    expected = drawn()
    for mode in MODES:
        with environment(mode):
            found = drawn()
        assert_same_bits(found, expected)


@pytest.mark.parametrize("mode", MODES)
def test_training(mode):
    """`fit`, first batch to last: losses and their means, rates, clipping, dropout, running statistics."""
    x, y = draw(40, 1, 8, 8, dtype=np.float32), np.arange(40) % 3

    def made():
        net = fn.Sequential(
            fn.Conv2d(1, 6, 3, padding=1, rng=0), fn.BatchNorm2d(6),
            fn.Residual(fn.Conv2d(6, 6, 3, padding=1, activation="relu", rng=1)),
            fn.Parallel(fn.Conv2d(6, 4, 1, rng=2), fn.Conv2d(6, 4, 3, padding=1, rng=3), merge="sum"),
            fn.Flatten(), fn.Dropout(0.3, rng=4), fn.Linear(256, 3, rng=5))
        optimizer = fn.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        return net, optimizer, fn.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)

    def trained(net, optimizer, scheduler):
        loss = fn.losses.CrossEntropyLoss(label_smoothing=0.1)
        history = net.fit(x, y, loss=loss, optimizer=optimizer, scheduler=scheduler, epochs=3, batch_size=7,
                          clip_grad_norm=0.5, validation_data=(x[:11], y[:11]), progress=False, rng=0)
        numbers = [history[name] for name in ("loss", "val_loss", "lr")]
        return [np.array(numbers), *net.state_dict().values(), net.predict(x)]

    expected, other = trained(*made()), made()
    with environment(mode):
        found = trained(*other)
    assert_same_bits(found, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [fn.optim.SGD, fn.optim.Adam, fn.optim.AdamW, fn.optim.RMSprop])
def test_optimizers(mode, kind):
    def stepped(optimizer, net):
        for _ in range(3):
            optimizer.step()
        return net.weight.data.copy()

    def made():
        net = fn.Linear(33, 17, rng=0)
        for p in net.parameters():
            p.grad[...] = draw(*p.shape, dtype=np.float32)
        return kind(net.parameters(), lr=0.1, weight_decay=0.01), net

    expected, other = stepped(*made()), made()
    with environment(mode):
        found = stepped(*other)
    assert_same_bits([found], [expected])


@pytest.mark.parametrize("mode", MODES)
def test_threads(mode):
    """Workers that start while the caller's mode is set."""
    program = """
        import sys, numpy as np, fastnn as fn
        from fastnn import functional as F
        from arrays import draw
        from test_environment import environment
        x, w = draw(4, 16, 24, 24, dtype=np.float32), draw(16, 16, 3, 3, dtype=np.float32, seed=1)
        tiny = np.ldexp(x, -126)
        def compute():
            y = F.conv2d(x, w)
            rows = y.reshape(4, -1)
            return [y, *F.conv2d_backward(y, x, w)[:2], F.gelu(tiny), F.softmax(rows),
                    F.layer_norm(rows, rows.shape[1])]
        fn.set_num_threads(3)
        with environment(sys.argv[1]):
            found = compute()
        for threads in 1, 3:
            fn.set_num_threads(threads)
            for a, b in zip(found, compute()):
                assert a.tobytes() == b.tobytes(), threads
    """
    lines = "\n".join(line[8:] for line in program.splitlines())
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run([sys.executable, "-c", lines, mode], check=True, timeout=100,
                   env={**os.environ, "PYTHONPATH": path})


@pytest.mark.parametrize("mode", MODES)
def test_mode_is_back_after_an_error(mode):
    x = draw(4, 4)
    with environment(mode), pytest.raises(TypeError):
        gemm.linear(object(), x, x, None, 0)
    fails = runtime.in_default_environment(lambda: 1 / 0)
    with environment(mode), pytest.raises(ZeroDivisionError):
        fails()
