"""Every operator in float32, old opsets and odd attributes included, against ONNX Runtime."""

import math

import numpy as np
import onnxruntime
import pytest
from arrays import LAYOUTS, draw
from cases import CASES, named, node_of
from hypothesis import given, settings
from hypothesis import strategies as st
from models import model_of
from onnx import helper
from peer import run_onnxruntime
from test_gradients import WITHOUT

import fastnn.onnx
from fastnn.onnx.operators import OPERATORS, find

# Of float32, of numbers around 1: sums of a few hundred products, and functions in a few units of their last
# place.
TOLERANCE = {"rtol": 2e-5, "atol": 5e-6}

# Not in ONNX Runtime's CPU provider, or not so: these have ONNX's own tests alone.
ALONE = {
    "lstm, batch first": "no layout=1",
    "lrn, even": "odd sizes alone",
}


@pytest.mark.parametrize("name", [name for name in CASES if name not in ALONE])
def test_against_onnxruntime(name):
    _, arrays, _, _, opset = CASES[name]
    inputs = {key: array.astype(np.float32) if array.dtype == np.float64 else array
              for key, array in named(arrays).items()}
    node = node_of(name)
    content = model_of([node], inputs, node.output, opset=opset)
    expected = run_onnxruntime(content, inputs)
    for y, e in zip(fastnn.onnx.load(content).run(inputs).values(), expected, strict=True):
        assert y.dtype == e.dtype
        assert y.shape == e.shape
        np.testing.assert_allclose(y, e, **TOLERANCE)


_state = onnxruntime.capi.onnxruntime_pybind11_state
REFUSALS = _state.Fail, _state.InvalidArgument, _state.NotImplemented, _state.RuntimeException


def compare(op, inputs, *, opset=18, outputs=1, tolerance=None, **attributes):
    """Run one node here and there. What is refused here is refused there, too.

    But for windows larger than the input or all on its pads, of which ONNX Runtime's poolings make something.
    """
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, list(inputs), names, **attributes)
    content = model_of([node], inputs, names, opset=opset)
    try:
        expected = run_onnxruntime(content, inputs)
    except REFUSALS:
        expected = None
    found, refusal = None, ""
    try:
        found = list(fastnn.onnx.load(content).run(inputs).values())
    except ValueError as error:
        refusal = str(error)
    if found is None:
        assert expected is None or "the kernel spans" in refusal or "no element inside" in refusal
    elif expected is not None:
        for y, e in zip(found, expected, strict=True):
            assert y.dtype == e.dtype
            assert y.shape == e.shape
            np.testing.assert_allclose(y, e, **(tolerance or TOLERANCE))


SIZES = st.integers(1, 9)
FEW = st.integers(1, 3)


@st.composite
def windows(draw_from, rank):
    """Attributes of a convolution or a pooling, of which not all fit any input.

    With auto_pad there is no dilation, which ONNX Runtime refuses or overlooks, and no gap between windows,
    for which it takes elements off the ends.
    """
    attributes = {
        "kernel_shape": draw_from(st.lists(FEW, min_size=rank, max_size=rank)),
        "strides": draw_from(st.lists(FEW, min_size=rank, max_size=rank)),
        "dilations": draw_from(st.lists(st.integers(1, 2), min_size=rank, max_size=rank)),
        **draw_from(st.one_of(
            st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank).map(lambda n: {"pads": n}),
            st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]).map(lambda name: {"auto_pad": name}))),
    }
    if "auto_pad" in attributes:
        narrow = [min(pair) for pair in zip(attributes["strides"], attributes["kernel_shape"], strict=True)]
        attributes |= {"dilations": [1] * rank, "strides": narrow}
    return attributes


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 3), st.sampled_from([1, 2, 4]))
def test_conv(data, rank, group):
    attributes = data.draw(windows(rank))
    sizes = data.draw(st.lists(SIZES, min_size=rank, max_size=rank))
    channels, filters = group * data.draw(FEW), group * data.draw(FEW)
    inputs = {"x": draw(2, channels, *sizes, dtype=np.float32),
              "w": draw(filters, channels // group, *attributes["kernel_shape"], dtype=np.float32, seed=1),
              "b": draw(filters, dtype=np.float32, seed=2)}
    compare("Conv", inputs, group=group, **attributes)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 3), st.sampled_from([1, 2]))
