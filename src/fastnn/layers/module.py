"""The base of all layers and containers: what a network keeps between calls, and how it is walked.

A layer is a Module with `forward` and `backward`, Parameters and child Modules as plain attributes, and
arrays that are state but not trained registered by `register_buffer`.  See `Parameter` for the flat buffers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from inspect import signature
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .. import _checks
from .._kernels.runtime import packed_for_isa
from .parameter import Parameter, coalesce, flatten

__all__ = ["IncompatibleKeys", "Module", "Parameter", "coalesce", "flatten"]

M = TypeVar("M", bound="Module")
T = TypeVar("T")

# For so many shapes of its input a layer in eval mode keeps a prepared call.
SHAPES = 32


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` did not use and did not find."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers and networks.

    Parameters
    ----------
    dtype : numpy.dtype, optional
        float32 or float64: of the parameters, and so of what the layer accepts.

    Attributes
    ----------
    training : bool
        Whether dropout and the statistics of the batch are on.  True at first; `train` and `eval` set it.
    recording : bool
        Whether a call keeps what `backward` needs, as in training mode.  A layer of a network in training
        mode that is put in eval mode by itself, say a BatchNorm2d that is not to change, goes on recording.

    Notes
    -----
    A subclass calls ``super().__init__(dtype=dtype)`` first, and then

    - sets Parameters and Modules as attributes; the names of `state_dict` are the names of attributes;
    - in `forward`, hands what `backward` needs to `self._save`;
    - in `backward`, gets it from `self._take`, **adds** to each ``parameter._grad`` and returns the gradient
      of its input.

    In eval mode a call keeps nothing of what it was given, so that one network may serve many threads at
    once; the weights are packed once, a second copy of them.

    What `_save` keeps are the arrays themselves: to write to an input or an output between `forward` and
    `backward` changes the gradients.
    """

    training: bool = True
    recording: bool = True
    _parents: tuple[weakref.ref[Module], ...] = ()
    _saved: tuple[Any, ...] | None = None
    _cache: dict[Hashable, Any]

    def __init__(self, *, dtype: Any = np.float32):
        self._dtype = _checks.float_dtype(f"{type(self).__name__}: dtype", dtype)
        self._buffer_names: tuple[str, ...] = ()
        self.__dict__["_cache"] = {}

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the parameters."""
        return self._dtype

    # --- Running

    def forward(self, x: np.ndarray) -> Any:
        """Return the output for `x`."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> Any:
        """Add to the parameters' gradients and return the gradient of the input of the last `forward`.

        With ``input_grad=False`` a layer may spare itself the gradient of its input and return None. It need
        not know the keyword: it is then called without.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    __call__ = forward

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        # Calling is forward itself: a hop in between would cost a tiny layer a tenth of its time.
        if "__call__" in cls.__dict__:
            raise TypeError(f"{cls.__name__} defines __call__, which is forward: define forward")
        cls.__call__ = cls.forward  # type: ignore[method-assign]

    def _save(self, *things: Any) -> None:
        """Keep `things` for the next `backward`, if calls are recorded."""
        if self.recording:
            self.__dict__["_saved"] = things

    def _take(self) -> tuple[Any, ...]:
        """Return what `_save` kept, once."""
        saved = self._saved
        if saved is None:
            raise ValueError(
                f"{type(self).__name__}.backward: call forward in training mode first "
                "(each forward serves one backward; train() of a network comes before eval() of its parts)"
            )
        self.__dict__["_saved"] = None
        return saved

    def _release(self) -> None:
        """Forget what `backward` would need, here and below."""
        for module in self.modules():
            module._forget()

    def _forget(self) -> None:
        """Let go of the arrays of the last call."""
        self.__dict__["_saved"] = None

    def _cached(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """Return ``build()``, where calls are not recorded from the cache: for packed weights and the like.

        The cache is dropped by whatever changes parameters: `train`, `eval`, `load_state_dict`, an
        optimizer's step, an assignment to an attribute of the layer.
        """
        if self.recording:
            return build()
        cache = self._cache
        try:
            return cache[key]
        except KeyError:
            pass
        # Registered first: if another thread changes the parameters meanwhile the cache is dropped, and this
        # dict, the old one, takes what was built of them along.
        for _, p in self._own(Parameter):
            p._read_by(self)
        packed_for_isa.add(self)
        value = cache[key] = build()
        return value

    def _drop_cache(self) -> None:
        self.__dict__["_cache"] = {}

    # --- Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if "_cache" not in self.__dict__ and isinstance(value, (Parameter, Module)):
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before setting {name}")
        current = self.__dict__.get(name)
        if isinstance(value, Parameter | Module) and name in self.__dict__.get("_buffer_names", ()):
            raise TypeError(f"{type(self).__name__}: {name} is a buffer, got a {type(value).__name__}")
        if isinstance(value, Parameter):
            value.name = value.name or name
            value._readonly = not self.recording
        elif isinstance(current, Parameter) and value is not None:
            current.data = value  # `layer.weight = array` copies into the parameter
            return
        elif value is not None and name in self.__dict__.get("_buffer_names", ()):
            value = _as_buffer(f"{type(self).__name__}: {name}", value, current)
        elif isinstance(value, Module):
            value._become_part_of(self)
        object.__setattr__(self, name, value)
        if "_cache" in self.__dict__:
            self._drop_cache()

    def register_buffer(self, name: str, array: Any) -> None:
        """Make `array` (copied; None for none) the attribute `name`, part of the state but not trained."""
        if not isinstance(name, str):
            raise TypeError(f"register_buffer: name must be a string, got {name!r:.60}")
        if hasattr(self, name):
            raise ValueError(f"register_buffer: {type(self).__name__} has an attribute {name!r} already")
        setattr(self, name, None if array is None else _as_buffer(f"register_buffer: {name}", array, None))
        self._buffer_names += (name,)

    def _own(self, kind: type[T]) -> Iterator[tuple[str, T]]:
        """Yield the (name, attribute) of this module alone that are of this kind, in order of definition."""
        for name, value in self.__dict__.items():
            if isinstance(value, kind):
                yield name, value

    def _own_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        for name in self._buffer_names:
            if (array := self.__dict__[name]) is not None:
                yield name, array

    # --- Walking

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the (name, module) directly below this one."""
        return self._own(Module)

    def children(self) -> Iterator[Module]:
        """Yield the modules directly below this one."""
        return (module for _, module in self.named_children())

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module and all below it with their full names, a shared one as often as it is met."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(_join(prefix, name))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for this module and all below it, each module once."""
        return _once(self._walk(prefix))

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield (name, parameter) of this module and all below it, a shared parameter once."""
        walk = self.named_modules(prefix)
        return _once((_join(path, name), p) for path, module in walk for name, p in module._own(Parameter))

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
        """Yield (name, array) of the buffers of this module and all below it."""
        for path, module in self.named_modules(prefix):
            for name, array in module._own_buffers():
                yield _join(path, name), array

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Call `function` with every module, children before parents; return self."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # --- Parameters

    def parameters(self) -> list[Parameter]:
        """Return all parameters, each once, as views of one flat buffer for each dtype.

        The first call lays the buffer out.  Later calls, also of a part of the network, leave it as it is,
        unless parameters were added or come from several buffers.
        """
        params = [p for _, p in self.named_parameters()]
        flatten(params)
        return params

    @property
    def flat_parameters(self) -> list[np.ndarray]:
        """All parameters as 1-D arrays, one for each dtype (as a rule one in all); read-only in eval mode."""
        arrays = [data for data, _ in self._flat()]
        if not self.recording:
            for array in arrays:
                array.flags.writeable = False
        return arrays

    @property
    def flat_gradients(self) -> list[np.ndarray]:
        """All gradients as 1-D arrays, in the order of `flat_parameters`."""
        return [grad for _, grad in self._flat()]

    def _flat(self) -> list[tuple[np.ndarray, np.ndarray]]:
        params = self.parameters()
        dtypes = dict.fromkeys(p.dtype for p in params)
        return [pair for dtype in dtypes for pair in coalesce(p for p in params if p.dtype == dtype)]

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for _, grad in coalesce(p for _, p in self.named_parameters()):
            grad.fill(0)

    # --- Modes

    def train(self: M, mode: bool = True) -> M:
        """Set training mode (or eval mode) for this module and all below it; return self."""
        mode = _checks.flag("train: mode", mode)
        for module in self.modules():
            # Parents come before their children: what is above a part says whether gradients come through it.
            module._set_mode(mode, mode or (module.recording and module._is_part_of_recording()))
        return self

    def eval(self: M) -> M:
        """Set eval mode: dropout and batch statistics are off; return self.

        Calls keep nothing for `backward`, unless the module is a part of a network in training mode:
        ``net.train(); net[1].eval()`` trains what is around net[1], through it, and its weights.  A module
        that was in eval mode before it became a part records from the next ``net.train()`` on, and in `fit`.
        """
        return self.train(False)

    def _become_part_of(self, parent: Module) -> None:
        self.__dict__["_parents"] = (*(p for p in self._parents if p() is not None), weakref.ref(parent))

    def _is_part_of_recording(self) -> bool:
        parents = (parent() for parent in self._parents)
        return any(p is not None and p.recording and any(c is self for c in p.children()) for p in parents)

    def _set_mode(self, training: bool, recording: bool) -> None:
        """Set the modes of this module alone."""
        self.training = training  # which drops its cache
        self.recording = recording
        for _, p in self._own(Parameter):
            p._readonly = not recording

    # --- State

    def _named_state(self) -> Iterator[tuple[str, Module, str, Parameter | np.ndarray]]:
        """Yield (key, owner, attribute, value) in torch's order: a module's parameters, buffers, children."""
        for path, module in self._walk():
            for name, p in module._own(Parameter):
                yield _join(path, name), module, name, p
            for name, array in module._own_buffers():
                yield _join(path, name), module, name, array

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and buffers by name."""
        return {key: np.array(value) for key, _, _, value in self._named_state()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy arrays by name into the parameters and buffers.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            As `state_dict` returns.  Floats are converted to the dtype of what they are copied into.
        strict : bool, optional
            Whether a name that is missing or not expected is an error.  A wrong shape or kind always is.

        Returns
        -------
        IncompatibleKeys
            The missing and the unexpected names (two empty lists when strict).

        Raises
        ------
        ValueError
            Naming every key that does not fit.  The module is then unchanged.
        """
        if not isinstance(state_dict, Mapping):
            kind = type(state_dict).__name__
            raise TypeError(f"load_state_dict: state_dict is a {kind}, expected a mapping of names to arrays")
        targets = {key: (module, name, old) for key, module, name, old in self._named_state()}
        missing = [key for key in targets if key not in state_dict]
        unexpected = [key for key in state_dict if key not in targets]
        known = {key: value for key, value in state_dict.items() if key in targets}
        faults = [fault for key, value in known.items() if (fault := _misfit(key, value, targets[key][2]))]
        if strict:
            faults += [f"{key} is missing" for key in missing]
            faults += [f"{key} is not expected" for key in unexpected]
        if faults:
            raise ValueError(f"load_state_dict: {type(self).__name__}: " + "; ".join(faults))
        for key, value in known.items():
            module, name, old = targets[key]
            setattr(module, name, np.asarray(value).astype(old.dtype))
        return IncompatibleKeys(missing, unexpected)

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles leave behind what belongs to a call under way and what can be made again.
        state = self.__dict__.copy()
        state.pop("_saved", None)
        state.pop("_parents", None)  # a copy of a part stands by itself
        state["_cache"] = {}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for child in self.children():
            child._become_part_of(self)

    # --- Training

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        loss: Any,
        optimizer: Any,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: tuple[np.ndarray, np.ndarray] | None = None,
        rng: int | np.random.Generator | None = None,
        progress: bool | str = True,
        **options: Any,
    ) -> Any:
        """Train on `x` and `y`; see `fastnn.training.fit`."""
        from .. import training  # which is built on this module

        return training.fit(
            self,
            x,
            y,
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            validation_data=validation_data,
            rng=rng,
            progress=progress,
            **options,
        )

    def predict(self, x: np.ndarray, **options: Any) -> Any:
        """Return the outputs for all of `x`, in batches and in eval mode; see `fastnn.training.predict`."""
        from .. import training

        return training.predict(self, x, **options)

    def evaluate(self, x: np.ndarray, y: np.ndarray, **options: Any) -> Any:
        """Return the loss and the metrics on `x` and `y`; see `fastnn.training.evaluate`."""
        from .. import training

        return training.evaluate(self, x, y, **options)

    def freeze(self) -> Any:
        """Return a copy of the network for inference alone, faster; see `fastnn.frozen.freeze`."""
        from .. import frozen

        return frozen.freeze(self)

    # --- Showing

    def extra_repr(self) -> str:
        """Return the configuration as it stands between the parentheses of the repr."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for name, child in self.named_children():
            lines.append(f"({name}): " + repr(child).replace("\n", "\n  "))
        own = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({own})"
        return f"{type(self).__name__}(" + "\n  ".join(["", *([own] if own else []), *lines]) + "\n)"


def backward_without_input(module: Module, grad_y: np.ndarray) -> None:
    """Call ``module.backward``, without the gradient of the input where it knows how to leave that out."""
    if _knows_input_grad(type(module).backward):
        module.backward(grad_y, input_grad=False)
    else:
        module.backward(grad_y)


@lru_cache
def _knows_input_grad(backward: Callable[..., Any]) -> bool:
    parameters = signature(backward).parameters
    return "input_grad" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _as_buffer(name: str, value: Any, current: np.ndarray | None) -> np.ndarray:
    """A copy of `value`, which must have the shape of the buffer there was, and gets its dtype.

    Integers may become floats, and other integers that hold them.
    """
    array = np.array(_checks.plain_array(name, value, "numbers"))
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} has dtype {array.dtype}, expected numbers")
    if current is None:
        return array
    _checks.same_shape(name, array, current.shape)
    if current.dtype.kind in "biu":
        fits = array.dtype.kind in "biu" and _holds(current.dtype, array)
    else:
        fits = np.can_cast(array.dtype, current.dtype, "same_kind")
    if not fits:
        raise TypeError(f"{name} has dtype {array.dtype}, expected {current.dtype} or numbers that it holds; "
                        "convert it with .astype")
    return array.astype(current.dtype, copy=False)


def _holds(dtype: np.dtype, array: np.ndarray) -> bool:
    """Whether all numbers of an integer array are numbers of an integer dtype."""
    return np.array_equal(array.astype(dtype), array)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _once(pairs: Iterator[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Yield the pairs whose second has not come before."""
    seen = set()
    for name, value in pairs:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _misfit(key: str, value: Any, target: Parameter | np.ndarray) -> str | None:
    """Say why `value` cannot be copied into `target`, if so."""
    try:
        value = _checks.plain_array("it", value, "numbers")
    except (TypeError, ValueError) as error:
        return f"{key} is not an array ({error})"
    if value.shape != target.shape:
        return f"{key} has shape {value.shape}, expected {target.shape}"
    # Any float for a float, any integer for an integer: numbers that change their meaning are a mistake.
    if value.dtype.kind.replace("u", "i") != target.dtype.kind.replace("u", "i"):
        return f"{key} has dtype {value.dtype}, expected {target.dtype}"
    if target.dtype.kind in "iu" and not _holds(target.dtype, value):
        return f"{key} has numbers beyond {target.dtype}"
    return None
