"""Small ONNX models for tests, built node by node."""

import numpy as np
from onnx import helper, numpy_helper


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
        nodes, "test", values, [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()