def test_conv_transpose(data, rank, group):
    attributes = data.draw(windows(rank))
    if "auto_pad" in attributes:  # for which ONNX Runtime has a rule of its own where strides are wide
        attributes["strides"] = [1] * rank
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=rank, max_size=rank))
    channels, filters = group * data.draw(FEW), group * data.draw(FEW)
    inputs = {"x": draw(2, channels, *sizes, dtype=np.float32),
              "w": draw(channels, filters // group, *attributes["kernel_shape"], dtype=np.float32, seed=1),
              "b": draw(filters, dtype=np.float32, seed=2)}
    compare("ConvTranspose", inputs, group=group, **attributes)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 3), st.booleans())
def test_max_pool(data, rank, ceil_mode):
    attributes = data.draw(windows(rank))
    x = draw(2, 3, *data.draw(st.lists(SIZES, min_size=rank, max_size=rank)), dtype=np.float32)
    compare("MaxPool", {"x": x}, outputs=2, ceil_mode=int(ceil_mode), opset=12, **attributes)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 3), st.booleans(), st.booleans())
def test_average_pool(data, rank, ceil_mode, count_include_pad):
    attributes = data.draw(windows(rank))
    x = draw(2, 3, *data.draw(st.lists(SIZES, min_size=rank, max_size=rank)), dtype=np.float32)
    compare("AveragePool", {"x": x}, ceil_mode=int(ceil_mode), opset=19,
            count_include_pad=int(count_include_pad), **attributes)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_slice(data, shape):
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True))
    count = len(axes)
    signs = data.draw(st.lists(st.sampled_from([0, len(shape)]), min_size=count, max_size=count))
    steps = data.draw(st.lists(st.sampled_from([-3, -2, -1, 1, 2, 3]), min_size=count, max_size=count))
    starts, ends = (data.draw(st.lists(st.integers(-6, 6), min_size=count, max_size=count)) for _ in range(2))
    for i, step in enumerate(steps):
        if data.draw(st.booleans()):
            ends[i] = 2**31 - 1 if step > 0 else -2**31  # to the end, in the words of ONNX
    compare("Slice", {
        "x": draw(*shape, dtype=np.float32), "starts": np.array(starts, np.int64),
        "ends": np.array(ends, np.int64),
        "axes": np.array([a - s for a, s in zip(axes, signs, strict=True)], np.int64),
        "steps": np.array(steps, np.int64)})


@pytest.mark.parametrize("scale", [0.4, 0.75, 1.0, 1.6, 2.0])
@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "asymmetric",
                                         "half_pixel_symmetric"])
@pytest.mark.parametrize("mode", [
    {"mode": "linear"}, {"mode": "cubic"}, {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
    {"mode": "linear", "antialias": 1}, {"mode": "cubic", "antialias": 1},
    *({"mode": "nearest", "nearest_mode": rule}
      for rule in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))], ids=str)
def test_resize(mode, coordinates, scale):
    x = draw(1, 2, 8, 5, dtype=np.float32)
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], coordinate_transformation_mode=coordinates,
                            **mode)
    scales = {"scales": np.array([1, 1, scale, scale], np.float32)}
    content = model_of([node], {"x": x}, ["y"], scales, opset=19)
    (expected,) = run_onnxruntime(content, {"x": x})
    np.testing.assert_allclose(fastnn.onnx.load(content)(x), expected, **TOLERANCE)


# --- Other dtypes and layouts


@pytest.mark.parametrize("name", CASES)
def test_half(name):
    """float16 comes out as float16, within its precision of what float32 gives."""
    op, arrays, _, _, opset = CASES[name]
    inputs = named(arrays)
    wide = {key: a.astype(np.float16).astype(np.float32) if a.dtype == np.float64 else a
            for key, a in inputs.items()}
    narrow = {key: wide[key].astype(np.float16) if a.dtype == np.float64 else a for key, a in inputs.items()}
    node = node_of(name)
    expected, found = (
        fastnn.onnx.load(model_of([node], feeds, node.output, opset=opset)).run(feeds).values()
        for feeds in (wide, narrow))
    for y, e in zip(found, expected, strict=True):
        assert y.dtype == (np.float16 if e.dtype == np.float32 and op != "Cast" else e.dtype)
        if e.dtype == np.float32:
            scale = max(np.abs(e).max(), 1)
            np.testing.assert_allclose(y / scale, e / scale, atol=4e-3)  # four roundings, at most


