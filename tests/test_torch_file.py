"""PyTorch's files: what torch writes is read, what we write torch reads, and nothing else is let in."""

import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastnn
from fastnn.io import torch_file, torch_pickle

Pair = namedtuple("Pair", "a b")

# --- Pieces of pickles

text, integer, tuple_, global_ = torch_file._text, torch_file._integer, torch_file._tuple, torch_file._global
REBUILD = global_("torch._utils._rebuild_tensor_v2")
MAPPING = global_("collections.OrderedDict")
NEW_MAPPING = MAPPING + pickle.EMPTY_TUPLE + pickle.REDUCE


def storage(kind="torch.FloatStorage", key="0", count=6, *rest):
    return (
        tuple_(text("storage"), global_(kind), text(key), text("cuda:0"), integer(count), *rest)
        + pickle.BINPERSID
    )


def tensor(offset=0, size=(2, 3), stride=(3, 1), base=None, *, function=REBUILD, extra=()):
    numbers = [integer(offset), tuple_(*map(integer, size)), tuple_(*map(integer, stride))]
    arguments = tuple_(base or storage(), *numbers, pickle.NEWFALSE, NEW_MAPPING, *extra)
    return function + arguments + pickle.REDUCE


def program(value, protocol=2):
    return pickle.PROTO + bytes([protocol]) + value + pickle.STOP


def dictionary(**values):
    return (
        pickle.EMPTY_DICT + pickle.MARK + b"".join(text(k) + v for k, v in values.items()) + pickle.SETITEMS
    )


FLOATS = np.arange(6, dtype="<f4").tobytes()


def archive(path, value, records=None, compression=zipfile.ZIP_STORED, root="archive"):
    """Write a file of today's kind."""
    with zipfile.ZipFile(path, "w", compression) as out:
        out.writestr(f"{root}/data.pkl", program(value))
        for name, content in (records or {"data/0": FLOATS}).items():
            out.writestr(f"{root}/{name}", content)


def stream(path, value, keys=None, contents=(FLOATS,), counts=(6,), little=True, version=1001, tail=b""):
    """Write a file of the kind before torch 1.6."""
    if keys is None:
        keys, contents = (("0",), contents) if b"torch\nFloatStorage" in value else ((), ())
        counts = counts[: len(keys)]
    parts = [torch_file._MAGIC, version, {"protocol_version": version, "little_endian": little}]
    data = b"".join(pickle.dumps(part, 2) for part in parts) + program(value) + pickle.dumps(list(keys), 2)
    for content, count in zip(contents, counts, strict=True):
        data += struct.pack("<q", count) + content
    path.write_bytes(data + tail)


WRITERS = {"zip": archive, "stream": stream}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.pt"


def load(path):
    """What is in the file, having measured that it did not take much more than the file has."""
    tracemalloc.start()
    try:
        return fastnn.load(path)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # The interpreter's own, and up to 200 bytes of an object for a byte that asks for one.
        assert peak < 2**18 + 250 * path.stat().st_size


# --- What is read


def test_tensors_are_views_of_their_storages(path, write):
    write(
        path,
        dictionary(
            a=tensor(),
            t=tensor(size=(3, 2), stride=(1, 3)),
            part=tensor(2, (2,), (2,)),
            scalar=tensor(5, (), ()),
            none=tensor(6, (0, 4), (4, 1)),
            old=tensor(function=global_("torch._utils._rebuild_tensor")),
        ),
    )
    state, a = load(path), np.arange(6, dtype=np.float32).reshape(2, 3)
    for name, expected in (
        ("a", a),
        ("t", a.T),
        ("part", a.ravel()[2:5:2]),
        ("scalar", a[1, 2]),
        ("none", np.empty((0, 4), np.float32)),
        ("old", a),
    ):
        np.testing.assert_array_equal(state[name], expected, strict=name != "scalar")
    state["a"][0, 0] = 9  # they share memory as they did in torch
    assert state["t"][0, 0] == 9
    assert state["scalar"].shape == ()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_containers_and_numbers_are_read_as_python_wrote_them(path, protocol):
    value = {
        "step": 7,
        "large": [2**31, 2**40, -5, 255, 256, 70000, 2**100],
        "float": 0.5,
        "text": "é" * 300,
        "none": None,
        "flags": (True, False),
        "nested": {"list": [(), (1,), (1, 2), (1, 2, 3, 4), []]},
        "bytes": b"\0\xff",
        "set": {1, "a"},
        3: "three",
        "empty": {},
        "complex": 1 + 2j,
    }
    value["again"] = value["flags"]
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("archive/data.pkl", pickle.dumps(value, protocol))
    found = load(path)
    assert found == value
    assert list(found) == list(value)


