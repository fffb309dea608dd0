"""Layers between recurrent layers and others: the last step of a sequence, axes in another order."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._kernels.runtime import in_default_environment
from .module import Module


def final_steps(name: str, x: np.ndarray, batch_first: bool, bidirectional: bool) -> list[np.ndarray]:
    """Views of what a LastStep takes of x: the last step, or of each direction its half of where it ended."""
    steps = x.swapaxes(0, 1) if batch_first and x.ndim == 3 else x
    if not len(steps):
        raise ValueError(f"{name}: x has shape {x.shape}, expected at least one step")
    if not bidirectional:
        return [steps[-1]]
    if x.shape[-1] % 2:
        raise ValueError(f"{name}: x has shape {x.shape}, expected an even number of features, half of "
                         "them of each direction")
    half = x.shape[-1] // 2
    return [steps[-1, ..., :half], steps[0, ..., half:]]


class LastStep(Module):
    """The last time step of a recurrent layer's output, to classify sequences by.

    ::

        y[n] = x[T - 1, n]
        y[n] = x[T - 1, n, : H / 2] beside x[0, n, H / 2 :]     with `bidirectional`

    After a layer of one direction this is the final state h of its last layer.  The output of both directions
    has at step T - 1 the whole sequence seen forward, but of the backward direction the first step it took;
    with `bidirectional` each half is taken where its direction has ended, so that y is the final state h of
    both, side by side (as Keras's Bidirectional gives it).

    Parameters
    ----------
    batch_first : bool, default False
        Whether sequences are (N, T, H), as of a recurrent layer with `batch_first`, not (T, N, H).
    bidirectional : bool, default False
        Whether the features are those of two directions, half of them each.
    dtype : numpy.dtype, optional
        Taken as by every layer, without meaning here: float32 and float64 are both accepted.

    Notes
    -----
    A recurrent layer in a `Sequential` passes on its output alone.  Sequences of several `lengths`, beyond
    which outputs are zero, end before T - 1: their final states are the second result of the layer's call.
    """

    def __init__(self, batch_first: bool = False, bidirectional: bool = False, *, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        self.batch_first = _checks.flag("LastStep: batch_first", batch_first)
        self.bidirectional = _checks.flag("LastStep: bidirectional", bidirectional)

    @in_default_environment
    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the last step.

        Parameters
        ----------
        x : ndarray, (T, N, H), (N, T, H) with `batch_first`, or (T, H), a single sequence
            Of one step at least.

        Returns
        -------
        ndarray, (N, H), or (H,) of a single sequence
            A view of `x`, but with `bidirectional` a new array.
        """
        x = _checks.as_float_array("LastStep: x", x, (2, 3))
        parts = final_steps("LastStep", x, self.batch_first, self.bidirectional)
        self._save(x.shape, x.dtype)
        return np.concatenate(parts, -1) if self.bidirectional else parts[0]

    @in_default_environment
    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return the gradient of all steps, zero but where `forward` took from."""
        shape, dtype = self._take()
        grad_x = np.zeros(shape, dtype)
        parts = final_steps("LastStep.backward", grad_x, self.batch_first, self.bidirectional)
        grad_y = _checks.as_float_array("LastStep.backward: grad_y", grad_y, None, dtype)
        _checks.same_shape("LastStep.backward: grad_y", grad_y, (*parts[0].shape[:-1], shape[-1]),
                           "as the output has")
        for part, grad in zip(parts, np.split(grad_y, len(parts), -1), strict=True):
            part[...] = grad
        return grad_x

    def extra_repr(self) -> str:
        return f"batch_first={self.batch_first}, bidirectional={self.bidirectional}"


class Permute(Module):
    """The axes in another order: y.shape[i] = x.shape[dims[i]], as numpy.transpose and torch.permute.

    ``Permute(0, 2, 1)`` goes between (N, T, C) and (N, C, T): from the output of recurrent layers with
    `batch_first` to convolutions, or to CrossEntropyLoss, whose classes are axis 1.  Keras's layer of this
    name leaves the batch out and counts from 1.

    Parameters
    ----------
    *dims : int, or one sequence of int
        Each axis of the input once; negative ones count from the end.
    dtype : numpy.dtype, optional
        Taken as by every layer, without meaning here: any array is accepted.
    """

    def __init__(self, *dims: Any, dtype: Any = np.float32):
        super().__init__(dtype=dtype)
        if len(dims) == 1 and not isinstance(dims[0], (int, np.integer)):
            dims = tuple(_checks.list_of("Permute: dims", dims[0], object))
        count = len(dims)
        self.dims = tuple(_checks.integer("Permute: dims", dim, -count, count - 1) for dim in dims)
        if len({dim % count for dim in self.dims}) < count:
            raise ValueError(f"Permute: dims must have each axis once, got {self.dims}")

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return `x` with its axes in the order `dims`; a view of it."""
        x = _checks.plain_array("Permute: x", x, "numbers")
        _checks.check_ndim("Permute: x", x, len(self.dims))
        self._save(x.shape)
        return x.transpose(self.dims)

    def backward(self, grad_y: np.ndarray, *, input_grad: bool = True) -> np.ndarray:
        """Return `grad_y` with its axes in the input's order; a view of it."""
        (shape,) = self._take()
        grad_y = _checks.plain_array("Permute.backward: grad_y", grad_y, "numbers")
        _checks.same_shape("Permute.backward: grad_y", grad_y, tuple(shape[dim] for dim in self.dims),
                           "as the output has")
        return grad_y.transpose(np.argsort([dim % len(shape) for dim in self.dims]).tolist())

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.dims))
