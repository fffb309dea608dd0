"""Modules made of modules: one after another, side by side, around a shortcut.

A child that returns a tuple (a recurrent layer gives its output and its last state) passes on its first
element, so that a container always returns one array.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment
from ..functional import _fused
from ..functional._elementwise import add
from .module import Module, backward_without_input


class _Container(Module):
    """A Module whose dtype is that of its children."""

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the first parameter, float32 if there is none."""
        return next((p.dtype for _, p in self.named_parameters()), _checks.FLOAT32)


class _ModuleSequence(_Container):
    """A sequence of modules; each is named by its place, unless names are given."""

    def __init__(self, layers: Mapping[str, Module] | Iterable[Module]):
        super().__init__()
        self._layers: dict[str, Module] = {}
        pairs = layers.items() if isinstance(layers, Mapping) else ((str(i), m) for i, m in enumerate(layers))
        for name, layer in pairs:
            self._put(name, layer)

    def _put(self, name: str, layer: Module) -> None:
        kind = type(self).__name__
        _check_module(f"{kind}: layer {name}", layer)
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"{kind}: a layer's name must be a string without a dot, got {name!r}")
        if hasattr(type(self), name) or name in self.__dict__:
            raise ValueError(f"{kind}: a layer cannot be named {name!r}, an attribute of {kind}")
        layer._become_part_of(self)
        self._layers[name] = layer

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the (name, module) in order."""
        return iter(self._layers.items())

    def append(self, layer: Module) -> _ModuleSequence:
        """Add `layer` at the end, named by its place; return self."""
        # A slice keeps the names of its layers, so the place may be taken.
        self._put(next(n for i in itertools.count(len(self)) if (n := str(i)) not in self._layers), layer)
        return self

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers.values())

    def __getitem__(self, index: int) -> Module:
        return self._layers[self._name_at(index)]

    def __setitem__(self, index: int, layer: Module) -> None:
        self._put(self._name_at(index), layer)

    def _part(self, part: _ModuleSequence, layers: Iterable[tuple[str, Module]]) -> _ModuleSequence:
        """Fill a slice: it has the modes of the whole, and its layers remain parts of the whole alone."""
        part.training, part.recording = self.training, self.recording
        part._layers.update(layers)
        return part

    def _name_at(self, index: int) -> str:
        try:
            return list(self._layers)[index]
        except IndexError:
            raise IndexError(f"{type(self).__name__}: no layer {index} among {len(self)}") from None

    # The layers can be read and set as attributes too: net.conv1, or net.extra = Linear(2, 2) to append.
    def __getattr__(self, name: str) -> Module:
        try:
            layers: dict[str, Module] = self.__dict__["_layers"]
            return layers[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module) or name in self.__dict__.get("_layers", ()):
            self._put(name, value)
        else:
            super().__setattr__(name, value)


class ModuleList(_ModuleSequence):
    """A list of modules to use as one likes; what they own is found through it.

    Parameters
    ----------
    modules : iterable of Module, optional
        The modules, named "0", "1" and so on.
    """

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__(modules)

    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        return self._part(ModuleList(), [(str(i), m) for i, m in enumerate(list(self)[index])])


class Sequential(_ModuleSequence):
    """Layers one after another: y = f_n(... f_2(f_1(x))).

    Parameters
    ----------
    *layers : Module, or one mapping of str to Module
        The layers in order, or an (ordered) dict that also names them.

    Notes
    -----
    ``net[i]`` is a layer, ``net[i:j]`` a Sequential of the same layers, under the names they have.
    """

    def __init__(self, *layers: Any):
        super().__init__(layers[0] if len(layers) == 1 and isinstance(layers[0], Mapping) else layers)

    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        return self._part(Sequential(), list(self._layers.items())[index])

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the output of the last layer."""
        for name, layer in self._layers.items():
            try:
                x = _first(layer(x))
            except Exception as error:
                self._add_place(error, name, layer)
                raise
        return x

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> Any:
        """Return the gradient of the input, or None without `input_grad`."""
        input_grad = _checks.flag("Sequential.backward: input_grad", input_grad)
        layers = list(self._layers.items())
        if not input_grad:
            # Nothing before the first layer with parameters is of interest.
            head = next((i for i, (_, layer) in enumerate(layers) if _has_parameters(layer)), len(layers))
            for _, layer in layers[:head]:
                layer._release()
            layers = layers[head:]
        for i, (name, layer) in reversed(list(enumerate(layers))):
            try:
                grad_y = _backward(layer, grad_y, input_grad or i > 0)
            except Exception as error:
                self._add_place(error, name, layer)
                raise
        return grad_y if input_grad else None

    def _add_place(self, error: Exception, name: str, layer: Module) -> None:
        error.add_note(f"in layer {name} of {type(self).__name__}, {type(layer).__name__}")