def test_ordered_dicts_parameters_and_sizes_are_plain(path, write):
    parameter = (
        global_("torch._utils._rebuild_parameter")
        + tuple_(tensor(), pickle.NEWTRUE, NEW_MAPPING)
        + pickle.REDUCE
    )
    versions = pickle.EMPTY_DICT + text("_metadata") + NEW_MAPPING + pickle.SETITEM + pickle.BUILD
    size = global_("torch.Size") + tuple_(tuple_(integer(4), integer(5))) + pickle.REDUCE
    items = pickle.MARK + text("p") + parameter + text("size") + size + pickle.SETITEMS
    write(path, NEW_MAPPING + items + versions)
    state = load(path)
    assert type(state) is dict
    assert state["size"] == (4, 5)
    np.testing.assert_array_equal(state["p"], np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("order", ["<", ">"])
def test_types_and_byte_orders(path, order):
    values = {
        "Double": np.array([1.5, -2], "f8"),
        "Half": np.array([1.5, np.inf], "f2"),
        "Long": np.array([2**40, -1], "i8"),
        "Int": np.array([2**30], "i4"),
        "Short": np.array([-300], "i2"),
        "Char": np.array([-3], "i1"),
        "Byte": np.array([200], "u1"),
        "Bool": np.array([True, False]),
        "ComplexFloat": np.array([1 + 2j], "c8"),
        "ComplexDouble": np.array([1 - 2j], "c16"),
    }
    records = {"byteorder": {"<": "little", ">": "big"}[order]}
    for name, array in values.items():
        records[f"data/{name}"] = array.astype(array.dtype.newbyteorder(order)).tobytes()
    wide = np.array([1.5, -2, np.inf, 3.140625], np.float32)
    records["data/BFloat16"] = (wide.view(np.uint32) >> 16).astype(f"{order}u2").tobytes()
    items = {
        name: tensor(0, (len(a),), (1,), storage(f"torch.{name}Storage", name, len(a)))
        for name, a in (values | {"BFloat16": wide}).items()
    }
    untyped = storage("torch.storage.UntypedStorage", "u", 6)
    items["uint16"] = tensor(
        1,
        (2,),
        (1,),
        untyped,
        function=global_("torch._utils._rebuild_tensor_v3"),
        extra=(global_("torch.uint16"),),
    )
    records["data/u"] = np.array([1, 2, 3], "<u2").tobytes()
    archive(path, dictionary(**items), records)
    state = load(path)
    for name, array in (values | {"BFloat16": wide}).items():
        np.testing.assert_array_equal(state[name], array, strict=True)
        assert state[name].dtype.isnative
    if order == "<":
        np.testing.assert_array_equal(state["uint16"], np.array([2, 3], np.uint16), strict=True)
    stream(
        path,
        dictionary(a=tensor()),
        contents=[np.arange(6, dtype=f"{order}f4").tobytes()],
        little=order == "<",
    )
    np.testing.assert_array_equal(load(path)["a"], np.arange(6).reshape(2, 3))


# --- Torch itself


def everything(torch):
    random = torch.Generator().manual_seed(0)
    kinds = (
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
        "complex64",
        "complex128",
        "uint16",
        "uint32",
        "uint64",
    )
    state = {kind: (4 * torch.randn(3, 4, generator=random)).abs().to(getattr(torch, kind)) for kind in kinds}
    base = torch.randn(4, 5, generator=random)
    state |= {
        "base": base,
        "transposed": base.T,
        "strided": base[1:, ::2],
        "row": base[2],
        "scalar": base[0, 0],
        "empty": torch.zeros(0, 3),
        "channels_last": base.reshape(1, 2, 5, 2).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(base.clone()),
    }
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    return {
        "tensors": state,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "betas": (0.9, 0.999),
        "sizes": base.shape,
    }


@pytest.mark.parametrize("zipped", [True, False], ids=WRITERS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_torch_saves_is_read(path, zipped, protocol):
    torch = pytest.importorskip("torch")
    saved = everything(torch)
    torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)

    def assert_same(found, expected):
        if isinstance(expected, torch.Tensor):
            wide = expected.detach().float() if expected.dtype == torch.bfloat16 else expected.detach()
            np.testing.assert_array_equal(found, wide.numpy(), strict=True)
            assert found.size < 2 or found.strides == wide.numpy().strides
        elif isinstance(expected, dict):
            assert list(found) == list(expected)
            for key, value in expected.items():
                assert_same(found[key], value)
        elif isinstance(expected, (list, tuple)):
            for values in zip(found, expected, strict=True):
                assert_same(*values)
        else:
            assert found == expected

    found = load(path)
    assert_same(found, saved)
    assert np.shares_memory(found["tensors"]["base"], found["tensors"]["transposed"])


@pytest.mark.parametrize("options", [{}, {"mmap": True}], ids=["read", "mapped"])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_what_we_save_torch_loads(tmp_path, suffix, options):
    torch = pytest.importorskip("torch")
    path = tmp_path / f"net{suffix}"
    state = {code: np.arange(6).reshape(2, 1, 3).astype(code) for code in "?bBhHiIqQefd"}
    state |= {
        "empty": np.zeros((0, 2, 3)),
        "scalar": np.float32(2),
        "fortran": np.asfortranarray(np.eye(3)),
        "swapped": np.arange(3, dtype=">f8"),
        "a/../b": np.ones(2),
        "été": np.ones(1),
        "": np.ones(1),
    }
    fastnn.save(state, path)
    loaded = torch.load(path, weights_only=True, **options)
    assert list(loaded) == list(state)
    for name, array in state.items():
        array = np.asarray(array)
        np.testing.assert_array_equal(
            loaded[name].numpy(), array.astype(array.dtype.newbyteorder("=")), strict=True
        )
        assert loaded[name].is_contiguous()


NESTED = {
    "epoch": 3,
    "large": [2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63, -(2**63), 2**127, -(2**127), 2**2039 - 1],
    "floats": (0.1, -0.0, float("inf"), 1e-310),
    "text": ["", "é\0" * 300],
    "none": None,
    "flags": (True, False),
    "empty": [[], (), {}, ""],
    3: {-(2**63): "three", "betas": [(0.9, 0.999)]},
    "deep": [[[[{"a": [0]}]]]],
}


def assert_nested_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list | tuple):
        for values in zip(found, expected, strict=True):
            assert_nested_same(*values)
    else:
        assert repr(found) == repr(expected)  # of the sign of zero too


