"""Trains a convolutional network on handwritten digits and a recurrent one on first names.

Both data sets are real and ship inside packages. Prints the accuracy on a held-out fifth over three seeds,
and the time beside that of the same training on the NumPy reference; saves a picture. ``make demo`` runs it.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fastnn as fn

from data import ALPHABET, digits, held_out_fifth, names
from networks import NameNetwork, digit_network, on_reference
from picture import draw

SEEDS = (0, 1, 2)


@dataclass
class Task:
    """What is trained on what, and how."""

    name: str
    inputs: tuple[np.ndarray, ...]
    target: np.ndarray
    network: Callable[[int], fn.Module]  # of a seed
    epochs: int
    lr: float
    batch_size: int = 64

    def samples(self, numbers):
        """Inputs and target of the samples of these numbers."""
        return tuple(a[numbers] for a in self.inputs), self.target[numbers]

    def optimizer(self, network):
        """A new optimizer."""
        return fn.optim.AdamW(network.parameters(), lr=self.lr)


LOSS = fn.losses.CrossEntropyLoss(label_smoothing=0.05)


def train(task, seed):
    """One training; returns the network, its history, the held-out samples and the logits found for them."""
    train_on, held_out = held_out_fifth(len(task.target), np.random.default_rng(seed))
    network = task.network(seed)
    optimizer = task.optimizer(network)
    history = network.fit(
        *task.samples(train_on), loss=LOSS, optimizer=optimizer, epochs=task.epochs,
        batch_size=task.batch_size, scheduler=fn.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.epochs),
        validation_data=task.samples(held_out), rng=seed, progress=f"{task.name}, seed {seed}")
    return {"network": network, "history": history, "held_out": held_out,
            "logits": network.predict(task.samples(held_out)[0])}


def train_all(task):
    """Train with every seed; print what came of it."""
    results = [train(task, seed) for seed in SEEDS]
    accuracies = [float(np.mean(r["logits"].argmax(1) == task.target[r["held_out"]])) for r in results]
    commonest = float(np.mean(task.target[results[-1]["held_out"]] == np.bincount(task.target).argmax()))
    seconds = sum(results[-1]["history"].seconds)
    print(f"{task.name}: accuracy on the held-out fifth {', '.join(f'{a:.4f}' for a in accuracies)} "
          f"(seeds {', '.join(map(str, SEEDS))}); of always saying the commonest class {commonest:.4f}\n"
          f"{task.name}: the last training took {seconds:.1f} s, {task.epochs} epochs", flush=True)
    return {"task": task, "results": results, "accuracies": accuracies, "commonest": commonest}


def beside_reference(task, parts=5):
    """Train one epoch on the kernels and the same on the NumPy reference, in turns, and print the times.

    Initial weights, batches, dropout, loss and optimizer are the same. In turns, a fifth of the epoch at a
    time, so that both meet the same disturbances of the machine. The losses agree but for rounding, which an
    optimizer of Adam's kind makes larger: it divides small gradients by their size.
    """
    network = task.network(SEEDS[0])
    networks = [network, on_reference(copy.deepcopy(network))]
    optimizers = [task.optimizer(network) for network in networks]
    train_on, _ = held_out_fifth(len(task.target), np.random.default_rng(SEEDS[0]))
    seconds, losses = np.zeros((2, parts)), np.zeros((2, parts))
    for part, numbers in enumerate(np.array_split(train_on, parts)):
        for i, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            started = time.perf_counter()
            history = network.fit(*task.samples(numbers), loss=LOSS, optimizer=optimizer, shuffle=False,
                                  batch_size=task.batch_size, progress=False)
            seconds[i, part], losses[i, part] = time.perf_counter() - started, history.loss[0]
    (kernels, reference), (loss, reference_loss) = seconds.sum(1), losses.mean(1)
    print(f"{task.name}: an epoch took {kernels:.2f} s, on the NumPy reference {reference:.2f} s: "
          f"{reference / kernels:.0f} times as long (loss {loss:.3f}, {reference_loss:.3f})", flush=True)


def main():
    """Run both trainings and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/demo.png"), help="where the picture goes")
    path = parser.parse_args().output
    fn.show_config()
    images, digit = digits()
    letters, lengths, sexes, known = names()
    tasks = (Task("digits", (images,), digit, digit_network, epochs=20, lr=2e-3),
             Task("names", (letters, lengths), sexes, lambda seed: NameNetwork(len(ALPHABET), seed),
                  epochs=15, lr=4e-3))
    found = [train_all(task) for task in tasks]
    for task in tasks:
        beside_reference(task)
    draw(path, *found, known)
    print(f"saved {path}")


if __name__ == "__main__":
    main()
