"""measure a model: time per layer, as a table and a chart, and where the time goes"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .. import onnx
from .._kernels.runtime import get_num_threads
from ..io.atomic import replacing
from ..onnx.walk import Visit, nodes, walk
from .inputs import add_shape_argument, make_inputs
from .progress import progress
from .table import bar, count, duration, shape, table

_CHART_ROWS = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_shape_argument(parser)
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S",
                        help="about how long to measure, 2 by default; three calls at least")
    parser.add_argument("--chart", metavar="FILE", help="a chart, too: .png, .svg or .pdf (matplotlib)")


def command(options: argparse.Namespace) -> None:
    """Measure the model and print where its time goes."""
    if not 0 < options.seconds < float("inf"):
        raise ValueError(f"--seconds {options.seconds}: expected a number above 0")
    figure = _figure(options.chart) if options.chart else None
    model = onnx.load(options.model)
    feeds = make_inputs(model, options.shape)
    visits, calls = _measure(model, feeds, options.seconds)
    whole = median(calls)
    title = f"{options.model}, " + ", ".join(f"{name} {shape(x.shape)}" for name, x in feeds.items())
    print(f"{title}; {get_num_threads()} threads, median of {len(calls)} calls\n")
    times = [median(visit.seconds for visit in of_node) for of_node in visits]
    total = sum(times) or 1.0
    rows = [_row(first, seconds, total) for (first, *_), seconds in zip(visits, times, strict=True)]
    print(table(("layer", "operator", "output", "time", "share", "GFLOP/s"), rows, left=2))
    by_operator: dict[str, float] = defaultdict(float)
    for (first, *_), seconds in zip(visits, times, strict=True):
        by_operator[first.node.op] += seconds
    print("\nwhere the time goes\n")
    ordered = sorted(by_operator.items(), key=lambda item: -item[1])
    shares = [(op, f"{seconds / total:.1%}", bar(seconds / total).ljust(30)) for op, seconds in ordered]
    print(table(("operator", "share", ""), shares))
    macs = sum(first.macs for first, *_ in visits)
    samples = next((x.shape[0] for x in feeds.values() if x.ndim), 1)
    print(f"\na call: {duration(whole)} ({duration(min(calls))} at best), "
          f"{2 * macs / whole / 1e9:.1f} GFLOP/s, {count(samples / whole)} samples/s")
    if figure is not None:
        _draw(figure, options.chart, title, visits, times)
        print(f"chart: {options.chart}")


def _measure(model: onnx.OnnxModel, feeds: dict[str, np.ndarray],
             seconds: float) -> tuple[list[list[Visit]], list[float]]:
    """Return the visits of each node, and the times of whole calls, which no clock interrupts."""
    run = [list(walk(model, feeds, {}))]  # packs weights, wakes threads
    start = time.perf_counter()
    model.run(feeds)
    once = time.perf_counter() - start
    rounds = max(3, min(1000, round(seconds / max(2 * once, 1e-6))))
    calls = []
    run.clear()
    with progress("measuring", rounds * (len(nodes(model)) + 1), "node") as done:
        for _ in range(rounds):
            visits = []
            for visit in walk(model, feeds, {}):
                visits.append(visit)
                done()
            run.append(visits)
            start = time.perf_counter()
            model.run(feeds)
            calls.append(time.perf_counter() - start)
            done()
    return [list(visits) for visits in zip(*run, strict=True)], calls


def _row(visit: Visit, seconds: float, total: float) -> tuple[str, ...]:
    rate = f"{2 * visit.macs / seconds / 1e9:.1f}" if visit.macs and seconds else ""
    return (visit.node.name or visit.node.outputs[0], visit.node.op, " ".join(map(shape, visit.shapes)),
            duration(seconds), f"{seconds / total:.1%}", rate)


# --- The picture


def _figure(path: str) -> Any:
    """An empty figure; asked for before the work, so that what is missing is said at once."""
    if not Path(path).absolute().parent.is_dir():
        raise ValueError(f"--chart {path}: there is no folder {Path(path).absolute().parent}")
    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--chart {path}: expected a name that ends in .png, .svg or .pdf")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("--chart needs matplotlib: pip install matplotlib") from None
    return Figure(layout="constrained")


def _draw(figure: Any, path: str, title: str, visits: list[list[Visit]], times: list[float]) -> None:
    """Draw the nodes that take longest, in their order; all others are one bar."""
    longest = sorted(sorted(range(len(times)), key=lambda i: -times[i])[:_CHART_ROWS])
    labels = [visits[i][0].node.name or visits[i][0].node.outputs[0] for i in longest]
    values = [1e3 * times[i] for i in longest]
    if len(longest) < len(times):
        labels.append(f"{len(times) - len(longest)} others")
        values.append(1e3 * (sum(times) - sum(times[i] for i in longest)))
    figure.set_size_inches(9, 1.5 + 0.22 * len(labels))
    axes = figure.add_subplot()
    axes.barh(range(len(labels)), values)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    axes.set_title(title, fontsize=9)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.lower()[1:], dpi=150)
