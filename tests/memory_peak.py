"""Prints how much memory a convolution needs besides its arguments and results: run by test_memory.py.

Bytes at the peak, as the system counts them: forward, then backward, then what im2col would take. Arrays are
channels-last, as layers leave them; another layout is copied.
"""

import sys
from typing import NamedTuple

import numpy as np

import fastnn as fn
from fastnn import functional as F


class Convolution(NamedTuple):
    """A case: x (N, C, H, W), K filters R x R."""

    n: int
    c: int
    size: int
    k: int
    r: int
    options: dict


CASES = {
    "direct": Convolution(8, 64, 112, 64, 3, {"padding": 1, "algorithm": "direct"}),
    "winograd": Convolution(8, 64, 112, 64, 3, {"padding": 1, "algorithm": "winograd"}),
    "stride 2": Convolution(16, 64, 112, 64, 3, {"padding": 1, "stride": 2}),
    "dilated": Convolution(8, 64, 112, 64, 3, {"padding": 2, "dilation": 2}),
    "few channels": Convolution(16, 3, 224, 32, 3, {"padding": 1}),
    "few channels, 7 x 7": Convolution(16, 3, 224, 64, 7, {"padding": 3, "stride": 2}),
    "one channel": Convolution(64, 1, 112, 32, 5, {"padding": 2}),
    "depthwise": Convolution(8, 64, 112, 64, 3, {"padding": 1, "groups": 64}),
    "groups of 4": Convolution(8, 64, 112, 64, 3, {"padding": 1, "groups": 16}),
    "groups of 16": Convolution(8, 64, 112, 64, 3, {"padding": 1, "groups": 4}),
    "few pixels": Convolution(24, 512, 14, 512, 3, {"padding": 1, "algorithm": "direct"}),
}


def resident(name):
    """Bytes by a name of /proc/self/status: VmRSS now, VmHWM at the peak."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def extra(call):
    """Bytes that `call` needed at its peak besides the arrays that it returns."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is what is resident now
    before = resident("VmRSS")
    results = call()
    results = results if isinstance(results, tuple) else (results,)
    return resident("VmHWM") - before - sum(array.nbytes for array in results if array is not None)


def main(name):
    """Print the three numbers."""
    case = CASES[name]
    groups = case.options.get("groups", 1)
    x = np.ones((case.n, case.size, case.size, case.c), np.float32).transpose(0, 3, 1, 2)
    weight = np.ones((case.k, case.c // groups, case.r, case.r), np.float32)
    _, k, p, q = F.conv2d(x[:0], weight, **case.options).shape
    grad_y = np.ones((case.n, p, q, k), np.float32).transpose(0, 3, 1, 2)
    forward = extra(lambda: F.conv2d(x, weight, **case.options))
    fn.empty_cache()
    backward = extra(lambda: F.conv2d_backward(grad_y, x, weight, **case.options))
    print(forward, backward, case.n * p * q * case.c * case.r**2 * x.itemsize)


if __name__ == "__main__":
    main(sys.argv[1])
