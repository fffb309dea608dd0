"""``python -m fastnn``: what it writes and prints, and how it refuses."""

import contextlib
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from arrays import draw

import fastnn as fn

pytest.importorskip("onnx")

from fastnn import cli
from fastnn.cli.progress import progress


def command(*arguments, folder, status=0, **environment):
    """Run a command line; return its output, or of a refusal its one line of error."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastnn", *map(str, arguments)], cwd=folder, text=True,
        encoding="utf-8", capture_output=True, timeout=120, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment})
    assert run.returncode == status, run.stderr
    assert "Traceback" not in run.stderr
    if not status:
        return run.stdout + run.stderr
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    return line


def made(seed):
    return fn.Sequential(fn.Conv2d(3, 8, 3, padding=1, activation="relu", rng=seed), fn.MaxPool2d(2),
                         fn.GlobalAvgPool2d(), fn.Flatten(), fn.Linear(8, 5, rng=seed)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with models and arrays; tests write other files into it."""
    path = tmp_path_factory.mktemp("models")
    fn.onnx.save(made(0), path / "net.onnx")
    fn.onnx.save(fn.LSTM(4, 3, rng=0), path / "lstm.onnx", ("time", 2, 4))
    fn.onnx.save(fn.Conv2d(3, 8, 3, rng=0), path / "fixed.onnx", ("batch", 3, 10, 12))
    fn.save(made(0), path / "net.npz")
    np.save(path / "x.npy", draw(2, 3, 8, 8, dtype=np.float32))
    np.save(path / "sequence.npy", draw(7, 2, 4, dtype=np.float32))
    np.save(path / "double.npy", draw(2, 3, 8, 8))
    np.save(path / "gray.npy", draw(2, 1, 8, 8, dtype=np.float32))
    np.savez(path / "x.npz", input=np.load(path / "x.npy"))
    np.save(path / "object.npy", np.array([{}], object), allow_pickle=True)
    (path / "not.onnx").write_text("no model")
    (path / "not.npy").write_text("no array")
    (path / "short.npy").write_bytes((path / "x.npy").read_bytes()[:-1])
    (path / "cut.onnx").write_bytes((path / "net.onnx").read_bytes()[:-40])
    return path


# --- run


@pytest.mark.parametrize("given", ["x.npy", "input=x.npy", "x.npz"])
def test_run_writes_what_the_network_gives(folder, given):
    out = command("run", "net.onnx", "--input", given, "--output", "y.npy", folder=folder)
    assert out == "output float32 (2, 5) -> y.npy\n"
    y = np.load(folder / "y.npy")
    np.testing.assert_allclose(y, made(0)(np.load(folder / "x.npy")), rtol=0, atol=1e-6)


def test_run_writes_several_outputs_by_name(folder):
    out = command("run", "lstm.onnx", "--input", "sequence.npy", "--output", "y.npz", "--threads", 1,
                  folder=folder)
    assert out.splitlines()[1] == "h_n float32 (1, 2, 3) -> y.npz"
    output, (h, c) = fn.LSTM(4, 3, rng=0).eval()(np.load(folder / "sequence.npy"))
    found = fn.load(folder / "y.npz")
    for name, expected in (("output", output), ("h_n", h), ("c_n", c)):
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6)


# --- info


def test_info_of_a_model(folder):
    out = command("info", "net.onnx", "--shape", "2,3,8,8", folder=folder)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if "/" in line}
    # Multiply-adds: an output pixel of 8 channels takes 3 * 3 * 3 each, and so on.
    assert rows["0/Conv"] == ["Conv", "2x8x8x8", str(8 * 27 + 8), "27.6k"]
    assert rows["1/MaxPool"] == ["MaxPool", "2x8x4x4", "0", "0"]
    assert rows["4/Gemm"] == ["Gemm", "2x5", str(8 * 5 + 5), str(2 * 8 * 5)]
    assert "takes input float32 (batch, 3, height, width)\ngives output float32 (batch, 5)\n" in out
    assert f"{8 * 27 + 8 + 8 * 5 + 5} parameters, 27.7k multiply-adds for input 2x3x8x8" in out
    # The output of the convolution and that of its activation.
    assert "at most 8.0 KiB of inputs and results" in out
    assert 2 * 4 * 2 * 8 * 8 * 8 == 8 * 1024
    lstm = command("info", "lstm.onnx", "--shape", "input=7,2,4", folder=folder)
    assert re.search(rf"LSTM +LSTM .* {12 * (4 + 3) + 24} +{count(7 * 2 * 12 * (4 + 3))}\n", lstm)


