"""Pooling against the reference and finite differences, on every instruction set, with any threads."""

from functools import partial

import numpy as np
import pytest
from arrays import LAYOUTS, finite_differences
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn import functional as F
from fastnn import reference as R

CHANNELS = (1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97)
# Sums of at most 64 numbers below 4, in another order than the reference's.
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-13}


def close(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    tolerance = TOLERANCE[actual.dtype]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def normal(rng, shape, dtype):
    """Numbers on a coarse grid, so that there are ties."""
    return np.round(rng.normal(size=shape) * 2).clip(-8, 8).astype(dtype) / 2


# --- Against the reference


@st.composite
def poolings(draw, dims):
    """An array, the same in some memory layout, and the arguments of a valid pooling."""

    def numbers(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * dims))

    kernel, stride, dilation = numbers(1, 4), numbers(1, 3), numbers(1, 3)
    padding = tuple(min(p, k // 2) for p, k in zip(numbers(0, 2), kernel, strict=True))
    # Large enough that no window misses the image.
    sizes = [d * (k - 1) + extra for d, k, extra in zip(dilation, kernel, numbers(1, 9), strict=True)]
    batch = draw(st.sampled_from([(), (1,), (2,), (0,)]))
    channels = draw(st.sampled_from([0, 1, 2, 3, 5, 16, 17, 33]))
    config = {
        "kernel_size": kernel, "stride": draw(st.sampled_from([None, stride])), "padding": padding,
        "dilation": dilation, "ceil_mode": draw(st.booleans()),
    }
    shape = (*batch, channels, *sizes)
    x = normal(np.random.default_rng(draw(st.integers(0, 2**32))), shape, draw(st.sampled_from("fd")))
    return x, draw(st.sampled_from(list(LAYOUTS.values())))(x), config


@pytest.mark.parametrize("dims", [1, 2])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_maximum(dims, data):
    x, given_x, config = data.draw(poolings(dims))
    forward, backward = f"max_pool{dims}d", f"max_pool{dims}d_backward"
    expected, expected_indices = getattr(R, forward)(x, **config, return_indices=True)
    y, indices = getattr(F, forward)(given_x, **config, return_indices=True)
    np.testing.assert_array_equal(y, expected, strict=True)
    np.testing.assert_array_equal(indices, expected_indices, strict=True)
    np.testing.assert_array_equal(getattr(F, forward)(given_x, **config), y, strict=True)
    grad_y = normal(np.random.default_rng(0), y.shape, x.dtype)
    close(getattr(F, backward)(grad_y, indices, x.shape), getattr(R, backward)(grad_y, indices, x.shape))


@pytest.mark.parametrize("dims", [1, 2])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mean(dims, data):
    x, given_x, config = data.draw(poolings(dims))
    del config["dilation"]
    config["count_include_pad"] = data.draw(st.booleans())
    if dims == 2:
        config["divisor_override"] = data.draw(st.sampled_from([None, 3, -2]))
    forward, backward = f"avg_pool{dims}d", f"avg_pool{dims}d_backward"
    expected = getattr(R, forward)(x, **config)
    close(getattr(F, forward)(given_x, **config), expected)
    grad_y = normal(np.random.default_rng(0), expected.shape, x.dtype)
    close(getattr(F, backward)(grad_y, x.shape, **config), getattr(R, backward)(grad_y, x.shape, **config))


@pytest.mark.parametrize("dims", [1, 2])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_adaptive_mean(dims, data):
    x, given_x, _ = data.draw(poolings(dims))
    size = data.draw(st.sampled_from([1, 2, 3, 7, 20, None, (2,) * dims, (None, 5)[-dims:]]))
    forward, backward = f"adaptive_avg_pool{dims}d", f"adaptive_avg_pool{dims}d_backward"
    expected = getattr(R, forward)(x, size)
    close(getattr(F, forward)(given_x, size), expected)
    grad_y = normal(np.random.default_rng(0), expected.shape, x.dtype)
    close(getattr(F, backward)(grad_y, x.shape), getattr(R, backward)(grad_y, x.shape))
    one = getattr(F, f"global_avg_pool{dims}d")(given_x)
    close(one, getattr(R, f"global_avg_pool{dims}d")(x))
    close(getattr(F, f"global_avg_pool{dims}d_backward")(one, x.shape),
          getattr(R, f"global_avg_pool{dims}d_backward")(one, x.shape))


@pytest.mark.parametrize("channels", CHANNELS)
def test_every_instruction_set(isa, channels, dtype):
    rng = np.random.default_rng(channels)
    x = LAYOUTS["channels-last"](normal(rng, (2, channels, 7, 11), dtype))
    for config in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (3, 3, 0), ((3, 1), 1, (1, 0)), ((2, 5), 1, (1, 2))):
        y, indices = F.max_pool2d(x, *config, return_indices=True)
        expected, expected_indices = R.max_pool2d(x, *config, return_indices=True)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_array_equal(F.max_pool2d(x, *config), expected)
        close(F.avg_pool2d(x, *config), R.avg_pool2d(x, *config))
        close(F.max_pool2d_backward(y, indices, x.shape), R.max_pool2d_backward(y, indices, x.shape))
        close(F.avg_pool2d_backward(y, x.shape, *config), R.avg_pool2d_backward(y, x.shape, *config))
    for config in ((5, 2, 2), (6, 2, 1), (7, 3, 3)):  # pixels are covered by two or three outputs, in turn
        y = F.avg_pool2d(x, *config)
        close(F.avg_pool2d_backward(y, x.shape, *config), R.avg_pool2d_backward(y, x.shape, *config))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 64, 41, 40), (9, 17, 30, 20), (1, 3, 1, 60_000), (1, 1, 300, 300)])
