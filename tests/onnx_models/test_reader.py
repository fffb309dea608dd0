"""Files: what is read, and what is refused in which words."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from arrays import draw
from models import model_of
from onnx import TensorProto, helper, numpy_helper

import fastnn.onnx

X = {"x": (np.float32, [2])}


def relu():
    return onnx.load_model_from_string(model_of([helper.make_node("Relu", ["x"], ["y"])], X, ["y"]))


# --- Sources


def test_sources(tmp_path):
    proto, x = relu(), np.array([-1, 2], np.float32)
    path = tmp_path / "relu.onnx"
    onnx.save(proto, path)
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), proto):
        np.testing.assert_array_equal(fastnn.onnx.load(source)(x), [0, 2])


def test_external_data(tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = draw(50, 60, dtype=np.float32)
    proto = onnx.load_model_from_string(model_of([node], {"x": (np.float32, [1, 50])}, ["y"], {"w": weight}))
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size == weight.nbytes
    x = draw(1, 50, dtype=np.float32, seed=1)
    np.testing.assert_allclose(fastnn.onnx.load(path)(x), x @ weight, rtol=1e-4)
    with pytest.raises(ValueError, match="'w' lies in a file beside the model; give the model's path"):
        fastnn.onnx.load(path.read_bytes())


def test_initializers_among_the_inputs():
    """As before version 4 of the format."""
    proto = onnx.load_model_from_string(model_of(
        [helper.make_node("Add", ["x", "b"], ["y"])], X, ["y"], {"b": np.ones(2, np.float32)}))
    proto.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [2]))
    model = fastnn.onnx.load(proto)
    assert model.input_names == ["x"]
    np.testing.assert_array_equal(model(np.zeros(2, np.float32)), [1, 1])


def test_functions_of_the_file():
    body = [helper.make_node("Mul", ["a", "a"], ["s"]), helper.make_node("Relu", ["s"], ["t"])]
    function = helper.make_function("mine", "Squared", ["a"], ["t"], body, [helper.make_opsetid("", 17)])
    graph = helper.make_graph([helper.make_node("Squared", ["x"], ["y"], domain="mine")], "g", [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])])
    proto = helper.make_model(graph, functions=[function], opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)])
    np.testing.assert_array_equal(fastnn.onnx.load(proto)(np.array([-2, 3], np.float32)), [4, 9])


def test_free_sizes():
    proto = relu()
    for size, expected in ((-1, None), (0, None), (5, 5)):
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
        assert fastnn.onnx.load(proto).inputs["x"].shape == (expected,)


# --- Refusals


def test_all_unknown_operators_at_once():
    inner = helper.make_graph([helper.make_node("Loop", [], ["z"])], "inner", [],
                              [helper.make_empty_tensor_value_info("z")])
    nodes = [helper.make_node("Blend", ["x"], ["a"]), helper.make_node("Blend", ["a"], ["b"]),
             helper.make_node("Relu", ["b"], ["c"]),
             helper.make_node("FusedConv", ["c"], ["d"], domain="com.microsoft"),
             helper.make_node("If", ["d"], ["y"], then_branch=inner, else_branch=inner)]
    with pytest.raises(ValueError, match=r"operators unknown here: Blend \(2\), Loop \(2\), "
                                         r"com\.microsoft\.FusedConv$"):
        fastnn.onnx.load(model_of(nodes, X, ["y"]))


def test_unknown_attributes():
    node = helper.make_node("Relu", ["x"], ["y"], slope=1.0, name="r")
    with pytest.raises(ValueError, match="Relu node 'r' has attributes unknown here, slope"):
        fastnn.onnx.load(model_of([node], X, ["y"]))


@pytest.mark.parametrize(("opset", "words"), [
    (6, r"operators unknown here \(in opset 6, older than 7\): Relu"),
    (99, "uses opset 99, expected 7 to 28"),
])
def test_opsets(opset, words):
    with pytest.raises(ValueError, match=words):
        fastnn.onnx.load(model_of([helper.make_node("Relu", ["x"], ["y"])], X, ["y"], opset=opset))


def test_types():
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E5M2)
    with pytest.raises(ValueError, match="the type FLOAT8E5M2"):
        fastnn.onnx.load(model_of([node], X, ["y"]))


def test_sequences():
    proto = relu()
    proto.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [2]))
    with pytest.raises(ValueError, match="'x' is a sequence, not a tensor"):
        fastnn.onnx.load(proto)


@pytest.mark.parametrize("content", [
    b"", b"\x00", b"PK\x03\x04 a zip", b"not a model, though long enough" * 9,
    np.random.default_rng(0).bytes(1000)])
def test_no_model(tmp_path, content):
    with pytest.raises(ValueError, match="the model is not an ONNX model"):
        fastnn.onnx.load(content)
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.onnx is not an ONNX model"):
        fastnn.onnx.load(path)


def test_every_truncated_file_is_refused():
    content = model_of([helper.make_node("Add", ["x", "b"], ["y"])], X, ["y"], {"b": np.ones(2, np.float32)})
    for size in range(len(content)):
        with pytest.raises(ValueError, match=r"onnx\.load: "):
            fastnn.onnx.load(content[:size])


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastnn.onnx.load(tmp_path / "none.onnx")


def test_no_source():
    with pytest.raises(TypeError, match="got a int, expected a path or bytes"):
        fastnn.onnx.load(3)


def test_values_that_nobody_gives():
    nodes = [helper.make_node("Relu", ["later"], ["y"]), helper.make_node("Relu", ["x"], ["later"])]
    with pytest.raises(ValueError, match="reads 'later', which no node before it gives"):
        fastnn.onnx.load(model_of(nodes, X, ["y"]))
    with pytest.raises(ValueError, match="no node gives the output 'z'"):
        fastnn.onnx.load(model_of(nodes[1:], X, ["z"]))


def test_a_tensor_with_too_few_numbers():
    proto = onnx.load_model_from_string(model_of(
        [helper.make_node("Add", ["x", "b"], ["y"])], X, ["y"], {"b": np.ones(2, np.float32)}))
    proto.graph.initializer[0].raw_data = b"\0\0\0\0"
    with pytest.raises(ValueError, match="the tensor 'b' cannot be read"):
        fastnn.onnx.load(proto)


def test_a_tensor_kept_sparse():
    proto = relu()
    values = numpy_helper.from_array(np.ones(1, np.float32), "b")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(
        values, numpy_helper.from_array(np.array([0])), [2]))
    with pytest.raises(ValueError, match="sparse tensors"):
        fastnn.onnx.load(proto)


# --- Without the package


def run_python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_importing_fastnn_does_not_import_onnx():
    assert run_python("import fastnn, sys; print('onnx' in sys.modules, 'fastnn.onnx' in sys.modules)"
                      ) == "False False\n"
    assert run_python("import fastnn, sys; fastnn.onnx.load; print('onnx' in sys.modules)") == "False\n"


def test_the_message_without_the_package():
    assert "pip install 'fastnn-kernels[onnx]'" in run_python(
        "import sys; sys.modules['onnx'] = None\n"
        "import fastnn\n"
        "try: fastnn.onnx.load(b'')\n"
        "except ImportError as error: print(error)")
