"""fastnn against PyTorch, ONNX Runtime and OpenVINO, every library in a process of its own.

    python bench/compare.py                        convolutions, forward, at 1 thread
    python bench/compare.py --threads 2 --suite backward --output table.md

The libraries' idle workers spin and would disturb each other, so each runs in its own process, and the parent
lets them work in turn: round by round, shape by shape, one at a time. A library's figure is the median over
rounds of its time for one call, the rounds of one shape following each other closely; ratios compare medians
of one run. A library that is not installed is left out and said to be.

Weights are prepared outside the timed call wherever a library can (fastnn in eval mode, ONNX Runtime,
OpenVINO). Inputs lie in the layout each library prefers: torch is measured in both of its layouts, the better
one counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

LIBRARIES = ["fastnn", "torch", "torch_channels_last", "onnxruntime", "openvino"]
ROUNDS = 7


def all_shapes(batches):
    """The table as it is, the networks at each batch size."""
    from shapes import NETWORKS, TABLE

    shapes = list(TABLE)
    for network in NETWORKS.values():
        shapes += [shape.batch(n) for shape in network for n in batches]
    return list(dict.fromkeys(shapes))


class Worker:
    """A library in its process: told a shape, it answers with the seconds of a call."""

    def __init__(self, library, threads, suite, isa, algorithm):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), FASTNN_NUM_THREADS=str(threads))
        if isa == "avx2":
            environment.update(FASTNN_ISA="avx2", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("workers.py")), library, str(threads), suite,
             algorithm],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.version = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def measure(self, shape):
        """Seconds of a call, or None where the library cannot."""
        self.process.stdin.write(json.dumps(shape) + "\n")
        self.process.stdin.flush()
        return self._answer().get("seconds")

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait(timeout=30)


def run(libraries, shapes, threads, suite, isa, algorithm, rounds):
    """{library: {shape: median seconds}} and {library: version}."""
    workers, versions = {}, {}
    for library in libraries:
        worker = Worker(library, threads, suite, isa, algorithm)
        versions[library] = worker.version.get("version", worker.version.get("error"))
        if "version" in worker.version:
            workers[library] = worker
    times = {library: {} for library in workers}
    for number, shape in enumerate(shapes):
        found = {library: [] for library in workers}
        for _ in range(rounds):
            for library, worker in workers.items():
                seconds = worker.measure(shape)
                if seconds is not None:
                    found[library].append(seconds)
        for library, values in found.items():
            if values:
                times[library][shape] = statistics.median(values)
        print(f"\r{number + 1}/{len(shapes)} {shape}".ljust(70), end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for worker in workers.values():
        worker.close()
    return times, versions


def geometric_mean(values):
    """The geometric mean, NaN of nothing."""
    values = list(values)
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def kind_of(shape):
    """The class of convolutions that a shape belongs to."""
    if shape.kernel == 3 and shape.stride == shape.dilation == shape.groups == 1 and shape.c >= 16:
        return "3x3 stride 1"
    return "depthwise" if shape.groups == shape.c > 1 else "other"


def table(times, shapes, factor):
    """Lines of a Markdown table: GFLOP/s of each library, the ratio of fastnn to the best of the others."""
    peers = [library for library in times if library != "fastnn"]
    lines = ["| N x C x H x W, filters | " + " | ".join(["fastnn", *peers]) + " | ratio to the best |",
             "|---|" + "---|" * (len(peers) + 2)]
    ratios = {}
    for shape in shapes:
        if shape not in times["fastnn"]:
            continue
        best = min((times[p][shape] for p in peers if shape in times[p]), default=math.nan)
        ratios[shape] = best / times["fastnn"][shape]
        cells = [f"{factor * shape.flops / times[lib][shape] / 1e9:.0f}" if shape in times[lib] else ""
                 for lib in ("fastnn", *peers)]
        mark = "**" if ratios[shape] < 1 else ""
        ratio = "" if math.isnan(ratios[shape]) else f"{mark}{ratios[shape]:.2f}{mark}"
        lines.append(f"| {shape} | " + " | ".join(cells) + f" | {ratio} |")
    lines.append("")
    for kind in dict.fromkeys(map(kind_of, shapes)):
        chosen = [r for s, r in ratios.items() if kind_of(s) == kind and not math.isnan(r)]
        if chosen:
            lines.append(f"- {kind}: geometric mean {geometric_mean(chosen):.2f}, least {min(chosen):.2f}, "
                         f"{sum(r < 1 for r in chosen)} of {len(chosen)} below 1")
    return lines, ratios


def chart(ratios, path, title):
    """A bar for each shape: the ratio of fastnn to the best of the others."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = {str(s): r for s, r in ratios.items() if not math.isnan(r)}
    figure, axis = plt.subplots(figsize=(9, 1 + 0.2 * len(shown)), layout="constrained")
    axis.barh(list(shown), list(shown.values()),
              color=["tab:blue" if r >= 1 else "tab:red" for r in shown.values()])
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set(title=title, xlabel="times as fast as the best of the others")
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=7)
    figure.savefig(path, dpi=100)


def processor():
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    """Run the comparison, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--suite", choices=["forward", "backward"], default="forward",
                        help="backward: forward and both gradients, against torch")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="of the networks' shapes")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=None)
    parser.add_argument("--isa", choices=["best", "avx2"], default="best", help="held to AVX2 all alike")
    parser.add_argument("--algorithm", choices=["auto", "direct", "winograd"], default="auto",
                        help="of fastnn; where it cannot be, the shape is left out")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--output", type=Path, help="save the table (.md) here, and a chart (.png) beside it")
    options = parser.parse_args()
    libraries = options.libraries or (LIBRARIES if options.suite == "forward" else LIBRARIES[:3])
    shapes = all_shapes(options.batches)
    times, versions = run(libraries, shapes, options.threads, options.suite, options.isa, options.algorithm,
                          options.rounds)
    if "fastnn" not in times:
        sys.exit(f"fastnn is not installed here: {versions.get('fastnn')}")
    title = f"Convolution, {options.suite}, {options.threads} thread{'s' * (options.threads > 1)}"
    lines, ratios = table(times, shapes, 1 if options.suite == "forward" else 3)
    heading = [f"## {title}", "", f"{processor()}, {os.cpu_count()} processors, {platform.system()}; "
               + "; ".join(f"{library} {version}" for library, version in versions.items())
               + f". Medians of {options.rounds} rounds. GFLOP/s of the direct sum.", "",
               f"`python bench/compare.py {' '.join(sys.argv[1:])}`", ""]
    text = "\n".join([*heading, *lines, ""])
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text)
        chart(ratios, options.output.with_suffix(".png"), title)


if __name__ == "__main__":
    main()
