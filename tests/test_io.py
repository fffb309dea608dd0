"""Files are written whole or not at all, read back to the bit, and refused when damaged."""

import importlib.util
import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_layers import PlainLinear

import fastnn
from fastnn.io.state_files import _FORMATS

SUFFIXES = [".npz", ".pt"] + [".safetensors"] * (importlib.util.find_spec("safetensors") is not None)


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"net{request.param}"


def assert_same(loaded, saved):
    assert set(loaded) == set(saved)
    for name, array in saved.items():
        array, found = np.asarray(array), loaded[name]
        assert found.dtype == array.dtype.newbyteorder("=")
        assert found.dtype.isnative
        assert found.shape == array.shape
        assert found.astype(array.dtype).tobytes() == array.tobytes()
        assert found.flags.writeable


STATE = {
    "layer.weight": np.arange(6.0).reshape(2, 3),
    "single": np.float32([1.5, np.nan, np.inf, -0.0]),
    "half": np.float16([1.5]),
    "scalar": np.int64(7),
    "0-d": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "swapped": np.arange(3, dtype=">f8"),
    "swapped int": np.arange(3, dtype=">i2"),
    "strided": np.arange(12.0)[::-3],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "flags": np.array([True, False]),
    "bytes": np.arange(3, dtype=np.uint8),
    "file": np.ones(1),
    "a/../b.npy": np.ones(2),
    "été": np.ones(3),
    "": np.ones(4),
}


def test_round_trip(path):
    fastnn.save(STATE, path)
    assert_same(fastnn.load(path), STATE)
    fastnn.save({}, os.fspath(path))
    assert fastnn.load(os.fspath(path)) == {}


def test_a_model_round_trips(path):
    source, target = PlainLinear(3, 2, seed=1), PlainLinear(3, 2, seed=2)
    fastnn.save(source, path)
    target.load_state_dict(fastnn.load(path))
    assert (source.weight.data == target.weight.data).all()


OPTIMIZERS = {
    "SGD": lambda p: fastnn.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "AdamW": lambda p: fastnn.optim.AdamW(p, lr=0.01, amsgrad=True),
    "RMSprop": lambda p: fastnn.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}
