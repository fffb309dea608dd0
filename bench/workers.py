"""One library in a process of its own, for compare.py: reads shapes, answers with the seconds of a call.

A line of input is {"shape": its number} and perhaps {"result": a file to save the arrays of one call in}; a
line of output {"seconds": ...} or, where the library cannot, {"error": ...}.
"""

from __future__ import annotations

import json
import sys
import time
from functools import lru_cache

import numpy as np

from suites import SUITES
from suites.suite import Case


class Fastnn:
    """fastnn, in eval mode with packed weights, or in training mode forward and backward."""

    def __init__(self, threads, suite, **options):
        import fastnn

        self.fastnn, self.suite, self.options = fastnn, suite, options
        fastnn.set_num_threads(threads)
        config = fastnn.show_config("dict")
        self.version = f"{config['fastnn']} ({config['instruction set']})"

    def prepare(self, shape, dtype=np.float32):
        """The library's case of a shape."""
        return self.suite.fastnn(self.fastnn, shape, dtype, **self.options)


class Torch:
    """PyTorch, in its own layout or channels_last."""

    def __init__(self, threads, suite, last=False):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.suite, self.last, self.version = torch, suite, last, torch.__version__

    def prepare(self, shape):
        """The library's case of a shape."""
        return self.suite.torch(self.torch, shape, self.last)


class Numpy:
    """NumPy's own functions."""

    def __init__(self, threads, suite):
        self.suite, self.version = suite, np.__version__

    def prepare(self, shape):
        """The library's case of a shape."""
        return self.suite.numpy(shape)


def onnx_model(nodes, weights, inputs):
    """A model of these nodes, (operator, inputs, outputs, attributes), whose output is "y"; serialised."""
    from onnx import TensorProto, helper, numpy_helper

    types = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE,
             np.dtype(np.int32): TensorProto.INT32}
    graph = helper.make_graph(
        [helper.make_node(operator, x, y, **attributes) for operator, x, y, attributes in nodes],
        "graph",
        [helper.make_tensor_value_info(name, types[x.dtype], x.shape) for name, x in inputs.items()],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(w, name) for name, w in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)],
                             ir_version=9).SerializeToString()


class OnnxRuntime:
    """ONNX Runtime on the processor; `bound`: input and output lie in tensors made once."""

    def __init__(self, threads, suite, bound=False):
        import onnxruntime

        self.ort, self.suite, self.bound, self.version = onnxruntime, suite, bound, onnxruntime.__version__
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def prepare(self, shape):
        """The library's case of a shape."""
        nodes, weights, inputs = self.suite.onnx(shape)
        session = self.ort.InferenceSession(onnx_model(nodes, weights, inputs), self.options,
                                            providers=["CPUExecutionProvider"])
        (y,) = session.run(None, inputs)
        if not self.bound:
            return Case(lambda: session.run(None, inputs), lambda: [y])
        binding, output = session.io_binding(), self.ort.OrtValue.ortvalue_from_numpy(np.empty_like(y))
        for name, x in inputs.items():
            binding.bind_ortvalue_input(name, self.ort.OrtValue.ortvalue_from_numpy(x))
        binding.bind_ortvalue_output("y", output)
        return Case(lambda: session.run_with_iobinding(binding), lambda: [y])


class OpenVino:
    """OpenVINO on the processor, for latency."""

    def __init__(self, threads, suite):
        import openvino

        self.core, self.openvino, self.suite = openvino.Core(), openvino, suite
        self.version = openvino.__version__.split("-")[0]
        # float32 throughout: by default a processor with bfloat16 would compute in that.
        self.options = {"INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY",
                        "INFERENCE_PRECISION_HINT": "f32"}

    def prepare(self, shape):
        """The library's case of a shape."""
        nodes, weights, inputs = self.suite.onnx(shape)
        model = self.core.read_model(onnx_model(nodes, weights, inputs))
        request = self.core.compile_model(model, "CPU", self.options).create_infer_request()
        for name, x in inputs.items():
            request.set_tensor(name, self.openvino.Tensor(x))
        return Case(request.infer, lambda: [np.array(request.infer()[0])])


PEERS = {
    "torch": Torch,
    "torch_channels_last": lambda threads, suite: Torch(threads, suite, last=True),
    "numpy": Numpy,
    "onnxruntime": OnnxRuntime,
    "onnxruntime_bound": lambda threads, suite: OnnxRuntime(threads, suite, bound=True),
    "openvino": OpenVino,
}


def seconds_of(call, window):
    """Seconds of one call: the mean over `window` seconds, after a warm-up that finds the number of calls.

    One call, if that takes longer.
    """
    call()
    calls, elapsed = 1, 0.0
    while elapsed < window / 2:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        elapsed = time.perf_counter() - started
        if elapsed < window / 2:
            calls = max(calls + 1, min(10 * calls, int(calls * window / max(elapsed, 1e-7))))
    if calls == 1 and elapsed >= window:
        return elapsed
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


def answer(**values):
    """A line to the parent."""
    print(json.dumps(values), flush=True)


def main():
    """Serve shapes until the input ends."""
    setup = json.loads(sys.argv[1])
    library, threads, suite = setup["library"], setup["threads"], SUITES[setup["suite"]]
    if setup["batches"]:
        suite.with_batches(setup["batches"])
    try:
        backend = (Fastnn(threads, suite, **setup["options"]) if library == "fastnn"
                   else PEERS[library](threads, suite))
    except ImportError as error:
        answer(error=f"not installed ({error.name})")
        return
    answer(version=backend.version)
    prepare = lru_cache(maxsize=1)(lambda number: backend.prepare(suite.shapes[number]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            case = prepare(request["shape"])
            if "result" in request:
                np.savez(request["result"], *case.result())
            answer(seconds=seconds_of(case.call, suite.window))
        except Exception as error:  # a library's own refusal: the shape is left blank for it
            answer(error=repr(error))


if __name__ == "__main__":
    main()
