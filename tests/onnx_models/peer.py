"""ONNX Runtime, in one thread: what networks are compared with."""

import numpy as np
import onnxruntime
from arrays import assert_close

# Of float32, relative to the largest output: two orders of summation, through a whole network.
NETWORK = 1e-4


def run_onnxruntime(model, feeds):
    """The outputs of a model, given as bytes, in order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it refuses, it says by an exception
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def assert_same_outputs(model, expected, feeds, tolerance=NETWORK):
    """Compare a fastnn model's outputs, relative to the largest of each, however small."""
    for y, other in zip(model.run(feeds).values(), expected, strict=True):
        scale = np.abs(other).max()
        assert np.isfinite(scale)
        assert scale > 0
        assert_close([y / scale], [other / scale], tolerance)
