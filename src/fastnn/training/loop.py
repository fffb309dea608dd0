"""The training loop, and its two companions that do not train."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import _checks, init
from .._kernels.runtime import in_default_environment
from ..layers.module import backward_without_input
from ..optim.clip import clip_grad_norm_
from ..optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from .callbacks import Callback
from .history import History
from .model import check_loss, check_optimizer, output_of
from .modes import eval_mode, modes_of, record, restore
from .progress import Progress
from .samples import batches_of, samples_of, targets_of, validation_pair


class _Mean:
    """Mean loss and accuracy over batches of unequal size."""

    def __init__(self, loss: Any):
        self.loss, self.total, self.count, self.right, self.seen = loss, 0.0, 0.0, 0.0, 0.0

    def add(self, value: float, y: np.ndarray, target: np.ndarray) -> None:
        """Count one batch."""
        weight = self.loss.samples(target) if self.loss.reduction == "mean" else 1.0
        if weight:  # a batch of ignored targets alone has no mean
            self.total += value * weight
            self.count += weight
        if self.loss.classifies:
            right, seen = self.loss.correct(y, target)
            self.right += right
            self.seen += seen

    def numbers(self) -> dict[str, float]:
        """The means: a summed loss stays a sum."""
        divisor = self.count if self.loss.reduction == "mean" else 1.0
        found = {"loss": self.total / divisor if divisor else math.nan}
        if self.loss.classifies:
            found["accuracy"] = self.right / self.seen if self.seen else math.nan
        return found


class _Stop(Exception):
    """Ends the epochs, with the reason."""


class _Diverged(Exception):
    """Ends the epochs where the loss is not finite. No FloatingPointError: users' code may raise those."""


