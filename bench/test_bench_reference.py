"""fastnn against its NumPy reference over shapes of real networks: ``make bench``.

Each case is run by both sides in turn; the group of a case holds both, so that pytest-benchmark prints them
together. Figures are those of one machine at one time: read the ratios within a group.
"""

import numpy as np
import pytest

from fastnn import functional, reference

from shapes import NETWORKS, POOLS, PRODUCTS, RECURRENCES, TABLE
from shapes.recurrences import GATES

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
@pytest.mark.parametrize("shape", [shape for shape in PRODUCTS if shape.flops < 3e8], ids=str)
def test_linear(benchmark, shape, side):
    measure(benchmark, f"linear {shape}", side.linear, draw(shape.rows, shape.inputs),
            draw(shape.outputs, shape.inputs), draw(shape.outputs), flops=shape.flops)


@SIDES
@pytest.mark.parametrize("shape", [shape for shape in POOLS if shape.kernel and shape.bytes < 2e7], ids=str)
def test_pooling(benchmark, shape, side):
    measure(benchmark, str(shape), getattr(side, f"{shape.kind}_pool2d"),
            draw(shape.n, shape.c, shape.size, shape.size), shape.kernel, shape.stride, shape.padding)


@SIDES
@pytest.mark.parametrize("shape", [shape for shape in RECURRENCES if shape.layers == shape.directions == 1
                                   and not shape.ragged and shape.flops < 1e9], ids=str)
def test_recurrent(benchmark, shape, side):
    rows = GATES[shape.kind] * shape.hidden
    states = [np.zeros((shape.batch, shape.hidden), np.float32)] * (2 if shape.kind == "LSTM" else 1)
    measure(benchmark, str(shape), getattr(side, shape.kind.lower()),
            draw(shape.steps, shape.batch, shape.inputs), *states, draw(rows, shape.inputs) / 16,
            draw(rows, shape.hidden) / 16, flops=shape.flops)
