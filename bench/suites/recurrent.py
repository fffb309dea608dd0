"""Recurrent networks."""

from __future__ import annotations

import numpy as np

from .suite import RUNTIMES, Case, Suite, draw, first, parameters
from shapes import RECURRENCES
from shapes.recurrences import GATES

# ONNX has the gates in another order than torch: i o f c, and z r h.
ONNX_ORDER = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


class Recurrences(Suite):
    """GFLOP/s of the matrix products of the steps that are there; backward takes three times as many."""

    title, unit, shapes = "Recurrences", "GFLOP/s", RECURRENCES
    peers = ("torch", *RUNTIMES)

    def work(self, shape):
        return shape.flops * (3 if self.backward else 1)

    def kind(self, shape):
        if shape.ragged:
            return f"{shape.kind} ragged"
        if shape.layers * shape.directions > 1:
            return f"{shape.kind} stacked or both ways"
        return f"{shape.kind} batch {shape.batch}"

    def layer(self, nn, shape, **options):
        return getattr(nn, shape.kind)(shape.inputs, shape.hidden, shape.layers,
                                       bidirectional=shape.directions == 2, **options)

    def inputs(self, shape):
        """The sequences and the state, as it comes from the step before."""
        state = draw(shape.layers * shape.directions, shape.batch, shape.hidden, seed=2) / 4
        return [draw(shape.steps, shape.batch, shape.inputs),
                (state, state / 2) if shape.kind == "LSTM" else state]

    def fastnn(self, fn, shape, dtype=np.float32, **options):
        return super().fastnn(_WithLengths(fn, shape) if shape.ragged else fn, shape, dtype, **options)

    def torch(self, torch, shape, last=False):
        if not shape.ragged:
            return super().torch(torch, shape, last)
        pack = torch.nn.utils.rnn.pack_padded_sequence
        layer = self.layer(torch.nn, shape)
        layer.load_state_dict({k: torch.from_numpy(v) for k, v in parameters(
            {name: tuple(p.shape) for name, p in layer.state_dict().items()}).items()})
        x, state = self.inputs(shape)
        x = torch.from_numpy(x).requires_grad_(self.backward)
        state = tuple(map(torch.from_numpy, state)) if shape.kind == "LSTM" else torch.from_numpy(state)
        if not self.backward:
            layer.requires_grad_(False)

            def call():
                return layer(pack(x, shape.lengths), state)[0].data

            return Case(call, lambda: [call().numpy()])
        grad = draw(shape.steps, shape.batch, shape.directions * shape.hidden, seed=1)
        grad = torch.from_numpy(_packed(shape, grad))
        leaves = [x, *layer.parameters()]

        def step():
            for leaf in leaves:
                leaf.grad = None
            layer(pack(x, shape.lengths), state)[0].data.backward(grad)

        def result():
            step()
            return [leaf.grad.numpy() for leaf in leaves]

        return Case(step, result)

    def onnx(self, shape):
        x, state = self.inputs(shape)
        nodes, weights, below = [], {}, "x"
        inputs = {"x": x, "h": first(state)}
        if shape.kind == "LSTM":
            inputs["c"] = state[1]
        if shape.ragged:
            inputs["lengths"] = np.array(shape.lengths, np.int32)
        if shape.layers > 1 and shape.ragged:
            raise NotImplementedError
        weights["shape"] = np.array([0, 0, -1])
        for layer in range(shape.layers):
            made = self._onnx_weights(shape, layer)
            weights |= {f"{name}{layer}": w for name, w in made.items()}
            part = slice(layer * shape.directions, (layer + 1) * shape.directions)
            states = []
            for name in inputs.keys() & {"h", "c"}:
                weights[f"{name}{layer}"] = inputs[name][part]
                states.append(f"{name}{layer}")
            names = [below, f"w{layer}", f"r{layer}", f"b{layer}", "lengths" if shape.ragged else "",
                     *sorted(states, reverse=True)]
            options = {"hidden_size": shape.hidden,
                       "direction": "bidirectional" if shape.directions == 2 else "forward"}
            if shape.kind == "GRU":
                options["linear_before_reset"] = 1
            nodes += [(shape.kind, names, [f"s{layer}"], options),
                      # (T, directions, N, H) to (T, N, directions * H)
                      ("Transpose", [f"s{layer}"], [f"t{layer}"], {"perm": [0, 2, 1, 3]}),
                      ("Reshape", [f"t{layer}", "shape"], [f"y{layer}"], {})]
            below = f"y{layer}"
        nodes[-1] = (*nodes[-1][:2], ["y"], nodes[-1][3])
        return nodes, weights, {name: v for name, v in inputs.items() if name not in ("h", "c")}

    def without_padding(self, shape, arrays):
        padded, *others = arrays
        if len(padded) == shape.steps and shape.ragged:
            padded = _packed(shape, padded)
        return [padded, *others]

    def _onnx_weights(self, shape, layer):
        """W, R and B of a layer by direction, in ONNX's order of gates."""
        depth = shape.inputs if layer == 0 else shape.directions * shape.hidden
        gates, stacks = GATES[shape.kind], {"w": [], "r": [], "b": []}
        rows = gates * shape.hidden
        for suffix in ("", "_reverse")[: shape.directions]:
            name = f"_l{layer}{suffix}"
            made = parameters({f"weight_ih{name}": (rows, depth), f"weight_hh{name}": (rows, shape.hidden),
                               f"bias_ih{name}": (rows,), f"bias_hh{name}": (rows,)})
            w, r, b, bh = (np.concatenate([np.split(v, gates)[gate] for gate in ONNX_ORDER[shape.kind]])
                           for v in made.values())
            for key, value in (("w", w), ("r", r), ("b", np.concatenate([b, bh]))):
                stacks[key].append(value)
        return {name: np.stack(values) for name, values in stacks.items()}


class _WithLengths:
    """fastnn, with the lengths of a shape given to every call of a layer."""

    def __init__(self, fn, shape):
        self._fn, self._shape = fn, shape

    def __getattr__(self, kind):
        lengths = self._shape.lengths

        class Layer(getattr(self._fn, kind)):
            def forward(self, x, hx=None):
                return super().forward(x, hx, lengths=lengths)

        return Layer


def _packed(shape, x):
    """The steps of (T, N, ...) that are there, as torch packs them."""
    return np.concatenate([x[t, : sum(n > t for n in shape.lengths)] for t in range(shape.steps)])
