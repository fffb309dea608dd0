"""Threads and processes around the kernels: forks, other libraries, many callers, processors to use."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from arrays import assert_same_bits, draw

import fastnn as fn
from fastnn._kernels import processors, runtime

F = fn.functional

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
openmp = pytest.mark.skipif(not runtime.openmp_version(), reason="a serial build")

# A network of every family that cuts its work for threads, large enough to have them woken.
X = draw(4, 16, 24, 24, dtype=np.float32)
WEIGHT = draw(16, 16, 3, 3, dtype=np.float32, seed=1)
SEQUENCE = draw(20, 16, 32, dtype=np.float32, seed=2)


def compute(_=None):
    """Results of kernels that share their work among threads."""
    lstm = fn.LSTM(32, 32, rng=0)
    out, _ = lstm(SEQUENCE)
    grads = F.conv2d_backward(F.conv2d(X, WEIGHT, padding=1), X, WEIGHT, padding=1)
    return [F.conv2d(X, WEIGHT, padding=1, algorithm="direct"), F.conv2d(X, WEIGHT, padding=1), *grads,
            F.max_pool2d(X, 2), F.gelu(X), F.linear(X.reshape(4, -1), WEIGHT.reshape(1, -1).repeat(4, 1)),
            out, lstm.backward(out)]


def run(program, timeout=120, **environment):
    """Run a program in a process of its own, which has `tests` on its path; return what it printed."""
    env = {key: value for key, value in os.environ.items()
           if key not in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS")}
    path = [str(Path(__file__).parent), *filter(None, [env.get("PYTHONPATH")])]
    env |= {"PYTHONPATH": os.pathsep.join(path)} | environment
    done = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(program)], text=True,
                          capture_output=True, timeout=timeout, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# --- Processors

FILES = {
    "version 2": {
        "proc/self/cgroup": "0::/user/job\n",
        "proc/self/mountinfo": "34 25 0:29 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
        "sys/fs/cgroup/user/cpu.max": "{quota} 100000\n",
    },
    "version 2, in a container": {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "34 25 0:29 /pod7 /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
        "sys/fs/cgroup/cpu.max": "{quota} 100000\n",
    },
    "version 1": {
        "proc/self/cgroup": "5:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/\n",
        "proc/self/mountinfo": "31 28 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
        "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "{quota}\n",
        "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    },
    "version 1, in a container that sees the host's names": {
        "proc/self/cgroup": "4:cpu:/docker/0123\n",
        "proc/self/mountinfo": "31 28 0:28 /docker/0123/x /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "{quota}\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    },
}


@pytest.fixture
def eight_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
@pytest.mark.parametrize(("quota", "expected"), [
    (200000, 2), (150000, 2), (100000, 1), (1000, 1), (6400000, 8), (0, 8), ("rubbish", 8), ("", 8),
])
def test_quota_of_control_groups(tmp_path, files, quota, expected, eight_processors):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(quota=quota))
    assert processors.available(tmp_path) == expected


def test_affinity_where_there_are_no_control_groups(tmp_path, eight_processors):
    assert processors.available(tmp_path) == 8
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_bytes(b"\xff\n::\n0\n")
    (tmp_path / "proc/self/mountinfo").write_bytes(b"- - - -\n1 2 3 4 5 6 -\n\xff\n")
    assert processors.available(tmp_path) == 8


def test_processors_without_an_affinity(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors.available(tmp_path) == 1


@linux
@openmp
def test_default_number_of_threads_is_the_affinity():
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" \
              "import fastnn as fn; print(fn.get_num_threads())"
    assert run(program) == "1\n"


# --- OpenMP's own limit


@openmp
def test_threadpoolctl_sees_and_limits(threads):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    threads(2)
    if max(pool["num_threads"] for pool in threadpoolctl.threadpool_info()
           if pool["user_api"] == "openmp") < 2:
        pytest.skip("one processor: OpenMP's limit cannot be lowered")
    with threadpoolctl.threadpool_limits(1):
        assert fn.get_num_threads() == 1
        with fn.num_threads(2):
            assert fn.get_num_threads() == 1
    assert fn.get_num_threads() == 2
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert fn.get_num_threads() == 2


# --- Forks


@forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_child(threads):
    threads(2)
    expected = compute()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map_async(compute, range(4)).get(60):
            assert_same_bits(found, expected)
    assert_same_bits(compute(), expected)  # and the parent is as before


@forks
@linux
@openmp
def test_forked_child_has_threads_of_its_own():
    program = """
        import os, fastnn as fn, test_processes
        fn.set_num_threads(3)
        test_processes.compute()
        child = os.fork()
        if not child:
            assert len(os.listdir("/proc/self/task")) == 1
            test_processes.compute()
            os._exit(len(os.listdir("/proc/self/task")) > 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(program) == "1\n"


@forks
def test_prefork_server():
    """A model is loaded and warmed in the parent; workers, and workers of workers, serve it."""
    program = """
        import os, fastnn as fn, numpy as np, test_processes
        from arrays import assert_same_bits
        fn.set_num_threads(2)
        net = fn.Sequential(fn.Conv2d(16, 16, 3, padding=1), fn.Flatten(), fn.Linear(9216, 8)).eval()
        x = test_processes.X
        expected = net(x)
        def serve(depth):
            children = []
            for _ in range(2 if depth else 0):
                children.append(os.fork())
                if not children[-1]:
                    os._exit(serve(depth - 1))
            for _ in range(3):
                assert_same_bits([net(x)], [expected])
            return sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        print(serve(1), serve(2))
    """
    assert run(program) == "0 0\n"


@forks
def test_fork_from_a_thread_while_another_computes():
    program = """
        import os, threading, warnings, fastnn as fn, test_processes
        warnings.simplefilter("ignore")  # Python's own about forking beside threads: this is the test of it
        from arrays import assert_same_bits
        fn.set_num_threads(2)
        expected = test_processes.compute()
        done = threading.Event()
        def busy():
            while not done.is_set():
                test_processes.compute()
        worker = threading.Thread(target=busy)
        worker.start()
        for _ in range(5):
            child = os.fork()
            if not child:
                assert_same_bits(test_processes.compute(), expected)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        done.set()
        worker.join()
        print("done")
    """
    assert run(program) == "done\n"


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib(backend, threads):
    joblib = pytest.importorskip("joblib")
    program = f"""
        import warnings; warnings.simplefilter("ignore")
        import joblib, fastnn as fn, test_processes
        from arrays import assert_same_bits
        fn.set_num_threads(2)
        expected = test_processes.compute()
        tasks = [joblib.delayed(test_processes.compute)() for _ in range(4)]
        for found in joblib.Parallel(n_jobs=2, backend="{backend}")(tasks):
            assert_same_bits(found, expected)
        print("done")
    """
    assert joblib.__version__
    assert run(program) == "done\n"


# --- Many callers


def in_threads(count, function):
    workers = [threading.Thread(target=function) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@linux
@openmp
def test_callers_do_not_multiply_threads(threads):
    """Eight callers at once have one set of workers; each alone in turn may have one, and gives it back."""
    threads(3)
    net = fn.Conv2d(16, 16, 3, padding=1, rng=0).eval()
    expected = net(X)
    before = len(os.listdir("/proc/self/task"))
    largest = [0]

    def call():
        for _ in range(20):
            assert_same_bits([net(X)], [expected])
            largest[0] = max(largest[0], len(os.listdir("/proc/self/task")))

    in_threads(8, call)
    # The workers of the main thread, of the leader among the eight, and of one that led for a moment.
    assert largest[0] <= before + 8 + 3 * 2
    for _ in range(5):
        in_threads(1, call)
        time.sleep(0.03)
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
        time.sleep(0.01)  # threads end a moment after they are joined
    assert len(os.listdir("/proc/self/task")) <= before
    assert runtime.pools() <= 1


@pytest.mark.slow
@openmp
def test_throughput_of_many_callers(threads):
    """Eight callers together are at least as fast as one, but for the noise of a busy machine."""
    threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    net = fn.Sequential(fn.Conv2d(16, 32, 3, padding=1), fn.ReLU(), fn.Conv2d(32, 16, 3, padding=1)).eval()
    x = draw(1, 16, 56, 56, dtype=np.float32)

    def call():
        for _ in range(100):
            net(x)

    def seconds(count):
        start = time.perf_counter()
        in_threads(count, call)
        return (time.perf_counter() - start) / count

    call()
    ratios = sorted(seconds(1) / seconds(8) for _ in range(7))
    assert ratios[3] >= 0.9, ratios


@pytest.mark.slow
@linux
@openmp
@pytest.mark.skipif(processors.available() < 2, reason="one processor: nobody waits for it")
def test_idle_workers_leave_the_processor_to_numpy():
    """Calls of kernels and of NumPy's product in turn take about what they take alone, at their best.

    With GNU OpenMP's own setting, by which idle workers spin for milliseconds, in turn takes seven times as
    long. A process of its own: the setting is read once.
    """
    program = """
        import time, numpy as np, fastnn as fn
        net = fn.Conv2d(64, 64, 3, padding=1, rng=0).eval()
        x, a = np.zeros((1, 64, 28, 28), np.float32), np.zeros((512, 512), np.float32)
        def kernel(): net(x)
        def product(): a @ a
        def both(): net(x); a @ a
        def best(function):
            times = []
            for _ in range(500):
                start = time.perf_counter()
                function()
                times.append(time.perf_counter() - start)
            return sorted(times)[25]
        rounds = [[best(f) for f in (kernel, product, both)] for _ in range(3)]
        kernel, product, both = (min(times) for times in zip(*rounds))
        print(both / (kernel + product))
    """
    assert float(run(program)) < 2


# --- Other libraries in the process

OTHERS = {
    "torch": "import torch; other = lambda: torch.nn.functional.conv2d(torch.from_numpy(test_processes.X), "
             "torch.from_numpy(test_processes.WEIGHT)).numpy()",
    "onnxruntime": """import onnx, onnxruntime
        from onnx import TensorProto, helper
        value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g",
                                  [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 16, 24, 24]),
                                   helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 16, 3, 3])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 16, 22, 22])])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        other = lambda: session.run(None, {"x": test_processes.X, "w": test_processes.WEIGHT})[0]""",
    "sklearn": """from sklearn.cluster import KMeans
        points = test_processes.X.reshape(-1, 24)
        other = lambda: KMeans(4, n_init=1, random_state=0).fit(points).labels_""",
}


@pytest.mark.parametrize("library", OTHERS)
@pytest.mark.parametrize("first", ["fastnn", "other"])
def test_beside_another_library(library, first):
    """Imported before or after, used in turn: equal results, and neither is held to one thread."""
    pytest.importorskip(library, exc_type=ImportError)
    if library == "onnxruntime":
        pytest.importorskip("onnx")
    imports = ["import fastnn as fn", OTHERS[library]]
    expected = compute()
    program = f"""
        import warnings; warnings.simplefilter("ignore")
        import numpy as np
        class test_processes:
            X, WEIGHT = (np.asarray(np.random.default_rng(i).normal(size=s), np.float32)
                         for i, s in enumerate([(4, 16, 24, 24), (16, 16, 3, 3)]))
        {imports[first == "other"]}
        {imports[first != "other"]}
        if "{library}" == "torch":
            torch_threads = torch.get_num_threads()
        x, w = test_processes.X, test_processes.WEIGHT
        before = other()
        ours = [fn.functional.conv2d(x, w, padding=1) for _ in range(3)]
        for y in ours:
            np.testing.assert_array_equal(y, ours[0])
            np.testing.assert_array_equal(before, other())
        print(fn.get_num_threads(), float(np.abs(ours[0]).sum(dtype=np.float64)))
        if "{library}" == "torch":
            assert torch.get_num_threads() == torch_threads
            np.testing.assert_allclose(before, fn.functional.conv2d(x, w, algorithm="direct"), atol=1e-4)
    """
    shown, total = run(program).split()
    assert int(shown) == (processors.available() if runtime.openmp_version() else 1)
    assert float(total) == float(np.abs(expected[1]).sum(dtype=np.float64))
