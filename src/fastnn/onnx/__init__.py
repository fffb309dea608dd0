"""Models in ONNX files: read to run and to train further.

The `onnx` package (the extra "onnx") parses the files; what has been read runs without it.
"""

from __future__ import annotations

from typing import Any

from .export import save
from .graph import Graph, Node, Value
from .model import OnnxModel
from .reader import read_graph

__all__ = ["Graph", "Node", "OnnxModel", "Value", "load", "save"]


def load(path_or_bytes: Any, *, rng: Any = None) -> OnnxModel:
    """Read a model.

    Parameters
    ----------
    path_or_bytes : str, os.PathLike, bytes or onnx.ModelProto
        An ONNX file, with external data in files beside it, or a file's contents. Opset 7 or newer.
    rng : int or numpy.random.Generator, optional
        For dropout, should the model be trained.

    Returns
    -------
    model : OnnxModel
        In eval mode: ``model(x)`` runs it.

    Raises
    ------
    ValueError
        If it is not a model; or, naming all of them, if it uses operators that are unknown here.
    ImportError
        Without the `onnx` package.

    Examples
    --------
    >>> model = fastnn.onnx.load("resnet50.onnx")
    >>> y = model(x)                                # inputs in order; model.run({name: x}) by name
    >>> model.train()
    >>> model.backward(loss.backward())
    """
    return OnnxModel(read_graph(path_or_bytes), rng=rng)