def test_bits_do_not_depend_on_threads(threads, shape, stride, dtype):
    x = LAYOUTS["channels-last"](np.random.default_rng(0).normal(size=shape).astype(dtype))
    config = ((min(3, shape[2]), 3), (1, stride), (min(1, shape[2] // 2), 1))

    def everything(n):
        threads(n)
        y, indices = F.max_pool2d(x, *config, return_indices=True)
        mean = F.avg_pool2d(x, *config)
        return [a.tobytes() for a in (
            y, indices, F.max_pool2d(x, *config), F.max_pool2d_backward(y, indices, x.shape), mean,
            F.avg_pool2d_backward(mean, x.shape, *config), F.adaptive_avg_pool2d(x, (1, 7)),
        )]

    one, *others = map(everything, (1, 2, 3))
    assert all(other == one for other in others)


def test_a_long_row_is_cut_into_blocks():
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 5000))
    for config in ((3, 2, 1, 1), ((1, 5), (1, 3), 0, (1, 700))):
        y, indices = F.max_pool2d(x, *config, return_indices=True)
        expected, expected_indices = R.max_pool2d(x, *config, return_indices=True)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(indices, expected_indices)
    close(F.avg_pool2d(x, (3, 300), 7, (0, 100)), R.avg_pool2d(x, (3, 300), 7, (0, 100)))


def test_tall_windows(isa):
    x = np.random.default_rng(0).normal(size=(2, 3, 31, 5))
    for height in (7, 8, 9, 17, 31):
        np.testing.assert_array_equal(F.max_pool2d(x, (height, 2)), R.max_pool2d(x, (height, 2)))
        close(F.avg_pool2d(x, (height, 2)), R.avg_pool2d(x, (height, 2)))


# --- Gradients by finite differences


LAYERS = [
    (lambda **kw: fn.MaxPool2d(3, 2, 1, **kw), (2, 3, 7, 6)),
    (lambda **kw: fn.MaxPool2d((2, 3), (1, 2), dilation=(2, 1), ceil_mode=True, **kw), (1, 2, 7, 6)),
    (lambda **kw: fn.MaxPool1d(2, 1, 1, **kw), (2, 3, 7)),
    (lambda **kw: fn.MaxPool2d(2, **kw), (3, 7, 6)),
    (lambda **kw: fn.AvgPool2d(3, 2, 1, **kw), (2, 3, 7, 6)),
    (lambda **kw: fn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False, **kw), (2, 3, 8, 6)),
    (lambda **kw: fn.AvgPool2d(2, divisor_override=3, **kw), (2, 3, 7, 6)),
    (lambda **kw: fn.AvgPool1d(3, 2, 1, ceil_mode=True, **kw), (2, 3, 8)),
    (lambda **kw: fn.AdaptiveAvgPool2d((3, None), **kw), (2, 3, 7, 6)),
    (lambda **kw: fn.AdaptiveAvgPool1d(4, **kw), (3, 7)),
    (lambda **kw: fn.GlobalAvgPool2d(**kw), (2, 3, 7, 6)),
    (lambda **kw: fn.GlobalAvgPool1d(**kw), (2, 3, 7)),
]


