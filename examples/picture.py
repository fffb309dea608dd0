"""The picture of the demonstration: learning curves, filters, confusions, mistakes."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def confusion(target: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """counts[i, j]: samples of class i found to be j."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (target, found), 1)
    return counts


def _curves(axis, history, title):
    epochs = range(1, history.epochs + 1)
    axis.plot(epochs, history.loss, "--", color="tab:blue", label="training loss")
    axis.plot(epochs, history.val_loss, color="tab:blue", label="held-out loss")
    axis.set(title=title, xlabel="epoch", ylabel="loss", ylim=(0, None))
    right = axis.twinx()
    right.plot(epochs, history.val_accuracy, color="tab:orange", label="held-out accuracy")
    right.set(ylabel="accuracy", ylim=(min(0.75, *history.val_accuracy), 1))
    lines = axis.get_lines() + right.get_lines()
    axis.legend(lines, [line.get_label() for line in lines], loc="center right", fontsize=8)


def _matrix(axis, counts, labels, title):
    axis.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*counts.shape):
        if counts[i, j]:
            share = counts[i, j] / counts[i].sum()
            axis.text(j, i, counts[i, j], ha="center", va="center", fontsize=8,
                      color="white" if share > 0.5 else "black")
    axis.set(title=title, xlabel="found", ylabel="true", xticks=range(len(labels)), yticks=range(len(labels)))
    axis.set_xticklabels(labels)
    axis.set_yticklabels(labels)


def _grid(figure, where, images, titles, title, columns, cmap):
    rows = -(-len(images) // columns)
    grid = figure.add_subfigure(where)
    grid.suptitle(title, fontsize=11)
    for axis in (axes := grid.subplots(rows, columns, squeeze=False)).flat:
        axis.axis("off")
    for axis, image, text in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap=cmap)
        axis.set_title(text, fontsize=8)


def draw(path: Path, digits: dict, names: dict) -> None:
    """Save the picture of both trainings to `path`."""
    figure = plt.figure(figsize=(15, 8.5), layout="constrained")
    cells = figure.add_gridspec(2, 3)
    _curves(figure.add_subplot(cells[0, 0]), digits["history"],
            f"digits: {digits['accuracy']:.1%} of the held-out fifth")
    _matrix(figure.add_subplot(cells[0, 1]), digits["confusion"], list(range(10)), "digits: confusions")
    right = cells[0, 2].subgridspec(2, 1)
    _grid(figure, right[0], list(digits["filters"]), [""] * 16, "first layer: 16 of its filters", 8, "gray")
    _grid(figure, right[1], digits["mistakes"]["images"][:8], digits["mistakes"]["titles"][:8],
          "digits taken for others (true > found)", 8, "gray_r")
    _curves(figure.add_subplot(cells[1, 0]), names["history"],
            f"names: {names['accuracy']:.1%} of the held-out fifth (majority: {names['majority']:.1%})")
    _matrix(figure.add_subplot(cells[1, 1]), names["confusion"], ["female", "male"], "names: confusions")
    axis = figure.add_subplot(cells[1, 2])
    axis.axis("off")
    axis.set_title("names, and the probability given to male", fontsize=11)
    for i, (name, p, wrong) in enumerate(names["samples"]):
        y = 1 - (i + 0.5) / len(names["samples"])
        axis.text(0.3, y, name, ha="right", va="center", color="tab:red" if wrong else "black",
                  transform=axis.transAxes)
        axis.barh(y, p, height=0.6 / len(names["samples"]), left=0, color="tab:red" if wrong else "tab:blue")
    axis.set(xlim=(-0.5, 1), ylim=(0, 1))
    for text in axis.texts:
        text.set_x(-0.03)
        text.set_transform(axis.transData)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