SCHEDULES = {
    "StepLR": lambda o: fastnn.optim.lr_scheduler.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: fastnn.optim.lr_scheduler.MultiStepLR(o, [3, 5]),
    "ReduceLROnPlateau": lambda o: fastnn.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_resumed_goes_on_with_the_same_bits(tmp_path, kind, schedule):
    path, rng = tmp_path / "checkpoint.pt", np.random.default_rng(0)
    x, t = rng.standard_normal((6, 8, 5)).astype(np.float32), rng.integers(0, 3, (6, 8))

    def objects():
        net = fastnn.Sequential(fastnn.Linear(5, 7), fastnn.BatchNorm1d(7), fastnn.Linear(7, 3))
        optimizer = OPTIMIZERS[kind](net.parameters())
        return {"model": net, "optimizer": optimizer, "scheduler": SCHEDULES[schedule](optimizer)}

    def train(run, first, last):
        loss = fastnn.losses.CrossEntropyLoss()
        for step in range(first, last):
            value = loss(run["model"](x[step]), t[step])
            run["model"].zero_grad()
            run["model"].backward(loss.backward())
            run["optimizer"].step()
            run["scheduler"].step(value)

    whole = objects()
    train(whole, 0, 3)
    fastnn.save({name: part.state_dict() for name, part in whole.items()} | {"step": 3}, path)
    train(whole, 3, 6)
    resumed, saved = objects(), fastnn.load(path)
    for name, part in resumed.items():
        part.load_state_dict(saved[name])
    train(resumed, saved["step"], 6)
    assert_same(resumed["model"].state_dict(), whole["model"].state_dict())
    states = [run["optimizer"].state_dict() for run in (resumed, whole)]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert_same(*({key: np.asarray(value) for key, value in state["state"].items()} for state in states))
    assert resumed["scheduler"].state_dict() == whole["scheduler"].state_dict()


@pytest.mark.parametrize("path", [s for s in SUFFIXES if s != ".pt"], indirect=True)
def test_other_files_hold_arrays_alone(path):
    optimizer = fastnn.optim.Adam(fastnn.Linear(3, 2).parameters())
    for state, name in [(optimizer.state_dict(), "state"), ({"a": [{"b": 1}]}, "a"), ({"a": "text"}, "a")]:
        with pytest.raises(TypeError, match=f"save: {name} has dtype .*; nested dicts .* go into a .pt"):
            fastnn.save(state, path)
    with pytest.raises(ValueError, match=r"save: a cannot be made an array: .* go into a \.pt file"):
        fastnn.save({"a": [[1.0], [1.0, 2.0]]}, path)
    with pytest.raises(TypeError, match="save: a is a masked array, whose mask would be lost"):
        fastnn.save({"a": np.ma.zeros(3)}, path)
    assert not path.exists()


@pytest.mark.parametrize("path", [s for s in SUFFIXES if s != ".pt"], indirect=True)  # torch: test_torch_file
def test_other_programs_read_what_is_saved_and_the_reverse(path):
    state = {"weight": np.arange(3.0), "n": np.int64(2)}
    fastnn.save(state, path)
    if path.suffix == ".npz":
        with np.load(path) as archive:
            assert_same(dict(archive), state)
        np.savez_compressed(path, weight=np.arange(1000.0).reshape(10, 100).T, n=np.array(2, ">i4"))
        loaded = fastnn.load(path)
        assert (loaded["weight"] == np.arange(1000.0).reshape(10, 100).T).all()
        assert loaded["n"].dtype == np.int32
    else:
        from safetensors.numpy import load_file, save_file

        assert_same(load_file(path), state)
        save_file(state | {"n": np.array(2)}, path)
        assert_same(fastnn.load(path), state)


def test_bfloat16_is_widened(tmp_path):
    pytest.importorskip("safetensors")
    values = np.float32([1.5, -2.0, np.inf, 3.140625])
    body = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = b'{"x":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}'
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    assert fastnn.load(path)["x"].tolist() == values.reshape(2, 2).tolist()
    path.write_bytes(path.read_bytes().replace(b'"BF16","shape":[2,2]', b'"F8_E4M3","shape":[8]'))
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        fastnn.load(path)


# --- Whole or not at all


def raising(error):
    def fail(*args):
        raise error

    return fail


def test_a_failure_leaves_the_old_file_and_no_other(path, monkeypatch):
    fastnn.save({"a": np.ones(3)}, path)
    before = path.read_bytes()
    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, raising(OSError("disk full")))
            with pytest.raises(OSError, match="disk full"):
                fastnn.save({"a": np.zeros(3)}, path)
    with monkeypatch.context() as patch:
        patch.setattr(f"fastnn.io.{_FORMATS[path.suffix]}.write", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            fastnn.save({"a": np.zeros(3)}, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


KILLED = """
import os, signal, sys
import numpy as np
import fastnn
real = os.{call}
def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)
os.{call} = kill
fastnn.save({{"a": np.zeros(1000)}}, sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills by a POSIX signal")
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_killed_save_leaves_the_old_file_whole(tmp_path, call):
    path = tmp_path / "net.npz"
    fastnn.save({"a": np.ones(1000)}, path)
    result = subprocess.run([sys.executable, "-c", KILLED.format(call=call), path], check=False)
    assert result.returncode < 0
    assert fastnn.load(path)["a"].all()


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_modes_follow_the_umask_and_the_old_file(path):
    old = os.umask(0o027)
    try:
        fastnn.save(STATE, path)
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o600)
        fastnn.save(STATE, path)
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(old)


@pytest.mark.skipif(os.name == "nt", reason="POSIX links")
def test_a_link_stays_a_link(path):
    target = path.with_name(f"target{path.suffix}")
    path.symlink_to(target)
    fastnn.save(STATE, path)
    assert path.is_symlink()
    assert_same(fastnn.load(target), STATE)


# --- Refusals


def test_bad_arguments_are_named(tmp_path):
    for name in ("net.txt", "net", "net.npz.gz"):
        with pytest.raises(ValueError, match=r"expected \.npz or \.safetensors"):
            fastnn.save(STATE, tmp_path / name)
        with pytest.raises(ValueError, match=r"load: .* has the suffix"):
            fastnn.load(tmp_path / name)
    path = tmp_path / "net.npz"
    for state, error, words in [
        ([1], TypeError, "save: model is a list"),
        ({1: np.ones(1)}, TypeError, "save: 1 is a int"),
        ({"a": "text"}, TypeError, "save: a has dtype"),
        ({"a": None}, TypeError, "save: a has dtype object"),
        ({"a": 1j}, TypeError, "save: a has dtype complex128"),
        ({"a\0": 1.0}, ValueError, "null character"),
    ]:
        with pytest.raises(error, match=words):
            fastnn.save(state, path)
    with pytest.raises(TypeError, match="save: path is a int"):
        fastnn.save(STATE, 3)
    with pytest.raises(FileNotFoundError):
        fastnn.load(path)
    with pytest.raises(FileNotFoundError):
        fastnn.save(STATE, tmp_path / "nowhere" / "net.npz")
    assert os.listdir(tmp_path) == []


def test_safetensors_reserves_a_name(tmp_path):
    pytest.importorskip("safetensors")
    with pytest.raises(ValueError, match="__metadata__"):
        fastnn.save({"__metadata__": np.ones(1)}, tmp_path / "net.safetensors")


def test_a_missing_package_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = tmp_path / "net.safetensors"
    with pytest.raises(ImportError, match=r'pip install "fastnn-kernels\[safetensors\]"'):
        fastnn.save(STATE, path)
    path.write_bytes(b"")
    with pytest.raises(ImportError, match="need the safetensors package"):
        fastnn.load(path)


@pytest.mark.parametrize("length", [0, 1, 8, 100, -1])
def test_truncated_files_are_refused(path, length):
    fastnn.save(STATE, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=f"net{path.suffix} is not a whole"):
        fastnn.load(path)


@given(data=st.data())
def test_flipped_bytes_are_refused_or_harmless(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("flip") / f"net{data.draw(st.sampled_from(SUFFIXES))}"
    fastnn.save({"a": np.arange(4.0), "b": np.arange(3, dtype=np.float32)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        loaded = fastnn.load(path)
    except ValueError:
        return
    assert sum(array.nbytes for array in loaded.values()) <= len(content)


def npz(path, member, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(member, content)


def npy_header(shape, dtype="<f8"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": dtype})
    return buffer.getvalue()


def test_hostile_archives_are_refused(tmp_path):
    path = tmp_path / "net.npz"
    npz(path, "a.npy", npy_header((2**40,)))
    with pytest.raises(ValueError, match="does not hold the array"):
        fastnn.load(path)
    npz(path, "a.npy", npy_header((2**62, 2**62)))
    with pytest.raises(ValueError, match="does not hold the array"):
        fastnn.load(path)
    npz(path, "a.npy", npy_header((-1,)) + bytes(8))
    with pytest.raises(ValueError, match=r"net\.npz"):
        fastnn.load(path)
    npz(path, "a.txt", b"text")
    with pytest.raises(ValueError, match=r"a\.txt is not an array"):
        fastnn.load(path)
    np.savez(path, a=np.array([{"code": 1}], object))
    with pytest.raises(ValueError, match=r"net\.npz"):
        fastnn.load(path)
    np.savez(path, a=np.array(["text"]))
    with pytest.raises(ValueError, match=r"net\.npz"):
        fastnn.load(path)