@pytest.mark.parametrize(("build", "shape"), LAYERS)
def test_layer(build, shape):
    rng = np.random.default_rng(0)
    layer = build(dtype=np.float64)
    x = rng.permutation(np.prod(shape)).reshape(shape) / 10.0  # no two so near that a step changes the winner
    y = layer(x)
    grad_y = rng.normal(size=y.shape)
    grad_x = layer.backward(grad_y)
    assert grad_x.shape == x.shape
    layer.eval()
    expected = finite_differences(lambda: (grad_y * layer(x)).sum(), x)
    np.testing.assert_allclose(grad_x, expected, rtol=1e-7, atol=1e-7)
    with pytest.raises(ValueError, match="call forward in training mode first"):
        layer.backward(grad_y)
    np.testing.assert_array_equal(layer(x), y)
    assert layer._saved is None
    assert layer.state_dict() == {}
    layer.train()(x.astype(np.float32))
    with pytest.raises(ValueError, match="grad_y"):
        layer.backward(np.zeros([n + 1 for n in y.shape], np.float32))


@pytest.mark.parametrize("channels", [7, 8, 17, 64])
@pytest.mark.parametrize("config", [(2,), (3, 1, 1), (3, 2, 1), (2, 3), (4, 1, 2), (5, 2)])
def test_layer_and_function_find_the_same_winners(isa, config, channels, dtype):
    # A layer knows its windows, so that each pixel may ask the outputs; the function has the indices alone.
    rng = np.random.default_rng(0)
    x = normal(rng, (2, channels, 9, 11), dtype)
    layer = fn.MaxPool2d(*config)
    y, indices = F.max_pool2d(x, *config, return_indices=True)
    np.testing.assert_array_equal(layer(x), y)
    grad_y = rng.normal(size=y.shape).astype(dtype)
    grad_y.flat[::7] = np.inf
    expected = F.max_pool2d_backward(grad_y, indices, x.shape)
    np.testing.assert_array_equal(layer.backward(grad_y), expected)


def test_layer_returns_indices():
    layer = fn.MaxPool2d(2, return_indices=True)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32)
    expected = F.max_pool2d(x, 2, return_indices=True)
    for mode in (True, False):
        y, indices = layer.train(mode)(x)
        np.testing.assert_array_equal(y, expected[0], strict=True)
        np.testing.assert_array_equal(indices, expected[1], strict=True)


def test_layers_in_a_network():
    net = fn.Sequential(fn.MaxPool2d(2), fn.AvgPool2d(2), fn.GlobalAvgPool2d(), fn.Flatten())
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    assert net(x).shape == (2, 3)
    assert net.backward(np.ones((2, 3), np.float32)).sum() == pytest.approx(6)
    assert "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0)" in repr(net)


# --- Special values and shapes


@pytest.mark.parametrize("channels", [1, 3, 16, 17])
def test_nan_wins_the_first_in_row_order(isa, channels, dtype):
    rng = np.random.default_rng(0)
    x = normal(rng, (2, channels, 6, 7), dtype)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[rng.random(x.shape) < 0.1] = np.inf
    y, indices = F.max_pool2d(x, 3, 1, 1, return_indices=True)
    expected, expected_indices = R.max_pool2d(x, 3, 1, 1, return_indices=True)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(F.max_pool2d(x, 3, 1, 1), expected)
    with np.errstate(invalid="ignore"):  # inf - inf
        np.testing.assert_allclose(F.avg_pool2d(x, 2), R.avg_pool2d(x, 2), rtol=1e-5)


def test_nan_stays_in_its_own_window(isa):
    x = np.zeros((1, 5, 4, 8), np.float32)
    x[0, 2, 1, 3] = np.nan
    for y in (F.max_pool2d(x, 2), F.avg_pool2d(x, 2)):
        assert np.argwhere(np.isnan(y)).tolist() == [[0, 2, 0, 1]]


