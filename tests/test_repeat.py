"""The same bits a hundred times over, on 1, 2 and 4 threads: no two threads write one number.

Each task writes numbers that no other task writes (or sums of its own, which one thread adds in order
afterwards), how sums are cut depends on shapes alone, and what a task reads no task writes. Which thread runs
which task is left to chance; a race would show as other bits in one of the repetitions.
"""

import numpy as np
import pytest
from arrays import assert_same_bits, draw

import fastnn as fn

F = fn.functional
REPETITIONS = 100


def conv(channels, filters, kernel, size=20, **config):
    def compute(dtype):
        x = draw(2, channels, size, size, dtype=dtype)
        weight = draw(filters, channels // config.get("groups", 1), kernel, kernel, dtype=dtype, seed=1)
        y = F.conv2d(x, weight, **config)
        return [y, *F.conv2d_backward(y, x, weight, **config)]
    return compute


def recurrent(layer, **config):
    def compute(dtype):
        net = layer(24, 32, dtype=dtype, rng=0, **config)
        out, _ = net(draw(12, 16, 24, dtype=dtype), lengths=[12 - i // 4 for i in range(16)])
        return [out, net.backward(out), *(p.grad for p in net.parameters())]
    return compute


def trained_linear(rows):
    """A layer's weights, packed block by block within the product, and gradients that are added to."""
    def compute(dtype):
        layer = fn.Linear(96, 300, dtype=dtype, rng=0)
        x = draw(rows, 96, dtype=dtype)
        y = layer(x)
        return [y, layer.backward(y), layer.backward(layer(y[:, :96])), *(p.grad for p in layer.parameters())]
    return compute


def few_sequences(dtype):
    """Recurrences whose steps threads share; they meet after each."""
    lstm, gru = fn.LSTM(8, 128, dtype=dtype, rng=0), fn.GRU(8, 128, bidirectional=True, dtype=dtype, rng=1)
    x = draw(4, 1, 8, dtype=dtype)
    return [part for layer in (lstm, gru)
            for part in (layer(x)[0], layer.backward(layer(x)[0]), *(p.grad for p in layer.parameters()))]


def chain(dtype):
    """An inverted residual, whose convolutions go band by band where it is frozen."""
    config = {"dtype": dtype, "rng": 0}
    block = fn.Residual(fn.Sequential(fn.Conv2d(16, 64, 1, **config), fn.ReLU6(),
                                      fn.Conv2d(64, 64, 3, padding=1, groups=64, **config), fn.ReLU6(),
                                      fn.Conv2d(64, 16, 1, **config)))
    return [fn.Sequential(block).eval().freeze()(draw(2, 16, 28, 28, dtype=dtype))]


def losses(dtype):
    y, target = draw(300, 64, dtype=dtype), draw(300, 64, dtype=dtype, seed=1)
    classes, weight = np.arange(300) % 64, np.linspace(0.5, 1.5, 64, dtype=dtype)
    results = [F.cross_entropy(y, classes, weight=weight),
               F.cross_entropy_backward(y, classes, weight=weight)]
    for name in ("mse_loss", "half_squared_error", "huber_loss", "binary_cross_entropy_with_logits"):
        results += [getattr(F, name)(y, target), getattr(F, f"{name}_backward")(y, target)]
    return [np.asarray(result) for result in results]


def optimizers(dtype):
    results = []
    for kind in (fn.optim.SGD, fn.optim.Adam, fn.optim.RMSprop):
        layer = fn.Linear(200, 150, dtype=dtype, rng=0)
        layer.weight.grad[...] = draw(150, 200, dtype=dtype)
        kind(layer.parameters(), lr=0.1).step()
        results.append(layer.weight.data)
    return results


def others(dtype):
    x = draw(8, 32, 24, 24, dtype=dtype)
    rows = x.reshape(-1, 24)
    weight = draw(40, 24, dtype=dtype, seed=1)
    y, places = F.max_pool2d(x, 2, return_indices=True)
    return [y, F.max_pool2d_backward(y, places, x.shape), F.avg_pool2d(x, 3), F.gelu(x), F.softmax(rows),
            F.prelu(x, np.linspace(0, 1, 32, dtype=dtype)), F.local_response_norm(x, 5),
            F.conv_transpose2d(x, draw(32, 8, 2, 2, dtype=dtype), stride=2),
            F.layer_norm(rows, 24), *F.layer_norm_backward(rows, rows, 24)[:1],
            *F.batch_norm_backward(x, x, *F.batch_norm_stats(x))[:1],
            F.linear(rows, weight), *F.linear_backward(F.linear(rows, weight), rows, weight)]


CASES = {
    "direct": conv(16, 32, 3, algorithm="direct"),
    "winograd": conv(16, 32, 3, padding=1, algorithm="winograd"),
    "few channels": conv(3, 32, 5, stride=2),
    "depthwise": conv(32, 32, 3, padding=1, groups=32),
    "narrow groups": conv(32, 32, 3, groups=8),
    "1x1": conv(32, 48, 1),
    "few pixels": conv(32, 64, 3, size=6, algorithm="direct"),
    "few tiles": conv(128, 128, 3, padding=1),
    "LSTM": recurrent(fn.LSTM, bidirectional=True),
    "GRU": recurrent(fn.GRU),
    "few sequences": few_sequences,
    "Linear, few rows": trained_linear(9),
    "Linear, many rows": trained_linear(600),
    "chain": chain,
    "losses": losses,
    "optimizers": optimizers,
    "others": others,
}


@pytest.mark.parametrize("case", CASES)
def test_a_hundred_times_the_same_bits(case, dtype, threads):
    threads(1)
    expected = [np.array(y) for y in CASES[case](dtype) if y is not None]
    for number in (1, 2, 4):
        threads(number)
        for _ in range(REPETITIONS):
            assert_same_bits([y for y in CASES[case](dtype) if y is not None], expected)