def test_containers_are_read_as_they_were_saved(path):
    fastnn.save(NESTED, path)
    assert_nested_same(fastnn.load(path), NESTED)
    state = {"m": {"w": np.ones((2, 3), np.float32).T, 0: [np.float32(2), np.arange(3, dtype=">i4")]}}
    fastnn.save(state | {"n": OrderedDict(a=1), "t": Pair(1, np.zeros(0))}, path)
    found = load(path)
    np.testing.assert_array_equal(found["m"]["w"], state["m"]["w"], strict=True)
    np.testing.assert_array_equal(found["m"][0][0], np.array(2, np.float32), strict=True)
    np.testing.assert_array_equal(found["m"][0][1], np.arange(3, dtype=np.int32), strict=True)
    assert (found["n"], found["t"][0], found["t"][1].shape) == ({"a": 1}, 1, (0,))


def test_torch_loads_containers(path):
    torch = pytest.importorskip("torch")
    fastnn.save(NESTED, path)
    assert_nested_same(torch.load(path, weights_only=True), NESTED)
    net = fastnn.Linear(3, 2, rng=0)
    optimizer = fastnn.optim.Adam(net.parameters())
    optimizer.step()
    saved = {"model": net.state_dict(), "optimizer": optimizer.state_dict()}
    fastnn.save(saved, path)
    found = torch.load(path, weights_only=True)
    assert found["optimizer"]["param_groups"] == saved["optimizer"]["param_groups"]
    for part in ("weight", "bias"):
        np.testing.assert_array_equal(found["model"][part].numpy(), saved["model"][part], strict=True)
    for key, value in saved["optimizer"]["state"].items():
        np.testing.assert_array_equal(found["optimizer"]["state"][key], value)


