"""Calls of functions and networks for `make valgrind`: no number never written decides anything or leaves.

valgrind runs the portable bodies and those for AVX2; it has no AVX-512.
"""

import sys

import fuzz_cases
import numpy as np
from arrays import draw

import fastnn as fn
from fastnn._kernels import runtime

# Odd, and one more than whole vectors: where loads and stores of parts are.
SIZES = [dict.fromkeys(fuzz_cases.AXES, n) | {"R": 3, "S": 3} for n in (5, 17)]


def written(result):
    """Decide something by every number of a result, which valgrind reports where one was not set."""
    if isinstance(result, (tuple, list)):
        return sum(written(part) for part in result)
    return int(np.count_nonzero(result > 0)) if isinstance(result, np.ndarray) else 0


def networks(dtype):
    """What functions do not reach: layers in training, optimizers, plans, chains, streams, shared steps."""
    config = {"dtype": dtype, "rng": 0}
    x, sequence = draw(2, 3, 13, 13, dtype=dtype), draw(3, 1, 7, dtype=dtype)
    chain = fn.Sequential(fn.Conv2d(8, 24, 1, **config), fn.ReLU6(),
                          fn.Conv2d(24, 24, 3, padding=1, groups=24, **config), fn.ReLU6(),
                          fn.Conv2d(24, 8, 1, **config))
    net = fn.Sequential(fn.Conv2d(3, 8, 3, **config), fn.BatchNorm2d(8, dtype=dtype), fn.ReLU(),
                        fn.Residual(chain), fn.MaxPool2d(2), fn.Flatten(), fn.Linear(200, 17, **config))
    lstm = fn.LSTM(7, 128, **config)
    for kind in (fn.optim.SGD, fn.optim.Adam, fn.optim.RMSprop):
        optimizer = kind(net.parameters() + lstm.parameters(), lr=0.01)
        y, (out, _) = net(x), lstm(sequence)
        yield net.backward(y), lstm.backward(out), *(p.grad for p in net.parameters() + lstm.parameters())
        optimizer.step()
    frozen = net.eval().freeze()
    stream = fn.LSTM(7, 19, 2, **config).eval()
    hx = stream(sequence[:1, 0])[1]
    yield net(x), frozen(x), frozen(x), lstm.eval()(sequence)[0], stream(sequence[1, 0:1], hx)[0]


def main():
    fn.set_num_threads(2)
    positive = calls = 0
    for isa in runtime.available_isas():
        runtime.set_isa(isa)
        for sizes in SIZES:
            for dtype in (np.float32, np.float64):
                for name in fuzz_cases.FUNCTIONS:
                    positive += written(fuzz_cases.call(f"functional.{name}",
                                                        fuzz_cases.FUNCTIONS[name](sizes, dtype)))
                    calls += 1
        for dtype in (np.float32, np.float64):
            for results in networks(dtype):
                positive += written(results)
                calls += 1
    print(f"{calls} calls with {', '.join(runtime.available_isas())}: {positive} numbers are positive")
    return positive == 0


if __name__ == "__main__":
    sys.exit(main())