def count(number):
    return f"{number / 1000:.3g}k"


def test_info_without_sizes_says_what_it_can(folder):
    out = command("info", "net.onnx", folder=folder)
    assert re.search(r"0/Conv +Conv +224\n", out)
    assert "sizes of an input are free, give them by --shape: input float32 (batch, 3, height, width)" in out
    assert "1x8x8x10" in command("info", "fixed.onnx", folder=folder), "one sample where the batch is free"


def test_info_of_weights(folder):
    out = command("info", "net.npz", folder=folder)
    assert re.search(r"0\.weight +float32 +8x3x3x3 +864 B\n", out)
    assert f"4 tensors, {8 * 27 + 8 + 8 * 5 + 5} numbers" in out
    state = {"model": {"w": np.ones((2, 3))}}
    fn.save(state["model"], folder / "w.pt")
    assert re.search(r"w +float64 +2x3 +48 B\n", command("info", "w.pt", folder=folder))


# --- bench


def test_bench_shows_where_the_time_goes(folder):
    out = command("bench", "net.onnx", "--shape", "1x3x32x32", "--seconds", 0.05, "--threads", 1,
                  folder=folder)
    assert "net.onnx, input 1x3x32x32; 1 threads, median of " in out
    layers, operators = out.split("where the time goes")
    shares = [float(share) for share in re.findall(r"(\d+\.\d)%", layers)]
    assert len(shares) == 4, "flattening takes no step, the activation is the convolution's"
    assert re.search(r"0/Conv \+ 0/\S+ +Conv Relu +1x8x32x32 ", layers)
    assert abs(sum(shares) - 100) < 1
    ordered = [float(share) for share in re.findall(r"(\d+\.\d)%", operators)]
    assert ordered == sorted(ordered, reverse=True)
    assert re.search(r"Conv Relu +\d+\.\d% +█+", operators)
    assert re.search(r"a call: [\d.e+]+ (us|ms|s) \(", operators)
    assert "measuring" not in out, "no bar for less than a second"


def test_bench_of_nodes_as_the_file_has_them(folder):
    out = command("bench", "net.onnx", "--shape", "1,3,8,8", "--seconds", 0.01, "--unfrozen", folder=folder)
    layers, operators = out.split("where the time goes")
    assert len(re.findall(r"\d+\.\d%", layers)) == 7
    assert re.search(r"\nConv +\d+\.\d% ", operators)


def test_there_is_a_bar_after_a_second(capsys, monkeypatch):
    """Also while one piece takes long; and when all is done, it is gone."""
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("running", 2, "node") as done:
        time.sleep(0.1)
        done()
        assert "running" not in capsys.readouterr().err
        time.sleep(1.5)
        assert re.search(r"\rrunning: +50%\|.*1/2 ", capsys.readouterr().err)
    assert re.search(r"\r +\r$", capsys.readouterr().err)


def test_there_is_no_bar_in_a_file_or_a_pipe(capsys):
    pytest.importorskip("tqdm")
    with progress("running", 1, "node") as done:
        time.sleep(1.5)
        done()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("arguments", "bars"), [
    ("run net.onnx --input x.npy --output y.npy", {"reading", "freezing", "running"}),
    ("info net.onnx --shape 2,3,8,8", {"reading", "running"}),
    ("info net.npz", {"reading"}),
    ("bench net.onnx --shape 1,3,8,8 --seconds 0.01",
     {"reading", "running", "freezing", "preparing", "measuring"}),
])
def test_all_that_may_take_long_has_a_bar(folder, monkeypatch, capsys, arguments, bars):
    shown = []

    @contextlib.contextmanager
    def recorded(label, total, unit):
        shown.append([label, total, 0])

        def done():
            shown[-1][2] += 1

        yield done

    monkeypatch.chdir(folder)
    for module in (cli.run, cli.info, cli.bench):
        monkeypatch.setattr(module, "progress", recorded)
    assert cli.main(arguments.split()) == 0
    assert {label for label, _, _ in shown} == bars
    for label, total, done in shown:
        assert done == total or label in ("reading", "freezing"), label