def itself():
    value = {}
    value["a"] = [value]
    return value


def wrapped(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(("value", "error", "words"), [
    ({"a": {"b": {1, 2}}}, TypeError, r"save: a\.b has dtype object, expected numbers of at most 64 bits,"),
    ({"a": [0, 1j]}, TypeError, r"save: a\[1\] has dtype complex128"),
    ({"a": [b"x"]}, TypeError, r"save: a\[0\] has dtype"),
    ({"a": np.array(["x"])}, TypeError, r"save: a has dtype <U1"),
    ({"a": fastnn.ReLU()}, TypeError, r"save: a has dtype object, .*; save its state_dict\(\)"),
    ({"a": {(1, 2): 3}}, TypeError, r"save: \(1, 2\) is a tuple, expected a string or an integer .* in a$"),
    ({2.0: 3}, TypeError, r"save: 2\.0 is a float, expected a string or an integer of 64 bits as key$"),
    ({True: 3}, TypeError, r"save: True is a bool"),
    ({2**63: 3}, TypeError, r"save: 9223372036854775808 is a int"),
    ({"a": -(2**2039)}, ValueError, r"save: a is an integer of 2040 bits"),
    (itself(), ValueError, "nests containers more than 64 deep, or within themselves"),
    ({"a": wrapped(64)}, ValueError, "nests containers more than 64 deep"),
])
def test_what_no_file_holds_is_refused(path, value, error, words):
    with pytest.raises(error, match=words):
        fastnn.save(value, path)
    assert not path.exists()


def test_the_deepest_nest_is_read(path):
    fastnn.save({"a": wrapped(63)}, path)
    assert load(path) == {"a": wrapped(63)}


def test_a_network_goes_to_torch_and_back(path):
    torch = pytest.importorskip("torch")

    def network(nn):
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(36, 5)
        )

    ours, theirs = network(fastnn), network(torch.nn)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5)).astype(np.float32)
    ours(x)  # the statistics of a batch
    fastnn.save(ours, path)
    theirs.load_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        np.testing.assert_allclose(theirs.eval()(torch.from_numpy(x)).numpy(), ours.eval()(x), atol=1e-5)
    torch.save(theirs.state_dict(), path)
    again = network(fastnn)
    again.load_state_dict(fastnn.load(path))
    np.testing.assert_array_equal(again.eval()(x), ours(x))


# --- What is refused


def test_code_is_refused_by_name_and_not_run(path, write, tmp_path):
    proof = tmp_path / "proof"
    command = global_("os.system") + tuple_(text(f"touch {proof}")) + pickle.REDUCE
    by_stack = text("builtins") + text("eval") + pickle.STACK_GLOBAL + tuple_(text("1")) + pickle.REDUCE
    for value, name in (
        (command, r"os\.system"),
        (by_stack, r"builtins\.eval"),
        (tuple_(global_("torch.nn.modules.linear.Linear")), r"torch\.nn\.modules\.linear\.Linear"),
        (global_("numpy.core.multiarray.scalar"), r"numpy\.core\.multiarray\.scalar"),
        (global_("torch._utils._rebuild_qtensor"), r"torch\._utils\._rebuild_qtensor"),
        (global_("fastnn.io.torch_pickle._CALLABLE"), r"fastnn\.io\.torch_pickle\._CALLABLE"),
    ):
        write(path, dictionary(a=tensor(), b=value))
        with pytest.raises(ValueError, match=rf"^load: .*net\.pt asks for {name},? "):
            load(path)
    assert not proof.exists()


def test_instructions_that_nothing_needs_are_refused(path):
    known = {
        value
        for name, value in vars(pickle).items()
        if name.isupper() and isinstance(value, bytes) and len(value) == 1
    }
    others = known - set(torch_pickle._OPERATIONS) - {pickle.STOP}
    assert {
        pickle.INST,
        pickle.OBJ,
        pickle.NEWOBJ,
        pickle.NEWOBJ_EX,
        pickle.EXT1,
        pickle.PERSID,
        pickle.LONG4,
        pickle.NEXT_BUFFER,
        pickle.BYTEARRAY8,
        pickle.BINBYTES8,
        pickle.DUP,
        pickle.FROZENSET,
    } <= others
    for code in others:
        archive(path, pickle.EMPTY_TUPLE + code + b"\1\0\0\0\0\0\0\0\n\n")
        with pytest.raises(ValueError, match="has the pickle instruction"):
            load(path)