@pytest.mark.parametrize("name", [name for name, case in CASES.items()
                                  if case.op not in WITHOUT and case.op not in ("Cast", "CastLike")])
def test_gradients_of_half(name):
    """Between casts from and to float32 gradients are float16's, within its precision of float32's."""
    _, arrays, _, outputs, opset = CASES[name]
    inputs = {key: a.astype(np.float16).astype(np.float32) if a.dtype == np.float64 else a
              for key, a in named(arrays).items()}
    node, found = node_of(name), []
    for half in (False, True):
        nodes, results = [node], list(node.output)
        if half:
            floats = [key for key, a in inputs.items() if a.dtype == np.float32]
            inner = helper.make_node(node.op_type, [f"{i}h" if i in floats else i for i in node.input],
                                     [f"{y}h" for y in results])
            inner.attribute.extend(node.attribute)
            # Outputs that are no floats come out as floats: their gradient is zero.
            nodes = [*(helper.make_node("Cast", [key], [f"{key}h"], to=10) for key in floats), inner,
                     *(helper.make_node("Cast", [f"{y}h"], [y], to=1) for y in results)]
        model = fastnn.onnx.load(model_of(nodes, inputs, results, opset=opset)).train()
        ys = model(*inputs.values())
        ys = ys if outputs > 1 else (ys,)
        grads = model.backward(*(draw(*y.shape, seed=i, dtype=np.float32) if y.dtype == np.float32 else None
                                 for i, y in enumerate(ys)))
        found.append(grads if len(inputs) > 1 else (grads,))
    for wide, narrow, x in zip(*found, inputs.values(), strict=True):
        if x.dtype == np.float32:
            scale = max(np.abs(wide).max(), 1)
            np.testing.assert_allclose(narrow / scale, wide / scale, atol=1e-2)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.inputs[0].ndim >= 3])