class Residual(_Container):
    """A block with a shortcut around it: y = f(body(x) + shortcut(x)).

    Parameters
    ----------
    body : Module
        What is learnt.
    shortcut : Module, optional
        What `x` goes through to get the shape of the body's output, a 1x1 convolution for example; None for
        `x` itself.
    activation : {None, "relu", "sigmoid", "tanh"} or Module, optional
        The function f of the sum.

    References
    ----------
    He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2016.
    """

    def __init__(self, body: Module, shortcut: Module | None = None, activation: Any = None):
        super().__init__()
        self.body = _check_module("Residual: body", body)
        self.shortcut = None if shortcut is None else _check_module("Residual: shortcut", shortcut)
        if not isinstance(activation, Module):
            _checks.choice("Residual: activation", activation, _fused.NAMES)
        self.activation = activation

    @in_default_environment
    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return f(body(x) + shortcut(x)); the two must have one shape."""
        y: np.ndarray = _first(self.body(x))
        around = _like(y, x) if self.shortcut is None else _first(self.shortcut(x))
        _checks.same_shape("Residual: the shortcut", around, y.shape, "as the body's output has")
        # Not in place: the body may have kept its output, and an Identity's is x.
        y = add(y, around, relu=self.activation == "relu")
        if isinstance(self.activation, Module):
            y = _first(self.activation(y))
        else:
            y = _fused.forward(self.activation, y)
        self._save(y if isinstance(self.activation, str) else None)
        return y

    @in_default_environment
    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> Any:
        """Return the sum of the gradients that come through the body and the shortcut."""
        input_grad = _checks.flag("Residual.backward: input_grad", input_grad)
        (y,) = self._take()
        if isinstance(self.activation, Module):
            grad_y = self.activation.backward(grad_y)
        else:
            grad_y = _fused.backward(self.activation, grad_y, y)
        grad_x = _backward(self.body, grad_y, input_grad)
        if self.shortcut is not None:
            around = _backward(self.shortcut, grad_y, input_grad)
        elif input_grad:
            around = _like(grad_x, grad_y)
        return add(grad_x, around) if input_grad else None

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}" if isinstance(self.activation, str) else ""


def _like(y: np.ndarray, x: Any) -> np.ndarray:
    """What goes around a body that gives y: x as an array, which has y's dtype if x has none of its own."""
    return np.asarray(x, None if hasattr(x, "dtype") else y.dtype)


class Parallel(_ModuleSequence):
    """Branches side by side on one input, their outputs joined or added up.

    y = concatenate(f_1(x), f_2(x), ..., along `dim`), or y = f_1(x) + f_2(x) + ...

    Parameters
    ----------
    *branches : Module
        At least one.
    merge : {"concat", "sum"}, optional
        How the outputs become one.
    dim : int, optional
        The dimension along which they are joined, the channels by default.
    """

    def __init__(self, *branches: Module, merge: str = "concat", dim: int = 1):
        super().__init__(branches)
        if not branches:
            raise ValueError("Parallel: expected at least one branch")
        self.merge = _checks.choice("Parallel: merge", merge, ("concat", "sum"))
        self.dim = _checks.integer("Parallel: dim", dim, minimum=-_checks.MAX_SIZE)

    @in_default_environment
    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the branches' outputs as one array."""
        outputs: list[np.ndarray] = [_first(branch(x)) for branch in self]
        if self.merge == "sum":
            for i, y in enumerate(outputs):
                _checks.same_shape(f"Parallel: branch {i}'s output", y, outputs[0].shape, "as branch 0's has")
            self._save(None)
            return reduce(add, outputs)
        shapes = [y.shape for y in outputs]
        dim = _checks.axis_of("Parallel: dim", self.dim, len(shapes[0]), "outputs")
        if any(s[:dim] + s[dim + 1 :] != shapes[0][:dim] + shapes[0][dim + 1 :] for s in shapes):
            raise ValueError(f"Parallel: outputs of shapes {shapes} cannot be joined along dimension {dim}")
        self._save([s[dim] for s in shapes], dim)
        return np.concatenate(outputs, axis=dim)

    @in_default_environment
    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> Any:
        """Return the sum of the gradients that come through the branches."""
        input_grad = _checks.flag("Parallel.backward: input_grad", input_grad)
        pieces = self._pieces(np.asarray(grad_y), *self._take())
        grads = [_backward(branch, g, input_grad) for branch, g in zip(self, pieces, strict=True)]
        return reduce(add, grads) if input_grad else None

    def _pieces(self, grad_y: np.ndarray, widths: list[int] | None, dim: int = 0) -> list[np.ndarray]:
        """Return the part of `grad_y` that belongs to each branch."""
        if widths is None:
            return [grad_y] * len(self)
        if grad_y.ndim <= dim or grad_y.shape[dim] != sum(widths):
            raise ValueError(
                f"Parallel.backward: grad_y has shape {grad_y.shape}, "
                f"expected {sum(widths)} elements in dimension {dim}"
            )
        return np.split(grad_y, np.cumsum(widths)[:-1], axis=dim)

    def extra_repr(self) -> str:
        return f"merge={self.merge!r}" + (f", dim={self.dim}" if self.merge == "concat" else "")


def _check_module(name: str, value: Any) -> Module:
    if not isinstance(value, Module):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a Module")
    return value


def _first(y: Any) -> Any:
    return y[0] if isinstance(y, tuple) else y


def _has_parameters(module: Module) -> bool:
    return any(True for _ in module.named_parameters())


def _backward(module: Module, grad_y: np.ndarray, input_grad: bool) -> Any:
    """Call ``module.backward``, or as little of it as the parameters need."""
    if input_grad:
        return module.backward(grad_y)
    if _has_parameters(module):
        backward_without_input(module, grad_y)
    else:
        module._release()
    return None
