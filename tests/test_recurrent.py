"""Recurrent functions and layers: against the reference, by finite differences, and against themselves."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from plain_layers import finite_differences

import fastnn as fn
from fastnn._kernels import runtime
from fastnn.functional import recurrent as functional
from fastnn.reference import recurrent as reference

CELLS = {"rnn": 1, "lstm": 4, "gru": 3}  # name: gates
LAYERS = {"rnn": fn.RNN, "lstm": fn.LSTM, "gru": fn.GRU}
DTYPES = (np.float32, np.float64)
# Sums of up to about a hundred products and five steps of gates, relative to the largest result.
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def arguments(cell, steps, batch, depth, hidden, dtype=np.float64, seed=0):
    """Draw x, the initial states, weights and biases."""
    rng = np.random.default_rng(seed)
    rows = CELLS[cell] * hidden

    def draw(*shape, scale=1.0):
        return (rng.normal(size=shape) * scale).astype(dtype)

    states = [draw(batch, hidden) for _ in range(2 if cell == "lstm" else 1)]
    return [draw(steps, batch, depth), *states, draw(rows, depth, scale=depth**-0.5),
            draw(rows, hidden, scale=hidden**-0.5), draw(rows), draw(rows)]


def gradients_like(y_and_states, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=a.shape).astype(a.dtype) for a in y_and_states]


def run(module, cell, args, grads=None, *, truncate=None, **options):
    """Return outputs, final states and, in the order of the arguments, all gradients."""
    *outputs, saved = getattr(module, f"{cell}_forward")(*args, **options)
    grads = gradients_like(outputs) if grads is None else grads
    return [*outputs, *getattr(module, f"{cell}_backward")(*grads, saved, truncate=truncate)]


def assert_close(actual, expected, tolerance):
    for a, e in zip(actual, expected, strict=True):
        if e is None:
            assert a is None
            continue
        assert a.shape == e.shape
        assert a.dtype == e.dtype
        if e.size:
            np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(1, np.abs(e).max()))


def assert_same_bits(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


# --- Functions


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_matches_the_reference_at_sizes_around_a_vector(isa, cell, dtype):
    rng = np.random.default_rng(2)
    sizes = (1, 2, 3, 5, 7, 15, 16, 17, 31, 33)
    for i, hidden in enumerate(sizes):
        depth, batch, steps = sizes[-1 - i], sizes[(3 * i + 4) % 10], 1 + i % 5
        args = arguments(cell, steps, batch, depth, hidden, dtype, seed=i)
        for reverse, ragged in itertools.product((False, True), repeat=2):
            options = {"reverse": reverse}
            if ragged:
                options["lengths"] = rng.integers(0, steps + 1, batch)
            for truncate in (None, 2):
                assert_close(run(functional, cell, args, truncate=truncate, **options),
                             run(reference, cell, args, truncate=truncate, **options), TOLERANCE[dtype])


def test_relu_and_missing_arguments_match_the_reference(isa):
    x, h0, w_ih, w_hh, b_ih, b_hh = arguments("rnn", 4, 3, 5, 17)
    for args in ((x, None, w_ih, w_hh), (x, h0, w_ih, w_hh, b_ih), (x, h0, w_ih, w_hh, None, b_hh)):
        for nonlinearity in ("tanh", "relu"):
            assert_close(run(functional, "rnn", args, nonlinearity=nonlinearity),
                         run(reference, "rnn", args, nonlinearity=nonlinearity), 1e-13)
    x, _, _, w_ih, w_hh, _, b_hh = arguments("lstm", 4, 3, 5, 17)
    args = (x, None, None, w_ih, w_hh, None, b_hh)
    assert_close(run(functional, "lstm", args), run(reference, "lstm", args), 1e-13)
    x, _, w_ih, w_hh, _, b_hh = arguments("gru", 4, 3, 5, 17)
    args = (x, None, w_ih, w_hh, None, b_hh)
    assert_close(run(functional, "gru", args), run(reference, "gru", args), 1e-13)


def test_long_sequences_in_several_chunks_match_the_reference():
    for cell, reverse in itertools.product(CELLS, (False, True)):
        args = arguments(cell, 130, 32, 3, 33)  # the gates take more than a chunk's memory
        lengths = np.random.default_rng(3).integers(0, 131, 32)
        for options in ({"reverse": reverse}, {"reverse": reverse, "lengths": lengths}):
            kept = getattr(functional, f"{cell}_forward")(*args, **options)[:-1]
            assert_same_bits(getattr(functional, cell)(*args, **options), kept)
            assert_close(kept, getattr(reference, cell)(*args, **options), 1e-11)


@pytest.mark.parametrize("module", [functional, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize(("cell", "options"), [
    ("rnn", {}), ("rnn", {"nonlinearity": "relu"}), ("lstm", {}), ("gru", {}),
])
def test_gradients_are_finite_differences(module, cell, options):
    for extra in ({}, {"reverse": True, "lengths": [4, 0, 2]}):
        args = arguments(cell, 4, 3, 2, 3)
        outputs = getattr(module, cell)(*args, **options, **extra)
        grads = gradients_like(outputs)

        def loss(args=args, grads=grads, extra=extra):
            outputs = getattr(module, cell)(*args, **options, **extra)
            return sum((a * g).sum() for a, g in zip(outputs, grads, strict=True))

        actual = run(module, cell, args, grads, **options, **extra)[len(outputs):]
        for argument, grad in zip(args, actual, strict=True):
            np.testing.assert_allclose(grad, finite_differences(loss, argument), rtol=1e-6, atol=1e-8)


def chunked_gradients(cell, x, states, weights, grad_y, grad_final, k, reverse):
    """Back-propagate through chunks of k steps, each given the state that the one before it left."""
    forward, backward = (getattr(functional, f"{cell}_{way}") for way in ("forward", "backward"))
    chunks = [slice(t, t + k) for t in range(0, len(x), k)]
    grad_x, sums = np.empty_like(x), [0] * len(weights)
    for i, chunk in enumerate(chunks[::-1] if reverse else chunks):
        _, *states, saved = forward(x[chunk], *states, *weights, reverse=reverse)
        last = i == len(chunks) - 1
        grads = backward(grad_y[chunk], *(g if last else None for g in grad_final), saved)
        grad_x[chunk] = grads[0]
        if i == 0:
            grad_initial = grads[1 : 1 + len(states)]
        sums = [a + b for a, b in zip(sums, grads[1 + len(states) :], strict=True)]
    return [grad_x, *(grad_initial if chunks else grad_final), *sums]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_truncated_gradients_are_those_of_chunks(cell, reverse):
    lengths = np.array([8, 5, 0, 3, 7])
    x, *rest = arguments(cell, 8, 5, 4, 6)
    count = 2 if cell == "lstm" else 1
    states, weights = rest[:count], rest[count:]
    grad_y, *grad_final = gradients_like([np.empty((8, 5, 6)), *states])
    whole = run(functional, cell, [x, *states, *weights], [grad_y, *grad_final], truncate=3, reverse=reverse,
                lengths=lengths)[1 + count :]
    sums = [0] * len(weights)
    for n, length in enumerate(lengths):
        own = slice(n, n + 1)
        grads = chunked_gradients(cell, x[:length, own], [s[own] for s in states], weights,
                                  grad_y[:length, own], [g[own] for g in grad_final], 3, reverse)
        assert_close([whole[0][:length, own], *(g[own] for g in whole[1 : 1 + count])], grads[: 1 + count],
                     1e-14)
        assert not whole[0][length:, n].any()
        sums = [a + b for a, b in zip(sums, grads[1 + count :], strict=True)]
    assert_close(whole[1 + count :], sums, 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_is_the_same_bits_alone_and_in_chunks(isa, cell, dtype):
    steps, lengths = 9, np.array([4, 9, 0, 1, 9, 6, 3])
    x, *rest = arguments(cell, steps, 7, 5, 17, dtype)
    count = 2 if cell == "lstm" else 1
    states, weights = rest[:count], rest[count:]
    call = getattr(functional, cell)
    for reverse in (False, True):
        y, *final = call(x, *states, *weights, reverse=reverse, lengths=lengths)
        for n, length in enumerate(lengths):
            own = [s[n : n + 1] for s in states]
            alone = call(x[:length, n : n + 1], *own, *weights, reverse=reverse)
            assert_same_bits([y[:length, n : n + 1], *(s[n : n + 1] for s in final)], alone)
            assert not y[length:, n].any()
        y, *final = call(x, *states, *weights, reverse=reverse)
        pieces, carried = [], states
        for chunk in (slice(5, 9), slice(4, 5), slice(0, 4))[:: 1 if reverse else -1]:
            piece, *carried = call(x[chunk], *carried, *weights, reverse=reverse)
            pieces.append(piece)
        assert_same_bits([np.concatenate(pieces[::-1] if reverse else pieces), *carried], [y, *final])


SHAPES = {
    "blocks": (12, 33, 20, 64),
    "columns": (3, 1, 40, 1010),
    "columns of short steps": (25, 1, 70, 130),
    "columns of a few sequences": (20, 5, 3, 97),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_equal_bits_for_any_number_of_threads(threads, cell, shape, dtype):
    args = arguments(cell, *shape, dtype)
    lengths = np.random.default_rng(4).integers(0, shape[0] + 1, shape[1])
    for options in ({}, {"lengths": lengths}, {"truncate": 4}):
        results = []
        for n in (1, 2, 3):
            threads(n)
            results.append(run(functional, cell, args, **options))
        assert_same_bits(results[1], results[0])
        assert_same_bits(results[2], results[0])


def test_equal_bits_where_threads_share_the_steps_of_both_directions(threads):
    layer = fn.LSTM(7, 530, bidirectional=True, rng=0)
    x = np.random.default_rng(5).normal(size=(4, 2, 7)).astype(np.float32)
    results = []
    for n in (1, 4, 5):
        threads(n)
        layer.zero_grad()
        for lengths in (None, [1, 4]):
            y, hx = layer(x, lengths=lengths)
            results.append([y, *hx, layer.backward(y), layer.flat_gradients.copy()])
    for i, one in enumerate(results):
        assert_same_bits(one, results[i % 2])


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_to_do_is_defined(cell):
    for steps, batch, lengths in ((0, 3, None), (4, 0, None), (0, 0, None), (4, 0, []), (4, 3, [0, 0, 0])):
        args = arguments(cell, steps, batch, 2, 5)
        results = run(functional, cell, args, lengths=lengths)
        assert_close(results, run(reference, cell, args, lengths=lengths), 0)
        assert results[0].shape == (steps, batch, 5)
        assert_same_bits(results[1 : 3 if cell == "lstm" else 2], args[1 : 3 if cell == "lstm" else 2])


def test_inputs_of_any_memory_are_read_and_never_written(isa):
    def variants(a):
        yield np.asfortranarray(a)
        yield np.repeat(a, 2, axis=-1)[..., ::2]
        yield a[::-1].copy()[::-1]
        yield a.astype(a.dtype.newbyteorder())

    args = arguments("lstm", 4, 3, 5, 7)
    expected = run(functional, "lstm", args)
    for copies in zip(*map(variants, args), strict=True):
        before = [a.copy() for a in copies]
        for a in copies:
            a.flags.writeable = False
        assert_same_bits(run(functional, "lstm", copies), expected)
        assert_same_bits(copies, before)


def test_backward_can_be_repeated_and_leave_out_the_input():
    args = arguments("gru", 4, 3, 5, 7)
    y, h_n, saved = functional.gru_forward(*args)
    first = functional.gru_backward(y, h_n, saved)
    assert_same_bits(functional.gru_backward(y, h_n, saved), first)
    without = functional.gru_backward(y, h_n, saved, input_grad=False)
    assert without[0] is None
    assert_same_bits(without[1:], first[1:])
    assert_same_bits(functional.gru_backward(None, h_n, saved),
                     functional.gru_backward(np.zeros_like(y), h_n, saved))


def test_not_a_number_stays_with_its_sequence_and_infinity_saturates():
    x, h0, *weights = arguments("gru", 4, 3, 5, 7)
    y, _ = functional.gru(x, h0, *weights)
    x[1, 1, 0] = np.nan
    x[1, 2, 0] = np.inf
    y_bad, h_n = functional.gru(x, h0, *weights)
    np.testing.assert_array_equal(y_bad[:, 0], y[:, 0])
    assert np.isnan(y_bad[1:, 1]).all()
    assert np.isfinite(y_bad[:, 2]).all()
    assert np.isnan(h_n[1]).all()


def test_refusals_of_functions_name_the_argument():
    x, h0, w_ih, w_hh, b_ih, b_hh = arguments("gru", 4, 3, 5, 7, np.float32)
    y, h_n, saved = functional.gru_forward(x, h0, w_ih, w_hh, b_ih, b_hh)
    gru, back = functional.gru, functional.gru_backward
    for error, words, call in (
        (ValueError, r"gru: x has 2 dimensions", lambda: gru(x[0], h0, w_ih, w_hh)),
        (TypeError, r"gru: x has dtype int64", lambda: gru(x.astype(int), h0, w_ih, w_hh)),
        (TypeError, r"gru: weight_hh has dtype float64", lambda: gru(x, h0, w_ih, w_hh.astype(float))),
        (ValueError, r"gru: weight_hh has shape \(7, 21\)", lambda: gru(x, h0, w_ih, w_hh.T)),
        (ValueError, r"gru: weight_ih has shape \(21, 4\), expected \(21, 5\)",
         lambda: gru(x, h0, w_ih[:, :4], w_hh)),
        (ValueError, r"gru: x has shape \(4, 3, 0\)", lambda: gru(x[:, :, :0], h0, w_ih, w_hh)),
        (ValueError, r"gru: weight_hh has shape \(0, 0\)",
         lambda: gru(x, h0[:, :0], w_ih[:0], w_hh[:0, :0])),
        (ValueError, r"gru: h0 has shape \(1, 7\), expected \(3, 7\)", lambda: gru(x, h0[:1], w_ih, w_hh)),
        (ValueError, r"gru: bias_hh has shape \(20,\)", lambda: gru(x, h0, w_ih, w_hh, b_ih, b_hh[1:])),
        (ValueError, r"gru: lengths has shape \(2,\), expected \(3,\)",
         lambda: gru(x, h0, w_ih, w_hh, lengths=[1, 2])),
        (ValueError, r"gru: lengths has the value 5, expected values < 5",
         lambda: gru(x, h0, w_ih, w_hh, lengths=[1, 2, 5])),
        (ValueError, r"gru: lengths has the value -1", lambda: gru(x, h0, w_ih, w_hh, lengths=[1, -1, 3])),
        (TypeError, r"gru: lengths .* float64", lambda: gru(x, h0, w_ih, w_hh, lengths=[1.0, 2.0, 3.0])),
        (TypeError, r"gru: reverse must be True or False", lambda: gru(x, h0, w_ih, w_hh, reverse=1)),
        (ValueError, r"rnn: nonlinearity must be 'tanh' or 'relu'",
         lambda: functional.rnn(x, h0, w_ih[:7], w_hh[:7], nonlinearity="selu")),
        (ValueError, r"gru_backward: grad_y has shape", lambda: back(y[:3], h_n, saved)),
        (TypeError, r"gru_backward: grad_y has dtype float64", lambda: back(y.astype(float), h_n, saved)),
        (ValueError, r"gru_backward: grad_h_n has shape", lambda: back(y, h_n[:1], saved)),
        (ValueError, r"gru_backward: truncate must be at least 1", lambda: back(y, h_n, saved, truncate=0)),
        (TypeError, r"gru_backward: saved is a tuple", lambda: back(y, h_n, ())),
        (TypeError, r"rnn_backward: saved is what gru_forward saved",
         lambda: functional.rnn_backward(y, h_n, saved)),
    ):
        with pytest.raises(error, match=words):
            call()


# --- Layers


def make(cell, *args, seed=5, **options):
    return LAYERS[cell](*args, dtype=np.float64, rng=seed, **options)


def as_state(cell, states):
    return tuple(states) if cell == "lstm" else states[0]


def as_list(states):
    return list(states) if isinstance(states, tuple) else [states]


def composition(cell, layer, x, states, lengths):
    """The stack as calls of the reference: output and final states."""
    directions = 2 if layer.bidirectional else 1
    final = [[] for _ in states]
    for k in range(layer.num_layers):
        outputs = []
        for d in range(directions):
            suffix = f"_l{k}" + ("_reverse" if d else "")
            names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if layer.bias else ()))
            weights = [getattr(layer, name + suffix).data for name in names]
            y, *last = getattr(reference, cell)(x, *(s[k * directions + d] for s in states), *weights,
                                                reverse=bool(d), lengths=lengths)
            outputs.append(y)
            for f, s in zip(final, last, strict=True):
                f.append(s)
        x = np.concatenate(outputs, axis=-1)
    return [x, *(np.stack(f) for f in final)]


@pytest.mark.parametrize("lengths", [None, [5, 0, 3]], ids=["even", "ragged"])
@pytest.mark.parametrize("options", [
    {}, {"num_layers": 3, "bias": False}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True},
], ids=["single", "stack", "both", "both-stack"])
@pytest.mark.parametrize("cell", CELLS)
def test_layers_are_compositions_and_their_gradients_finite_differences(cell, options, lengths):
    layer = make(cell, 2, 3, **options)
    n = layer.num_layers * (2 if layer.bidirectional else 1)
    rng = np.random.default_rng(6)
    x = rng.normal(size=(5, 3, 2))
    states = [rng.normal(size=(n, 3, 3)) for _ in range(2 if cell == "lstm" else 1)]
    before = [s.copy() for s in states]
    y, hx = layer(x, as_state(cell, states), lengths=lengths)
    outputs = [y, *as_list(hx)]
    assert_close(outputs, composition(cell, layer, x, states, lengths), 1e-13)
    assert_same_bits(states, before)
    grads = gradients_like(outputs)
    grad_x = layer.backward(grads[0], as_state(cell, grads[1:]))
    layer.eval()

    def loss():
        y, hx = layer(x, as_state(cell, states), lengths=lengths)
        return sum((a * g).sum() for a, g in zip([y, *as_list(hx)], grads, strict=True))

    for array, grad in [(x, grad_x), *zip(states, as_list(layer.grad_hx), strict=True)]:
        assert array.shape == grad.shape
        np.testing.assert_allclose(grad, finite_differences(loss, array), rtol=1e-6, atol=1e-8)
    for p in layer.parameters():
        index = tuple(rng.integers(size) for size in p.shape)  # one element each: there are many

        def moved(by, p=p, index=index):
            data = p._data.copy()
            data[index] += by
            p.data = data
            return loss()

        slope = (moved(1e-6) - moved(-2e-6)) / 2e-6
        moved(1e-6)
        np.testing.assert_allclose(p.grad[index], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("cell", CELLS)
def test_forms_of_the_same_sequences(cell):
    layer = make(cell, 4, 5, num_layers=2, bidirectional=True)
    first = make(cell, 4, 5, num_layers=2, bidirectional=True, batch_first=True)
    x = np.random.default_rng(7).normal(size=(6, 3, 4))
    y, hx = layer(x)
    grad_y = np.cos(np.arange(y.size).reshape(y.shape))
    y_first, hx_first = first(x.transpose(1, 0, 2))
    assert_same_bits([y_first, *as_list(hx_first)], [y.transpose(1, 0, 2), *as_list(hx)])
    grad_x = layer.backward(grad_y)
    assert_same_bits([first.backward(grad_y.transpose(1, 0, 2))], [grad_x.transpose(1, 0, 2)])
    for p, q in zip(layer.parameters(), first.parameters(), strict=True):
        assert_same_bits([p.grad], [q.grad])
    for n in range(3):  # without a batch axis, with or without batch_first
        for single in (layer, first):
            states = as_state(cell, [np.zeros((4, 5))] * 2)
            y_n, hx_n = single(x[:, n], states)
            assert_same_bits([y_n, *as_list(hx_n)], [y[:, n], *(s[:, n] for s in as_list(hx))])
            assert single.backward(grad_y[:, n], states).shape == (6, 4)
            assert all(g.shape == (4, 5) for g in as_list(single.grad_hx))


@pytest.mark.parametrize("cell", CELLS)
def test_streaming_equals_one_call(isa, cell):
    layer = LAYERS[cell](3, 17, num_layers=2, rng=0).eval()
    x = np.random.default_rng(8).normal(size=(12, 2, 3)).astype(np.float32)
    y, hx = layer(x)
    state, pieces = None, []
    for piece in np.split(x, [1, 2, 7, 7, 11]):
        out, state = layer(piece, state)
        pieces.append(out)
    assert_same_bits([np.concatenate(pieces), *as_list(state)], [y, *as_list(hx)])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize(("batch", "hidden"), [(1, 128), (5, 33), (17, 200)])
def test_a_step_of_a_stream_has_the_bits_of_a_sequence(isa, dtype, threads, cell, count, batch, hidden):
    layer = LAYERS[cell](19, hidden, num_layers=2, dtype=dtype, rng=0).eval()
    rng = np.random.default_rng(9)
    x = rng.normal(size=(1, batch, 19)).astype(dtype)
    state = [rng.normal(size=(2, batch, hidden)).astype(dtype) for _ in range(2 if cell == "lstm" else 1)]
    before = [s.copy() for s in state]
    hx = tuple(state) if len(state) == 2 else state[0]
    threads(count)
    layer(x, hx)  # the first step goes the way of all sequences, and leaves what the next ones need
    y, new = layer(x, hx)
    # With lengths, or in memory of another order, the call goes the way of all sequences.
    for argument, lengths in ((x, [1] * batch), (np.asfortranarray(x), None)):
        same, same_new = layer(argument, hx, lengths=lengths)
        assert_same_bits([same, *as_list(same_new)], [y, *as_list(new)])
    assert_same_bits(state, before)
    assert not any(np.shares_memory(y, s) for s in as_list(new))


@pytest.mark.parametrize("make_layer", LAYERS.values(), ids=LAYERS)
def test_a_stack_has_an_end(make_layer):
    """Not when memory has: each layer is small, and 2**31 of them are not."""
    with pytest.raises(ValueError, match="num_layers must be at most 4096, got 2147483647"):
        make_layer(1, 1, num_layers=2**31 - 1)


def test_a_step_of_a_stream_refuses_by_name():
    layer = fn.LSTM(3, 4).eval()
    x, h = np.ones((1, 2, 3), np.float32), np.zeros((1, 2, 4), np.float32)
    for arguments, error, words in (
        ((x, h), TypeError, "LSTM: hx is a ndarray"),
        ((x, (h, h[:, :1])), ValueError, r"LSTM: hx\[1\] has shape"),
        ((x, (h, h.astype(np.float64))), TypeError, r"LSTM: hx\[1\] has dtype float64"),
        ((x.astype(np.float64), (h, h)), TypeError, "LSTM: x has dtype float64"),
        ((x[:, :, :2], (h, h)), ValueError, "LSTM: x has shape"),
    ):
        with pytest.raises(error, match=words):
            layer(*arguments)
        layer(x, (h, h))  # and so it is where steps have been taken
    y, _ = layer(x[:, :0], (h[:, :0], h[:, :0]))
    assert y.shape == (1, 0, 4)


def test_a_stream_with_the_batch_first_takes_one_sequence():
    layer = fn.GRU(3, 4, batch_first=True, rng=0).eval()
    x, h = np.ones((1, 5, 3), np.float32), np.zeros((1, 1, 4), np.float32)
    for _ in range(2):
        layer(x[:, :1], h)
    assert layer(x, h)[0].shape == (1, 5, 4)
    with pytest.raises(ValueError, match="GRU: hx has shape"):
        layer(x, np.zeros((1, 5, 4), np.float32))


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh", "softmax"])
def test_outputs_of_a_bidirectional_network_are_the_notes_formula(activation):
    """o_t = g(V s_t + V' s'_t), and the gradients of all of it."""
    states = make("rnn", 2, 3, bidirectional=True)
    outputs = fn.RNNOutput(3, 4, bidirectional=True, activation=activation, dtype=np.float64, rng=1)
    net = fn.Sequential(states, outputs)
    x = np.random.default_rng(14).normal(size=(5, 2, 2))
    s, _ = states(x)
    z = s[..., :3] @ outputs.weight.data[:, :3].T + s[..., 3:] @ outputs.weight.data[:, 3:].T
    z += outputs.bias.data
    g = {None: lambda z: z, "relu": lambda z: np.maximum(z, 0), "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
         "tanh": np.tanh, "softmax": lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)}[activation]
    o = net(x)
    np.testing.assert_allclose(o, g(z), rtol=1e-13)
    grad_o = np.cos(np.arange(o.size).reshape(o.shape))
    grad_x = net.backward(grad_o)
    net.eval()

    def loss():
        return (net(x) * grad_o).sum()

    np.testing.assert_allclose(grad_x, finite_differences(loss, x), rtol=1e-6, atol=1e-8)
    for p in net.parameters():
        index = tuple(np.array(p.shape) - 1)
        values = []
        for step in (1e-6, -2e-6, 1e-6):
            data = p._data.copy()
            data[index] += step
            p.data = data
            values.append(loss())
        np.testing.assert_allclose(p.grad[index], (values[0] - values[1]) / 2e-6, rtol=1e-6, atol=1e-8)
    assert list(outputs.state_dict()) == ["weight", "bias"]
    with pytest.raises(ValueError, match="RNNOutput: activation must be"):
        fn.RNNOutput(3, 4, activation="gelu")


def test_truncated_stack_equals_chunks():
    layer = make("lstm", 3, 4, num_layers=2)
    chunked = copy.deepcopy(layer)
    x = np.random.default_rng(9).normal(size=(8, 2, 3))
    y, _ = layer(x)
    grad_y = np.sin(np.arange(y.size).reshape(y.shape))
    grad_x = layer.backward(grad_y, truncate=3)
    state, pieces = None, []
    for t in range(0, 8, 3):
        _, state = chunked(x[t : t + 3], state)
        pieces.append(chunked.backward(grad_y[t : t + 3]))
    np.testing.assert_allclose(grad_x, np.concatenate(pieces), rtol=1e-12)
    for p, q in zip(layer.parameters(), chunked.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-12, atol=1e-14)


def test_dropout_between_layers_in_training_alone():
    layer = make("gru", 3, 50, num_layers=2, dropout=0.5)
    x = np.random.default_rng(10).normal(size=(20, 4, 3))
    layer.eval()
    assert_same_bits([layer(x)[0]], [layer(x)[0]])
    y_eval = layer(x)[0]
    layer.train()
    assert (layer(x)[0] != layer(x)[0]).any()
    state = copy.deepcopy(layer._rng)
    y, _ = layer(x)
    assert (y != y_eval).any()
    grad_x = layer.backward(np.ones_like(y))

    def loss():
        layer._rng = copy.deepcopy(state)
        return layer(x)[0].sum()

    numeric = finite_differences(loss, x[:2, :1])
    np.testing.assert_allclose(grad_x[:2, :1], numeric, rtol=1e-5, atol=1e-8)
    assert make("gru", 3, 5, num_layers=2, dropout=1.0)(x)[0].shape == (20, 4, 5)
    with pytest.warns(UserWarning, match="GRU: dropout goes between layers"):
        make("gru", 3, 5, dropout=0.5)


def test_gradients_are_added_and_the_context_used_once():
    layer = make("rnn", 3, 4)
    x = np.random.default_rng(11).normal(size=(5, 2, 3))
    y, _ = layer(x)
    assert layer.backward(y, input_grad=False) is None
    once = [p.grad.copy() for p in layer.parameters()]
    layer(x)
    layer.backward(y)
    for p, grad in zip(layer.parameters(), once, strict=True):
        np.testing.assert_array_equal(p.grad, 2 * grad)
    with pytest.raises(ValueError, match=r"RNN\.backward: call forward"):
        layer.backward(y)
    layer.eval()
    layer(x)
    assert layer._saved is None


def test_eval_keeps_packed_weights_until_they_change():
    layer = make("lstm", 3, 4).eval()
    x = np.random.default_rng(12).normal(size=(5, 2, 3))
    y, _ = layer(x)
    layer.weight_hh_l0 = 2 * layer.weight_hh_l0.data
    assert (layer(x)[0][1:] != y[1:]).any()
    for isa in runtime.available_isas():  # another instruction set packs otherwise
        before = runtime.get_isa()
        runtime.set_isa(isa)
        y, _ = layer(x)
        runtime.set_isa(before)
        np.testing.assert_allclose(y, composition("lstm", layer, x, np.zeros((2, 1, 2, 4)), None)[0])


def test_parameters_have_torchs_names_shapes_and_bounds():
    layer = fn.LSTM(12, 64, num_layers=2, bidirectional=True, rng=0)
    shapes = {name: a.shape for name, a in layer.state_dict().items()}
    expected = {}
    for k, columns in ((0, 12), (1, 128)):
        for suffix in ("", "_reverse"):
            expected.update({f"weight_ih_l{k}{suffix}": (256, columns), f"weight_hh_l{k}{suffix}": (256, 64),
                             f"bias_ih_l{k}{suffix}": (256,), f"bias_hh_l{k}{suffix}": (256,)})
    assert list(shapes.items()) == list(expected.items())
    assert all(0.12 < np.abs(p.data).max() <= 1 / 8 for p in layer.parameters())
    other = fn.LSTM(12, 64, num_layers=2, bidirectional=True, rng=1)
    x = np.random.default_rng(13).normal(size=(3, 2, 12)).astype(np.float32)
    other.load_state_dict(layer.state_dict())
    assert_same_bits([other(x)[0], pickle.loads(pickle.dumps(layer))(x)[0]], [layer(x)[0]] * 2)
    assert fn.GRU(2, 3, bias=False).bias_ih_l0 is None
    assert list(fn.GRU(2, 3, bias=False).state_dict()) == ["weight_ih_l0", "weight_hh_l0"]
    assert repr(layer) == "LSTM(12, 64, num_layers=2, bidirectional=True)"
    assert repr(fn.RNN(2, 3, nonlinearity="relu")) == "RNN(2, 3, nonlinearity='relu')"


def test_refusals_of_layers_name_the_argument():
    layer = fn.LSTM(3, 4)
    x, state = np.zeros((5, 2, 3), np.float32), np.zeros((1, 2, 4), np.float32)

    def backward(*args, **options):
        layer(x)
        layer.backward(*args, **options)

    for error, words, call in (
        (ValueError, r"LSTM: x has shape \(5, 2, 2\), expected input_size = 3", lambda: layer(x[:, :, :2])),
        (ValueError, r"LSTM: x has 1 dimensions", lambda: layer(x[0, 0])),
        (TypeError, r"LSTM: x has dtype float64", lambda: layer(x.astype(float))),
        (TypeError, r"LSTM: hx is a ndarray, expected a pair", lambda: layer(x, state)),
        (ValueError, r"LSTM: hx\[1\] has shape \(1, 1, 4\)", lambda: layer(x, (state, state[:, :1]))),
        (ValueError, r"RNN: hx has shape", lambda: fn.RNN(3, 4)(x, state[0])),
        (ValueError, r"LSTM: lengths has the value 6", lambda: layer(x, lengths=[6, 1])),
        (ValueError, r"LSTM\.backward: grad_out has shape \(2, 4\)", lambda: backward(state[0])),
        (TypeError, r"LSTM\.backward: grad_state is a ndarray", lambda: backward(None, state)),
        (ValueError, r"LSTM\.backward: truncate must be at least 1", lambda: backward(None, truncate=0)),
        (ValueError, r"GRU: hidden_size must be at least 1", lambda: fn.GRU(3, 0)),
        (ValueError, r"GRU: num_layers must be at least 1", lambda: fn.GRU(3, 4, 0)),
        (ValueError, r"GRU: dropout must be between 0 and 1", lambda: fn.GRU(3, 4, 2, dropout=1.5)),
        (TypeError, r"GRU: bidirectional must be True or False", lambda: fn.GRU(3, 4, bidirectional=2)),
        (ValueError, r"RNN: nonlinearity must be", lambda: fn.RNN(3, 4, 1, "gelu")),
        (TypeError, r"proj_size", lambda: fn.LSTM(3, 4, proj_size=2)),
        (TypeError, r"RNN: dtype must be", lambda: fn.RNN(3, 4, dtype=np.float16)),
    ):
        with pytest.raises(error, match=words):
            call()