def nest(depth):
    return pickle.EMPTY_LIST * depth + pickle.APPEND * (depth - 1)


def shared(levels, width=10):
    """A list of ten times a list of ten times..."""
    value = pickle.EMPTY_LIST
    for i in range(levels):
        get = pickle.BINGET + bytes([i])
        value += (
            pickle.BINPUT
            + bytes([i])
            + pickle.POP
            + pickle.EMPTY_LIST
            + pickle.MARK
            + get * width
            + pickle.APPENDS
        )
    return value


def copied_again_and_again(call, empty):
    """A long container, and calls that each make another of it."""
    argument = (
        empty + pickle.MARK + b"".join(text(str(i)) + pickle.NONE for i in range(500)) + pickle.SETITEMS
    )
    again = b"h\1h\2\x85R"
    return global_(call) + b"q\1" + argument + b"q\2" + tuple_(*[again] * 5000)


ITSELF = pickle.EMPTY_LIST + b"q\0h\0" + pickle.APPEND
HOSTILE = {
    "a storage that is not there": ("larger than the file", tensor(base=storage(count=2**40))),
    "a storage beyond 64 bits": ("larger than the file", tensor(base=storage(count=2**62))),
    "a storage of another size": (
        "is not of the size",
        tensor(base=storage(count=5), size=(5,), stride=(1,)),
    ),
    "a negative storage": ("has -1 elements", tensor(base=storage(count=-1))),
    "a storage of no number": (
        "has 6 elements",
        tensor(
            base=tuple_(text("storage"), global_("torch.FloatStorage"), text("0"), text("cpu"), text("6"))
            + pickle.BINPERSID
        ),
    ),
    "a storage of two types": (
        "storage 0 in two ways",
        tuple_(tensor(), tensor(0, (6,), (1,), storage("torch.IntStorage"))),
    ),
    "a storage by a path": (
        "no record data/|storages are not those",
        tensor(base=storage(key="../../../etc/passwd")),
    ),
    "a tensor past its storage": ("not within its storage", tensor(size=(2, 4), stride=(3, 1))),
    "a tensor after its storage": ("not within its storage", tensor(6, (1,), (1,))),
    "a tensor far away": ("not within its storage", tensor(2**62, (1,), (1,))),
    "a tensor of strides far away": ("not within its storage", tensor(0, (2,), (2**62,))),
    "a tensor before its storage": ("has offset -1", tensor(-1, (1,), (1,))),
    "a tensor of negative strides": ("stride .-1,", tensor(5, (6,), (-1,))),
    "a tensor of a negative size": ("size .-1,", tensor(0, (-1,), (1,))),
    "a tensor that repeats its storage": (
        "not within its storage",
        tensor(0, (2**31 - 1, 2**31 - 1), (0, 0)),
    ),
    "a tensor of too many dimensions": ("dimensions", tensor(0, (1,) * 100, (1,) * 100)),
    "sizes and strides that do not go together": ("stride .3,", tensor(0, (2, 3), (3,))),
    "a size that is no tuple": (
        "size 23",
        REBUILD + tuple_(storage(), integer(0), text("23"), tuple_()) + pickle.REDUCE,
    ),
    "a tensor on no storage": ("has no storage", tensor(base=text("0"))),
    "a tensor of text": (
        "of an unknown type",
        tensor(function=global_("torch._utils._rebuild_tensor_v3"), extra=(text("f4"),)),
    ),
    "a tensor of no arguments": ("missing", REBUILD + pickle.EMPTY_TUPLE + pickle.REDUCE),
    "a conjugate tensor": ("marked as conjugate", tensor(extra=(dictionary(conj=pickle.NEWTRUE),))),
    "a view of a storage": (
        "views of storages",
        tensor(base=storage("torch.FloatStorage", "0", 6, tuple_(text("1"), integer(0)))),
    ),
    "a module in the storages": ("unpack", tuple_(text("module"), pickle.NONE) + pickle.BINPERSID),
    "a bare storage": ("holds Storage", storage()),
    "a bare type": ("holds uint16", dictionary(a=global_("torch.uint16"))),
    "a bare function": ("holds torch", dictionary(a=REBUILD)),
    "a call of a container": ("calls a list", pickle.EMPTY_LIST + pickle.EMPTY_TUPLE + pickle.REDUCE),
    "attributes of a list": ("attributes of a list", pickle.EMPTY_LIST + pickle.EMPTY_DICT + pickle.BUILD),
    "items of a list": ("items of a list", pickle.EMPTY_LIST + integer(0) + integer(0) + pickle.SETITEM),
    "an element of a dict": ("appends to a dict", pickle.EMPTY_DICT + integer(0) + pickle.APPEND),
    "a key without a value": ("shorter", pickle.EMPTY_DICT + pickle.MARK + text("a") + pickle.SETITEMS),
    "a key that is a tuple": (
        "has a tuple as key",
        pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + pickle.NONE + pickle.SETITEM,
    ),
    "a key of a thousand bits": (
        "has a int as key",
        pickle.EMPTY_DICT + pickle.LONG1 + b"\xff" + b"\1" * 255 + pickle.NONE + pickle.SETITEM,
    ),
    "an element of a set that is a list": (
        "has a list as key",
        pickle.EMPTY_SET + pickle.MARK + pickle.EMPTY_LIST + pickle.ADDITEMS,
    ),
    "a mapping of an array": ("made from a ndarray", MAPPING + tuple_(tensor()) + pickle.REDUCE),
    "a size of an array": ("a size is no tuple", global_("torch.Size") + tuple_(tensor()) + pickle.REDUCE),
    "text that is longer than the file": (
        "before the 4294967295 bytes",
        pickle.BINUNICODE + b"\xff\xff\xff\xff",
    ),
    "bytes that are longer than the file": (
        "before the 4294967295 bytes",
        pickle.BINBYTES + b"\xff\xff\xff\xff",
    ),
    "text of 8 exabytes": (
        "before the 9223372036854775807 bytes",
        pickle.BINUNICODE8 + b"\xff" * 7 + b"\x7f",
    ),
    "text of a negative length": ("before the -1 bytes", pickle.BINSTRING + b"\xff\xff\xff\xff"),
    "a name without an end": ("a name in it does not end", pickle.GLOBAL + b"a" * 1000),
    "an empty stack": ("empty list", pickle.POP),
    "two values": ("too many values", pickle.NONE * 2),
    "a mark without a stack": ("empty list", pickle.TUPLE),
    "a memo without a value": ("has not put, 7", pickle.BINGET + b"\7"),
    "a short tuple": ("a tuple in it is short", pickle.NONE + pickle.TUPLE3),
    "lists in lists": ("64 deep", nest(100_000)),
    "a list in itself": ("within themselves", ITSELF),
    "a dict in itself": (
        "within themselves",
        pickle.EMPTY_DICT + b"q\0" + text("a") + b"h\0" + pickle.SETITEM,
    ),
    "ten to the fifty elements": ("shares containers without end", shared(50)),
    "copies of a dict": (
        "copies containers without end",
        copied_again_and_again("collections.OrderedDict", pickle.EMPTY_DICT),
    ),
    "bytes in another encoding": (
        "encoded by 'rot13'",
        global_("_codecs.encode") + tuple_(text("a"), text("rot13")) + pickle.REDUCE,
    ),
}


