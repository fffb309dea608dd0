"""Runs the suites of compare.py one after the other and writes RESULTS.md, its charts beside it.

    python bench/results.py                                  everything, an hour or more
    python bench/results.py --suites forward linear --threads 1 --rounds 3

The machine should do nothing else meanwhile. What was measured before stays until its suite is run again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from suites import SUITES

BENCH = Path(__file__).parent
TABLES = BENCH / "results"
HEAD = """# Results

Ratios to the best of the other libraries, each in a process of its own, taking turns. Above 1 fastnn is
faster; losses are in bold. Every table says on which machine, with which versions, at which commit and by
which command it was measured. A processor of family 26 is a Zen 5, one of family 6, model 207, an Emerald
Rapids, whose cores are Sapphire Rapids'; without a family it is a Zen 3, without a commit older still. A
table of a few rounds on a machine that others share is good to a tenth; less at two threads of the Zen 5,
whose processors, virtual ones, lie beside each other in one minute and share no cache in the next: a
question and its answer take 0.11 or 0.55 us between them, the gradient of a small image's many filters 0.8
or 1.3 ms, MobileNetV2 1.6 or 2.1 (the runtimes 1.9 in both). The Emerald Rapids share their cores with
others in some minutes, and all that is computed then takes up to 1.7 times as long.
"""


def summary(tables):
    """One line for each kind of shape: the ratios' geometric mean, and how many are below 1."""
    lines = ["| suite | processor | kind | geometric mean | least | below 1 |", "|---|---|---|---|---|---|"]
    for text in tables:
        title, _, heading, *rest = text.splitlines()
        title = title.removeprefix("## ")
        processor = re.sub(r", \d+ processors;.*", "", heading)
        for line in rest:
            if line.startswith("- ") and ": geometric mean " in line:
                kind, figures = line[2:].split(": geometric mean ")
                mean, least, below = figures.split(", ")
                lines.append(f"| {title} | {processor} | {kind} | {mean} | {least.removeprefix('least ')} | "
                             f"{below.removesuffix(' below 1')} |")
    return "\n".join([*lines, ""])


def main():
    """Measure, then put the tables together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", nargs="*", choices=SUITES, default=list(SUITES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--isa", nargs="+", choices=["best", "avx2"], default=["best"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for threads in options.threads:
        for isa in options.isa:
            for suite in options.suites:
                name = f"{suite}-{threads}" + ("" if isa == "best" else f"-{isa}")
                command = ["--suite", suite, "--threads", str(threads), "--isa", isa, "--rounds",
                           str(options.rounds), "--output", f"bench/results/{name}.md"]
                print(f"{name} ...", file=sys.stderr, flush=True)
                subprocess.run([sys.executable, str(BENCH / "compare.py"), *command], check=True,
                               cwd=BENCH.parent, stdout=subprocess.DEVNULL)
    order = {f"{suite}-": number for number, suite in enumerate(SUITES)}
    files = sorted(TABLES.glob("*.md"), key=lambda f: (order.get(f.stem.split("-")[0] + "-", 99), f.stem))
    tables = [file.read_text() for file in files]
    charts = [f"\n![ratios](results/{file.stem}.png)\n" for file in files]
    body = "\n".join(text + chart for text, chart in zip(tables, charts, strict=True))
    (BENCH / "RESULTS.md").write_text("\n".join([HEAD, summary(tables), body]))


if __name__ == "__main__":
    main()
