"""One library in a process of its own, for compare.py: reads shapes, answers with the seconds of a call."""

from __future__ import annotations

import json
import sys
import time
from functools import lru_cache

import numpy as np

from shapes import Convolution

# A measurement is as many calls as take this long, after as many again to warm up.
SECONDS = 0.05


def draw(shape):
    """Input and filters, the same for every library."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((shape.n, shape.c, shape.size, shape.size), dtype=np.float32)
    filters = (shape.k, shape.c // shape.groups, shape.kernel, shape.kernel)
    weight = rng.standard_normal(filters, dtype=np.float32) / np.sqrt(np.prod(filters[1:]))
    return x, weight.astype(np.float32), rng.standard_normal(shape.k, dtype=np.float32)


def channels_last(x):
    """The same array with channels last in memory."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


class Fastnn:
    """fastnn's layers: in eval mode with packed filters, or in training mode forward and backward."""

    def __init__(self, threads, suite, algorithm):
        import fastnn

        self.fastnn, self.suite, self.algorithm = fastnn, suite, algorithm
        fastnn.set_num_threads(threads)
        config = fastnn.show_config("dict")
        self.version = f"{config['fastnn']} ({config['instruction set']})"

    def prepare(self, shape):
        """A function of no arguments that makes one call."""
        x, weight, bias = draw(shape)
        layer = self.fastnn.Conv2d(shape.c, shape.k, shape.kernel, shape.stride, shape.padding,
                                   shape.dilation, shape.groups, algorithm=self.algorithm)
        layer.weight, layer.bias = weight, bias
        # Few channels come as images do, in C order; else as a layer before would leave them.
        x = x if shape.c < 16 else channels_last(x)
        if self.suite == "forward":
            layer.eval()
            return lambda: layer(x)
        grad_y = channels_last(np.ones((shape.n, shape.k, shape.output, shape.output), np.float32))

        def step():
            layer(x)
            layer.backward(grad_y)

        return step


class Torch:
    """PyTorch, in its own layout or channels_last."""

    def __init__(self, threads, suite, last=False):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.suite, self.version = torch, suite, torch.__version__
        self.format = torch.channels_last if last else torch.contiguous_format

    def prepare(self, shape):
        """A function of no arguments that makes one call."""
        torch = self.torch
        x, weight, bias = draw(shape)
        layer = torch.nn.Conv2d(shape.c, shape.k, shape.kernel, shape.stride, shape.padding, shape.dilation,
                                shape.groups)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        layer = layer.to(memory_format=self.format)
        x = torch.from_numpy(x).contiguous(memory_format=self.format)
        if self.suite == "forward":
            def call():
                with torch.inference_mode():
                    layer(x)

            return call
        x.requires_grad_()
        grad_y = torch.ones(shape.n, shape.k, shape.output, shape.output)
        grad_y = grad_y.contiguous(memory_format=self.format)

        def step():
            x.grad = layer.weight.grad = layer.bias.grad = None
            layer(x).backward(grad_y)

        return step


def onnx_model(shape):
    """A model of one convolution."""
    import onnx
    from onnx import helper, numpy_helper

    _, weight, bias = draw(shape)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[shape.stride] * 2,
                            pads=[shape.padding] * 4, dilations=[shape.dilation] * 2, group=shape.groups)
    graph = helper.make_graph(
        [node], "conv",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT,
                                       [shape.n, shape.c, shape.size, shape.size])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT,
                                       [shape.n, shape.k, shape.output, shape.output])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class OnnxRuntime:
    """ONNX Runtime on the processor, input and output bound to buffers of their own."""

    def __init__(self, threads, suite):
        import onnxruntime

        self.ort, self.version = onnxruntime, onnxruntime.__version__
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def prepare(self, shape):
        """A function of no arguments that makes one call."""
        session = self.ort.InferenceSession(onnx_model(shape).SerializeToString(), self.options,
                                            providers=["CPUExecutionProvider"])
        x, _, _ = draw(shape)
        return lambda: session.run(None, {"x": x})


class OpenVino:
    """OpenVINO on the processor, for latency."""

    def __init__(self, threads, suite):
        import openvino

        self.core, self.openvino = openvino.Core(), openvino
        self.version = openvino.__version__.split("-")[0]
        # float32 throughout: by default a processor with bfloat16 would compute in that.
        self.options = {"INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY",
                        "INFERENCE_PRECISION_HINT": "f32"}

    def prepare(self, shape):
        """A function of no arguments that makes one call."""
        model = self.core.read_model(onnx_model(shape).SerializeToString())
        request = self.core.compile_model(model, "CPU", self.options).create_infer_request()
        request.set_input_tensor(self.openvino.Tensor(draw(shape)[0]))
        return request.infer


PEERS = {
    "torch": Torch,
    "torch_channels_last": lambda threads, suite: Torch(threads, suite, last=True),
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}


def seconds_of(call):
    """Seconds of one call: the mean over a short while, after a warm-up that finds how many calls that is."""
    call()
    calls, elapsed = 1, 0.0
    while elapsed < SECONDS / 2:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        elapsed = time.perf_counter() - started
        if elapsed < SECONDS / 2:
            calls = max(calls + 1, min(10 * calls, int(calls * SECONDS / max(elapsed, 1e-7))))
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


def answer(**values):
    """A line to the parent."""
    print(json.dumps(values), flush=True)


def main():
    """Serve shapes until the input ends."""
    library, threads, suite, algorithm = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
    try:
        backend = Fastnn(threads, suite, algorithm) if library == "fastnn" else PEERS[library](threads, suite)
    except ImportError as error:
        answer(error=f"not installed ({error.name})")
        return
    answer(version=backend.version)
    prepare = lru_cache(maxsize=1)(backend.prepare)
    for line in sys.stdin:
        try:
            answer(seconds=seconds_of(prepare(Convolution(*json.loads(line)))))
        except Exception as error:  # a library's own refusal: the shape is left blank for it
            answer(error=repr(error))


if __name__ == "__main__":
    main()