def test_channels_last(name):
    """What lies channels-last in memory gives the same numbers."""
    _, arrays, _, _, opset = CASES[name]
    inputs, node = named(arrays), node_of(name)
    model = fastnn.onnx.load(model_of([node], inputs, node.output, opset=opset))
    expected = model.run(inputs)
    inputs["x0"] = LAYOUTS["channels-last"](inputs["x0"])
    for y, e in zip(model.run(inputs).values(), expected.values(), strict=True):
        np.testing.assert_allclose(y, e, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Equal", "Less", "Mod"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers(op, dtype):
    a, b = np.arange(-6, 6, dtype=dtype), np.array([5, 3, -2, 7, 1, -4] * 2, dtype)
    compare(op, {"a": a, "b": b})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_max_pool_of_bytes(dtype):
    x = np.random.default_rng(0).integers(-128 if dtype == np.int8 else 0, 127, (2, 3, 7, 6)).astype(dtype)
    compare("MaxPool", {"x": x}, kernel_shape=[3, 2], pads=[1, 0, 1, 1], opset=12)


def alone(op, inputs, opset=18, **attributes):
    """A model of one node, to be run and differentiated."""
    node = helper.make_node(op, list(inputs), ["y"], **attributes)
    return fastnn.onnx.load(model_of([node], inputs, ["y"], opset=opset)).train()


@pytest.mark.parametrize("reverse", [0, 1])
def test_exclusive_sums_keep_small_numbers_beside_large_ones(reverse):
    x, expected = np.float32([1, 1e9, np.inf, 2]), np.float32([0, 1, 1e9, np.inf])
    inputs = {"x": x[::-1].copy() if reverse else x, "axis": np.array(0)}
    compare("CumSum", inputs, exclusive=1, reverse=reverse)
    model = alone("CumSum", inputs, exclusive=1, reverse=reverse)
    y = model(*inputs.values())
    np.testing.assert_array_equal(y[::-1] if reverse else y, expected)
    grad_x, _ = model.backward(inputs["x"][::-1].copy())
    np.testing.assert_array_equal(grad_x if reverse else grad_x[::-1], expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_near_zero_and_far_from_it(dtype):
    x = np.concatenate([[0, 1e-20, -1e-9, 0.0999, 0.1001, np.inf, -np.inf, 1e30], np.linspace(-7, 7, 200)])
    x = x.astype(dtype)
    expected = [math.erf(v) for v in x]
    # 2 Phi - 1 at 0.1 loses three bits.
    np.testing.assert_allclose(alone("Erf", {"x": x})(x), expected, rtol=8 * np.finfo(dtype).eps + 2e-15)


def test_gradient_of_a_power_of_zero():
    a, b = np.array([0.0, 0.0, 2.0]), np.array([0.0, 1.0, 0.0])
    model = alone("Pow", {"a": a, "b": b})
    np.testing.assert_array_equal(model(a, b), [1, 0, 1])
    grad_a, grad_b = model.backward(np.ones(3))
    np.testing.assert_array_equal(grad_a, [0, 1, 0])
    np.testing.assert_allclose(grad_b, [0, 0, math.log(2)])


def test_gradient_of_casts_to_bfloat16_and_back():
    x = np.float32([1, 2, 3])
    nodes = [helper.make_node("Cast", ["x"], ["b"], to=16), helper.make_node("Cast", ["b"], ["y"], to=1)]
    model = fastnn.onnx.load(model_of(nodes, {"x": x}, ["y"])).train()
    np.testing.assert_array_equal(model(x), x)
    np.testing.assert_array_equal(model.backward(np.float32([4, 5, 6])), [4, 5, 6])


BEYOND = {
    "ReduceSum": ((2, 3, 4), {"constant": np.array([3])}, 18),
    "ReduceMax": ((2, 3, 4), {"axes": [-4]}, 12),
    "GatherElements": ((2, 3, 4), {"constant": np.zeros((2, 3, 4), np.int64), "axis": 3}, 18),
    "LayerNormalization": ((2, 4, 4), {"constant": np.ones(4, np.float32), "axis": 4}, 18),
    "Flatten": ((2, 3, 4), {"axis": 4}, 18),
    "Softmax": ((2, 3, 4), {"axis": 4}, 11),
    "LogSoftmax": ((2, 3, 4), {"axis": -4}, 11),
}


@pytest.mark.parametrize("op", BEYOND)
def test_an_axis_that_is_not_there_is_refused(op):
    shape, attributes, opset = BEYOND[op]
    attributes, inputs = dict(attributes), {"x": draw(*shape, dtype=np.float32)}
    if "constant" in attributes:
        inputs["c"] = attributes.pop("constant")
    compare(op, inputs, opset=opset, **attributes)
    model = alone(op, inputs, opset, **attributes)
    for run in (model, model.freeze()):
        with pytest.raises(ValueError, match=rf"^{op} node 'y': axis -?\d is out of range for an input of"):
            run(*inputs.values())


def test_resize_of_an_axis_that_is_not_there_is_refused():
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], axes=[3])
    x = draw(2, 3, 4, dtype=np.float32)
    model = fastnn.onnx.load(model_of([node], {"x": x}, ["y"], {"scales": np.float32([2])}, opset=19))
    with pytest.raises(ValueError, match=r"^Resize node 'y': axis 3 is out of range for an input of 3 dim"):
        model(x)


def test_a_sequence_without_steps():
    """Its outputs are zero, its final state is the initial one."""
    _, arrays, _, _, opset = CASES["gru"]
    inputs, node = named(arrays), node_of("gru")
    inputs["x4"] = np.array([5, 0, 2], np.int32)
    outputs = fastnn.onnx.load(model_of([node], inputs, node.output, opset=opset)).run(inputs)
    assert not outputs["y0"][:, :, 1].any()
    np.testing.assert_array_equal(outputs["y1"][:, 1], inputs["x5"][:, 1])


def test_every_version_of_an_operator_is_run():
    """Of operators with a gradient, each version that is a function of its own."""
    run = {(case.op, find(case.op, case.opset).since) for case in CASES.values()}
    both = {(op.name, op.since) for versions in OPERATORS.values() for op in versions if op.backward}
    assert both - run == set()