@in_default_environment
def fit(
    model: Any,
    x: Any,
    y: np.ndarray,
    *,
    loss: Any,
    optimizer: Any,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    drop_last: bool = False,
    validation_data: tuple[Any, np.ndarray] | None = None,
    rng: int | np.random.Generator | None = None,
    scheduler: LRScheduler | None = None,
    clip_grad_norm: float | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool | str = True,
) -> History:
    """Train a model on samples and targets.

    Parameters
    ----------
    model : Module
    x : ndarray or tuple of ndarray
        Samples along the first axis; of a tuple, each array is an argument of the model.
    y : ndarray
        Targets, as the loss expects them.
    loss : Loss
    optimizer : Optimizer
        Over parameters of the model, not necessarily all of them.
    epochs, batch_size : int
        The last batch of an epoch may be smaller; ``batch_size=len(x)`` is batch gradient descent.
    shuffle : bool, default True
        A new order every epoch.
    drop_last : bool, default False
        Leave out a last batch that is smaller: of one sample BatchNorm1d would have no variance. With
        `shuffle` other samples are left out every epoch.
    validation_data : (x, y), optional
        Evaluated after each epoch.
    rng : int or numpy.random.Generator, optional
        For the shuffling.
    scheduler : LRScheduler, optional
        Stepped after each epoch.
    clip_grad_norm : float, optional
        Largest norm of the gradients of a step.
    callbacks : iterable of Callback
    progress : bool or str, default True
        Show a progress bar (extra "progress"), or without tqdm a line an epoch. Words stand before the bar;
        True puts the name of the model's class there.

    Returns
    -------
    History

    Notes
    -----
    Ctrl-C ends the training, and so does a loss that is not finite, with a RuntimeWarning. Then the best
    weights so far are left in the model with the buffers of that moment, by validation loss where there is
    one and by training loss else; those of the start where no epoch has ended with that loss finite.

    A model in eval mode is trained in training mode. Of a model in training mode, the modules that are in
    eval mode stay in it, as a frozen BatchNorm. Afterwards every module is in the mode it was in before.

    The gradient of the input is not asked for: `backward` is called with ``input_grad=False`` if it has the
    keyword.

    Raises
    ------
    ValueError
        If numbers of samples differ, there are none, or a number is out of range; if the first axis of `x` is
        time, as a recurrent layer without ``batch_first=True`` has it: see `fit_sequence`; if no parameter of
        the optimizer belongs to the model.
    """
    arrays, samples = samples_of("fit", model, x)
    y = targets_of("fit", y, samples)
    if samples == 0:
        raise ValueError("fit: x has no samples")
    if validation_data is not None:
        validation_data = validation_pair(model, validation_data)
    epochs = _checks.integer("fit: epochs", epochs, 0)
    batch_size = _checks.integer("fit: batch_size", batch_size)
    if _checks.flag("fit: drop_last", drop_last) and samples < batch_size:
        raise ValueError(f"fit: drop_last leaves no batch of {samples} samples, batch_size is {batch_size}")
    used = samples - samples % batch_size if drop_last else samples
    rng = init.as_generator("fit: rng", rng)
    check_loss("fit", loss)
    check_optimizer("fit", optimizer, model)
    if scheduler is not None and not isinstance(scheduler, LRScheduler):
        raise TypeError(f"fit: scheduler must be an LRScheduler, got {scheduler!r:.60}")
    callbacks = _checks.list_of("fit: callbacks", callbacks, Callback)
    shuffle = _checks.flag("fit: shuffle", shuffle)
    history, best = History(), _Best(model)
    before = modes_of(model)
    model.__dict__["_loss"] = loss  # what evaluate falls back on
    label = progress if isinstance(progress, str) else type(model).__name__
    bar = Progress(bool(progress), epochs, -(-used // batch_size), label)
    try:
        record(model)
        while_training = modes_of(model)  # of a network in training mode, some layers may be frozen
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            if not model.training:  # a callback used the model
                record(model)
                restore(while_training)
            order = rng.permutation(samples) if shuffle else None
            mean = _Mean(loss)
            for i, batch in enumerate(batches_of(used, batch_size, order)):
                value = _train_batch(model, tuple(a[batch] for a in arrays), y[batch], loss, optimizer,
                                     clip_grad_norm, mean)
                bar.batch(epoch, value)
                _ask(callbacks, "on_batch_end", model, i, value)
            numbers = mean.numbers()
            if validation_data is not None:
                found = evaluate(model, *validation_data, loss=loss, batch_size=max(batch_size, 256))
                numbers.update({f"val_{k}": v for k, v in found.items()})
            numbers["lr"] = optimizer.param_groups[0]["lr"]
            numbers["seconds"] = time.perf_counter() - started
            history.append(numbers)
            watched = numbers.get("val_loss", numbers["loss"])
            best.offer(watched)
            bar.epoch(epoch, numbers)
            if scheduler is not None:
                scheduler.step(watched if isinstance(scheduler, ReduceLROnPlateau) else None)
            _ask(callbacks, "on_epoch_end", model, history)
    except KeyboardInterrupt:
        history.interrupted, history.stopped = True, "interrupted"
        best.restore()
    except _Stop as stop:
        history.stopped = str(stop)
    except _Diverged as error:
        history.stopped = str(error)
        best.restore()
        # The caller of Module.fit, which calls this function.
        warnings.warn(f"fit: {error}; stopped, with the best weights so far", RuntimeWarning, stacklevel=3)
    finally:
        bar.close()
        model._release()
        restore(before)
        for callback in callbacks:
            callback.on_train_end(model, history)
    return history


def _train_batch(model, batch, target, loss, optimizer, clip_grad_norm, mean):
    """One step; returns the loss of the batch."""
    output = output_of(model, batch)
    value = loss(output, target)
    if not math.isfinite(value) and loss.samples(target):
        raise _Diverged(f"the loss became {value}")
    optimizer.zero_grad()
    backward_without_input(model, loss.backward())
    if clip_grad_norm is not None:
        clip_grad_norm_(optimizer.parameters, clip_grad_norm)
    optimizer.step()
    mean.add(value, output, target)
    return value


def _ask(callbacks, event, *arguments):
    """Tell all callbacks; stop for the first reason."""
    reasons = [getattr(callback, event)(*arguments) for callback in callbacks]
    if reason := next(filter(None, reasons), None):
        raise _Stop(reason)


class _Best:
    """Parameters and buffers at the smallest loss so far, for a training that is cut short.

    Until an epoch ends with a finite loss they are those of the start: one copy, as every better epoch takes.
    """

    def __init__(self, model: Any):
        self.model, self.loss, self.state = model, math.inf, model.state_dict()

    def offer(self, loss: float) -> None:
        """Keep the state if `loss` is finite and the smallest yet."""
        if math.isfinite(loss) and loss < self.loss:
            self.loss, self.state = loss, self.model.state_dict()

    def restore(self) -> None:
        """Put it back."""
        self.model.load_state_dict(self.state)


def predict(model: Any, x: Any, *, batch_size: int = 256) -> np.ndarray:
    """Return the outputs for all samples of `x`, computed in eval mode and in batches.

    Parameters
    ----------
    model : Module
    x : ndarray or tuple of ndarray
        As for `fit`; may have no samples.
    batch_size : int, default 256

    Raises
    ------
    ValueError
        If the first axis of `x` is time, as a recurrent layer without ``batch_first=True`` has it: call the
        model itself.
    """
    arrays, samples = samples_of("predict", model, x)
    batch_size = _checks.integer("predict: batch_size", batch_size)
    with eval_mode(model):
        if samples <= batch_size:
            return output_of(model, arrays)
        return np.concatenate([output_of(model, tuple(a[batch] for a in arrays))
                               for batch in batches_of(samples, batch_size, None)])


@in_default_environment
def evaluate(model: Any, x: Any, y: np.ndarray, *, loss: Any = None,
             batch_size: int = 256) -> dict[str, float]:
    """Return {"loss": ...} and, of a classifier, {"accuracy": ...} over all samples, in eval mode.

    Parameters
    ----------
    model : Module
    x, y
        As for `fit`.
    loss : Loss, optional
        By default the one that `fit` last trained the model with.
    batch_size : int, default 256
    """
    loss = model.__dict__.get("_loss") if loss is None else loss
    if loss is None:
        raise ValueError("evaluate: loss is None, and the model was not trained with fit; give loss=")
    check_loss("evaluate", loss)
    arrays, samples = samples_of("evaluate", model, x)
    y = targets_of("evaluate", y, samples)
    batch_size = _checks.integer("evaluate: batch_size", batch_size)
    mean = _Mean(loss)
    with eval_mode(model):
        for batch in batches_of(samples, batch_size, None):
            output = output_of(model, tuple(a[batch] for a in arrays))
            mean.add(loss.value(output, y[batch]), output, y[batch])
    return mean.numbers()
