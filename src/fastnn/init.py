"""Initial values of parameters, under torch.nn.init's names, and the package's own random generator.

Every function fills a float array or a Parameter in place and returns it.  `rng` is a seed, a
numpy.random.Generator or None for the package's generator, which `manual_seed` resets.  What is drawn does
not depend on the dtype: float32 values are the rounded float64 ones.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from . import _checks
from ._kernels.runtime import in_default_environment
from ._random import Rng, as_generator
from ._random import default_generator as default_generator
from ._random import manual_seed as manual_seed
from .layers.parameter import Parameter

T = TypeVar("T", np.ndarray, Parameter)


# --- Plain distributions


@in_default_environment
def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, *, rng: Rng = None) -> T:
    """Fill with draws from the uniform distribution on [a, b)."""
    shape = _shape("uniform_", tensor)
    a, b = _checks.real("uniform_: a", a), _checks.real("uniform_: b", b)
    if not math.isfinite(b - a):
        raise ValueError(f"uniform_: b - a must be finite, got {b} - {a}")
    if a > b:
        raise ValueError(f"uniform_: a must not be above b, got {a} and {b}")
    # NumPy does not take [0.0, -0.0)
    return _fill(tensor, as_generator("uniform_: rng", rng).uniform(a, b + 0.0, shape))


@in_default_environment
def normal_(tensor: T, mean: float = 0.0, std: float = 1.0, *, rng: Rng = None) -> T:
    """Fill with draws from the normal distribution N(mean, std**2)."""
    mean, std = _checks.real("normal_: mean", mean), _checks.real("normal_: std", std, low=0)
    shape = _shape("normal_", tensor)
    # NumPy takes no -0.0 for a spread
    return _fill(tensor, as_generator("normal_: rng", rng).normal(mean, abs(std), shape))


@in_default_environment
def trunc_normal_(
    tensor: T, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, *, rng: Rng = None
) -> T:
    """Fill with draws from N(mean, std**2) given that they lie in [a, b]."""
    from statistics import NormalDist  # slow to import, rarely needed

    shape = _shape("trunc_normal_", tensor)
    std = _checks.real("trunc_normal_: std", std, low=math.ulp(0.0))
    mean = _checks.real("trunc_normal_: mean", mean)
    a, b = (float(end) if isinstance(end, float | np.floating) and math.isinf(end)
            else _checks.real(f"trunc_normal_: {name}", end) for name, end in (("a", a), ("b", b)))
    if not a < b:
        raise ValueError(f"trunc_normal_: a must be below b, got {a} and {b}")
    low, high = (a - mean) / std, (b - mean) / std
    # By the inverse of the distribution function, in the lower tail, where it keeps its digits.
    sign = -1.0 if low > 0 else 1.0
    start, stop = (0.5 * math.erfc(-end / math.sqrt(2)) for end in sorted((sign * low, sign * high)))
    u = as_generator("trunc_normal_: rng", rng).uniform(start, stop, shape)
    u = np.clip(u, math.ulp(0.0), 1 - 2**-53)
    z = np.fromiter(map(NormalDist().inv_cdf, u.flat), np.float64, u.size).reshape(shape)
    return _fill(tensor, np.clip(mean + std * sign * z, a, b))


@in_default_environment
def constant_(tensor: T, val: float) -> T:
    """Fill with `val`."""
    shape = _shape("constant_", tensor)
    return _fill(tensor, np.full(shape, _checks.real("constant_: val", val), np.float64))


def zeros_(tensor: T) -> T:
    """Fill with zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor: T) -> T:
    """Fill with ones."""
    return constant_(tensor, 1.0)


# --- Scaled to the layer's width


