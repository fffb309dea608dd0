"""Compute the table of csrc/tanh_pieces.h: tanh by a polynomial for each of 32 intervals.

The intervals are those of the last five bits of a float's exponent and first two of its fraction, from 1/16
on: four to each power of two. In each, tanh(c + t) = c0 + c1 t + ... + c5 t^5. The centre c is the float near
the middle whose tanh is nearest to a float, so that c0 brings next to no error; the other coefficients are of
least relative error (Lawson's algorithm), each found after the ones before it were rounded. The first
interval begins at 0, with the odd powers alone; from 10 on tanh is 1.

Run: python tools/make_tanh_pieces.py
"""

import textwrap

import numpy as np

DEGREE, PIECES, FIRST, ONE = 5, 32, 0.0625, 10
SHIFT = 21  # of a float's bits: what is left ends with the number of the interval
POINTS = 300


def as_float(bits):
    return np.array(bits, np.int32).view(np.float32)


def least_error(t, wanted, known, free):
    """Coefficients of the `free` powers of t, of least largest error relative to `wanted`."""
    scale, weights, best = float(abs(t).max()), np.ones(len(t)), (np.inf, {})
    rest = wanted - sum(np.longdouble(c) * t**k for k, c in known.items())
    powers = np.stack([(t / scale) ** k for k in free], 1)
    for _ in range(200):
        row = np.sqrt(weights) / wanted.astype(float)
        weighted = powers.astype(float) * row[:, None]
        solution = np.linalg.lstsq(weighted, rest.astype(float) * row, rcond=None)[0]
        error = np.abs((powers @ solution - rest) / wanted).astype(float)
        if error.max() < best[0]:
            best = error.max(), {k: c / scale**k for k, c in zip(free, solution, strict=True)}
        weights = weights * (error / error.max() + 1e-3)
        weights /= weights.sum()
    return best[1]


def near_a_float(low, high):
    """The float near the middle whose tanh is nearest to a float."""
    middle = np.float32((low + high) / 2)
    candidates = as_float(middle.view(np.int32) + np.arange(-60_000, 60_000, dtype=np.int32))
    exact = np.tanh(candidates.astype(np.longdouble))
    return candidates[np.argmin(np.abs(exact / exact.astype(np.float32) - 1))]


def piece(low, high):
    """c, c0, ... c5 of the interval."""
    if low >= ONE:
        return [low, 1] + [0] * DEGREE
    if low == FIRST:
        low, center = 0, np.float32(0)
        known, free = {0: 0, 1: 1, 2: 0, 4: 0}, [3, 5]
    else:
        center = near_a_float(low, min(high, 9.3))
        known, free = {0: np.float32(np.tanh(np.longdouble(center)))}, list(range(1, DEGREE + 1))
    x = low + (min(high, ONE) - low) * (1 - np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS)) / 2
    x = x.astype(np.longdouble)
    while free:
        found = least_error(x - np.longdouble(center), np.tanh(x), known, free)
        known[free[0]] = np.float32(found[free[0]])
        free = free[1:]
    return [center] + [known[k] for k in range(DEGREE + 1)]


def main():
    first = int(np.float32(FIRST).view(np.int32)) >> SHIFT
    table = np.zeros((DEGREE + 2, PIECES), np.float32)
    for i in range(first, first + PIECES):
        table[:, i % PIECES] = piece(float(as_float(i << SHIFT)), float(as_float(i + 1 << SHIFT)))
    for row in table:
        numbers = ", ".join(f"{c:.9g}f" if c % 1 else f"{c:.0f}" for c in row)
        print(textwrap.fill(numbers + "},", 118, initial_indent="    {", subsequent_indent="     "))


if __name__ == "__main__":
    main()
