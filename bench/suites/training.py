"""Losses with their gradients, and steps of optimizers."""

from __future__ import annotations

import numpy as np

from .suite import Case, Suite, draw, parameters
from shapes import LOSSES, STEPS


class Losses(Suite):
    """GB/s of the logits read and their gradient written."""

    title, unit, shapes, peers = "Losses, forward and backward", "GB/s", LOSSES, ("torch",)

    _names = {  # noqa: RUF012 - a table
        "cross_entropy": "CrossEntropyLoss", "mse": "MSELoss", "bce_with_logits": "BCEWithLogitsLoss"}

    def work(self, shape):
        return 8 * shape.size

    def _arrays(self, shape):
        logits, rng = draw(shape.rows, shape.columns), np.random.default_rng(1)
        if shape.kind == "cross_entropy":
            return logits, rng.integers(0, shape.columns, shape.rows)
        return logits, rng.random(logits.shape, np.float32)

    def fastnn(self, fn, shape, dtype=np.float32, **options):
        loss = getattr(fn.losses, self._names[shape.kind])()
        y, target = self._arrays(shape)
        y = y.astype(dtype)
        if target.dtype.kind == "f":
            target = target.astype(dtype)

        def call():
            loss(y, target)
            return loss.backward()

        return Case(call, lambda: [np.array(loss(y, target)), call()])

    def torch(self, torch, shape, last=False):
        loss = getattr(torch.nn, self._names[shape.kind])()
        y, target = map(torch.from_numpy, self._arrays(shape))
        y.requires_grad_()

        def call():
            y.grad = None
            value = loss(y, target)
            value.backward()
            return value

        return Case(call, lambda: [call().detach().numpy(), y.grad.numpy()])


class Optimizers(Suite):
    """GB/s of the parameters, gradients and states read and written; torch's are fused where it has that."""

    title, unit, shapes, peers = "Optimizers", "GB/s", STEPS, ("torch",)

    # By kind: the class, fastnn's options, torch's besides, numbers read and written for each parameter.
    _steps = {  # noqa: RUF012 - a table
        "SGD": ("SGD", {}, {"fused": True}, 3),
        "SGD momentum": ("SGD", {"momentum": 0.9}, {"fused": True}, 5),
        "Adam": ("Adam", {}, {"fused": True}, 7),
        "AdamW": ("AdamW", {}, {"fused": True}, 7),
        "RMSprop": ("RMSprop", {}, {"foreach": True}, 5),
        "clip_grad_norm": (None, {}, {}, 3),
    }

    def work(self, shape):
        return 4 * shape.parameters * self._steps[shape.kind][3]

    def _network(self, nn, shape, **options):
        return nn.Sequential(*(nn.Linear(shape.size, shape.size, **options) for _ in range(shape.layers)))

    def fastnn(self, fn, shape, dtype=np.float32, **options):
        network = self._network(fn, shape, dtype=dtype)
        made = self._made(network.named_parameters())
        for (p, _), (data, grad) in zip(made, self._values(made), strict=True):
            p.data[...], p.grad[...] = data, grad
        params, (name, options, _, _) = network.parameters(), self._steps[shape.kind]
        if name is None:
            return Case(lambda: fn.optim.clip_grad_norm_(params, 1.0),
                        lambda: [np.array(fn.optim.clip_grad_norm_(params, 1.0)), *(p.grad for p in params)])
        return self._case(getattr(fn.optim, name)(params, lr=1e-3, **options),
                          lambda: [p.data for p in params])

    def torch(self, torch, shape, last=False):
        network = self._network(torch.nn, shape)
        made = self._made(network.named_parameters())
        with torch.no_grad():
            for (p, _), (data, grad) in zip(made, self._values(made), strict=True):
                p.copy_(torch.from_numpy(data))
                p.grad = torch.from_numpy(grad)
        params, (name, options, more, _) = list(network.parameters()), self._steps[shape.kind]
        if name is None:
            clip = torch.nn.utils.clip_grad_norm_
            return Case(lambda: clip(params, 1.0),
                        lambda: [clip(params, 1.0).numpy(), *(p.grad.numpy() for p in params)])
        return self._case(getattr(torch.optim, name)(params, lr=1e-3, **options, **more),
                          lambda: [p.detach().numpy() for p in params])

    def _made(self, named):
        return [(p, name) for name, p in named]

    def _values(self, made):
        """Data and gradient for each of the parameters."""
        for p, name in made:
            values = parameters({name: tuple(p.shape), f"{name}.grad": tuple(p.shape)})
            yield tuple(values.values())

    def _case(self, optimizer, data):
        def result():
            optimizer.step()
            return data()

        return Case(optimizer.step, result)
