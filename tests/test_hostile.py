"""Arrays as they should not be: odd in memory, in read-only files, changed by another thread meanwhile."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import fuzz_cases
import numpy as np
import pytest
from arrays import LAYOUTS, assert_same_bits, draw

import fastnn as fn
from fastnn import functional as F
from fastnn._kernels import elementwise, pool

SIZES = dict.fromkeys(fuzz_cases.AXES, 5) | {"R": 3, "S": 3}
FLOATS = (np.float32, np.float64)


def flat(result):
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [np.array(part) for part in parts if isinstance(part, (np.ndarray, float))]


def in_files(folder):
    """Copies of arrays as memory-mapped files that cannot be written."""
    def mapped(x):
        path = folder / f"{len(list(folder.iterdir()))}.npy"
        np.save(path, x)
        return np.load(path, mmap_mode="r")
    return mapped


class Subclass(np.ndarray):
    """An array type that says something else about itself."""

    @property
    def size(self):
        return 10**6

    def reshape(self, *shape, **options):
        raise AssertionError("a method of a subclass was called")


@pytest.mark.parametrize("layout", [*LAYOUTS, "mapped", "subclass"])
@pytest.mark.parametrize("name", sorted(fuzz_cases.FUNCTIONS))
def test_numbers_do_not_depend_on_memory(name, layout, tmp_path):
    """The same bits from every layout; the arguments are as before."""
    laid_out = LAYOUTS | {"mapped": in_files(tmp_path), "subclass": lambda x: x.copy().view(Subclass)}
    plain = fuzz_cases.FUNCTIONS[name](SIZES, np.float32)
    odd = {key: laid_out[layout](value) if getattr(value, "dtype", None) in FLOATS else value
           for key, value in fuzz_cases.FUNCTIONS[name](SIZES, np.float32).items()}
    expected = flat(getattr(F, name)(**plain))
    assert_same_bits(flat(getattr(F, name)(**odd)), expected)
    for key, value in fuzz_cases.FUNCTIONS[name](SIZES, np.float32).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(np.asarray(odd[key]), value)


def test_places_outside_are_passed_over():
    """Where a thread changes indices after they were checked, the kernel meets such."""
    grad_y, memory = np.ones((1, 3, 2), np.float32), np.zeros((3, 4, 2), np.float32)
    places = np.array([[[0, 3], [4, -1], [2**40, -2**62]]])
    pool.max_scatter(grad_y[None], places[None], memory[None, 1:2].reshape(1, 2, 2, 2))
    np.testing.assert_array_equal(memory[1], [[1, 0], [0, 0], [0, 0], [0, 1]])
    assert not memory[[0, 2]].any()


@pytest.mark.parametrize("target", [-1, -2**62, 3, 2**40])
def test_targets_that_are_no_class_are_passed_over(target):
    x, memory, loss = draw(1, 3), np.full((3, 3), 7.0), np.full(1, 7.0)
    for weight in None, np.ones(3):
        assert elementwise.cross_entropy(x, np.array([target]), -100, weight, loss) == 0
        elementwise.cross_entropy_backward(x, np.array([target]), -100, weight, 1.0, memory[1:2])
    assert loss[0] == 0
    np.testing.assert_array_equal(memory, [[7] * 3, [0] * 3, [7] * 3])


CHANGED = {
    "max_pool2d_backward": "F.max_pool2d_backward(grad_y, indices, (8, 16, 32, 32))",
    "cross_entropy": "F.cross_entropy(logits, indices), F.cross_entropy_backward(logits, indices)",
    "embedding": "F.embedding(indices % 32, weight), F.embedding_backward(grad_y, indices, 32)",
    "lstm": "lstm(sequence, lengths=indices[0, 0, 0, :4])",
}


@pytest.mark.parametrize("call", CHANGED)
def test_indices_change_during_the_call(call):
    """Results mean nothing then; the process goes on, with ValueError and IndexError at worst."""
    program = f"""
        import threading, time, warnings
        import numpy as np
        import fastnn as fn
        warnings.simplefilter("ignore")
        F = fn.functional
        fn.set_num_threads(2)
        grad_y = np.ones((8, 16, 16, 16), np.float32)
        indices = np.zeros((8, 16, 16, 16), np.int64)
        logits, weight = np.ones((8, 10, 16, 16, 16), np.float32), np.ones((32, 16), np.float32)
        lstm, sequence = fn.LSTM(4, 8, rng=0).eval(), np.ones((6, 4, 4), np.float32)
        stop = threading.Event()
        def change():
            while not stop.is_set():
                indices[...] = 2**40
                indices[...] = 3
        other = threading.Thread(target=change)
        other.start()
        done, end = 0, time.monotonic() + 1
        while time.monotonic() < end:
            try:
                {CHANGED[call]}
                done += 1
            except (ValueError, IndexError, MemoryError):
                pass
        stop.set()
        other.join()
        print("done")
    """
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run([sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)],
                         text=True, capture_output=True, timeout=100, check=False,
                         env={**os.environ, "PYTHONPATH": path})
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr[-2000:]


ASSIGNED = {
    "LSTM, dtype": (lambda: fn.LSTM(8, 16, rng=0), "weight_hh_l0", (64, 16), np.float64),
    "LSTM, all rows": (lambda: fn.LSTM(8, 16, rng=0), "weight_ih_l0", (4, 8), np.float32),
    "GRU, columns": (lambda: fn.GRU(8, 16, 2, bidirectional=True, rng=0), "weight_ih_l1_reverse", (48, 800),
                     np.float32),
    "RNN, bias": (lambda: fn.RNN(8, 16, rng=0), "bias_hh_l0", (1,), np.float32),
    "Linear, rows": (lambda: fn.Linear(8, 16, rng=0), "weight", (160, 8), np.float32),
    "Linear, bias": (lambda: fn.Linear(8, 16, rng=0), "bias", (1,), np.float32),
    "Linear, dtype": (lambda: fn.Linear(8, 16, rng=0), "bias", (16,), np.float64),
    "Conv1d, dtype": (lambda: fn.Conv1d(2, 16, 3, rng=0), "weight", (16, 2, 3), np.float64),
}


@pytest.mark.parametrize("name", ASSIGNED)
def test_parameters_that_do_not_fit_are_refused(name):
    """One of another shape or dtype than the layer made can be assigned; kernels would read beyond it."""
    make, parameter, shape, dtype = ASSIGNED[name]
    layer, x = make(), draw(5, 2, 8, dtype=np.float32)
    setattr(layer, parameter, fn.layers.Parameter(draw(*shape, dtype=dtype)))
    for way in (layer.train, layer.eval, layer.freeze):
        with pytest.raises((ValueError, TypeError), match=r"dtype|shape"):
            way()(x)
