"""Pooling."""

from __future__ import annotations

from ..._kernels import pool as _pool
from ...functional._pool_windows import Adaptive, lay_out
from ...onnx.operators._windows import geometry
from ...onnx.operators.pooling import _windows as of_onnx
from .registry import check_float, contiguous, steps_of


@steps_of("pool")
def pool_steps(build, node, x):
    """The largest or the mean of each window."""
    check_float(node, x)
    windows = node.attributes["windows"] or _windows(node, x)
    if windows is None:
        return build.call(_global_mean, x)[0]
    dims = windows.dims
    if x.ndim not in (dims + 1, dims + 2):
        raise ValueError(f"{node.label}: x has shape {x.shape}, expected {dims + 1} or {dims + 2} dimensions")
    images = x if x.ndim == dims + 2 else x[None]
    images = images if dims == 2 else images[:, :, None]
    layout = lay_out(node.label, windows, *images.shape[2:])
    pixels = contiguous(build, images.transpose(0, 2, 3, 1))
    y = build.empty((len(images), *layout.output, images.shape[1]), x.dtype)
    if node.attributes["kind"] == "max":
        build.step(_pool.max_pool, pixels, layout.table, *layout.dilation, y, None)
    else:
        build.step(_pool.mean_pool, pixels, layout.table, y)
    y = y.transpose(0, 3, 1, 2)
    y = y if dims == 2 else y[:, :, 0]
    return y if x.ndim == dims + 2 else y[0]


def _windows(node, x):
    """The windows of a node of an ONNX file; None for those over all of three or more axes."""
    given = node.attributes
    if "kernel" not in given:
        if x.ndim < 3 or x.ndim != given.get("rank", x.ndim):
            raise ValueError(f"{node.label}: x has shape {x.shape}, expected images")
        return Adaptive(x.ndim - 2, (1, 1)) if x.ndim < 5 else None
    rank = len(given["kernel"])
    if x.ndim != rank + 2:
        raise ValueError(f"{node.label}: x has shape {x.shape}, expected {rank + 2} dimensions")
    return of_onnx(geometry(x.shape[2:], given["kernel"], **given["geometry"]), rank,
                   given["count_include_pad"])


def _global_mean(x):
    return x.mean(tuple(range(2, x.ndim)), keepdims=True)
