"""A call of every function, for `make valgrind`: no number that was never written decides anything or leaves.

valgrind runs the portable bodies and those for AVX2; it has no AVX-512.
"""

import sys

import fuzz_cases
import numpy as np

import fastnn as fn
from fastnn._kernels import runtime

# Odd, and one more than whole vectors: where loads and stores of parts are.
SIZES = [dict.fromkeys(fuzz_cases.AXES, n) | {"R": 3, "S": 3} for n in (5, 17)]


def written(result):
    """Decide something by every number of a result, which valgrind reports where one was not set."""
    if isinstance(result, (tuple, list)):
        return sum(written(part) for part in result)
    return np.count_nonzero(result > 0) if isinstance(result, np.ndarray) else 0


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
    print(f"{calls} calls with {', '.join(runtime.available_isas())}: {positive} numbers are positive")
    return positive == 0


if __name__ == "__main__":
    sys.exit(main())