@pytest.mark.parametrize("value", [-np.inf, np.finfo(np.float32).min, -0.0, np.inf])
def test_a_constant_keeps_its_value_and_has_its_first_index(isa, value):
    x = np.full((1, 2, 3, 4), value, np.float32)
    y, indices = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    np.testing.assert_array_equal(y.view(np.int32), np.full(y.shape, value, np.float32).view(np.int32))
    assert indices[0].tolist() == [[[0, 1], [4, 5]]] * 2


def test_zeros_of_both_signs_are_equal():
    x = np.array([[[[-0.0, 0.0, 0.0, -0.0]]]])
    assert F.max_pool2d(x, (1, 2), return_indices=True)[1].tolist() == [[[[0, 2]]]]


@pytest.mark.parametrize("values", [[-1, -0.0, 0.0], [-1, -0.0, 0.0, np.nan], [-np.inf, np.inf, 1]])
@pytest.mark.parametrize("channels", [1, 3, 17, 32, 97])
def test_training_and_eval_give_the_same_bits(isa, channels, values):
    rng = np.random.default_rng(0)
    x = rng.choice(np.array(values, np.float32), (2, channels, 9, 9))
    for config in ((2,), (3, 1, 1), (3, 2, 1), (3,)):
        plain, (y, _) = F.max_pool2d(x, *config), F.max_pool2d(x, *config, return_indices=True)
        assert plain.tobytes() == y.tobytes()


@pytest.mark.parametrize("config", [(2, 2, 0), (3, 1, 1), (3, 2, 1)])
def test_many_images_give_the_bits_of_each(config):
    """Of large arrays rows are fetched ahead, and tasks come in another order."""
    x = LAYOUTS["channels-last"](np.random.default_rng(0).normal(size=(6, 64, 80, 80)))
    assert x.nbytes > 16 * 2**20
    with_places = partial(F.max_pool2d, return_indices=True)
    for pool in (with_places, F.avg_pool2d, partial(with_places, dilation=2)):
        one_by_one = [pool(image[None], *config) for image in x]
        np.testing.assert_array_equal(pool(x, *config), np.concatenate(one_by_one, axis=-4))
    np.testing.assert_array_equal(F.max_pool2d(x, *config), with_places(x, *config)[0])


def test_the_mean_of_equals_is_exact(isa):
    x = np.full((1, 17, 9, 9), 0.1, np.float32)
    np.testing.assert_array_equal(F.avg_pool2d(x, 3), np.full((1, 17, 3, 3), 0.1, np.float32))


def test_ceil_mode_as_torch_has_it():
    # The last window must begin inside the image or the padding before it.
    x = np.arange(1.0, 6).reshape(1, 1, 5)
    assert F.max_pool1d(x, 2, 2, ceil_mode=True).tolist() == [[[2, 4, 5]]]
    assert F.max_pool1d(x[..., :4], 1, 3, ceil_mode=True).tolist() == [[[1, 4]]]
    assert F.max_pool1d(x[..., :3], 1, 4, ceil_mode=True).tolist() == [[[1]]]
    assert F.max_pool1d(x[..., :2], 3, ceil_mode=True).tolist() == [[[2]]]  # wider than the image
    # Pixels on the padding count, those past its end do not.
    assert F.avg_pool1d(x, 4, 3, 2, True).tolist() == [[[3 / 4, 14 / 4, 5 / 3]]]
    assert F.avg_pool1d(x, 4, 3, 2, True, False).tolist() == [[[3 / 2, 14 / 4, 5]]]


def test_known_answers():
    x = np.array([[[[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]]]], np.float32)
    y, indices = F.max_pool2d(x, 2, 2, return_indices=True)
    assert y.tolist() == [[[[6, 8], [3, 4]]]]
    assert indices.tolist() == [[[[5, 7], [8, 15]]]]
    assert F.avg_pool2d(x, 2).tolist() == [[[[13 / 4, 21 / 4], [2, 2]]]]
    grad_x = F.max_pool2d_backward(np.array([[[[1, 2], [3, 4]]]], np.float32), indices, x.shape)
    assert grad_x.tolist() == [[[[0, 0, 0, 0], [0, 1, 0, 2], [3, 0, 0, 0], [0, 0, 0, 4]]]]


