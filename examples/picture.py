"""The picture of the demonstration: learning curves, confusions, filters, mistakes, names."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

import fastnn as fn

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

WRONG = "tab:red"


def _curves(axis, found, title):
    """Losses and accuracy by epoch, a line for each seed."""
    right = axis.twinx()
    for seed, result in enumerate(found["results"]):
        history = result["history"]
        epochs = range(1, history.epochs + 1)
        for on, values, style, color, label in (
                (axis, history.loss, "--", "tab:blue", "training loss"),
                (axis, history.val_loss, "-", "tab:blue", "held-out loss"),
                (right, history.val_accuracy, "-", "tab:orange", "held-out accuracy")):
            on.plot(epochs, values, style, color=color, linewidth=1, label=label if seed == 0 else None)
    axis.set(title=title, xlabel="epoch", ylabel="loss", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    lowest = min(min(r["history"].val_accuracy) for r in found["results"])
    right.set(ylabel="accuracy", ylim=(np.floor(20 * min(lowest, 0.85)) / 20, 1))
    lines = [line for line in (*axis.get_lines(), *right.get_lines()) if not line.get_label().startswith("_")]
    axis.legend(lines, [line.get_label() for line in lines], loc="upper center", ncols=3, fontsize=8,
                bbox_to_anchor=(0.5, -0.13), frameon=False)


def _confusions(axis, found, labels, title):
    """How often each class was taken for each, all seeds together."""
    counts = np.zeros((len(labels), len(labels)), int)
    for result in found["results"]:
        np.add.at(counts, (found["task"].target[result["held_out"]], result["logits"].argmax(1)), 1)
    share = counts / counts.sum(1, keepdims=True)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in zip(*counts.nonzero(), strict=True):
        axis.text(j, i, counts[i, j], ha="center", va="center", fontsize=8,
                  color="white" if share[i, j] > 0.5 else "black")
    places = range(len(labels))
    axis.set(title=title, xlabel="found", ylabel="true", xticks=places, yticks=places,
             xticklabels=labels, yticklabels=labels)


def _images(figure, images, titles, title, shape, cmap):
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(*shape, squeeze=False).flat
    for axis in axes:
        axis.axis("off")
    for axis, image, text in zip(figure.axes, images, titles, strict=False):
        axis.imshow(image, cmap=cmap)
        axis.set_title(text, fontsize=8, pad=2)


def _mistakes(found):
    """Images of all seeds that were taken for another digit, and what for."""
    task = found["task"]
    images, titles = [], []
    for result in found["results"]:
        taken_for = result["logits"].argmax(1)
        for number, digit in zip(result["held_out"], taken_for, strict=True):
            if task.target[number] != digit:
                images.append(task.inputs[0][number, 0])
                titles.append(f"{task.target[number]} → {digit}")
    return images, titles


def _names(axis, found, known, each=11):
    """Held-out names of the last seed, some of each sex, and the probability given to either."""
    task, result = found["task"], found["results"][-1]
    male = fn.functional.softmax(result["logits"])[:, 1]
    sexes, rng = task.target[result["held_out"]], np.random.default_rng(0)
    chosen = np.concatenate([rng.choice(np.flatnonzero(sexes == sex), each, replace=False) for sex in (0, 1)])
    chosen = chosen[np.argsort(male[chosen])]
    wrong = (male[chosen] > 0.5) != sexes[chosen]
    shown = [known[number].capitalize() for number in result["held_out"][chosen]]
    places = np.arange(len(shown))
    axis.barh(places, male[chosen] - 0.5, left=0.5, color=np.where(wrong, WRONG, "tab:blue"))
    axis.axvline(0.5, color="black", linewidth=0.8)
    axis.set(title=f"held-out names, {each} of each sex (red: wrong)", xlim=(0, 1),
             ylim=(-0.7, len(shown) - 0.3), xlabel="female  ←  probability  →  male", yticks=places,
             yticklabels=shown)
    for label, is_wrong in zip(axis.get_yticklabels(), wrong, strict=True):
        label.set(fontsize=8, color=WRONG if is_wrong else "black")


def draw(path: Path, digits: dict, names: dict, known: list[str]) -> None:
    """Save the picture of the trainings on `digits` and `names` to `path`."""
    plt.rcParams["axes.titlesize"] = 11
    figure = plt.figure(figsize=(15, 9), layout="constrained")
    cells = figure.add_gridspec(2, 3)
    for row, found, labels in ((0, digits, list(range(10))), (1, names, ["female", "male"])):
        name, accuracy = found["task"].name, np.mean(found["accuracies"])
        _curves(figure.add_subplot(cells[row, 0]), found,
                f"{name}: {accuracy:.1%} of the held-out fifth (commonest class: {found['commonest']:.1%})")
        _confusions(figure.add_subplot(cells[row, 1]), found, labels,
                    f"{name}: confusions, {len(found['results'])} seeds together")
    right = cells[0, 2].subgridspec(2, 1)
    filters = digits["results"][-1]["network"][0].weight.data[:, 0]
    _images(figure.add_subfigure(right[0]), filters, [""] * len(filters), "the filters of the first layer",
            (4, 8), "gray")
    images, titles = _mistakes(digits)
    _images(figure.add_subfigure(right[1]), images, titles, "digits taken for others (true → found)",
            (2, 8), "gray_r")
    _names(figure.add_subplot(cells[1, 2]), names, known)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
