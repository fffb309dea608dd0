"""The pickles in PyTorch files, for a machine that builds tensors, containers and numbers and runs no code.

A pickle is a program for a stack machine.  Python's own machine imports and calls whatever the program names;
this one knows the instructions and the names of a table, and refuses the rest by name.  What it allocates is
bounded by the bytes it has read: lengths are compared with what is left of the file, a memo is a dict and not
an array that the file may size, keys are strings and integers of 64 bits, whose hashes cannot be made to
collide.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from . import torch_tensors
from .refusal import Refusal

MAX_DEPTH = 64  # of containers in containers; a checkpoint has five
_MAX_STEPS = 10_000_000
_MAX_LINE = 256


class Global(NamedTuple):
    """Something that a pickle calls by the name of a Python global."""

    name: str
    call: Callable[..., Any]


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *unused: Any) -> np.ndarray:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata)."""
    if len(unused) > 2 and unused[2]:
        raise Refusal("has a tensor that is marked as conjugate or negative")
    return torch_tensors.view(storage, offset, size, stride)


def _tensor_of_type(storage: Any, offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any,
                    dtype: Any, *metadata: Any) -> np.ndarray:
    """torch._utils._rebuild_tensor_v3, for types that have no storage class."""
    if any(metadata):
        raise Refusal("has a tensor that is marked as conjugate or negative")
    return torch_tensors.view(storage, offset, size, stride, dtype)


def _parameter(tensor: Any, *unused: Any) -> np.ndarray:
    if not isinstance(tensor, np.ndarray):
        raise ValueError("a parameter is no tensor")
    return tensor


def _size(numbers: Any) -> tuple[Any, ...]:
    if not isinstance(numbers, tuple):
        raise ValueError("a size is no tuple")
    return numbers


def _mapping(items: Any = ()) -> dict[Any, Any]:
    if not isinstance(items, (dict, list, tuple)):
        raise ValueError(f"a mapping is made from a {type(items).__name__}")
    result: dict[Any, Any] = {}
    for key, value in items.items() if isinstance(items, dict) else items:
        _set_item(result, key, value)
    return result


def _set(items: Any) -> set[Any]:
    if not isinstance(items, (list, tuple)):
        raise ValueError(f"a set is made from a {type(items).__name__}")
    return set(_mapping([(item, None) for item in items]))


def _complex(real: float, imag: float) -> complex:
    return complex(real, imag)


def _encode(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError(f"bytes are encoded by {encoding!r}")
    return text.encode("latin1")


_CALLABLE = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _size,
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "_codecs.encode": _encode,
} | {
    f"{module}.{name}": call
    for module in ("builtins", "__builtin__")
    for name, call in (("set", _set), ("complex", _complex))
}
_GLOBALS: dict[str, Any] = (
    {name: Global(name, call) for name, call in _CALLABLE.items()}
    | torch_tensors.STORAGES
    | torch_tensors.DTYPES
)


