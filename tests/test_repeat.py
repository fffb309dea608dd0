"""The same bits a hundred times over, on 1, 2 and 4 threads: no two threads write one number.

How the work is cut depends on shapes alone, each task writes numbers that no other task writes (or sums of
its own, which one thread adds in order afterwards), and what a task reads no task writes. Which thread runs
which task is left to chance; a race would show as other bits in one of the repetitions.
"""

import numpy as np
import pytest
from arrays import assert_same_bits, draw

import fastnn as fn

F = fn.functional
REPETITIONS = 100


def conv(channels, filters, kernel, **config):
    def compute(dtype):
        x = draw(2, channels, 20, 20, dtype=dtype)
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


def others(dtype):
    x = draw(8, 32, 24, 24, dtype=dtype)
    rows = x.reshape(-1, 24)
    weight = draw(40, 24, dtype=dtype, seed=1)
    y, places = F.max_pool2d(x, 2, return_indices=True)
    return [y, F.max_pool2d_backward(y, places, x.shape), F.avg_pool2d(x, 3), F.gelu(x), F.softmax(rows),
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
    "LSTM": recurrent(fn.LSTM, bidirectional=True),
    "GRU": recurrent(fn.GRU),
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
