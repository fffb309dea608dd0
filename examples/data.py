"""The two real data sets of the demonstration; both ship inside packages, nothing is fetched."""

from __future__ import annotations

import numpy as np

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def held_out_fifth(samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the samples to train on, and of the fifth held out."""
    order = rng.permutation(samples)
    return order[samples // 5 :], order[: samples // 5]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak, 1998): images (N, 1, 8, 8), classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images[:, None] / 16).astype(np.float32), bunch.target


def names() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """First names of the 1990 US census: letters (N, T) from 1 with 0 beyond the end, lengths, sexes, names.

    A name given to both sexes (331 of 5163) counts once, as the one that it is more often given to.
    """
    import names as package

    share: dict[str, list[float]] = {}
    for sex, key in enumerate(("first:female", "first:male")):
        with open(package.FILES[key], encoding="ascii") as lines:
            for line in lines:
                name, percent, *_ = line.split()
                share.setdefault(name.lower(), [0.0, 0.0])[sex] += float(percent)
    known = sorted(share)
    letters = np.zeros((len(known), max(map(len, known))), np.int64)
    for row, name in zip(letters, known, strict=True):
        row[: len(name)] = [ALPHABET.index(letter) + 1 for letter in name]
    sexes = np.array([int(share[name][1] > share[name][0]) for name in known])
    return letters, np.array([len(name) for name in known]), sexes, known
