"""Fixtures of all tests: dtypes, instruction sets, numbers of threads, Ctrl-C."""

import signal

import numpy as np
import pytest

from fastnn._kernels import runtime


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    """Each dtype that the package computes in."""
    return request.param


@pytest.fixture(params=runtime.available_isas())
def isa(request):
    """Run the test on each instruction set that the build and this processor share."""
    before = runtime.get_isa()
    runtime.set_isa(request.param)
    yield request.param
    runtime.set_isa(before)


@pytest.fixture
def threads():
    """`set_num_threads`, undone after the test."""
    before = runtime.get_num_threads()
    yield runtime.set_num_threads
    runtime.set_num_threads(before)


@pytest.fixture
def interrupts_are_heard():
    """Ctrl-C raises KeyboardInterrupt, also where a shell started this process in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
