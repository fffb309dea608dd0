"""fastnn against PyTorch, ONNX Runtime, OpenVINO and NumPy, every library in a process of its own.

    python bench/compare.py                        convolutions, forward, at 1 thread
    python bench/compare.py --threads 2 --suite backward --output table.md
    python bench/compare.py --suite recurrent --only "LSTM.*H128" --rounds 1

The libraries' idle workers spin and would disturb each other, so each runs in its own process, and the parent
lets them work in turn: shape by shape, round by round, one at a time, each round beginning with another. A
library's figure is the median over rounds of its time for one call, the rounds of one shape following each
other closely; ratios compare medians of one run. A library that is not installed is left out and said to be.

Weights are prepared outside the timed call wherever a library can (fastnn in eval mode, ONNX Runtime,
OpenVINO). Inputs lie in the layout each library prefers: torch is measured in both of its layouts, the better
one counts. OpenVINO and onnxruntime_bound write their output to memory made once, the others to new memory at
every call.

The error is that of one call before the timing, against fastnn in float64 with direct convolution, which the
tests hold to NumPy: the largest deviation over the largest number, the worst of the arrays that a call gives.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from report import chart, processor, table
from suites import SUITES
from workers import PEERS, Fastnn

# Seconds before each turn: the threads of the library before, which wait for more work awake, sleep by then.
# MobileNetV2 on two threads, ONNX Runtime right after another session of its own: 11.5 ms, after a pause 8.6.
PAUSE = 0.25


class Worker:
    """A library in its process: told a shape, it answers with the seconds of a call."""

    def __init__(self, library, threads, suite, options, batches, isa):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), FASTNN_NUM_THREADS=str(threads))
        if isa == "avx2":
            environment.update(FASTNN_ISA="avx2", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
        setup = {"library": library, "threads": threads, "suite": suite, "options": options,
                 "batches": batches}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("workers.py")), json.dumps(setup)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.version = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def measure(self, number, result=None):
        """Seconds of a call, or None where the library cannot; the arrays of a call are saved in `result`."""
        request = {"shape": number} | ({"result": str(result)} if result else {})
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer().get("seconds")

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait(timeout=30)


class Accuracy:
    """Errors of one call of each library, against fastnn in float64."""

    def __init__(self, suite, isa):
        if isa == "avx2":
            os.environ["FASTNN_ISA"] = "avx2"
        self.suite = suite
        self.direct = {"algorithm": "direct"} if hasattr(suite, "algorithms") else {}
        self.backend = Fastnn(1, suite, **self.direct)

    def of(self, shape, files):
        """{library: error}, and that of fastnn's direct convolution as "direct"."""
        truth = self.backend.prepare(shape, np.float64).result()
        found = {library: list(np.load(file).values()) for library, file in files.items() if file.exists()}
        if self.direct:
            found["direct"] = self.backend.prepare(shape).result()
        return {library: self._error(shape, arrays, truth) for library, arrays in found.items()}

    def _error(self, shape, arrays, truth):
        unpad = self.suite.without_padding
        errors = [np.abs(x.reshape(t.shape) - t).max() / (np.abs(t).max() or 1)
                  for x, t in zip(unpad(shape, arrays), unpad(shape, truth), strict=True)]
        return float(max(errors))


def run(libraries, options):
    """Median seconds and errors, {shape: {library: number}}, and {library: version}."""
    suite, workers, versions = SUITES[options.suite], {}, {}
    for library in libraries:
        chooses = library == "fastnn" and hasattr(suite, "algorithms")
        given = {"algorithm": options.algorithm} if chooses else {}
        worker = Worker(library, options.threads, options.suite, given, options.batches, options.isa)
        versions[library] = worker.version.get("version", worker.version.get("error"))
        if "version" in worker.version:
            workers[library] = worker
    if "fastnn" not in workers:
        sys.exit(f"fastnn is not installed here: {versions['fastnn']}")
    accuracy = Accuracy(suite, options.isa)
    times, errors = {}, {}
    chosen = [(number, shape) for number, shape in enumerate(suite.shapes)
              if re.search(options.only, str(shape))]
    for done, (number, shape) in enumerate(chosen):
        with tempfile.TemporaryDirectory() as folder:
            files = {library: Path(folder, f"{library}.npz") for library in workers}
            found = {library: [] for library in workers}
            turns = list(workers.items())
            for turn in range(options.rounds):
                for library, worker in turns:
                    time.sleep(PAUSE if options.threads > 1 else 0)
                    seconds = worker.measure(number, files[library] if turn == 0 else None)
                    if seconds is not None:
                        found[library].append(seconds)
                turns.append(turns.pop(0))
            times[shape] = {library: statistics.median(values) for library, values in found.items() if values}
            if "fastnn" in times[shape]:
                errors[shape] = accuracy.of(shape, files)
            else:
                del times[shape]
        print(f"\r{done + 1}/{len(chosen)} {shape}".ljust(70), end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for worker in workers.values():
        worker.close()
    return times, errors, versions


def commit():
    """The commit of this checkout, marked where a file of the package differs, or nothing outside of one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short=7", "HEAD"], stdout=subprocess.PIPE, text=True,
                              check=True)
        same = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "../src"], check=False)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" at {name.stdout.strip()}{'' if same.returncode == 0 else ' and changes'}"


def main():
    """Run the comparison, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--suite", choices=SUITES, default="forward",
                        help="forward and backward are of convolutions, others say of what; backward is a "
                             "forward pass and all gradients, against torch")
    parser.add_argument("--only", default="", help="a regular expression that the names of shapes contain")
    parser.add_argument("--batches", type=int, nargs="+",
                        help="by default 1 and 16 of the networks' convolutions, 1 and 8 of whole networks")
    parser.add_argument("--libraries", nargs="+", choices=["fastnn", *PEERS], default=None)
    parser.add_argument("--isa", choices=["best", "avx2"], default="best",
                        help="held to AVX2, all but ONNX Runtime, which takes no such setting")
    parser.add_argument("--algorithm", choices=["auto", "direct", "winograd"], default="auto",
                        help="of fastnn's convolutions; where it cannot be, the shape is left out")
    parser.add_argument("--rounds", type=int,
                        help="by default 7, of whole networks 6, of steps of training 3")
    parser.add_argument("--output", type=Path, help="save the table (.md) here, and a chart (.png) beside it")
    options = parser.parse_args()
    suite = SUITES[options.suite]
    if options.batches:
        suite.with_batches(options.batches)
    options.rounds = options.rounds or suite.rounds
    libraries = list(dict.fromkeys(["fastnn", *(options.libraries or suite.peers)]))
    times, errors, versions = run(libraries, options)
    title = f"{suite.title}, {options.threads} thread{'s' * (options.threads > 1)}"
    title += ", AVX2" if options.isa == "avx2" else ""
    lines, ratios = table(suite, times, errors, [library for library in libraries if library != "fastnn"])
    versions["fastnn"] += commit()
    heading = [f"## {title}", "", f"{processor()}, {os.cpu_count()} processors; "
               + "; ".join(f"{library} {version}" for library, version in versions.items())
               + f". Medians of {options.rounds} rounds. {suite.__doc__.splitlines()[0]}", "",
               f"`python bench/compare.py {' '.join(sys.argv[1:])}`", ""]
    text = "\n".join([*heading, *lines, ""])
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text)
        chart(ratios, options.output.with_suffix(".png"), title)


if __name__ == "__main__":
    main()
