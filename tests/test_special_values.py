"""NaN, infinities and denormal numbers pass functions and gradients as they pass the reference."""

import fuzz_cases
import numpy as np
import pytest
from arrays import draw

import fastnn as fn
from fastnn import reference

SIZES = {"N": 3, "C": 4, "H": 6, "W": 5, "K": 4, "R": 3, "S": 2, "D": 7, "T": 5, "G": 1, "I": 3, "O": 2}
# Not here: what is random, and what saves its states in a form of its own. The full convolution pads with
# zeros, and 0 NaN is NaN, where the reference leaves the terms out; the reference's sums over neighbouring
# channels are a product with zeros and ones, where the function leaves them out.
APART = ("dropout", "rnn", "gru", "lstm", "embedding", "convolve2d", "local_response_norm")
NAMES = sorted(name for name in fuzz_cases.FUNCTIONS if not name.startswith(APART))
# x sigmoid(x) and the like have limits at infinity, where their formulas are infinity times 0.
LIMITS = ("gelu", "silu")
VALUES = {"nan": np.nan, "infinity": np.inf, "minus infinity": -np.inf}


def arguments_of(name):
    arguments = fuzz_cases.FUNCTIONS[name](SIZES, np.float32)
    if "algorithm" in arguments:
        arguments["algorithm"] = "direct"  # Winograd's tiles spread a NaN to their neighbours, as documented
    return arguments


def outputs(result):
    if isinstance(result, tuple):
        return [np.asarray(y) for part in result for y in (part if isinstance(part, tuple) else (part,))
                if y is not None]
    return [np.asarray(result)]


def both(name, arguments):
    """The outputs of the function, and those of the reference on the same numbers in float64."""
    wide = {key: value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32
            else value for key, value in arguments.items()}
    if name.startswith(LIMITS):
        low, high = -1e4, 1e4 if name.endswith("_backward") else np.inf
        wide["x"] = np.clip(wide["x"], low, high)
    with np.errstate(all="ignore"):
        return (outputs(getattr(fn.functional, name)(**arguments)),
                outputs(getattr(reference, name)(**wide)))


def assert_as_the_reference(name, arguments, kind, apart=()):
    """With one special number in each of the arguments, in turn, but for those `apart`."""
    for key, value in arguments.items():
        if key in apart or not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            continue
        changed = {**arguments, key: arguments[key].copy()}
        changed[key].flat[1] = VALUES[kind]
        found, expected = both(name, changed)
        for y, e in zip(found, expected, strict=True):
            if name == "batch_norm_backward":
                # An infinite gradient reaches its channel through sums and differences of infinities: whether
                # infinity or NaN is left depends on their order.
                np.testing.assert_array_equal(np.isfinite(y), np.isfinite(e), err_msg=f"finite, {key}")
                y, e = np.where(np.isfinite(y), y, 0), np.where(np.isfinite(e), e, 0)
            np.testing.assert_array_equal(np.isnan(y), np.isnan(e), err_msg=f"NaN from {key}")
            np.testing.assert_array_equal(np.isinf(y), np.isinf(e), err_msg=f"infinity from {key}")
            np.testing.assert_allclose(y, e, rtol=2e-5, atol=2e-5, err_msg=f"the others, {key}")


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("name", NAMES)
def test_special_numbers(name, kind):
    probabilities = name.removesuffix("_backward") == "binary_cross_entropy" and kind != "nan"
    assert_as_the_reference(name, arguments_of(name), kind, apart=("y",) if probabilities else ())


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("name", ["conv2d", "conv2d_backward"])
def test_special_numbers_in_groups(name, group, stride, kind, isa):
    """Of few channels, for which there are other kernels.

    But for a special number in a filter over padding: a kernel may leave that out or multiply it by zero, and
    the gradient of the input is a convolution of a padded one.
    """
    x, weight = draw(2, 20, 6, 7, dtype=np.float32), draw(20, group, 3, 3, dtype=np.float32, seed=1)
    for padding, apart in ((0, ["weight"] if name == "conv2d_backward" else []), (1, ["weight", "grad_y"])):
        arguments = {"x": x, "weight": weight, "bias": draw(20, dtype=np.float32, seed=2), "padding": padding,
                     "stride": stride, "groups": 20 // group}
        if name == "conv2d_backward":
            arguments = {"grad_y": fn.functional.conv2d(**arguments), **arguments}
        assert_as_the_reference(name, arguments, kind, apart)


# What is linear in its first argument keeps denormal numbers; 1e-40 has 16 of the 23 bits of its like.
LINEAR = ("relu", "leaky_relu", "conv1d", "conv2d", "linear", "max_pool1d", "max_pool2d", "avg_pool2d",
          "adaptive_avg_pool2d", "global_avg_pool2d", "convolve2d", "conv_transpose2d", "relu_backward",
          "tanh_backward", "conv2d_backward", "linear_backward", "max_pool2d_backward", "avg_pool2d_backward")


@pytest.mark.parametrize("name", LINEAR)
def test_denormal_numbers_are_kept(name, isa):
    arguments = arguments_of(name)
    first = next(iter(arguments))
    arguments |= {key: None for key in ("bias", "activation") if key in arguments}
    arguments[first] = (arguments[first] * 1e-40).astype(np.float32)
    found, expected = both(name, arguments)
    assert any(np.any((y != 0) & (np.abs(y) < np.finfo(np.float32).tiny)) for y in found)
    for y, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, e, rtol=1e-6, atol=64 * np.finfo(np.float32).smallest_subnormal)
