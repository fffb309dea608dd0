"""fastnn against its NumPy reference over shapes of real networks: ``make bench``.

Each case is run by both sides in turn; the group of a case holds both, so that pytest-benchmark prints them
together. Figures are those of one machine at one time: read the ratios within a group.
"""

import numpy as np
import pytest

from fastnn import functional, reference

from shapes import NETWORKS, POOLS, PRODUCTS, RECURRENCES, TABLE

SIDES = pytest.mark.parametrize("side", [functional, reference], ids=["fastnn", "reference"])
SMALL = [shape for shape in [*TABLE, *NETWORKS["LeNet"]] if shape.flops < 3e8]


def draw(*shape):
    """float32 standard normal numbers, the same in every run."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def measure(benchmark, group, function, *arguments, flops=None, **options):
    """Time a call in its group; GFLOP/s as extra information."""
    benchmark.group = group
    benchmark.pedantic(function, arguments, options, rounds=5, warmup_rounds=1)
    if flops and benchmark.stats:  # there are none with --benchmark-disable
        benchmark.extra_info["GFLOP/s"] = round(flops / benchmark.stats.stats.median / 1e9, 1)


@SIDES
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_conv2d(benchmark, shape, side):
    x = draw(shape.n, shape.c, shape.size, shape.size)
    weight = draw(shape.k, shape.c // shape.groups, shape.kernel, shape.kernel)
    measure(benchmark, f"conv2d {shape}", side.conv2d, x, weight, None, shape.stride, shape.padding,
            shape.dilation, shape.groups, flops=shape.flops)


@SIDES
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_conv2d_backward(benchmark, shape, side):
    x = draw(shape.n, shape.c, shape.size, shape.size)
    weight = draw(shape.k, shape.c // shape.groups, shape.kernel, shape.kernel)
    grad_y = draw(shape.n, shape.k, shape.output, shape.output)
    measure(benchmark, f"conv2d_backward {shape}", side.conv2d_backward, grad_y, x, weight, None,
            shape.stride, shape.padding, shape.dilation, shape.groups, flops=2 * shape.flops)


@SIDES
@pytest.mark.parametrize(("rows", "inputs", "outputs"), PRODUCTS)
def test_linear(benchmark, rows, inputs, outputs, side):
    measure(benchmark, f"linear {rows} x {inputs} -> {outputs}", side.linear, draw(rows, inputs),
            draw(outputs, inputs), draw(outputs), flops=2 * rows * inputs * outputs)


@SIDES
@pytest.mark.parametrize(("image", "kernel", "stride", "padding"), POOLS)
@pytest.mark.parametrize("kind", ["max_pool2d", "avg_pool2d"])
def test_pooling(benchmark, kind, image, kernel, stride, padding, side):
    n, c, size = image
    measure(benchmark, f"{kind} {n}x{c}x{size}x{size} {kernel}x{kernel} s{stride}", getattr(side, kind),
            draw(n, c, size, size), kernel, stride, padding)


@SIDES
@pytest.mark.parametrize(("steps", "batch", "inputs", "hidden"), RECURRENCES[:2])
@pytest.mark.parametrize(("kind", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_recurrent(benchmark, kind, gates, steps, batch, inputs, hidden, side):
    states = [np.zeros((batch, hidden), np.float32)] * (2 if kind == "lstm" else 1)
    weights = draw(gates * hidden, inputs) / 16, draw(gates * hidden, hidden) / 16
    measure(benchmark, f"{kind} T{steps} N{batch} D{inputs} H{hidden}", getattr(side, kind),
            draw(steps, batch, inputs), *states, *weights,
            flops=2 * steps * batch * gates * hidden * (inputs + hidden))