class Source:
    """A file of which no more can be read than there is."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._size, self.left = file, size, size

    @property
    def taken(self) -> int:
        return self._size - self.left

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise EOFError(f"it ends before the {count} bytes that it announces")
        data = self._file.read(count)
        if len(data) != count:
            raise EOFError("it ends early")
        self.left -= count
        return data

    def readinto(self, buffer: Any) -> int:
        count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self.left -= count
        return count

    def line(self) -> str:
        data = self._file.readline(min(self.left, _MAX_LINE))
        self.left -= len(data)
        if data[-1:] != b"\n":
            raise ValueError("a name in it does not end")
        return data[:-1].decode("utf-8")

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]


def load(source: Source, storage: Callable[..., Any]) -> Any:
    """Run the next pickle of `source` and return what it builds.

    Parameters
    ----------
    source : Source
    storage : callable
        From (StorageType, key, number of elements) to a Storage.
    """
    machine = _Machine(source, storage)
    result = machine.run()
    _check_nest(result, machine.steps)
    return result


class _Machine:
    """The stack, the marks in it and the memo."""

    def __init__(self, source: Source, storage: Callable[..., Any]):
        self.source, self.storage = source, storage
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the marks
        self.memo: dict[int, Any] = {}
        self.steps = 0
        self.copied = 0

    def run(self) -> Any:
        while (code := self.source.read(1)) != pickle.STOP:
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise Refusal(f"has the pickle instruction {code!r}, which tensors, containers and numbers "
                              "do not need")
            operation(self)
            self.steps += 1
            if self.steps > _MAX_STEPS:
                raise Refusal(f"has a pickle of more than {_MAX_STEPS} instructions")
        (result,) = self.stack
        return result

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def push_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("a tuple in it is short")
        items = self.stack[len(self.stack) - count :]
        self.stack[len(self.stack) - count :] = [tuple(items)]

    def push_tuple_since_mark(self) -> None:
        items = self.since_mark()
        self.stack.append(tuple(items))

    def long(self) -> None:
        data = self.source.read(self.source.number("<B"))
        self.stack.append(int.from_bytes(data, "little", signed=True))

    def text(self, length: str) -> None:
        self.stack.append(self.source.read(self.source.number(length)).decode("utf-8", "surrogatepass"))

    def data(self, length: str) -> None:
        self.stack.append(self.source.read(self.source.number(length)))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError(f"it gets what it has not put, {index}")
        self.stack.append(self.memo[index])

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError(f"it appends to a {type(target).__name__}")
        target.extend(items)

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, set):
            raise ValueError(f"it adds to a {type(target).__name__}")
        target.update(_set(items))

    def set_items(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set_item(self.stack[-1], key, value)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set_item(self.stack[-1], key, value)

    def push_global(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}"
        if full not in _GLOBALS:
            raise Refusal(f"asks for {full}, and only tensors, containers and numbers are read; "
                          "save the state_dict() of a module, not the module")
        self.stack.append(_GLOBALS[full])

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.push_global(module, name)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise ValueError(f"it calls a {type(function).__name__}")
        # What calls are given took a byte an element to write, unless it is one list given again and again.
        self.copied += sum(len(a) for a in arguments if isinstance(a, (str, tuple, list, dict)))
        if self.copied > self.source.taken:
            raise Refusal("copies containers without end")
        self.stack.append(function.call(*arguments))

    def build(self) -> None:
        self.stack.pop()  # the attributes of an OrderedDict: version numbers, which nothing here reads
        if not isinstance(self.stack[-1], dict):
            raise ValueError(f"it sets attributes of a {type(self.stack[-1]).__name__}")

    def persistent(self) -> None:
        kind, storage_type, key, _, count, *rest = self.stack.pop()
        if kind != "storage" or not isinstance(storage_type, torch_tensors.StorageType):
            raise ValueError(f"it refers to a {kind!r}")
        if any(part is not None for part in rest):
            raise Refusal("has views of storages, as torch wrote them before version 0.4")
        if type(count) is not int or count < 0:
            raise ValueError(f"a storage has {count} elements")
        self.stack.append(self.storage(storage_type, str(key), count))


def _set_item(target: Any, key: Any, value: Any) -> None:
    if not isinstance(target, dict):
        raise ValueError(f"it sets items of a {type(target).__name__}")
    if not (type(key) is str or (type(key) is int and -(2**63) <= key < 2**63)):
        raise Refusal(f"has a {type(key).__name__} as key, and keys are strings and integers")
    target[key] = value


def _pushing(value: Any) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(value)


def _pushing_new(kind: type) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(kind())


def _pushing_number(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(m.source.number(form))


_OPERATIONS: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.PROTO: lambda m: m.source.read(1),
    pickle.FRAME: lambda m: m.source.read(8),
    pickle.MARK: _Machine.mark,
    pickle.POP: lambda m: m.stack.pop(),
    pickle.POP_MARK: _Machine.since_mark,
    # Values
    pickle.NONE: _pushing(None),
    pickle.NEWTRUE: _pushing(True),
    pickle.NEWFALSE: _pushing(False),
    pickle.BININT: _pushing_number("<i"),
    pickle.BININT1: _pushing_number("<B"),
    pickle.BININT2: _pushing_number("<H"),
    pickle.BINFLOAT: _pushing_number(">d"),
    pickle.LONG1: _Machine.long,
    pickle.BINUNICODE: lambda m: m.text("<I"),
    pickle.SHORT_BINUNICODE: lambda m: m.text("<B"),
    pickle.BINUNICODE8: lambda m: m.text("<Q"),
    pickle.BINSTRING: lambda m: m.text("<i"),  # of Python 2, as the next
    pickle.SHORT_BINSTRING: lambda m: m.text("<B"),
    pickle.BINBYTES: lambda m: m.data("<I"),
    pickle.SHORT_BINBYTES: lambda m: m.data("<B"),
    # Containers
    pickle.EMPTY_TUPLE: _pushing(()),
    pickle.EMPTY_LIST: _pushing_new(list),
    pickle.EMPTY_DICT: _pushing_new(dict),
    pickle.EMPTY_SET: _pushing_new(set),
    pickle.TUPLE: _Machine.push_tuple_since_mark,
    pickle.TUPLE1: lambda m: m.push_tuple(1),
    pickle.TUPLE2: lambda m: m.push_tuple(2),
    pickle.TUPLE3: lambda m: m.push_tuple(3),
    pickle.APPEND: lambda m: m.extend([m.stack.pop()]),
    pickle.APPENDS: lambda m: m.extend(m.since_mark()),
    pickle.ADDITEMS: lambda m: m.add(m.since_mark()),
    pickle.SETITEM: _Machine.set_item,
    pickle.SETITEMS: lambda m: m.set_items(m.since_mark()),
    # The memo
    pickle.BINPUT: lambda m: m.put(m.source.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.put(m.source.number("<I")),
    pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
    pickle.BINGET: lambda m: m.get(m.source.number("<B")),
    pickle.LONG_BINGET: lambda m: m.get(m.source.number("<I")),
    # What the table knows
    pickle.GLOBAL: lambda m: m.push_global(m.source.line(), m.source.line()),
    pickle.STACK_GLOBAL: _Machine.stack_global,
    pickle.REDUCE: _Machine.reduce,
    pickle.BUILD: _Machine.build,
    pickle.BINPERSID: _Machine.persistent,
}


def _check_nest(result: Any, steps: int) -> None:
    """Refuse what cannot be walked: containers within themselves, too deep or shared without end.

    Ten containers that hold the next one ten times each are a few bytes in a file and ten thousand million
    elements to whoever prints them.
    """
    known: dict[int, tuple[int, int]] = {}

    def measure(value: Any, depth: int) -> tuple[int, int]:
        """Return the height of a value and the number of its elements, those of shared ones repeated."""
        if isinstance(value, dict):
            children = list(value.values())
        elif isinstance(value, (list, tuple, set)) and type(value) in (list, tuple, set):
            children = list(value)
        elif value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.ndarray)):
            return 0, 1
        else:
            what = getattr(value, "name", type(value).__name__)
            raise Refusal(f"holds {what}, which is no tensor, container or number")
        if depth > MAX_DEPTH:
            raise Refusal(f"nests containers more than {MAX_DEPTH} deep, or within themselves")
        if id(value) not in known:
            sizes = [measure(child, depth + 1) for child in children]
            known[id(value)] = (1 + max((height for height, _ in sizes), default=0),
                                1 + sum(size for _, size in sizes))
        height, size = known[id(value)]
        if depth + height > MAX_DEPTH:
            raise Refusal(f"nests containers more than {MAX_DEPTH} deep, or within themselves")
        # A container takes a step an element, one that is met again (the pair of Adam's betas) one in all.
        if size > 100 * (steps + 100):
            raise Refusal("shares containers without end")
        return height, size

    measure(result, 0)
