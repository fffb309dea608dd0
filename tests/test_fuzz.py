"""Every public function under arguments of any kind: it works or refuses by name; it never crashes or hangs.

FASTNN_FUZZ_EXAMPLES sets the number of calls; `make fuzz` tries 200,000.
"""

import inspect
import math
import os
import re
import signal
import time
import warnings
from contextlib import contextmanager

import fuzz_cases
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fastnn as fn

EXAMPLES = int(os.environ.get("FASTNN_FUZZ_EXAMPLES", "2000"))
SECONDS = 20

# Small numbers, and numbers that no memory is enough for, with nothing between: a call that is only slow
# would be no finding. The edges are those of 16, 31, 32, 63 and 64 bits.
EDGES = [sign * (1 << bits) + d for bits in (31, 32, 62, 63, 64, 300) for sign in (1, -1) for d in (-1, 0, 1)]
integers = st.one_of(st.integers(-3, 6), st.sampled_from(EDGES))
floats = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1e308, 5e-324]))
words = st.sampled_from(["", "relu", "mean", "sum", "none", "zeros", "auto", "tanh", "f4", "\0", "é" * 300])
DTYPES = ["f4", "f4", "f8", ">f4", "f2", "i8", "u1", "?", "c8", "O", "U3", "M8[s]", "V5"]


@st.composite
def arrays(draw):
    """Arrays of any rank, dtype and layout, some with more elements than fit in memory."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=5)))
    dtype = draw(st.sampled_from(DTYPES))
    array = np.zeros(shape, dtype)
    kind = draw(st.sampled_from(["zeros", "values", "strided", "read-only", "huge", "view", "masked"]))
    if kind == "values" and array.dtype.kind in "fiu":
        values = draw(st.lists(floats if array.dtype.kind == "f" else st.integers(0, 255), min_size=1))
        with np.errstate(over="ignore"):
            array.flat = values
    elif kind == "strided":
        array = np.zeros([2 * n for n in shape], dtype)[(*(slice(None, None, -2) for _ in shape), ...)]
    elif kind == "read-only":
        array.flags.writeable = False
    elif kind == "huge" and array.dtype.kind == "f":  # no element takes memory
        array = np.broadcast_to(array.flat[:1].sum(), [draw(st.sampled_from([1, 3, 1 << 31, 1 << 40]))
                                                       for _ in shape[:1]])
    elif kind == "view":
        array = array.view(np.recarray)
    elif kind == "masked":
        array = np.ma.masked_array(array)
    return array


anything = st.one_of(
    integers, floats, words, arrays(), st.none(), st.booleans(), st.lists(integers, max_size=4),
    st.lists(integers, max_size=4).map(tuple), st.lists(floats, max_size=3), st.just([[1.0], [1.0, 2.0]]),
    st.sampled_from([object(), {}, b"\xff", int, fn.ReLU, len, 1j, np.float32, "f8", np.dtype("i4"),
                     np.float64(2.5), np.int8(-1), np.random.default_rng(0), range(3), ...]))


@st.composite
def calls(draw, names):
    """A valid call, up to three of whose arguments are then replaced."""
    name = draw(st.sampled_from(names))
    sizes = {axis: draw(st.integers(1, 5)) for axis in fuzz_cases.AXES}
    if draw(st.booleans()):
        sizes[draw(st.sampled_from(fuzz_cases.AXES))] = 0
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    replaced = draw(st.lists(st.tuples(st.integers(0, 30), anything), max_size=3))
    return name, sizes, dtype, replaced


@contextmanager
def limits():
    """No more memory than now and 2 GB, no more processor time than SECONDS, no waiting for ever."""
    began = time.process_time(), time.monotonic()

    def stop(signum, frame):
        # On a busy machine the process may have had no turn meanwhile.
        computed, waited = time.process_time() - began[0], time.monotonic() - began[1]
        if computed > SECONDS or waited > 30 * SECONDS:
            raise AssertionError(f"no end after {computed:.0f} s of processor time, {waited:.0f} s in all")

    if not hasattr(signal, "setitimer") or not os.path.exists("/proc/self/statm"):
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    if used < 1 << 40:  # AddressSanitizer's shadow takes terabytes
        resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), hard))
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def parameters_of(target):
    """The names that a refusal by `target` may speak of."""
    try:
        return set(inspect.signature(target).parameters) | {"x"}
    except ValueError:
        return set()


# Every public name: a layer's refusal may come from the function it calls, that of a function from a check.
MODULES = (fn, fn.functional, fn.init, fn.losses, fn.optim, fn.optim.lr_scheduler)
PUBLIC = {name: parameters_of(value) for module in MODULES
          for name, value in inspect.getmembers(module, callable) if not name.startswith("_")}


def named(name, arguments, message):
    """Whether a refusal begins with a public name and then tells which argument it is about."""
    place, colon, rest = message.partition(": ")
    place = place.split(".")[0]
    known = PUBLIC.get(place, set()) | set(arguments)
    return bool(colon) and place in PUBLIC and bool(known & set(re.findall(r"\w+", rest)))


def attempt(example):
    name, sizes, dtype, replaced = example
    try:
        arguments = fuzz_cases.CASES[name](sizes, dtype)
    except ValueError:  # an axis of size 0 where the function needs one: refused, as tested elsewhere
        return
    known = list(arguments)
    for place, value in replaced:
        if known:
            arguments[known[place % len(known)]] = value
    threads = fn.get_num_threads()
    try:
        with limits(), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fuzz_cases.call(name, dict(arguments))
    except MemoryError:
        pass
    except (ValueError, TypeError) as error:
        if not named(name, arguments, str(error)):
            raise AssertionError(f"{name} does not name the argument: {error!r}") from error
    finally:
        fn.set_num_threads(threads)


@settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=EXAMPLES <= 2000,
          phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))
@given(calls(sorted(fuzz_cases.CASES)))
def test_any_arguments(example):
    attempt(example)


@pytest.mark.parametrize("name", sorted(fuzz_cases.CASES))
def test_the_valid_call_is_valid(name):
    sizes = dict.fromkeys(fuzz_cases.AXES, 3)
    fuzz_cases.call(name, fuzz_cases.CASES[name](sizes, np.float32))


def test_every_public_function_has_a_case():
    functions = {f"functional.{name}" for name, value in inspect.getmembers(fn.functional)
                 if inspect.isfunction(inspect.unwrap(value)) and not name.startswith("_")}
    assert functions <= fuzz_cases.CASES.keys()
    containers = {"Module", "ModuleList", "Parallel", "Residual", "Sequential", "Embedding", "Identity"}
    layers = {name for name, value in inspect.getmembers(fn, inspect.isclass) if issubclass(value, fn.Module)}
    assert layers - containers <= fuzz_cases.CASES.keys()