def test_bench_in_ascii_and_with_a_picture(folder):
    pytest.importorskip("matplotlib")
    out = command("bench", "fixed.onnx", "--seconds", 0.01, "--chart", "chart.svg", folder=folder,
                  PYTHONIOENCODING="ascii")
    assert re.search(r"Conv +\d+\.\d% +#+", out)
    assert (folder / "chart.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


# --- Refusals: one line, and a status


@pytest.mark.parametrize(("arguments", "words"), [
    ("info nothing.onnx", "fastnn info: nothing.onnx: No such file or directory"),
    ("info .", "fastnn info: .*: Is a directory"),
    ("info not.onnx", "fastnn info: onnx.load: not.onnx is not an ONNX model"),
    ("info cut.onnx", "fastnn info: .*cut.onnx"),
    ("info net.onnx --shape 1,a", "fastnn info: --shape 1,a: '1,a' is not a shape"),
    ("info net.onnx --shape 1,-3,8,8", "sizes are at least 0"),
    ("info net.onnx --shape image=1,3,8,8", "there is no input 'image'; the model takes input float32"),
    ("info net.onnx --shape 1,4,8,8", r"input 'input' has shape \(1, 4, 8, 8\), expected \(batch, 3, height"),
    ("info net.onnx --threads 0", "fastnn info: .*threads"),
    ("bench net.onnx", "sizes of an input are free, give them by --shape: input float32"),
    ("bench net.npz", "fastnn bench: .*net.npz is not an ONNX model"),
    ("bench fixed.onnx --seconds 0", "--seconds 0.0: expected a number above 0"),
    ("bench fixed.onnx --chart chart.txt", "ends in .png, .svg or .pdf"),
    ("bench fixed.onnx --chart nowhere/chart.png", "there is no folder .*nowhere"),
    ("run net.onnx --input nothing.npy --output z.npy", "fastnn run: nothing.npy: No such file or directory"),
    ("run net.onnx --input not.npy --output z.npy", "fastnn run: not.npy is not an .npy file"),
    ("run net.onnx --input short.npy --output z.npy", "short.npy is not a whole .npy file"),
    ("run net.onnx --input object.npy --output z.npy", "object.npy is not a whole .npy file of numbers"),
    ("run net.onnx --input double.npy --output z.npy", "'input' has dtype float64, expected float32"),
    ("run net.onnx --input gray.npy --output z.npy", r"has shape \(2, 1, 8, 8\), expected \(batch, 3"),
    ("run net.onnx --input image=x.npy --output z.npy", "no input 'image'; input 'input' is missing; the"),
    ("run net.onnx --input x.npy --input x.npy --output z.npy", "x.npy is one array too many"),
    ("run net.onnx --input net.npz --output z.npy", "there is no input '0.weight'"),
    ("run net.onnx --input x.npy --output z.txt", "expected a name that ends in .npy or .npz"),
    ("run net.onnx --input x.npy --output nowhere/z.npy", "there is no folder .*nowhere"),
    ("run lstm.onnx --input sequence.npy --output z.npy", "several outputs .*go to an .npz file"),
])
def test_errors_are_one_clear_line(folder, arguments, words):
    assert re.search(words, command(*arguments.split(), folder=folder, status=1))
    assert not list(folder.glob("z.*"))


def test_a_wrong_command_line_is_status_2(folder):
    for arguments in ((), ("walk",), ("run", "net.onnx"), ("bench", "net.onnx", "--seconds", "soon")):
        run = subprocess.run([sys.executable, "-m", "fastnn", *arguments], cwd=folder, text=True,
                             capture_output=True, check=False)
        assert run.returncode == 2
        assert run.stderr.startswith("usage: python -m fastnn")


def test_an_output_that_nobody_reads_is_no_error(folder):
    program = subprocess.Popen([sys.executable, "-m", "fastnn", "info", "net.onnx"], cwd=folder, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    program.stdout.close()
    assert program.stderr.read() == ""
    program.stderr.close()
    assert program.wait(60) == 1


def test_version_and_help(folder):
    assert command("--version", folder=folder) == f"fastnn {fn.__version__}\n"
    out = command("--help", folder=folder)
    assert all(re.search(rf"\n +{name} ", out) for name in ("run", "info", "bench"))
