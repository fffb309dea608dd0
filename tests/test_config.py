"""`show_config`, threads, instruction sets and the environment variables that choose them."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fn
from fastnn._kernels import runtime
from fastnn._kernels.memory import empty


def test_show_config(capsys):
    assert fn.show_config() is None
    shown = capsys.readouterr().out
    config = fn.show_config(mode="dict")
    assert capsys.readouterr().out == ""
    assert config["fastnn"] == fn.__version__
    assert config["numpy"] == np.__version__
    assert config["instruction set"] in config["available"]
    assert config["threads"] == fn.get_num_threads()
    for key, value in config.items():
        assert key in shown
        assert (" ".join(value) if isinstance(value, list) else str(value)) in shown
    with pytest.raises(ValueError, match="show_config: mode must be 'print' or 'dict', got 'json'"):
        fn.show_config("json")


def test_openmp_is_found_where_the_build_has_it():
    openmp = fn.show_config(mode="dict")["openmp"]
    if not runtime.openmp_version():
        assert openmp == "none: a serial build"
    elif sys.platform == "linux":
        assert "omp" in openmp.split("(")[1]


def test_threads_are_set_and_restored(threads):
    threads(3)
    expected = 3 if runtime.openmp_version() else 1
    assert fn.get_num_threads() == expected
    with fn.num_threads(1):
        assert fn.get_num_threads() == 1
    assert fn.get_num_threads() == expected
    with pytest.raises(KeyError), fn.num_threads(1):
        raise KeyError
    assert fn.get_num_threads() == expected


@pytest.mark.parametrize(("n", "error", "message"), [
    (0, ValueError, "n must be between 1 and 1024, got 0"),
    (1025, ValueError, "n must be between 1 and 1024, got 1025"),
    (2.0, TypeError, "n must be an integer, got float"),
    (True, TypeError, "n must be an integer, got bool"),
    (None, TypeError, "n must be an integer, got NoneType"),
])
def test_wrong_number_of_threads(n, error, message):
    with pytest.raises(error, match=message):
        fn.set_num_threads(n)
    with pytest.raises(error, match=message), fn.num_threads(n):
        pass


def test_instruction_sets():
    available = runtime.available_isas()
    assert available[0] == "scalar"
    assert runtime.get_isa() in available
    with pytest.raises(ValueError, match=r"this build on this processor offers scalar.*; got 'sse9'"):
        runtime.set_isa("sse9")


def started_with(program="fn.show_config()", **variables):
    """Run a program in a new process with environment variables."""
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("FASTNN_ISA", "FASTNN_NUM_THREADS", "OMP_NUM_THREADS")}
    return subprocess.run([sys.executable, "-c", f"import fastnn as fn; {program}"], text=True,
                          capture_output=True, env={**environment, **variables}, check=False)


@pytest.mark.parametrize("isa", runtime.available_isas())
def test_environment_pins_the_instruction_set(isa):
    run = started_with("print(fn.show_config(mode='dict')['instruction set'])", FASTNN_ISA=isa)
    assert run.stdout == f"{isa}\n"


def test_environment_names_an_unknown_instruction_set():
    run = started_with(FASTNN_ISA="sse9")
    assert run.returncode
    assert "ValueError: FASTNN_ISA: this build on this processor offers scalar" in run.stderr


@pytest.mark.parametrize(("variables", "expected"), [
    ({"FASTNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3),
    ({"OMP_NUM_THREADS": "2"}, 2),
    ({"FASTNN_NUM_THREADS": " 3 "}, 3),
    ({"FASTNN_NUM_THREADS": "", "OMP_NUM_THREADS": "2"}, 2),
    ({"FASTNN_NUM_THREADS": "9" * 999}, 1024),
    ({"OMP_NUM_THREADS": "3,1"}, 3),
    ({"OMP_NUM_THREADS": " 3 , 1"}, 3),
    ({"FASTNN_NUM_THREADS": "2", "OMP_NUM_THREADS": "many"}, 2),
])
def test_environment_sets_the_number_of_threads(variables, expected):
    if not runtime.openmp_version():
        expected = 1
    assert started_with("print(fn.get_num_threads())", **variables).stdout == f"{expected}\n"


@pytest.mark.parametrize("value", ["many", "-1", "0", "2.0", "1,1", "\u0663", "9" * 5000])
def test_environment_names_a_wrong_number_of_threads(value):
    run = started_with(FASTNN_NUM_THREADS=value, OMP_NUM_THREADS="2")
    assert run.returncode
    assert "ValueError: FASTNN_NUM_THREADS: expected a number of threads, at least 1, got" in run.stderr


@pytest.mark.parametrize("value", ["many", "0", ",2"])
def test_what_openmp_does_not_understand_is_not_taken(value):
    expected = started_with("print(fn.get_num_threads())").stdout
    assert started_with("print(fn.get_num_threads())", OMP_NUM_THREADS=value).stdout == expected


def test_large_outputs_use_memory_that_was_given_back_and_never_memory_in_use():
    fn.empty_cache()  # of what other tests left
    x = np.ones((1, 1, 1100, 1000), np.float32)
    weight = np.ones((1, 1, 1, 1), np.float32)
    first = fn.functional.conv2d(x, weight)
    place = first.__array_interface__["data"][0]
    part = first[0, 0, :2, :2]
    del first
    second = fn.functional.conv2d(x, 2 * weight)
    assert second.__array_interface__["data"][0] != place
    assert (part == 1).all()
    assert (second == 2).all()
    del part
    assert fn.functional.conv2d(x, weight).__array_interface__["data"][0] == place
    fn.empty_cache()
    assert (second == 2).all()


def test_what_is_kept_makes_room_for_what_is_in_use():
    """Blocks of another size, which nobody asks for any more, do not keep a large one from being kept."""
    fn.empty_cache()
    stale = [empty((n << 20,), np.dtype(np.uint8)) for n in (41, 42, 43, 44, 45)]
    del stale
    for _ in range(2):
        array = empty((200 << 20,), np.dtype(np.uint8))
        fresh = array[0] != 7  # new memory is zeros
        array[0] = 7
        del array
    assert not fresh
    fn.empty_cache()


@pytest.mark.parametrize(("variables", "spins", "shown"), [
    ({}, "2000", "spin 2000 turns"),
    ({"GOMP_SPINCOUNT": "77"}, "77", "as the environment says"),
    ({"OMP_WAIT_POLICY": "passive"}, "0", "as the environment says"),
])
def test_how_idle_threads_wait(variables, spins, shown):
    """What GNU OpenMP read when it was loaded: our default, but never against the user's own choice."""
    openmp = fn.show_config(mode="dict")["openmp"]
    if sys.platform != "linux" or "gomp" not in openmp:
        pytest.skip("knows GNU OpenMP's variables")
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        if name in os.environ:
            pytest.skip(f"{name} is set")
    program = ("import os; idle = fn.show_config(mode='dict')['idle threads']; "
               "print(idle, os.environ.get('GOMP_SPINCOUNT'))")
    run = started_with(program, OMP_DISPLAY_ENV="verbose", **variables)
    assert f"GOMP_SPINCOUNT = '{spins}'" in run.stderr
    assert run.stdout.startswith(shown)
    assert run.stdout.endswith(f"{variables.get('GOMP_SPINCOUNT')}\n")  # the environment is as it was


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_at_most_256_megabytes_are_kept():
    if "-fsanitize" in runtime.build_flags():
        pytest.skip("AddressSanitizer keeps what was freed")
    program = """
from fastnn._kernels.memory import empty
import numpy as np
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))
before = resident()
arrays = [empty((40 << 20,), np.dtype(np.uint8)) for _ in range(10)]
for array in arrays:
    array[...] = 1
used = resident() - before
del array, arrays
kept = resident() - before
fn.empty_cache()
print(used, kept, resident() - before)
"""
    used, kept, left = map(int, started_with(program).stdout.split())
    assert used >= 400
    assert 200 <= kept <= 260  # a little is Python's
    assert left <= 10