def test_memory_is_channels_last_and_inputs_stay():
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    x.flags.writeable = False
    before = x.copy()
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    results = [y, indices, F.max_pool2d_backward(y, indices, x.shape), F.avg_pool2d(x, 2),
               F.avg_pool2d_backward(y, x.shape, 2), F.adaptive_avg_pool2d(x, 4)]
    assert all(a.transpose(0, 2, 3, 1).flags.c_contiguous for a in results)
    np.testing.assert_array_equal(x, before)


def test_lists_are_arrays():
    x = np.arange(16.0).reshape(1, 4, 4).tolist()
    assert F.max_pool2d(x, 2).tolist() == [[[5, 7], [13, 15]]]
    assert F.avg_pool2d(x, [2, 4]).tolist() == [[[3.5], [11.5]]]


@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (2, 0, 6, 6), (0, 6, 6)])
def test_empty(shape):
    x = np.zeros(shape, np.float32)
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    assert y.shape == indices.shape == F.avg_pool2d(x, 2).shape == (*shape[:-2], 3, 3)
    assert F.max_pool2d_backward(y, indices, shape).shape == shape
    assert F.avg_pool2d_backward(y, shape, 2).shape == shape
    assert F.global_avg_pool2d(x).shape == (*shape[:-2], 1, 1)


# --- Bad input


