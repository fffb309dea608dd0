"""Trains a convolutional network on handwritten digits and a recurrent one on first names.

Both data sets are real and ship inside packages. Prints the accuracy on a held-out fifth and the time beside
that of the same training on the NumPy reference, and saves a picture. Run it by ``make demo``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import fastnn as fn

from data import ALPHABET, digits, held_out_fifth, names
from networks import NameNetwork, digit_network, on_reference
from picture import confusion, draw

SEEDS = (0, 1, 2)


def train(network, inputs, target, train_on, held_out, *, epochs, batch_size, lr, seed, progress=True):
    """One training; returns its history."""
    optimizer = fn.optim.AdamW(network.parameters(), lr=lr)
    return network.fit(
        tuple(a[train_on] for a in inputs), target[train_on],
        loss=fn.losses.CrossEntropyLoss(label_smoothing=0.05), optimizer=optimizer, epochs=epochs,
        batch_size=batch_size, scheduler=fn.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
        validation_data=(tuple(a[held_out] for a in inputs), target[held_out]), rng=seed, progress=progress)


def beside_reference(name, make, inputs, target, train_on, held_out, epoch_seconds, **options):
    """Print the time of an epoch beside that of the same epoch on the NumPy reference."""
    started = time.perf_counter()
    options = {**options, "epochs": 1}
    train(on_reference(make()), inputs, target, train_on, held_out, progress=False, **options)
    reference = time.perf_counter() - started
    print(f"{name}: an epoch took {epoch_seconds:.2f} s (median), on the NumPy reference {reference:.2f} s: "
          f"{reference / epoch_seconds:.1f} times as long", flush=True)


def run_digits():
    """Three trainings on digits; what the picture needs of the last."""
    images, target = digits()
    options = {"epochs": 20, "batch_size": 64, "lr": 2e-3}
    accuracies = []
    for seed in SEEDS:
        train_on, held_out = held_out_fifth(len(images), np.random.default_rng(seed))
        network = digit_network(seed)
        history = train(network, (images,), target, train_on, held_out, seed=seed, **options)
        accuracies.append(network.evaluate(images[held_out], target[held_out])["accuracy"])
    print("digits: accuracy on the held-out fifth, seeds 0 to 2: "
          + ", ".join(f"{a:.4f}" for a in accuracies), flush=True)
    beside_reference("digits", lambda: digit_network(seed), (images,), target, train_on, held_out,
                     float(np.median(history.seconds)), seed=seed, **options)
    found = network.predict(images[held_out]).argmax(1)
    wrong = np.flatnonzero(found != target[held_out])
    return {
        "history": history, "accuracy": accuracies[-1],
        "confusion": confusion(target[held_out], found, 10),
        "filters": network[0].weight.data[:16, 0],
        "mistakes": {"images": images[held_out][wrong][:, 0],
                     "titles": [f"{target[held_out][i]} > {found[i]}" for i in wrong]},
    }


def run_names():
    """A training on names; what the picture needs of it."""
    letters, lengths, sexes, known = names()
    seed = SEEDS[0]
    train_on, held_out = held_out_fifth(len(known), np.random.default_rng(seed))
    options = {"epochs": 15, "batch_size": 64, "lr": 4e-3}
    network = NameNetwork(len(ALPHABET), seed)
    history = train(network, (letters, lengths), sexes, train_on, held_out, seed=seed, **options)
    accuracy = network.evaluate((letters[held_out], lengths[held_out]), sexes[held_out])["accuracy"]
    majority = max(np.mean(sexes[held_out]), 1 - np.mean(sexes[held_out]))
    print(f"names: accuracy on the held-out fifth {accuracy:.4f}, "
          f"of always saying the majority {majority:.4f}", flush=True)
    beside_reference("names", lambda: NameNetwork(len(ALPHABET), seed), (letters, lengths), sexes, train_on,
                     held_out, float(np.median(history.seconds)), seed=seed, **options)
    male = fn.functional.softmax(network.predict((letters[held_out], lengths[held_out])))[:, 1]
    found = (male > 0.5).astype(int)
    shown = np.random.default_rng(seed).choice(len(held_out), 18, replace=False)
    return {
        "history": history, "accuracy": accuracy, "majority": majority,
        "confusion": confusion(sexes[held_out], found, 2),
        "samples": [(known[held_out[i]], float(male[i]), found[i] != sexes[held_out[i]]) for i in shown],
    }


def main():
    """Run both trainings and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/demo.png"), help="where the picture goes")
    path = parser.parse_args().output
    fn.show_config()
    results = {"digits": run_digits(), "names": run_names()}
    draw(path, **results)
    print(f"saved {path}")


if __name__ == "__main__":
    main()
