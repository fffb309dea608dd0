"""Nodes of every operator with a gradient: inputs, attributes, opsets, for tests of numbers and gradients."""

from typing import NamedTuple

import numpy as np
from arrays import draw
from onnx import helper


def named(arrays):
    """The inputs by name."""
    return {f"x{i}": array.copy() for i, array in enumerate(arrays) if array is not None}


def node_of(name):
    """The node of a case, its inputs called x0, x1, ..., its outputs y0, y1, ..."""
    op, arrays, attributes, outputs, _ = CASES[name]
    inputs = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    return helper.make_node(op, inputs, [f"y{i}" for i in range(outputs)], **attributes)


class Case(NamedTuple):
    """A node: its inputs, in order (arrays of float64 are differentiated), and its attributes.

    An input that is None is left out.
    """

    op: str
    inputs: tuple
    attributes: dict = {}  # noqa: RUF012 - never written
    outputs: int = 1
    opset: int = 18


def case(op, *inputs, outputs=1, opset=18, **attributes):
    """A case whose integers are int64."""
    arrays = tuple(np.asarray(x, np.int64) if isinstance(x, list | int) else x for x in inputs)
    return Case(op, arrays, attributes, outputs, opset)


def distinct(*shape, seed=0):
    """Numbers of which no two are closer than 0.1, and none to zero: no kink or tie within a difference."""
    size = int(np.prod(shape))
    return (np.random.default_rng(seed).permutation(size) * 0.1 + 0.05 - size / 20).reshape(shape)


def positive(*shape, seed=0):
    return np.abs(draw(*shape, seed=seed)) + 0.5


A, B, ROW, X = draw(3, 4), draw(3, 4, seed=1), draw(4, seed=2), draw(2, 4, 7, 6)
PIXELS = distinct(2, 3, 7, 6)
SLOPE = draw(4, 1, 1, seed=3)
SEQUENCE = draw(5, 3, 4)
LENGTHS = np.array([5, 2, 1], np.int32)


def recurrent(op, gates, *, directions=1, opset=14, states=1, lengths=None, peepholes=None, **attributes):
    weights = [draw(directions, gates * 2, n, seed=n) / 2 for n in (4, 2)]
    bias = draw(directions, gates * 4, seed=5)
    lengths = np.full(3, 5, np.int32) if lengths is None else lengths
    more = [draw(directions, 3, 2, seed=6 + i) for i in range(states)]
    if attributes.get("layout"):
        return case(op, SEQUENCE.swapaxes(0, 1).copy(), *weights, bias, lengths,
                    *(s.swapaxes(0, 1).copy() for s in more), outputs=1 + states, opset=opset, hidden_size=2,
                    **attributes)
    more += [] if peepholes is None else [peepholes]
    return case(op, SEQUENCE, *weights, bias, lengths, *more, outputs=1 + states, opset=opset, hidden_size=2,
                **attributes)