IMAGE = np.zeros((1, 2, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (TypeError, "max_pool2d: x has dtype int64", lambda: F.max_pool2d(np.zeros((1, 2, 4, 4), int), 2)),
        (TypeError, "avg_pool2d: x has dtype float16", lambda: F.avg_pool2d(IMAGE.astype(np.float16), 2)),
        (ValueError, "max_pool2d: x has 2 dimensions", lambda: F.max_pool2d(IMAGE[0, 0], 2)),
        (ValueError, "max_pool1d: x has 4 dimensions", lambda: F.max_pool1d(IMAGE, 2)),
        (TypeError, "max_pool2d: x is None", lambda: F.max_pool2d(None, 2)),
        (ValueError, "max_pool2d: kernel_size must be at least 1", lambda: F.max_pool2d(IMAGE, 0)),
        (TypeError, "max_pool2d: kernel_size must be an integer", lambda: F.max_pool2d(IMAGE, 2.5)),
        (ValueError, "kernel_size must be an integer or 2", lambda: F.avg_pool2d(IMAGE, (2, 2, 2))),
        (ValueError, "max_pool2d: stride must be at least 1", lambda: F.max_pool2d(IMAGE, 2, 0)),
        (ValueError, "max_pool2d: padding must be at least 0", lambda: F.max_pool2d(IMAGE, 2, 2, -1)),
        (ValueError, "padding 2 of axis H is more than half", lambda: F.max_pool2d(IMAGE, 3, 1, 2)),
        (ValueError, "padding 1 of axis W is more than half", lambda: F.avg_pool2d(IMAGE, (2, 1), 1, 1)),
        (ValueError, "max_pool2d: dilation must be at least 1", lambda: F.max_pool2d(IMAGE, 2, dilation=0)),
        (ValueError, "spans 5 pixels of axis H", lambda: F.max_pool2d(IMAGE, 5)),
        (ValueError, "spans 6 pixels of axis W", lambda: F.avg_pool2d(IMAGE, (2, 6))),
        (ValueError, "no tap inside axis W", lambda: F.max_pool2d(IMAGE, (1, 2), 1, (0, 1), (1, 5))),
        (ValueError, "no pixels along axis H", lambda: F.max_pool2d(IMAGE[:, :, :0], 1)),
        (ValueError, "adaptive_avg_pool2d: x has no pixels",
         lambda: F.adaptive_avg_pool2d(IMAGE[:, :, :0], 1)),
        (TypeError, "max_pool2d: ceil_mode must be True or False",
         lambda: F.max_pool2d(IMAGE, 2, ceil_mode=1)),
        (TypeError, "max_pool2d: return_indices must be True or False",
         lambda: F.max_pool2d(IMAGE, 2, return_indices="no")),
        (ValueError, "divisor_override must not be 0", lambda: F.avg_pool2d(IMAGE, 2, divisor_override=0)),
        (TypeError, "divisor_override must be an", lambda: F.avg_pool2d(IMAGE, 2, divisor_override=.5)),
        (ValueError, "output_size must be at least 1", lambda: F.adaptive_avg_pool2d(IMAGE, 0)),
        (ValueError, "output_size must be at most 4194304", lambda: F.adaptive_avg_pool2d(IMAGE, 2**30)),
        (ValueError, "output_size must be one number or", lambda: F.adaptive_avg_pool2d(IMAGE, (1, 2, 3))),
        (ValueError, "output_size must be one number,", lambda: F.adaptive_avg_pool1d(IMAGE[0], (1, 2))),
        (ValueError, "MaxPool2d: kernel_size must be at least 1", lambda: fn.MaxPool2d(-1)),
        (TypeError, "AvgPool1d: stride must be an integer", lambda: fn.AvgPool1d(2, "two")),
        (TypeError, "MaxPool1d: return_indices", lambda: fn.MaxPool1d(2, return_indices=3)),
        (TypeError, "AdaptiveAvgPool2d: output_size must be an integer", lambda: fn.AdaptiveAvgPool2d("big")),
        (TypeError, "dtype must be float32 or float64", lambda: fn.MaxPool2d(2, dtype=np.int32)),
        (ValueError, "grad_y has shape", lambda: F.max_pool2d_backward(
            IMAGE, np.zeros((1, 2, 4, 5), int), (1, 2, 8, 8))),
        (ValueError, "indices has the value 64", lambda: F.max_pool2d_backward(
            IMAGE, np.full(IMAGE.shape, 64), (1, 2, 8, 8))),
        (ValueError, "indices has the value -1", lambda: F.max_pool2d_backward(
            IMAGE, np.full(IMAGE.shape, -1), (1, 2, 8, 8))),
        (TypeError, "indices has dtype float32", lambda: F.max_pool2d_backward(IMAGE, IMAGE, (1, 2, 8, 8))),
        (ValueError, "batch and channels must be equal", lambda: F.max_pool2d_backward(
            IMAGE, np.zeros(IMAGE.shape, int), (1, 3, 8, 8))),
        (TypeError, "input_shape must be the shape", lambda: F.avg_pool2d_backward(IMAGE, 8, 2)),
        (ValueError, "input_shape has 2 sizes", lambda: F.avg_pool2d_backward(IMAGE, (8, 8), 2)),
        (ValueError, "input_shape must be at least", lambda: F.avg_pool2d_backward(IMAGE, (1, 2, -8, 8), 2)),
        (ValueError, "grad_y has shape", lambda: F.avg_pool2d_backward(IMAGE, (1, 2, 6, 8), 2)),
        (ValueError, "input_shape is", lambda: F.adaptive_avg_pool2d_backward(IMAGE, (2, 8, 8))),
        (ValueError, "grad_y must be at least 1", lambda: F.adaptive_avg_pool2d_backward(
            IMAGE[..., :0], (1, 2, 8, 8))),
        (ValueError, "grad_y must be at least 1", lambda: F.adaptive_avg_pool1d_backward(
            IMAGE[0, ..., :0], (2, 8, 8))),
    ],
)
def test_bad_input_is_named(error, words, call):
    with pytest.raises(error, match=words):
        call()


def test_huge_numbers():
    huge, half = 2**31 - 1, 2**30 - 1
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    # A window about the whole image, the padding wider than memory.
    assert F.max_pool2d(x, huge, huge, half).tolist() == [[[[11]]]]
    assert F.avg_pool2d(x, huge, huge, half, count_include_pad=False).tolist() == [[[[5.5]]]]
    assert F.max_pool2d(x, 1, huge).tolist() == [[[[0]]]]
    for call in (
        lambda: F.max_pool2d(x, 2**31),
        lambda: F.max_pool2d(x, 2, 2**63),
        lambda: F.max_pool2d(x, huge, 1, 0, huge),
        lambda: F.max_pool2d(x, huge, 1, half + 1),
        lambda: F.avg_pool2d(x, 2, divisor_override=2**40),
    ):
        with pytest.raises(ValueError, match=r"2\*\*31|spans|more than half"):
            call()