@in_default_environment
def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which a standard deviation is scaled for the nonlinearity that follows.

    Parameters
    ----------
    nonlinearity : str
        "linear", "conv1d", "conv2d", "conv_transpose2d", "sigmoid": 1; "tanh": 5/3; "relu": sqrt(2);
        "leaky_relu": sqrt(2 / (1 + slope**2)); "selu": 3/4.
    param : float, optional
        The negative slope of the leaky ReLU, 0.01 by default.
    """
    gains = {
        "linear": 1.0,
        "conv1d": 1.0,
        "conv2d": 1.0,
        "conv_transpose1d": 1.0,
        "conv_transpose2d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": 0.0,
        "selu": 3 / 4,
    }
    _checks.choice("calculate_gain: nonlinearity", nonlinearity, tuple(gains))
    if nonlinearity != "leaky_relu":
        return gains[nonlinearity]
    slope = 0.01 if param is None else _checks.real("calculate_gain: param", param)
    return math.sqrt(2 / (1 + slope * slope))  # the square of a large number is infinite, its power an error


def fan_in_and_fan_out(tensor: Any) -> tuple[int, int]:
    """Return how many inputs each output of a weight (out, in, *kernel) sees, and the reverse."""
    shape = tensor.shape
    if len(shape) < 2:
        raise ValueError(f"fan_in_and_fan_out: tensor has shape {shape}, expected at least 2 dimensions")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


@in_default_environment
def xavier_uniform_(tensor: T, gain: float = 1.0, *, rng: Rng = None) -> T:
    """Fill from U(-bound, bound), bound = gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    bound = math.sqrt(3) * _xavier("xavier_uniform_", tensor, gain)
    return uniform_(tensor, -bound, bound, rng=rng)


@in_default_environment
def xavier_normal_(tensor: T, gain: float = 1.0, *, rng: Rng = None) -> T:
    """Fill from N(0, std**2), std = gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    return normal_(tensor, 0.0, _xavier("xavier_normal_", tensor, gain), rng=rng)


@in_default_environment
def kaiming_uniform_(
    tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", *, rng: Rng = None
) -> T:
    """Fill from U(-bound, bound), bound = gain * sqrt(3 / fan) (He et al., 2015).

    Parameters
    ----------
    tensor : ndarray or Parameter
        A weight (out, in, *kernel).
    a : float, optional
        The negative slope of the leaky ReLU that follows.  The square root of 5 gives the default of
        linear layers and convolutions, bound = 1 / sqrt(fan_in).
    mode : {"fan_in", "fan_out"}, optional
        Whether the variance is kept in the forward or in the backward pass.
    nonlinearity : str, optional
        As for `calculate_gain`.
    rng : int or numpy.random.Generator, optional
        Where the values come from.
    """
    bound = math.sqrt(3) * _kaiming("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, rng=rng)


@in_default_environment
def kaiming_normal_(
    tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", *, rng: Rng = None
) -> T:
    """Fill from N(0, std**2), std = gain / sqrt(fan); the arguments are those of `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming("kaiming_normal_", tensor, a, mode, nonlinearity), rng=rng)


@in_default_environment
def orthogonal_(tensor: T, gain: float = 1.0, *, rng: Rng = None) -> T:
    """Fill with a (semi-)orthogonal matrix of (shape[0], all the rest), times `gain` (Saxe et al., 2013)."""
    shape = _shape("orthogonal_", tensor)
    gain = _checks.real("orthogonal_: gain", gain)
    if len(shape) < 2:
        raise ValueError(f"orthogonal_: tensor has shape {shape}, expected at least 2 dimensions")
    rows, columns = shape[0], math.prod(shape[1:])
    flat = as_generator("orthogonal_: rng", rng).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(flat)
    # With R's diagonal positive the decomposition is unique, and Q uniform over the orthogonal matrices.
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return _fill(tensor, gain * (q.T if rows < columns else q).reshape(shape))


def _xavier(name: str, tensor: Any, gain: float) -> float:
    _shape(name, tensor)
    return _checks.real(f"{name}: gain", gain, 0.0) * math.sqrt(2 / max(sum(fan_in_and_fan_out(tensor)), 1))


def _kaiming(name: str, tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    _shape(name, tensor)
    _checks.choice(f"{name}: mode", mode, ("fan_in", "fan_out"))
    fan = fan_in_and_fan_out(tensor)[0 if mode == "fan_in" else 1]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))  # no fan: nothing to fill


def _shape(name: str, tensor: np.ndarray | Parameter) -> tuple[int, ...]:
    """Return the shape of what is to be filled, if it can be."""
    if not isinstance(tensor, (np.ndarray, Parameter)):
        raise TypeError(f"{name}: tensor is a {type(tensor).__name__}, expected an array or a Parameter")
    if tensor.dtype not in (_checks.FLOAT32, _checks.FLOAT64):
        raise TypeError(f"{name}: tensor has dtype {tensor.dtype}, expected float32 or float64")
    if isinstance(tensor, np.ndarray) and not tensor.flags.writeable:
        raise ValueError(f"{name}: tensor is read-only, and is to be filled in place")
    return tensor.shape


def _fill(tensor: T, values: np.ndarray) -> T:
    if isinstance(tensor, Parameter):
        tensor.data = values.astype(tensor.dtype)
    else:
        tensor[...] = values
    return tensor
