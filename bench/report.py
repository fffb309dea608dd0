"""The table and the chart of compare.py."""

from __future__ import annotations

import math
import platform
import re
import statistics
from pathlib import Path


def geometric_mean(values):
    """The geometric mean, NaN of nothing."""
    values = list(values)
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def _figure(suite, shape, seconds):
    """What a call of so many seconds achieves, in the suite's unit."""
    scale = {"us": 1e6, "ms": 1e3}.get(suite.unit)
    value = scale * seconds if scale else suite.work(shape) / seconds / 1e9
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(suite, times, errors, peers):
    """Lines of a Markdown table, with the ratio of fastnn to the best of the others; and the ratios."""
    direct = any("direct" in found for found in errors.values())
    heads = [f"fastnn, {suite.unit}", *peers, "ratio to the best", "error x 1e6",
             *(["direct"] if direct else []), "least of the others"]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    ratios = {}
    for shape, found in times.items():
        best = min((found[peer] for peer in peers if peer in found), default=math.nan)
        ratios[shape] = best / found["fastnn"]
        mark = "**" if ratios[shape] < 1 else ""
        error = errors[shape]
        others = [error[peer] for peer in peers if peer in error]
        cells = [_figure(suite, shape, found[lib]) if lib in found else "" for lib in ("fastnn", *peers)]
        cells.append("" if math.isnan(ratios[shape]) else f"{mark}{ratios[shape]:.2f}{mark}")
        cells += [f"{1e6 * error[which]:.2g}" for which in ("fastnn", "direct") if which in error]
        cells.append(f"{1e6 * min(others):.2g}" if others else "")
        lines.append(f"| {shape} | " + " | ".join(cells) + " |")
    lines.append("")
    for kind in dict.fromkeys(map(suite.kind, times)):
        chosen = [r for s, r in ratios.items() if suite.kind(s) == kind and not math.isnan(r)]
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
    """The processor's name, and the family and model that a virtual machine's name may not tell."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        known = dict(re.findall(r"^(.*?)\s*: (.*)$", first, re.MULTILINE))
        return f"{known['model name']} (family {known['cpu family']}, model {known['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()