def test_what_few_need_is_imported_late():
    modules = [f"fastnn.{name}" for name in ("io", "losses", "optim", "training", "layers.piecewise",
                                             "layers.recurrent", "functional.local_response",
                                             "functional.class_loss", "functional.loss",
                                             "functional.piecewise", "functional.recurrent")]
    run = started_with(f"""
import sys
print([name for name in {modules} if name in sys.modules])
names = {{package: dir(sys.modules[package]) for package in ("fastnn", "fastnn.layers", "fastnn.functional")}}
print([(package, name) for package in names for name in names[package] if name != "onnx"
       and not hasattr(sys.modules[package], name)])
print([name for name in {modules} if name not in sys.modules])
print(fn.LSTM is fn.layers.LSTM is fn.layers.recurrent.LSTM, fn.load is fn.io.load,
      fn.functional.gru is fn.functional.recurrent.gru, fn.functional.mse_loss is fn.functional.loss.mse_loss)
""")
    assert run.stdout == "[]\n[]\n[]\nTrue True True True\n"


@pytest.mark.parametrize("module", [fn, fn.layers, fn.functional], ids=lambda module: module.__name__)
def test_names_that_are_not(module):
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'Lstm'"):
        module.Lstm  # noqa: B018 - asking is what raises


def test_all_of_everything():
    run = started_with("from fastnn import *; from fastnn.layers import *; from fastnn.functional import *; "
                       "print(LSTM, load.__name__, optim, gru.__module__)")
    assert re.findall(r"fastnn[.\w]+|load", run.stdout) == [
        "fastnn.layers.recurrent.LSTM", "load", "fastnn.optim", "fastnn.functional.recurrent"]
