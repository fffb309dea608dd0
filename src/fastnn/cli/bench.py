"""measure a model: time per layer, as a table and a chart, and where the time goes"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from .. import onnx
from .._kernels.runtime import get_num_threads
from ..io.atomic import replacing
from ..onnx.graph import Node as OnnxNode
from ..onnx.walk import Visit, nodes, walk
from .inputs import add_shape_argument, make_inputs
from .progress import progress
from .table import bar, count, duration, shape, table

_CHART_ROWS, _CHART_LETTERS = 30, 40
Feeds = dict[str, np.ndarray]


class Part(NamedTuple):
    """What is timed by itself: a node, or in a frozen model several that run as one.

    Attributes
    ----------
    times : list of float
        The seconds of each call.
    """

    layer: str
    operator: str
    output: str
    macs: int
    times: list[float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_shape_argument(parser)
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S",
                        help="about how long to measure, 2 by default; three calls at least")
    parser.add_argument("--chart", metavar="FILE", help="a chart, too: .png, .svg or .pdf (matplotlib)")
    parser.add_argument("--unfrozen", action="store_true",
                        help="node by node as the file has them, as when the model is trained further")


def command(options: argparse.Namespace) -> None:
    """Measure the model and print where its time goes."""
    if not 0 < options.seconds < float("inf"):
        raise ValueError(f"--seconds {options.seconds}: expected a number above 0")
    figure = _figure(options.chart) if options.chart else None
    with progress("reading", 1, "file"):
        model = onnx.load(options.model)
    feeds = make_inputs(model, options.shape)
    parts, calls = (_measure_nodes if options.unfrozen else _measure_frozen)(model, feeds, options.seconds)
    whole = median(calls)
    title = f"{options.model}, " + ", ".join(f"{name} {shape(x.shape)}" for name, x in feeds.items())
    print(f"{title}; {get_num_threads()} threads, median of {len(calls)} calls\n")
    times = [median(part.times) for part in parts]
    total = sum(times) or 1.0
    rows = [_row(part, seconds, total) for part, seconds in zip(parts, times, strict=True)]
    print(table(("layer", "operator", "output", "time", "share", "GFLOP/s"), rows, left=2))
    by_operator: dict[str, float] = defaultdict(float)
    for part, seconds in zip(parts, times, strict=True):
        by_operator[part.operator] += seconds
    print("\nwhere the time goes\n")
    ordered = sorted(by_operator.items(), key=lambda item: -item[1])
    shares = [(op, f"{seconds / total:.1%}", bar(seconds / total).ljust(30)) for op, seconds in ordered]
    print(table(("operator", "share", ""), shares))
    macs = sum(part.macs for part in parts)
    samples = next((x.shape[0] for x in feeds.values() if x.ndim), 1)
    print(f"\na call: {duration(whole)} ({duration(min(calls))} at best), "
          f"{2 * macs / whole / 1e9:.1f} GFLOP/s, {count(samples / whole)} samples/s")
    if figure is not None:
        _draw(figure, options.chart, title, [part.layer for part in parts], times)
        print(f"chart: {options.chart}")


def _row(part: Part, seconds: float, total: float) -> tuple[str, ...]:
    rate = f"{2 * part.macs / seconds / 1e9:.1f}" if part.macs and seconds else ""
    return part.layer, part.operator, part.output, duration(seconds), f"{seconds / total:.1%}", rate


# --- Measuring


def _measure_nodes(model: onnx.OnnxModel, feeds: Feeds, seconds: float) -> tuple[list[Part], list[float]]:
    """Return the nodes, and the times of whole calls, which no clock interrupts."""
    parts = [Part(_name(visit.node), visit.node.op, " ".join(map(shape, visit.shapes)), visit.macs, [])
             for visit in _visits(model, feeds)]  # packs weights, wakes threads

    def visit() -> list[float]:
        return [visit.seconds for visit in walk(model, feeds, {})]

    return parts, _rounds(parts, lambda: model.run(feeds), visit, seconds)


def _measure_frozen(model: onnx.OnnxModel, feeds: Feeds, seconds: float) -> tuple[list[Part], list[float]]:
    """Likewise of the frozen model: what became of its nodes."""
    visits = {next(filter(None, visit.node.outputs)): visit for visit in _visits(model, feeds)}
    with progress("freezing", 1, "model"):
        frozen = model.freeze()
    with progress("preparing", len(frozen.nodes(feeds)), "node") as done:
        frozen.run(feeds, done)
    parts = []
    for node, _ in frozen.timed(feeds):
        covered = [visits[name] for name in node.covers]
        parts.append(Part(" + ".join(_name(visit.node) for visit in covered),
                          " ".join(dict.fromkeys(visit.node.op for visit in covered)),
                          " ".join(map(shape, covered[-1].shapes)), sum(v.macs for v in covered), []))

    def visit() -> list[float]:
        return [elapsed for _, elapsed in frozen.timed(feeds)]

    return parts, _rounds(parts, lambda: frozen.run(feeds), visit, seconds)


def _visits(model: onnx.OnnxModel, feeds: Feeds) -> Iterator[Visit]:
    """The nodes, one after the other."""
    with progress("running", len(nodes(model)), "node") as done:
        for visit in walk(model, feeds, {}):
            yield visit
            done()


def _rounds(parts: list[Part], call: Callable[[], object], visit: Callable[[], list[float]],
            seconds: float) -> list[float]:
    """Time the parts and whole calls in turn, about so long; fill the parts' times, return the calls'."""
    once = _seconds_of(call)
    rounds, calls = max(3, min(1000, round(seconds / max(2 * once, 1e-6)))), []
    with progress("measuring", rounds, "call") as done:
        for _ in range(rounds):
            for part, elapsed in zip(parts, visit(), strict=True):
                part.times.append(elapsed)
            calls.append(_seconds_of(call))
            done()
    return calls


def _seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _name(node: OnnxNode) -> str:
    return node.name or next(filter(None, node.outputs))


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


def _draw(figure: Any, path: str, title: str, layers: list[str], times: list[float]) -> None:
    """Draw the parts that take longest, in their order; all others are one bar."""
    longest = sorted(sorted(range(len(times)), key=lambda i: -times[i])[:_CHART_ROWS])
    labels = [layers[i] if len(layers[i]) <= _CHART_LETTERS else layers[i][:_CHART_LETTERS] + "..."
              for i in longest]
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
