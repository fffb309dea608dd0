"""Small ONNX models for tests, built node by node."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import fastnn.onnx


def model_of(nodes, inputs, outputs, constants=None, opset=17):
    """The bytes of a model.

    `inputs` maps names to (dtype, shape) or to arrays, whose dtype and shape count; a shape may hold names.
    """
    values = []
    for name, given in inputs.items():
        dtype, shape = (given.dtype, given.shape) if isinstance(given, np.ndarray) else given
        values.append(helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape))
    graph = helper.make_graph(
        nodes, "test", values, [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
                                for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


def load_node(op, inputs, constants=None, outputs=("y",), opset=17, **attributes):
    """A model of one node, whose inputs are `inputs` and then `constants`."""
    names = [*inputs, *(constants or {})]
    node = helper.make_node(op, names, list(outputs), **attributes)
    return fastnn.onnx.load(model_of([node], inputs, outputs, constants, opset))
