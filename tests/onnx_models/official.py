"""ONNX's own tests, and the list of those that are not for us."""

import re
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, version_converter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the numbers that the tests are made of
    from onnx.backend.test.loader import load_model_tests

    _NODES = load_model_tests(kind="node")
    _MODELS = [case for kind in ("simple", "pytorch-converted", "pytorch-operator")
               for case in load_model_tests(kind=kind)]

# Operators that are not here, and so refused when a model is read. Tests that use them are not run.
UNKNOWN = {
    "AffineGrid", "Attention", "Bernoulli", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "BlackmanWindow", "CausalConvWithState", "CenterCropPad", "Col2Im",
    "Compress", "ConcatFromSequence", "ConvInteger", "CumProd", "DFT", "DeformConv",
    "DequantizeLinear", "Det", "DynamicQuantizeLinear", "Einsum", "EyeLike", "GatherND", "GridSample",
    "GroupNormalization", "HammingWindow", "HannWindow", "Hardmax", "ImageDecoder",
    "LinearAttention", "Loop", "LpNormalization", "MatMulInteger", "MaxUnpool",
    "MeanVarianceNormalization", "MelWeightMatrix", "NegativeLogLikelihoodLoss", "OptionalGetElement",
    "OptionalHasElement", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "RMSNormalization",
    "RandomUniformLike", "RegexFullMatch", "ReverseSequence", "RoiAlign", "RotaryEmbedding", "STFT",
    "Scan", "Scatter", "ScatterElements", "ScatterND", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
    "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "Shrink",
    "SoftmaxCrossEntropyLoss", "SplitToSequence", "StringConcat", "StringNormalizer",
    "StringSplit", "SwiGLU", "TensorScatter", "TfIdfVectorizer", "Unique", "ai.onnx.ml",
    "ai.onnx.preview", "ai.onnx.preview.training",
}

# Tests of known operators that are not run: the whole name, and why.
SKIPPED = {
    r"test_(cast|castlike)(_no_saturate|_e8m0)?_\w*(FLOAT8|FLOAT4|INT4|INT2)\w*":
        "a type of 8, 4 or 2 bits, in which no network runs here",
    r"test_identity_sequence|test_identity_opt|test_if_seq|test_if_opt|test_loop\w*":
        "a value that is a sequence or optional, not a tensor",
    r"test_attention_4d_causal_fp16_expanded":
        "expects a softmax rounded to float16 after each step; here it is computed in float32, rounded once",
    r"test_PReLU_\dd_multiparam":
        "of opset 6, whose slope (C,) no later opset has; the converter leaves it as it is",
}


def operators(graph):
    """The names of all operators that a graph uses, or the domain of those that are not ONNX's own."""
    for node in graph.node:
        yield node.domain if node.domain not in ("", "ai.onnx") else node.op_type
        for attribute in node.attribute:
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                yield from operators(inner)


def _with_model(case):
    """The case with its model and its data; those of before opset 7 converted by ONNX's converter."""
    if case.model is None:
        folder = Path(case.model_dir)
        case.model = onnx.load(folder / "model.onnx")
        if case.model.opset_import[0].version < 7:
            case.model = version_converter.convert_version(case.model, 7)
        case.data_sets = [tuple(_arrays(data, kind) for kind in ("input", "output"))
                          for data in sorted(folder.glob("test_data_set_*"))]
    return case


def _arrays(folder, kind):
    paths = sorted(folder.glob(f"{kind}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
    return [onnx.load_tensor(path) for path in paths]


CASES = {case.name: _with_model(case) for case in _NODES + _MODELS}
USES = {name: set(operators(case.model.graph)) for name, case in CASES.items()}


def why_skipped(name):
    """The reason for which a test is not run, or None."""
    return next((reason for pattern, reason in SKIPPED.items() if re.fullmatch(pattern, name)), None)


def as_arrays(values):
    """The arrays among a data set's values, which may be TensorProtos."""
    return [numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else
            value if isinstance(value, list) else np.asarray(value) for value in values]
