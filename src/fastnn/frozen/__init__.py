"""Networks frozen for inference: `freeze(model)`, or ``model.freeze()``.

::

    layers.py, trace.py    a model's layers, one by one     \
    onnx.py                nodes read from an ONNX file      }  graph.py: nodes as plain data
          |
    passes.py              batch norms into filters, activations and sums into epilogues
          |
    plan.py                for each set of shapes: steps, and the places of all arrays in one block
          |                steps/ has how each kind of node becomes steps
    network.py             takes a block of memory, walks the list of steps, returns the outputs
"""

from __future__ import annotations

from ..layers import Module
from .layers import flat, graph_of
from .network import FrozenNetwork

__all__ = ["FrozenNetwork", "freeze"]


def freeze(model: Module) -> FrozenNetwork:
    """Return a network for inference alone that computes what `model` does in eval mode.

    Parameters
    ----------
    model : Module
        Layers of this package, in containers or Modules of one's own; or what `fastnn.onnx.load` has read.
        The frozen network owns copies: what becomes of the model later does not change it.

    Returns
    -------
    frozen : FrozenNetwork
        ``frozen(x)`` gives what ``model.eval()(x)`` gives, within rounding.

    Raises
    ------
    TypeError
        If `model` is not a Module.
    ValueError
        If it is a Module of one's own whose `forward` does more with its input than calls of layers,
        arithmetic and concatenation. Such a Module within another is kept as it is.

    Examples
    --------
    >>> frozen = fastnn.Sequential(fastnn.Conv2d(3, 8, 3), fastnn.BatchNorm2d(8), fastnn.ReLU()).freeze()
    >>> y = frozen(x)
    """
    if not isinstance(model, Module):
        raise TypeError(f"freeze: model is a {type(model).__name__}, expected a Module")
    from ..onnx.model import OnnxModel

    if isinstance(model, OnnxModel):
        from .onnx import graph_of_onnx

        graph = graph_of_onnx(model)
        form = tuple(range(len(graph.outputs))) if len(graph.outputs) > 1 else 0
        return FrozenNetwork(graph, form, type(model).__name__)
    graph, outputs = graph_of(model)
    numbers = {name: i for i, name in enumerate(dict.fromkeys(flat(outputs)))}
    graph.outputs = list(numbers)
    return FrozenNetwork(graph, _numbered(outputs, numbers), type(model).__name__)


def _numbered(outputs, numbers):
    if isinstance(outputs, tuple):
        return tuple(_numbered(part, numbers) for part in outputs)
    return numbers[outputs]