CASES = {
    # Elementwise
    **{op.lower(): case(op, A, B) for op in ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean")},
    **{f"{op.lower()}, broadcast": case(op, X, SLOPE) for op in ("Add", "Sub", "Mul", "Max", "Sum")},
    "div": case("Div", A, positive(1, 4)),
    "pow": case("Pow", positive(3, 4), B),
    "pow, of integers": case("Pow", A, [2, 3, 1, 2]),
    "mod": case("Mod", A, positive(4), fmod=1),
    "where": case("Where", B > 0, A, ROW),
    **{op.lower(): case(op, distinct(3, 4)) for op in (
        "Abs", "Neg", "Reciprocal", "Exp", "Erf", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh",
        "Relu", "LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Sigmoid", "HardSigmoid",
        "HardSwish", "Tanh", "Softplus", "Softsign", "Mish", "Identity")},
    **{op.lower(): case(op, positive(3, 4)) for op in ("Sqrt", "Log")},
    **{op.lower(): case(op, distinct(3, 4)) for op in ("Asin", "Acos", "Atanh")},
    "acosh": case("Acosh", positive(3, 4) + 1),
    "elu, alpha": case("Elu", distinct(3, 4), alpha=0.3),
    "celu, alpha": case("Celu", distinct(3, 4), alpha=2.0),
    "selu, alpha and gamma": case("Selu", distinct(3, 4), alpha=2.0, gamma=3.0),
    "gelu": case("Gelu", A, opset=20),
    "gelu, tanh": case("Gelu", A, opset=20, approximate="tanh"),
    "swish": case("Swish", A, opset=24, alpha=1.5),
    "prelu": case("PRelu", distinct(2, 4, 3, 3), SLOPE),
    "prelu, one": case("PRelu", distinct(2, 4, 3, 3), draw(1)),
    "clip 6": case("Clip", distinct(3, 4), opset=6 + 1, min=-0.22, max=0.31),
    "clip": case("Clip", distinct(3, 4), np.array(-0.22), np.array(0.31)),
    "cast": case("Cast", A, to=11),
    "castlike": case("CastLike", A, B),
    # Softmax
    **{f"{op.lower()}, {opset}": case(op, draw(2, 3, 4), axis=1, opset=opset)
       for op in ("Softmax", "LogSoftmax") for opset in (11, 13)},
    # Products
    "gemm": case("Gemm", A, draw(4, 5), draw(5)),
    "gemm, transposed": case("Gemm", draw(4, 3), draw(5, 4), draw(3, 5), transA=1, transB=1, alpha=0.5,
                             beta=2.0),
    "gemm, no c": case("Gemm", A, draw(4, 5)),
    "matmul": case("MatMul", A, draw(4, 5)),
    "matmul, batches": case("MatMul", draw(2, 1, 3, 4), draw(5, 4, 2)),
    "matmul, rows": case("MatMul", draw(2, 3, 4), draw(4, 5)),
    "matmul, vector left": case("MatMul", ROW, draw(2, 4, 3)),
    "matmul, vector right": case("MatMul", draw(2, 3, 4), ROW),
    "matmul, vectors": case("MatMul", ROW, draw(4, seed=5)),
    # Convolutions
    "conv 1-d": case("Conv", draw(2, 4, 9), draw(6, 2, 3), draw(6), group=2, pads=[2, 1], strides=[2]),
    "conv": case("Conv", X, draw(5, 4, 3, 3), draw(5), pads=[2, 1, 0, 3], strides=[2, 1], dilations=[1, 2]),
    "conv, same": case("Conv", X, draw(5, 4, 3, 2), auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv, depthwise": case("Conv", X, draw(4, 1, 3, 3), draw(4), group=4, pads=[1, 1, 1, 1]),
    "convtranspose": case("ConvTranspose", draw(2, 4, 4, 3), draw(4, 3, 3, 3), draw(6), group=2,
                          strides=[2, 3], pads=[1, 0, 2, 1], output_padding=[1, 0]),
    "convtranspose 1-d": case("ConvTranspose", draw(2, 4, 5), draw(4, 3, 3), strides=[2],
                              output_shape=[12]),
    "conv 3-d": case("Conv", draw(2, 4, 5, 4, 3), draw(6, 2, 3, 2, 2), draw(6), group=2,
                     pads=[1, 0, 1, 2, 1, 0], strides=[2, 1, 1], dilations=[1, 2, 1]),
    "convtranspose 3-d": case("ConvTranspose", draw(2, 4, 3, 2, 3), draw(4, 3, 2, 3, 2), draw(3),
                              strides=[2, 1, 2], pads=[1, 0, 1, 0, 1, 0], output_padding=[1, 0, 0]),
    # Poolings
    "maxpool 1-d": case("MaxPool", distinct(2, 3, 9), kernel_shape=[3], strides=[2], pads=[1, 0]),
    "maxpool": case("MaxPool", PIXELS, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], ceil_mode=1),
    "maxpool, dilated": case("MaxPool", PIXELS, kernel_shape=[2, 2], dilations=[2, 3], outputs=2),
    "maxpool 3-d": case("MaxPool", distinct(1, 2, 4, 3, 5), kernel_shape=[2, 2, 3], pads=[1, 0, 0, 0, 1, 2]),
    "averagepool 1-d": case("AveragePool", draw(2, 3, 9), kernel_shape=[3], strides=[2], pads=[1, 0]),
    "averagepool": case("AveragePool", X, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1],
                        ceil_mode=1),
    "averagepool, pads": case("AveragePool", X, kernel_shape=[3, 3], pads=[1, 2, 0, 1], count_include_pad=1,
                              strides=[2, 2], ceil_mode=1),
    "averagepool, dilated": case("AveragePool", X, kernel_shape=[2, 2], dilations=[2, 3], pads=[1, 0, 0, 1],
                                 opset=19),
    "averagepool 3-d": case("AveragePool", draw(1, 2, 4, 3, 5), kernel_shape=[2, 2, 3],
                            pads=[1, 0, 0, 0, 1, 2]),
    "globalaveragepool": case("GlobalAveragePool", X),
    "globalaveragepool 1-d": case("GlobalAveragePool", draw(2, 3, 5)),
    "globalmaxpool": case("GlobalMaxPool", PIXELS),
    "globalmaxpool 1-d": case("GlobalMaxPool", distinct(2, 3, 5)),
    "globalmaxpool 3-d": case("GlobalMaxPool", distinct(2, 3, 2, 3, 2)),
    "lppool": case("LpPool", PIXELS, kernel_shape=[3, 2], pads=[1, 0, 0, 1], p=3),
    "globallppool": case("GlobalLpPool", PIXELS, p=3),
    # Normalisation
    "batchnormalization, by the batch": case(
        "BatchNormalization", X, draw(4, seed=1), draw(4, seed=2), draw(4, seed=3), positive(4)),
    "batchnormalization 9": case(
        "BatchNormalization", X, draw(4, seed=1), draw(4, seed=2), draw(4, seed=3), positive(4), opset=9),
    "batchnormalization 7, of pixels": case(
        "BatchNormalization", draw(5, 2, 3, 2), draw(2, 3, 2), draw(2, 3, 2, seed=1), draw(2, 3, 2, seed=2),
        positive(2, 3, 2), opset=7, spatial=0),
    "batchnormalization, of signals": case(
        "BatchNormalization", draw(5, 4, 3), draw(4, seed=1), draw(4, seed=2), draw(4, seed=3), positive(4)),
    "instancenormalization": case("InstanceNormalization", X, draw(4, seed=1), draw(4, seed=2)),
    "instancenormalization 1-d": case(
        "InstanceNormalization", draw(3, 4, 5), draw(4, seed=1), draw(4, seed=2)),
    "layernormalization": case("LayerNormalization", X, draw(7, 6, seed=1), draw(7, 6, seed=2), axis=2),
    "layernormalization, broadcast": case("LayerNormalization", X, draw(6, seed=1), draw(1, 1, seed=2),
                                          axis=-2),
    "lrn": case("LRN", X, size=3, alpha=0.5, beta=0.6, bias=2.0),
    "lrn, even": case("LRN", X, size=4, alpha=0.5, beta=0.6),
    "dropout": case("Dropout", A, np.array(0.4, np.float32), seed=3),
    "dropout 7, never": case("Dropout", A, ratio=0.0, opset=7),
    # Reductions
    **{op.lower(): case(op, positive(2, 3, 4), axes=[0, 2], keepdims=0, opset=12) for op in (
        "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
        "ReduceLogSumExp")},
    **{f"{op.lower()}, 18": case(op, positive(2, 3, 4), [-1]) for op in (
        "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
        "ReduceLogSumExp")},
    **{f"{op.lower()}, 18": case(op, distinct(2, 3, 4), [0, 2], keepdims=0)
       for op in ("ReduceMax", "ReduceMin")},
    **{op.lower(): case(op, distinct(2, 3, 4), axes=[1], opset=12) for op in ("ReduceMax", "ReduceMin")},
    "reduceprod, zeros": case("ReduceProd", np.array([[0.0, 2, 3], [0, 0, 4], [5, 6, 7]]), [1]),
    "cumsum": case("CumSum", A, np.array(1)),
    "cumsum, exclusive": case("CumSum", A, np.array(0), exclusive=1, reverse=1),
    # Shapes
    "reshape": case("Reshape", A, [0, 2, -1], opset=13),
    "flatten": case("Flatten", X, axis=2),
    "squeeze 11": case("Squeeze", draw(1, 3, 1), axes=[2], opset=11),
    "squeeze": case("Squeeze", draw(1, 3, 1), [0]),
    "unsqueeze 11": case("Unsqueeze", A, axes=[0, 3], opset=11),
    "unsqueeze": case("Unsqueeze", A, [0, 3]),
    "transpose": case("Transpose", X, perm=[2, 0, 3, 1]),
    "transpose, reversed": case("Transpose", A),
    "concat": case("Concat", A, draw(3, 2), B, axis=1),
    "depthtospace": case("DepthToSpace", draw(2, 12, 3, 2), blocksize=2),
    "depthtospace, crd": case("DepthToSpace", draw(2, 12, 3, 2), blocksize=2, mode="CRD"),
    "spacetodepth": case("SpaceToDepth", draw(2, 3, 6, 4), blocksize=2),
    # Pieces
    "slice 9": case("Slice", A, starts=[1], ends=[100], axes=[1], opset=9),
    "slice": case("Slice", X, [1, -1], [100, -100], [3, 2], [2, -1]),
    "split 11": case("Split", A, axis=1, split=[1, 3], outputs=2, opset=11),
    "split": case("Split", A, [3, 1], axis=1, outputs=2, opset=13),
    "gather": case("Gather", A, [[0, -1], [2, 0]], axis=1),
    "gatherelements": case("GatherElements", A, [[0, -1], [2, 0]], axis=1),
    "pad 10": case("Pad", A, pads=[1, 0, 0, 2], opset=10, value=3.0),
    "pad, negative": case("Pad", A, [-1, 0, 0, 2]),
    **{f"pad, {mode}": case("Pad", A, [1, 2, 1, 0], mode=mode) for mode in ("constant", "reflect", "edge")},
    "pad, wrap": case("Pad", A, [1, 2, 1, 0], mode="wrap", opset=19),
    "expand": case("Expand", draw(3, 1), [2, 1, 4]),
    "tile": case("Tile", A, [2, 3]),
    "topk 9": case("TopK", distinct(3, 4), k=2, outputs=2, opset=9),
    "topk": case("TopK", distinct(3, 4), [2], axis=0, largest=0, outputs=2),
    "trilu": case("Trilu", draw(2, 3, 4), np.array(-1), upper=0),
    # Resize
    "resize 10": case("Resize", X, np.array([1, 1, 2, 0.5], np.float32), opset=10, mode="linear"),
    "upsample 7": case("Upsample", X, scales=[1.0, 1, 2, 3], opset=7),
    "upsample": case("Upsample", X, np.array([1, 1, 2, 3], np.float32), opset=9),
    "resize, cubic": case("Resize", X, None, None, [2, 4, 10, 3], mode="cubic", antialias=1),
    "resize, crop": case("Resize", X, np.array([0, 0, 0.2, 0.1, 1, 1, 0.8, 1.3], np.float32),
                         None, [2, 4, 5, 5], mode="linear",
                         coordinate_transformation_mode="tf_crop_and_resize"),
    # Recurrent: by kernels, and step by step
    "rnn": recurrent("RNN", 1, directions=2, direction="bidirectional", lengths=LENGTHS),
    "rnn, relu": recurrent("RNN", 1, activations=["Relu"]),
    "rnn, elu": recurrent("RNN", 1, directions=2, direction="bidirectional", activations=["Elu", "Softsign"],
                          activation_alpha=[0.7], lengths=LENGTHS),
    "lstm": recurrent("LSTM", 4, directions=2, direction="bidirectional", states=2, lengths=LENGTHS),
    "lstm, batch first": recurrent("LSTM", 4, directions=2, direction="bidirectional", states=2, layout=1),
    "lstm, peepholes": recurrent("LSTM", 4, states=2, direction="reverse", lengths=LENGTHS,
                                 peepholes=draw(1, 6, seed=9)),
    "lstm, input_forget": recurrent("LSTM", 4, states=2, input_forget=1),
    "lstm, clipped": recurrent("LSTM", 4, states=2, clip=0.5),
    "gru": recurrent("GRU", 3, direction="reverse", lengths=LENGTHS, linear_before_reset=1),
    "gru, reset before": recurrent("GRU", 3, directions=2, direction="bidirectional", lengths=LENGTHS),
    "gru, reset after, scaled": recurrent("GRU", 3, linear_before_reset=1, activations=[
        "HardSigmoid", "ScaledTanh"], activation_alpha=[0.3, 1.5], activation_beta=[0.4, 0.7]),
}