@pytest.mark.parametrize(("words", "value"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused(path, write, words, value):
    write(path, value)
    with pytest.raises(ValueError, match=rf"^load: .*net\.pt .*({words})"):
        load(path)


def test_harmless_oddities_are_read(path):
    # A memo's number is a key, not the size of an array; a frame's length is of no interest.
    archive(path, pickle.NONE + pickle.LONG_BINPUT + b"\xff" * 4)
    assert load(path) is None
    archive(path, pickle.FRAME + b"\xff" * 8 + nest(60))
    assert str(load(path)) == "[" * 60 + "]" * 60
    archive(path, tensor(3, (1, 1, 3), (2**60, 77, 1)))  # a dimension of one element takes no step
    np.testing.assert_array_equal(load(path), [[[3, 4, 5]]])


def test_archives_that_torch_did_not_write_are_refused(path):
    value = dictionary(a=tensor())
    for words, records, options in (
        ("is a TorchScript program", {"data/0": FLOATS, "constants.pkl": b""}, {}),
        ("is compressed", None, {"compression": zipfile.ZIP_DEFLATED}),
        ("no data.pkl", None, {"root": "a/b"}),
        ("no data.pkl", None, {"root": "../.."}),
        ("byte order", {"data/0": FLOATS, "byteorder": b"middle"}, {}),
        ("data/0", {"data/1": FLOATS}, {}),
        ("not of the size", {"data/0": FLOATS + b"\0"}, {}),
        ("not of the size", {"data/0": b""}, {}),
    ):
        archive(path, value, records, **options)
        with pytest.raises(ValueError, match=words):
            load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(10**8))
    with pytest.raises(ValueError, match="is compressed"):
        load(path)
    archive(path, value)
    damaged = path.read_bytes().replace(FLOATS, b"\1" + FLOATS[1:])
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="Bad CRC"):
        load(path)


