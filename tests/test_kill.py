"""A save that is killed at any moment leaves the old file or the new one, whole."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastnn as fn

SAVES = """
import itertools, sys
import numpy as np
import fastnn as fn
for i in itertools.count(1):
    fn.save({"a": np.full(200_000, i, np.float32), "b": np.full(1000, i, np.float64)}, sys.argv[1])
    if i == 1:
        print("saved once", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills by a POSIX signal")
@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_killed_at_any_moment(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"net{suffix}"
    fn.save({"a": np.zeros(200_000, np.float32), "b": np.zeros(1000)}, path)
    for delay in np.random.default_rng(0).uniform(0, 0.05, 4):
        saver = subprocess.Popen([sys.executable, "-c", SAVES, path], stdout=subprocess.PIPE)
        saver.stdout.readline()
        time.sleep(delay)
        os.kill(saver.pid, signal.SIGKILL)
        saver.communicate()
        found = fn.load(path)
        (number,) = {*np.unique(found["a"]), *np.unique(found["b"])}
        assert found["a"].shape == (200_000,)
        assert number >= 1