def test_records_that_overlap_are_refused(path):
    # A thousand names of one record: each tensor would take the memory of all of the file.
    buffer = io.BytesIO()
    content = bytes(40_000)
    with zipfile.ZipFile(buffer, "w") as out:
        items = [tensor(0, (10_000,), (1,), storage(key=str(i), count=10_000)) for i in range(1000)]
        out.writestr("archive/data.pkl", program(tuple_(*items)))
        out.writestr("archive/data/0", content)
        for i in range(1, 1000):
            info = out.getinfo("archive/data/0")
            copy = zipfile.ZipInfo(f"archive/data/{i}")
            copy.header_offset, copy.CRC = info.header_offset, info.CRC
            copy.file_size = copy.compress_size = info.file_size
            out.filelist.append(copy)
            out.NameToInfo[copy.filename] = copy
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="larger than the file"):
        load(path)


def test_streams_that_torch_did_not_write_are_refused(path):
    value = dictionary(a=tensor())
    for words, options in (
        ("version 1000, which is unknown", {"version": 1000}),
        ("not those of its tensors", {"keys": ["0", "1"]}),
        ("not those of its tensors", {"keys": []}),
        ("not of the size", {"counts": [5]}),
        ("not of the size", {"counts": [2**62]}),
        ("ends before", {"contents": [FLOATS[:-1]]}),
        ("goes on", {"tail": b"\0"}),
    ):
        stream(path, value, **options)
        with pytest.raises(ValueError, match=words):
            load(path)
    path.write_bytes(bytes(257) + b"ustar\0" + bytes(1000))
    with pytest.raises(ValueError, match=r"is a tar archive, as torch wrote them before"):
        load(path)
    for content in (
        b"",
        b"text",
        pickle.dumps({"a": 1}),
        pickle.dumps(7, 2),
        b"PK\3\4",
        b"PK\3\4" + bytes(100),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^load: .*net\.pt"):
            load(path)


# --- Damage


def sample(path, write):
    write(path, dictionary(a=tensor(), b=tensor(1, (2,), (2,)), c=tuple_(integer(3), nest(3), text("text"))))
    return path.read_bytes()


def test_every_truncation_is_refused(path, write):
    content = sample(path, write)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"^load: .*net\.pt"):
            fastnn.load(path)


def test_every_flip_of_a_bit_is_refused_or_harmless(path, write):
    content = sample(path, write)
    for at in range(len(content)):
        for bit in (1, 8, 128):
            path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
            with contextlib.suppress(ValueError):
                load(path)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*torch_pickle._OPERATIONS, REBUILD, storage(), tensor(), integer(2), b"\0", b"\1"]),
        max_size=40,
    )
)
@example([pickle.MARK, pickle.NONE, pickle.MARK, pickle.TUPLE, pickle.POP_MARK])
def test_any_sequence_of_instructions_is_read_or_refused(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("pieces") / "net.pt"
    archive(path, b"".join(pieces))
    with contextlib.suppress(ValueError):
        load(path)


def test_writing_is_reproducible(path):
    fastnn.save({"a": np.arange(3.0)}, path)
    content = path.read_bytes()
    os.utime(path, (0, 0))
    fastnn.save({"a": np.arange(3.0)}, path)
    assert path.read_bytes() == content
