"""Convolution in one and two dimensions: functions and layers against the reference and by differences."""

import functools
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
from arrays import LAYOUTS, assert_close, assert_gradients, assert_same_bits, draw, in_double
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn import functional, reference
from fastnn._kernels import conv, conv_backward, runtime, winograd_forward
from fastnn.functional import conv as F

# Errors relative to the largest result, of sums of up to a thousand products of normal numbers. A sum of n
# rounded terms is off by about sqrt(n) units in the last place (6e-8, 1.1e-16). Winograd's algorithm
# multiplies differences of inputs, weighted by up to 5 in each direction, which costs another digit; with
# stride 2 by up to 3, and only those of even places.
DIRECT = {np.float32: 2e-6, np.float64: 4e-15}
STRIDED = {np.float32: 5e-6, np.float64: 1e-14}
WINOGRAD = {np.float32: 2e-5, np.float64: 4e-14}


class Case(NamedTuple):
    """Sizes and options of a convolution."""

    n: int
    c: int
    h: int
    w: int
    k: int
    kernel: tuple[int, int] = (3, 3)
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1

    @property
    def options(self):
        return dict(zip(("stride", "padding", "dilation", "groups"), self[6:], strict=True))

    def arrays(self, dtype=np.float64):
        """Draw x, weight and bias, such that outputs are around 1 whatever the sizes."""
        weight = draw(self.k, self.c // self.groups, *self.kernel, seed=2)
        weight = (weight / weight[0].size**0.5).astype(dtype)
        x, bias = draw(self.n, self.c, self.h, self.w, dtype=dtype, seed=1), draw(self.k, dtype=dtype, seed=3)
        return x, weight, bias


def run(module, args, grad_y=None, *, name="conv2d", activation=None, **options):
    """Return y, its gradient (drawn if None), and the gradients of all arguments."""
    y = getattr(module, name)(*args, activation=activation, **options)
    grad_y = draw(*y.shape, seed=4).astype(y.dtype) if grad_y is None else grad_y
    backward = getattr(module, f"{name}_backward")
    return [y, grad_y, *backward(grad_y, *args, activation=activation, y=y, **options)]


def check(args, tolerance, **options):
    """Compare the kernels with the reference in float64, from the numbers that the kernels see."""
    dtype = args[0].dtype
    actual = run(functional, args, **options)
    expected = run(reference, in_double(*args), *in_double(actual[1]), **options)
    assert_close(actual, expected, tolerance[dtype.type], dtype)


# --- The functions against the reference

SIZES = (1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97)  # around the widths of vectors and register tiles

GEOMETRIES = {
    "1x1": Case(2, 5, 4, 3, 7, (1, 1)),
    "1x1 strided": Case(2, 17, 5, 6, 9, (1, 1), stride=2),
    "one pixel": Case(3, 4, 1, 1, 6, (1, 1)),
    "one output": Case(2, 3, 5, 4, 4, (5, 4)),
    "3x3 same": Case(2, 16, 9, 10, 16, padding="same"),
    "3x3 valid": Case(2, 17, 9, 10, 18, padding="valid"),
    "even kernel same": Case(2, 3, 6, 7, 5, (2, 4), padding="same"),
    "dilated same": Case(1, 18, 9, 8, 5, (2, 3), padding="same", dilation=(3, 2)),
    "strided": Case(2, 3, 11, 12, 8, (5, 3), stride=2, padding=(2, 1)),
    "stride by axis": Case(1, 20, 9, 11, 6, stride=(1, 3), padding=(0, 2)),
    "stride beyond kernel": Case(2, 19, 13, 12, 5, (2, 3), stride=(4, 5), padding=1),
    "stride beyond input": Case(1, 3, 4, 5, 2, (2, 2), stride=(7, 100)),
    "padding beyond kernel": Case(2, 3, 3, 4, 4, (2, 2), padding=(4, 5)),
    "padding beyond kernel, many channels": Case(1, 17, 3, 4, 16, padding=4),
    "dilated": Case(2, 17, 12, 11, 9, dilation=(2, 3), padding=1),
    "dilated and strided": Case(1, 3, 14, 13, 5, (3, 2), stride=(3, 2), padding=(2, 1), dilation=(2, 4)),
    "dilation and stride share a factor": Case(1, 4, 13, 14, 4, stride=4, padding=3, dilation=2),
    "groups": Case(2, 12, 7, 8, 9, groups=3, padding=1),
    "groups of many channels": Case(1, 66, 5, 6, 34, groups=2, padding=1, stride=2),
    "groups of a panel and a vector": Case(2, 12, 7, 8, 96, groups=2, padding=1),
    "chunks of pixels inside and at the edges": Case(1, 17, 3, 700, 18, padding=1),
    "groups of one filter": Case(1, 8, 5, 6, 4, (2, 2), groups=4),
    "groups of 2": Case(2, 10, 7, 8, 10, groups=5, padding=1),
    "groups of 4": Case(1, 44, 6, 11, 44, groups=11, padding=1),
    "groups of 4, strided and dilated": Case(2, 20, 9, 10, 20, (3, 2), 2, padding=2, dilation=2, groups=5),
    "groups of 8": Case(1, 40, 5, 7, 40, groups=5, padding=(2, 0), stride=(1, 3)),
    "groups of 2, stride 2": Case(1, 38, 9, 13, 38, groups=19, padding=1, stride=2),
    "groups of 4, stride 2": Case(1, 24, 8, 15, 24, groups=6, stride=2),
    "groups of 4, three taps dilated": Case(2, 20, 9, 14, 20, groups=5, padding=(1, 2), dilation=2),
    "groups of 4, wide padding": Case(1, 28, 3, 2, 28, groups=7, padding=5),
    "groups of 4, stride beyond kernel": Case(1, 12, 11, 19, 12, groups=3, padding=1, stride=(4, 5)),
    "groups of 8, rows of many outputs": Case(2, 24, 4, 17, 24, groups=3, padding=1),
    "groups of 16": Case(1, 48, 6, 11, 48, groups=3, padding=1),
    "groups of 16, stride 2": Case(2, 32, 7, 13, 32, groups=2, padding=1, stride=2),
    "depthwise": Case(2, 33, 7, 8, 33, groups=33, padding=1),
    "depthwise, strided and dilated": Case(2, 17, 9, 10, 17, (2, 3), 2, padding=2, dilation=2, groups=17),
    "depthwise, stride 2": Case(2, 35, 11, 12, 35, groups=35, padding=1, stride=2),
    "depthwise, one row of outputs": Case(1, 16, 2, 1, 16, groups=16, padding=1),
    "depthwise, wide padding": Case(1, 17, 3, 2, 17, groups=17, padding=4),
    "depthwise 5 x 5": Case(1, 19, 6, 9, 19, (5, 5), groups=19, padding=2),
    "depthwise, stride beyond kernel": Case(1, 9, 11, 12, 9, (2, 3), stride=(4, 5), padding=1, groups=9),
    "copied pixels": Case(2, 64, 35, 37, 70, stride=2, padding=1),
    "copied pixels of groups": Case(1, 128, 12, 13, 150, (2, 3), groups=2, padding=1),
    "depth multiplier": Case(2, 5, 7, 8, 15, groups=5, padding=1),
    "only padding": Case(2, 3, 0, 4, 5, (2, 2), padding=1),
    "only padding, many channels": Case(2, 17, 3, 0, 16, padding=2),
    "taller than wide": Case(1, 2, 40, 1, 3, (7, 1), padding=(3, 0)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometries(isa, dtype, name):
    check(GEOMETRIES[name].arrays(dtype), DIRECT, **GEOMETRIES[name].options, algorithm="direct")


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3)])
def test_channels_and_filters_around_the_width_of_a_tile(isa, dtype, kernel):
    for i, c in enumerate(SIZES):
        k = SIZES[(5 * i + 3) % len(SIZES)]
        check(Case(1 + i % 3, c, 5, 6, k, kernel).arrays(dtype), DIRECT, padding=kernel[0] // 2,
              algorithm="direct")


def test_rows_of_few_channels(isa, dtype):
    """Outputs around multiples of the register tile's rows, the last of which are then computed again."""
    for i, (q, k) in enumerate(zip((4, 5, 6, 7, 8, 11, 12, 13, 15, 17, 24, 28, 29), SIZES, strict=True)):
        c, s, stride = (1, 2, 3, 15)[i % 4], 2 + i % 3, 1 + i % 2
        case = Case(2, c, 8, (q - 1) * stride + s - 2, k, (3, s), stride, padding=1)
        for activation in (None, "relu"):
            check(case.arrays(dtype)[:3 - i % 2], DIRECT, **case.options, activation=activation,
                  algorithm="direct")


def test_gradient_of_an_input_of_few_channels(isa, dtype):
    """By rows of outputs with zeros around them, or, where channels or rows are fewer, by col2im.pyx."""
    kernels = ((3, 3), (2, 5), (1, 4), (5, 2))
    for i, w in enumerate((5, 6, 7, 13, 14, 15, 16, 17, 28, 31, 33, 65, 97)):
        c, (r, s) = (4, 5, 6, 7, 8, 12, 15)[i % 7], kernels[i % 4]
        padding = (0, (r // 2, s // 2), (r - 1, s - 1), (r, s))[i % 3 if i else 3]
        case = Case(1 + i % 3, c, r + i % 5, w + s, (1, 3, 8, 17)[i // 3 % 4], (r, s), padding=padding,
                    dilation=(1 + i % 2, 1))
        check(case._replace(h=case.h + r).arrays(dtype), DIRECT, **case.options, algorithm="direct")


def test_gradient_of_an_input_of_few_channels_by_bands(isa, dtype):
    """Of col2im.pyx: several bands of rows, phases that are few or many, and padding at its largest."""
    for c in (1, 2, 3, 4, 5):
        for (r, s), options in (((5, 5), {"stride": 3}), ((3, 2), {"stride": (3, 1), "dilation": (2, 1)}),
                                ((2, 3), {"stride": (2, 40)}), ((3, 4), {"stride": 2, "padding": (2, 3)})):
            case = Case(2, c, 57, 19, 3, (r, s), **options)
            check(case.arrays(dtype), DIRECT, **options, algorithm="direct")


def test_gradients_of_biases_of_all_widths(isa, dtype):
    for i, k in enumerate((*SIZES, 255, 256, 257)):
        grad_z = draw(2, 5 + i, 29, k, dtype=dtype, seed=i)
        expected = in_double(grad_z)[0].sum((0, 1, 2))
        assert_close([F._bias_gradient(grad_z)], [expected], DIRECT[dtype], dtype)


@pytest.mark.parametrize("group", [2, 4, 8, 16])
def test_a_pixel_of_narrow_groups_has_its_bits_wherever_it_lies(isa, dtype, group):
    """Four outputs at once or one alone, the last of a row: the same sums, in order."""
    for options in ({}, {"stride": 2}, {"dilation": 2}, {"stride": 3}):
        x, weight, bias = Case(1, 3 * group, 5, 31, 3 * group, groups=3).arrays(dtype)
        whole = fn.functional.conv2d(x, weight, bias, groups=3, **options)
        step = options.get("stride", 1)
        for q in range(1, whole.shape[3] - 1):
            part = fn.functional.conv2d(x[:, :, :, q * step:], weight, bias, groups=3, **options)
            assert_same_bits(part, whole[..., q:])


def test_rows_of_few_channels_have_the_bits_of_tiles(isa, dtype):
    """Rows of outputs too short for even_tile.h go through gemm_tile.h: the same sums, in order."""
    x, weight, bias = Case(1, 3, 10, 41, 19).arrays(dtype)
    whole = fn.functional.conv2d(x, weight, bias, algorithm="direct")
    for q in range(3, 39):
        part = fn.functional.conv2d(x[:, :, :, q - 3:q], weight, bias, algorithm="direct")
        assert_same_bits(part[..., 0], whole[..., q - 3])


@pytest.mark.parametrize(("depth", "groups"), [(20, 1), (20, 2), (500, 1)])
def test_a_pixel_has_its_bits_whatever_its_neighbours(isa, dtype, depth, groups):
    """Pixels of a 1 x 1 filter go by even_tile.h or gemm_tile.h, as many as there are decide."""
    for k in (1, 7, 8, 9, 16, 31, 33):
        x, weight, bias = Case(1, depth, 1, 98, k * groups, (1, 1), groups=groups).arrays(dtype)
        window = F.conv_window("conv2d", x.shape, weight.shape, bias.shape, (1, 1), (0, 0), (1, 1), groups)
        packed = F.pack_filters(weight, window, 0)
        single = np.concatenate([
            F.convolve(x[..., i:i + 1], packed, bias, k * groups, window._replace(output=(1, 1)), "relu")
            for i in range(98)], axis=3)
        for pixels in (6, 12, 16, 17, 49, 56, 97, 98):
            part = window._replace(output=(1, pixels))
            y = F.convolve(x[..., :pixels], packed, bias, k * groups, part, "relu")
            assert_same_bits([y], [single[..., :pixels]])


@pytest.mark.parametrize("algorithm", ["winograd", "auto"])
def test_algorithms(isa, dtype, algorithm):
    for c, k, h, w, padding in ((1, 1, 3, 3, 0), (3, 5, 4, 4, 1), (16, 17, 9, 10, "same"), (17, 65, 8, 7, 3),
                                (33, 16, 12, 11, 2), (31, 33, 6, 30, (0, 1)), (130, 20, 9, 9, 1),
                                (150, 131, 9, 10, 1)):
        check(Case(2, c, h, w, k).arrays(dtype), WINOGRAD, padding=padding, algorithm=algorithm)


def test_small_tiles_of_winograd(isa, dtype):
    for c, k, h, w, padding in ((1, 1, 3, 3, 0), (3, 5, 4, 5, 1), (16, 17, 9, 10, 1), (17, 65, 8, 7, 3),
                                (33, 16, 12, 11, 2), (31, 33, 6, 30, 1), (130, 97, 7, 7, 1)):
        x, weight, bias = Case(2, c, h, w, k).arrays(dtype)
        window = F.conv_window("conv2d", x.shape, weight.shape, bias.shape, (1, 1), (padding,) * 2, (1, 1), 1)
        y = F.convolve(x, F.pack_filters(weight, window, 4), bias, k, window, "relu")
        expected = reference.conv2d(*in_double(x, weight, bias), padding=padding, activation="relu")
        assert_close([y], [expected], DIRECT[dtype], dtype)


@pytest.mark.parametrize(("tile", "tolerance"), [(5, DIRECT), (9, STRIDED)])
def test_tiles_of_winograd_with_stride_2(isa, dtype, tile, tolerance):
    for c, k, h, w, padding in ((1, 1, 3, 4, 0), (3, 5, 4, 5, 1), (16, 17, 17, 18, 1), (17, 65, 8, 7, 3),
                                (33, 16, 31, 33, 2), (31, 33, 63, 2, 1), (130, 97, 7, 15, 1),
                                (48, 7, 16, 1, 1)):
        x, weight, bias = Case(2, c, h, w, k).arrays(dtype)
        window = F.conv_window("conv2d", x.shape, weight.shape, bias.shape, (2, 2), (padding,) * 2, (1, 1), 1)
        y = F.convolve(x, F.pack_filters(weight, window, tile), bias, k, window, "relu")
        expected = reference.conv2d(*in_double(x, weight, bias), stride=2, padding=padding, activation="relu")
        assert_close([y], [expected], tolerance[dtype], dtype)
        grad_z = draw(2, *window.output, k, dtype=dtype, seed=3)
        gradient = F._filter_gradient(grad_z, x, weight.shape, window, tile)
        expected = reference.conv2d_backward(*in_double(grad_z.transpose(0, 3, 1, 2), x, weight), stride=2,
                                             padding=padding)
        assert_close([gradient], expected[1:2], tolerance[dtype], dtype)


@pytest.mark.parametrize("case", [
    Case(16, 20, 63, 64, 24), Case(3, 130, 56, 55, 135), Case(1, 64, 57, 41, 300),
], ids=["slices of the sums", "rounds of tiles", "blocks of filters, an odd number of tiles"])
def test_tiles_of_winograd_with_stride_2_in_parts(dtype, case):
    x, weight, bias = case.arrays(dtype)
    y, grad_y, _, *grads = run(functional, (x, weight, bias), stride=2, padding=1, algorithm="winograd")
    expected = run(functional, in_double(x, weight, bias), grad_y.astype(float), stride=2, padding=1,
                   algorithm="direct")
    assert_close([y, *grads], [expected[0], *expected[3:]], WINOGRAD[dtype], dtype)


@pytest.mark.parametrize(("tile", "stride", "tolerance"), [
    (4, 1, DIRECT), (6, 1, WINOGRAD), (5, 2, DIRECT), (9, 2, STRIDED)])
def test_tiles_of_winograd_with_dilation(isa, dtype, tile, stride, tolerance):
    strides = (stride, stride)
    for c, k, h, w, padding, dilation in (
            (1, 1, 7, 5, (0, 0), (3, 2)), (3, 5, 9, 10, (2, 1), (2, 1)), (16, 17, 17, 18, (2, 3), (2, 3)),
            (17, 65, 8, 15, (1, 4), (1, 5)), (33, 16, 13, 1, (7, 40), (7, 40)),
            (48, 7, 31, 33, (4, 0), (2, 4))):
        x, weight, bias = Case(2, c, h, w, k).arrays(dtype)
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        window = F.conv_window("conv2d", x.shape, weight.shape, bias.shape, strides, padding, dilation, 1)
        y = F.convolve(x, F.pack_filters(weight, window, tile), bias, k, window, "relu")
        expected = reference.conv2d(*in_double(x, weight, bias), activation="relu", **options)
        assert_close([y], [expected], tolerance[dtype], dtype)
        grad_z = draw(2, *window.output, k, dtype=dtype, seed=3)
        expected = reference.conv2d_backward(*in_double(grad_z.transpose(0, 3, 1, 2), x, weight), **options)
        if tile > 4:
            gradient = F._filter_gradient(grad_z, x, weight.shape, window, tile)
            assert_close([gradient], expected[1:2], tolerance[dtype], dtype)
        if stride == 1:
            gradient = F._input_gradient(grad_z, x.shape, weight, window, tile)
            assert_close([gradient], expected[:1], tolerance[dtype], dtype)


def test_winograd_is_chosen_where_its_tiles_are_full():
    """A tile's 36 products are those of 4 outputs: of ones that are a dilation apart there must be 3 x 3."""
    for n, size, dilation, tile in ((1, 16, 1, 6), (1, 16, 4, 6), (1, 16, 6, 6), (1, 16, 8, 0),
                                    (1, 16, 16, 0), (64, 1, 1, 0)):
        layer = fn.Conv2d(17, 16, 3, padding=dilation, dilation=dilation, rng=1).eval()
        x = draw(n, 17, size, size, dtype=np.float32)
        expected = reference.conv2d(*in_double(x, layer.weight.data, layer.bias.data), padding=dilation,
                                    dilation=dilation)
        y = layer(x)
        assert [kept.tile for kept in layer._cache.values() if isinstance(kept, F.Packed)] == [tile]
        assert_close([y, layer.freeze()(x)], [expected, expected], WINOGRAD[np.float32], np.float32)


def test_winograd_with_stride_2_is_chosen_by_the_number_of_products(threads):
    """14 x 14 outputs are 49 tiles of 25 products or 16 of 81; 28 x 28 are 196 or 49; 7 x 7 must be many."""
    for n, c, size, tile in ((1, 48, 27, 5), (1, 48, 55, 9), (1, 48, 13, 0), (8, 48, 14, 9), (1, 47, 56, 0)):
        layer = fn.Conv2d(c, 49, 3, stride=2, padding=1, rng=1).eval()
        x = draw(n, c, size, size + 1, dtype=np.float32)
        expected = reference.conv2d(*in_double(x, layer.weight.data, layer.bias.data), stride=2, padding=1)
        y = layer(x)
        assert [kept.tile for kept in layer._cache.values() if isinstance(kept, F.Packed)] == [tile]
        assert_close([y, layer.freeze()(x)], [expected, expected], STRIDED[np.float32], np.float32)
        for count in (1, 2, 3):
            threads(count)
            assert_same_bits([layer(x)], [y])


@pytest.mark.parametrize(("channels", "filters", "algorithm"), [
    (1, 5, "winograd"), (3, 16, "winograd"), (15, 17, "winograd"), (16, 17, "winograd"), (15, 1100, "auto")])
def test_winograd_of_few_channels_in_eval_mode(dtype, channels, filters, algorithm):
    """A direct convolution may read their images as they lie: in a first call, a prepared one, frozen."""
    layer = fn.Conv2d(channels, filters, 3, padding=1, algorithm=algorithm, dtype=dtype, rng=0).eval()
    frozen = fn.Sequential(layer).eval().freeze()
    x = draw(2, channels, 5, 6, dtype=dtype)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected = reference.conv2d(*in_double(x, layer.weight.data, layer.bias.data), padding=1)
    for call in (layer, layer, frozen, frozen):
        assert_close([call(x), call(last), call(x)], [expected] * 3, WINOGRAD[dtype], dtype)


def test_layers_of_many_channels_read_small_tiles_in_eval_mode(threads):
    layer = fn.Conv2d(256, 257, 3, padding=1, rng=1).eval()
    x = draw(1, 256, 7, 7, dtype=np.float32)
    threads(1)
    y = layer(x)
    assert [kept.tile for kept in layer._cache.values() if isinstance(kept, F.Packed)] == [4]
    expected = reference.conv2d(*in_double(x, layer.weight.data, layer.bias.data), padding=1)
    assert_close([y], [expected], DIRECT[np.float32], np.float32)
    for n in (2, 3):
        threads(n)
        assert_same_bits([layer(x)], [y])


def test_auto_is_winograd_where_it_pays_and_direct_elsewhere():
    def bits(case, algorithm):
        return run(functional, case.arrays(np.float32), algorithm=algorithm, **case.options)

    large, small = Case(4, 16, 12, 12, 16, padding=1), Case(1, 16, 6, 6, 16, padding=1)
    assert_same_bits(bits(large, "auto")[:3], bits(large, "winograd")[:3])
    assert_same_bits(bits(small, "auto"), bits(small, "direct"))
    assert not np.array_equal(bits(large, "direct")[0], bits(large, "winograd")[0])
    # Of three channels the outputs alone, or the gradient of the input, whose channels are those of y.
    for strips, reading in ((large._replace(c=3), 0), (large._replace(k=3), 2)):
        auto, winograd, direct = (bits(strips, name) for name in ("auto", "winograd", "direct"))
        assert_same_bits(auto[reading:reading + 1], winograd[reading:reading + 1])
        assert not np.array_equal(auto[reading], direct[reading])
        del auto[reading], direct[reading]
        assert_same_bits(auto, direct)
        for other in (strips._replace(h=8, w=8), strips._replace(c=min(strips.c, 15), k=min(strips.k, 15))):
            assert_same_bits(bits(other, "auto"), bits(other, "direct"))
    for other in (large._replace(stride=2), large._replace(stride=(1, 2)), large._replace(c=15),
                  large._replace(k=2)):
        assert_same_bits(bits(other, "auto"), bits(other, "direct"))


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("case", [
    Case(2, 3, 6, 7, 5), Case(2, 3, 6, 28, 19, padding=1), Case(2, 17, 6, 7, 9, padding=1),
    Case(1, 9, 6, 7, 9, groups=9), Case(4, 16, 9, 9, 16, padding=1),
], ids=["few channels", "few channels, rows", "direct", "depthwise", "winograd"])
def test_fused_activations(isa, dtype, case, activation):
    check(case.arrays(dtype), WINOGRAD, activation=activation, **case.options)


def test_without_bias_without_batch_and_without_gradient_of_the_input(dtype):
    x, weight, bias = Case(1, 3, 6, 7, 5).arrays(dtype)
    y, grad_y, grad_x, grad_weight, grad_bias = run(functional, (x, weight, bias))
    without = run(functional, (x, weight), grad_y)
    assert_close(without, [y - bias[:, None, None], grad_y, grad_x, grad_weight, None], DIRECT[dtype])
    assert_same_bits(run(functional, (x[0], weight, bias), grad_y[0]),
                     [y[0], grad_y[0], grad_x[0], grad_weight, grad_bias])
    assert_same_bits(functional.conv2d_backward(grad_y, x, weight, bias, input_grad=False),
                     [None, grad_weight, grad_bias])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [32, 40])
def test_outputs_beyond_the_caches_have_the_bits_of_single_images(isa, threads, dtype, stride, channels):
    """8 MB are written past the caches, outputs with stride 1, gradients of the input with both.

    But not pixels of 40 numbers of 4 bytes, which are no whole cache lines.
    """
    n, size = -(-2**23 // (channels * 95 * 97 * np.dtype(dtype).itemsize)), (95, 97)
    x, weight, bias = Case(n, channels, *size, channels, groups=channels).arrays(dtype)
    options = {"stride": stride, "padding": 1, "groups": channels, "activation": "relu"}
    threads(2)
    y = functional.conv2d(x, weight, bias, **options)
    grad_y = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    grads = functional.conv2d_backward(grad_y, x, weight, bias, y=y, **options)
    grad_x = grads[0]
    threads(3)
    assert_same_bits(functional.conv2d_backward(grad_y, x, weight, bias, y=y, **options), grads)
    threads(1)
    assert_same_bits([functional.conv2d(x, weight, bias, **options)], [y])
    assert_same_bits(functional.conv2d_backward(grad_y, x, weight, bias, y=y, **options), grads)
    for i in (0, n - 1):
        assert_same_bits([functional.conv2d(x[i], weight, bias, **options)], [y[i]])
        alone, *_ = functional.conv2d_backward(grad_y[i], x[i], weight, bias, y=y[i], **options)
        assert_same_bits([alone], [grad_x[i]])


def test_few_channels_beyond_the_caches_have_the_bits_of_single_images(threads):
    """A few images are copied at a time, and 8 MB of grad_y fetched ahead."""
    x, weight, bias = Case(8, 12, 66, 130, 48).arrays(np.float32)
    for n in (2, 1):
        threads(n)
        y = functional.conv2d(x, weight, bias)
        assert y.nbytes >= 2**23
        grad_weight = functional.conv2d_backward(y, x, weight, bias, input_grad=False)[1]
    total = np.zeros(weight.shape)
    for i in range(8):
        assert_same_bits([functional.conv2d(x[i], weight, bias)], [y[i]])
        total += functional.conv2d_backward(y[i], x[i], weight, bias, input_grad=False)[1]
    np.testing.assert_allclose(grad_weight, total, rtol=0, atol=2e-5 * np.abs(total).max())


@pytest.mark.parametrize("case", [
    Case(2, 20, 9, 11, 6, (1, 1), stride=2), Case(2, 20, 9, 11, 20, (1, 2), stride=(3, 2), groups=20),
    Case(2, 20, 9, 11, 20, (2, 1), stride=4, groups=5),
], ids=["dense", "depthwise", "groups"])
def test_every_pixel_that_no_tap_reads_gets_a_gradient_of_zero(isa, dtype, case):
    x, weight, _ = case.arrays(dtype)
    grad_y = draw(*functional.conv2d(x, weight, **case.options).shape, dtype=dtype)
    expected = reference.conv2d_backward(*in_double(grad_y, x, weight), **case.options)[0]
    grad_x = np.full((case.n, case.h, case.w, case.c), np.nan, dtype)
    stride = np.broadcast_to(case.stride, 2).tolist()
    conv_backward.backward_input(np.ascontiguousarray(grad_y.transpose(0, 2, 3, 1)), weight, grad_x,
                                 (*case.kernel, *stride, 0, 0, 1, 1, case.groups, 0))
    assert_close([grad_x.transpose(0, 3, 1, 2)], [expected], DIRECT[dtype], dtype)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 2), (2, 3), (3, 1), ((2, 1), 1), ((1, 2), (3, 1))])
def test_images_beyond_the_caches_have_the_bits_of_single_images(isa, threads, stride, dilation):
    """The rows that are fetched ahead are within the image, whatever the filter's rows are apart."""
    channels, n, size = 64, 4, (95, 97)
    x, weight, bias = Case(n, channels, *size, channels, groups=channels).arrays(np.float32)
    assert x.nbytes >= 2**23
    options = {"stride": stride, "padding": 1, "dilation": dilation, "groups": channels}
    threads(2)
    y = functional.conv2d(x, weight, bias, **options)
    grad_x, grad_weight, _ = functional.conv2d_backward(y, x, weight, bias, **options)
    threads(1)
    total = np.zeros(weight.shape)
    for i in range(n):
        assert_same_bits([functional.conv2d(x[i], weight, bias, **options)], [y[i]])
        alone = functional.conv2d_backward(y[i], x[i], weight, bias, **options)
        assert_same_bits([alone[0]], [grad_x[i]])
        total += alone[1]
    np.testing.assert_allclose(grad_weight, total, rtol=0, atol=2e-5 * np.abs(total).max())


def test_long_sums_keep_their_accuracy():
    """More pixels and channels than one block of the kernels takes, with numbers that do not cancel.

    Up to 6400 positive terms: a random walk of so many roundings is 80 units in the last place long.
    """
    for case in (Case(2, 500, 4, 5, 7), Case(4, 3, 40, 41, 4, padding=1), Case(4, 6, 40, 41, 6, groups=6)):
        x, weight, bias = (np.abs(a) for a in case.arrays(np.float32))
        check((x, weight, bias), {np.float32: 80 * 6e-8}, **case.options, algorithm="direct")


@pytest.mark.parametrize("case", [
    Case(1, 3, 24, 25, 18, (23, 24), padding=2), Case(1, 17, 24, 25, 18, (24, 23)),
    Case(1, 18, 24, 25, 18, (23, 24), groups=18, padding=2), Case(1, 12, 24, 25, 12, (24, 23), groups=3),
], ids=["few channels", "many channels", "depthwise", "groups"])
def test_more_taps_than_a_table_of_rows_has(isa, case):
    """Filters of 552 taps are packed, and their gradients put in order, in two blocks of them."""
    x, weight, bias = (np.abs(a) for a in case.arrays(np.float32))  # sums of up to 9384 positive terms
    check((x, weight, bias), {np.float32: 80 * 6e-8}, **case.options)


sizes = st.integers(1, 4)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_any_geometry(data):
    """Whatever the sizes and options: float64, gradients included."""
    draw_pair = functools.partial(st.tuples, sizes, sizes)
    groups, kernel, dilation = data.draw(sizes), data.draw(draw_pair()), data.draw(draw_pair())
    padding = data.draw(st.one_of(st.tuples(st.integers(0, 5), st.integers(0, 5)),
                                  st.sampled_from(("same", "valid"))))
    stride = (1, 1) if padding == "same" else data.draw(draw_pair())
    size, each = st.integers(0, 12), st.one_of(st.just(1), st.integers(2, 18))  # one a group is depthwise
    channels = data.draw(each)
    filters = data.draw(st.one_of(st.just(channels), each))  # as many: groups may be narrow
    case = Case(data.draw(st.integers(0, 3)), groups * channels, data.draw(size), data.draw(size),
                groups * filters, kernel, stride, padding, dilation, groups)
    around = {"valid": (0, 0), "same": tuple(d * (k - 1) / 2 for k, d in zip(kernel, dilation, strict=True))}
    pads = around.get(padding, padding)
    assume(all(s + 2 * p > d * (k - 1) for s, p, d, k in zip((case.h, case.w), pads, dilation, kernel,
                                                             strict=True)))
    check(case.arrays(), WINOGRAD, **case.options)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2), st.integers(1, 9), st.integers(0, 20), st.integers(1, 9), sizes, sizes, sizes,
       st.integers(0, 4))
def test_any_geometry_in_one_dimension(n, c, length, k, kernel, stride, dilation, padding):
    assume(length + 2 * padding > dilation * (kernel - 1))
    x, weight, bias = draw(n, c, length, seed=1), draw(k, c, kernel, seed=2), draw(k, seed=3)
    check((x, weight, bias), DIRECT, name="conv1d", stride=stride, padding=padding, dilation=dilation)


def test_one_dimension_is_two_of_height_one(isa, dtype):
    x, weight, bias = Case(2, 6, 1, 11, 4, (1, 3), groups=2).arrays(dtype)
    args, options = (x[:, :, 0], weight[:, :, 0], bias), {"groups": 2, "activation": "tanh"}
    for stride, padding, dilation in ((1, 0, 1), (2, 1, 1), (1, "same", 2), (1, "valid", 1),
                                      ((2,), (3,), (2,))):
        one = {"stride": stride, "padding": padding, "dilation": dilation, **options}
        check(args, DIRECT, name="conv1d", **one)
        pad = padding if isinstance(padding, str) else (0, *np.ravel(padding).tolist())
        two = {"stride": (1, *np.ravel(stride).tolist()), "padding": pad,
               "dilation": (1, *np.ravel(dilation).tolist()), **options}
        flat = run(functional, args, name="conv1d", **one)
        deep = run(functional, (x, weight, bias), flat[1][:, :, None], **two)
        assert_same_bits(flat, [*(a[:, :, 0] for a in deep[:-1]), deep[-1]])


def test_one_dimension_without_batch(dtype):
    args = Case(1, 3, 1, 9, 4, (1, 2)).arrays(dtype)
    x, weight, bias = args[0][:, :, 0], args[1][:, :, 0], args[2]
    y, grad_y, grad_x, *grads = run(functional, (x, weight, bias), name="conv1d")
    single = run(functional, (x[0], weight, bias), grad_y[0], name="conv1d")
    assert_same_bits(single, [y[0], grad_y[0], grad_x[0], *grads])


# --- Gradients


@pytest.mark.parametrize("module", [functional, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("activation", [None, "tanh", "sigmoid"])
@pytest.mark.parametrize("case", [
    Case(2, 2, 4, 5, 3, (2, 3)), Case(1, 4, 5, 4, 2, (2, 2), stride=(2, 1), padding=(1, 2), groups=2),
    Case(1, 3, 5, 5, 3, (2, 2), dilation=2, padding="same", groups=3),
    Case(1, 2, 4, 5, 4, stride=3, padding=2, groups=2),
], ids=["plain", "groups", "depthwise", "multiplier"])
def test_gradients_are_finite_differences(module, case, activation):
    args = case.arrays()
    options = {"activation": activation, **case.options}
    _, grad_y, *grads = run(module, args, **options)
    assert_gradients(functools.partial(module.conv2d, **options), args, grad_y, grads)


def test_gradients_of_winograd_and_of_relu_are_finite_differences():
    args = Case(1, 2, 5, 6, 3).arrays()
    for options in ({"algorithm": "winograd", "padding": 1}, {"activation": "relu"},
                    {"algorithm": "winograd", "padding": 1, "stride": 2},
                    {"algorithm": "winograd", "padding": 2, "dilation": (2, 1)}):
        _, grad_y, *grads = run(functional, args, **options)
        assert_gradients(functools.partial(functional.conv2d, **options), args, grad_y, grads)


# --- Memory, threads, numbers that are none

KINDS = {
    "few channels": Case(2, 3, 6, 7, 5, padding=1), "direct": Case(2, 17, 6, 7, 9, padding=1),
    "few channels, rows": Case(2, 3, 6, 28, 19, padding=1),
    "few channels, rows both ways": Case(2, 7, 6, 31, 12, padding=1),
    "groups": Case(2, 8, 6, 7, 6, groups=2, stride=2), "groups of 4": Case(2, 12, 6, 7, 12, groups=3),
    "depthwise": Case(2, 9, 6, 7, 9, groups=9),
    "one channel": Case(2, 1, 6, 7, 1, padding=1), "winograd": Case(2, 16, 15, 14, 17, padding=1),
}
# And of images enough for tiles: of one alone the direct sum is faster.
ALL_KINDS = KINDS | {"winograd, strided": Case(13, 48, 15, 14, 50, stride=2, padding=1),
                     "winograd, dilated": Case(2, 16, 15, 24, 17, dilation=(2, 3), padding=(2, 3))}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_memory_of_arguments_changes_no_bit_and_is_not_written(dtype, kind, layout):
    options = ALL_KINDS[kind].options
    args = ALL_KINDS[kind].arrays(dtype)
    expected = run(functional, args, **options)
    copies = [LAYOUTS[layout](a) for a in args]
    actual = run(functional, copies, LAYOUTS[layout](expected[1]), **options)
    assert_same_bits(copies, [LAYOUTS[layout](a) for a in args])
    actual[1] = expected[1]
    assert_same_bits(actual, expected)


def test_images_of_few_channels_in_c_order(isa, dtype):
    for c in (1, 2, 3, 4, 5):
        for w in (5, 16, 33, 50):
            x, weight, _ = Case(2, c, 4, w, 3, padding=1).arrays(dtype)
            last = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
            y = functional.conv2d(np.ascontiguousarray(x), weight)
            assert_same_bits([y], [functional.conv2d(last, weight)])


def test_outputs_are_channels_last_in_memory():
    y, _, grad_x, *_ = run(functional, Case(2, 3, 6, 7, 5).arrays())
    for a in (y, grad_x):
        assert a.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("case", [
    Case(4, 3, 40, 41, 16, padding=1), Case(4, 8, 40, 41, 16, padding=1),
    Case(3, 40, 20, 21, 40, (2, 2)), Case(4, 64, 20, 21, 64, groups=64),
    Case(2, 64, 20, 21, 48, groups=4, stride=2), Case(2, 300, 6, 6, 300, (1, 1)),
    Case(4, 32, 21, 20, 33, padding=1), Case(1, 64, 8, 8, 160, padding=1),
    Case(1, 150, 18, 18, 150, padding=1), Case(2, 33, 61, 61, 40, padding=1),
    Case(2, 64, 21, 19, 70, stride=2), Case(1, 1, 1, 9000, 33, (1, 10), stride=(1, 2)),
    Case(1, 64, 56, 57, 150, stride=2, padding=1), Case(1, 150, 28, 28, 300, stride=2, padding=1),
    Case(2, 64, 29, 31, 70, dilation=(2, 3), padding=(2, 3)), Case(4, 64, 56, 56, 64, (1, 1), stride=2),
    Case(4, 64, 56, 56, 64, (1, 1), stride=2, groups=64), Case(2, 20, 56, 56, 70, (1, 1)),
    Case(3, 3, 61, 40, 35, padding=1),
], ids=["few channels", "few channels, rows both ways", "direct", "depthwise", "groups", "1x1", "winograd",
        "one block", "shared products", "rounds of tiles", "copied pixels", "a signal", "winograd, strided",
        "small tiles, strided", "winograd, dilated", "pixels unread", "depthwise, pixels unread",
        "1x1, turned", "strips"])
def test_equal_bits_for_any_number_of_threads(threads, case):
    results = []
    for n in (1, 2, 3):
        threads(n)
        results.append(run(functional, case.arrays(np.float32), **case.options))
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


# --- Images of three channels, which go by strips of Winograd's tiles


@pytest.mark.parametrize("padding", [0, 1, 2, "same"])
def test_strips(isa, dtype, padding):
    """Around whole tiles, runs of 4 tiles and pairs of vectors of filters; of any strides."""
    for i, (q, k) in enumerate(zip((1, 2, 3, 4, 5, 15, 16, 17, 36, 63, 64, 65, 97), SIZES, strict=True)):
        h = (3, 4, 5, 7, 8, 12, 13)[i % 7]
        x, weight, bias = Case(1 + i % 3, 3, h, q + 2, k).arrays(dtype)
        last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        for images in (x, last, np.repeat(x, 2, axis=1)[:, ::2], x[:, :, ::-1, ::-1]):
            check((images, weight, bias), WINOGRAD, padding=padding, algorithm="winograd",
                  activation=(None, "relu")[i % 2])


@pytest.mark.parametrize(("c", "k", "size", "stride"),
                         [(3, 32, 3, 2), (3, 64, 3, 1), (24, 144, 1, 1), (8, 80, 1, 1)])
def test_outputs_that_fill_the_caches_have_the_bits_of_their_images(isa, dtype, c, k, size, stride):
    """They are written past these where that pays; with and without a vector of filters by itself."""
    h = 2 + stride * int((2**23 / np.dtype(dtype).itemsize / k / 3) ** 0.5 + 1)
    x, weight, bias = Case(4, c, h, h, k, (size, size)).arrays(dtype)
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    y = F.conv2d(x, weight, bias, stride=stride, padding=size // 2, activation="relu")
    assert y.nbytes > 2**23
    for i in range(4):
        assert_same_bits([y[i]], F.conv2d(x[i:i + 1], weight, bias, stride=stride, padding=size // 2,
                                          activation="relu"))


@pytest.mark.parametrize("end", [(0, 1), (1, 0), (0, 9), (9, 0), (40, 40)])
def test_strided_pixels_that_are_padded_at_the_end_alone(isa, end):
    """Which lie evenly, as far as the image goes."""
    x, weight, bias = Case(2, 16, 29, 56, 33, (1, 1)).arrays(np.float32)
    window = F.conv_window("conv2d", x.shape, weight.shape, bias.shape, (2, 2), (0, 0, *end), (1, 1), 1)
    y = F.convolve(x, F.pack_filters(weight, window, 0), bias, len(weight), window, None)
    padded = np.pad(x, ((0, 0), (0, 0), (0, end[0]), (0, end[1])))
    expected = reference.conv2d(*in_double(padded, weight, bias), stride=2)
    assert_close([y], [expected], DIRECT[np.float32], np.float32)


def test_an_output_of_strips_has_its_bits_wherever_its_strip_ends(isa, dtype):
    """Of whole tiles: of others some inputs are zeros."""
    layer = fn.Conv2d(3, 20, 3, rng=0, dtype=dtype, algorithm="winograd").eval()
    x = draw(1, 3, 22, 102, dtype=dtype)
    whole = layer(x)
    for p, q in ((0, 0), (4, 4), (8, 32), (12, 36), (16, 64)):
        for height, width in ((4, 4), (8, 12), (4, 32), (20 - p, 100 - q)):
            part = layer(x[:, :, p:p + height + 2, q:q + width + 2])
            assert_same_bits([part], [whole[:, :, p:p + height, q:q + width]])


@pytest.mark.parametrize("end", [1, 33, 60, 200])
def test_a_gradient_by_strips_of_what_is_padded_at_the_end(isa, threads, end):
    """Whose rows are longer than what the outputs of the gradient's convolution read of them."""
    threads(2)
    x, weight = draw(2, 16, 31, 29, dtype=np.float32), draw(3, 16, 3, 3, dtype=np.float32, seed=1)
    window = F.conv_window("conv2d", x.shape, weight.shape, None, (1, 1), (0, 1, end, end), (1, 1), 1)
    grad_y = draw(2, 3, *window.output, dtype=np.float32, seed=2)
    by_tiles, directly = (F.gradients("conv2d", grad_y, x, weight, True, window, algorithm, True)
                          for algorithm in ("auto", "direct"))
    assert not np.array_equal(by_tiles[0], directly[0])
    assert_close(by_tiles, directly, WINOGRAD[np.float32], np.float32)


def test_strips_are_chosen_where_they_pay():
    for channels, filters, size, options, tile in (
            (3, 16, 7, {}, 6), (3, 15, 32, {}, 0), (3, 16, 3, {}, 0), (2, 64, 32, {}, 0), (4, 64, 32, {}, 0),
            (3, 64, 32, {"stride": 2}, 0), (3, 64, 32, {"dilation": 2}, 0),
            (3, 64, 32, {"algorithm": "direct"}, 0)):
        layer = fn.Conv2d(channels, filters, 3, padding=1, rng=0, **options).eval()
        layer(draw(1, channels, size, size, dtype=np.float32))
        assert [kept.tile for kept in layer._cache.values() if isinstance(kept, F.Packed)] == [tile]


def test_strips_of_outputs_that_are_written_past_the_caches(threads):
    """From 32 MB on; each half of the filters is smaller."""
    x, weight, bias = Case(1, 3, 130, 66, 1024).arrays(np.float32)
    parts = [functional.conv2d(x, half, some, activation="relu") for half, some in
             zip(np.split(weight, 2), np.split(bias, 2), strict=True)]
    for n in (1, 2, 3):
        threads(n)
        y = functional.conv2d(x, weight, bias, activation="relu")
        assert y.nbytes == 32 << 20
        assert_same_bits([y], [np.concatenate(parts, axis=1)])


def test_strips_that_are_added_to_a_shortcut(isa):
    """A frozen network's convolution adds to what is there, whatever is left of rows, tiles and vectors."""
    for size, filters in ((5, 16), (33, 17), (40, 32)):
        conv = fn.Conv2d(3, filters, 3, padding=1, rng=0)
        net = fn.Sequential(fn.Residual(conv, shortcut=fn.Conv2d(3, filters, 1, rng=1)), fn.ReLU()).eval()
        x = draw(2, 3, size, size + 1, dtype=np.float32)
        assert_close([net.freeze()(x)], [net(x)], WINOGRAD[np.float32], np.float32)


@pytest.mark.parametrize("case", [Case(2, 33, 61, 61, 40, padding=1), Case(1, 310, 53, 55, 20, padding=1)],
                         ids=["filters transformed beforehand", "filters transformed as they are read"])
def test_several_rounds_of_tiles(isa, dtype, case):
    args = case.arrays(dtype)
    y, grad_y, *gradients = run(functional, args, algorithm="winograd", **case.options)
    expected = run(functional, in_double(*args), *in_double(grad_y), algorithm="direct", **case.options)
    assert_close([y, *gradients], [expected[0], *expected[2:]], WINOGRAD[dtype], dtype)


@pytest.mark.parametrize(("size", "stride", "filters"),
                         [(28, 1, 256), (28, 1, 260), (56, 2, 256), (25, 1, 513)])
def test_wide_layers_share_tiles_or_filters(isa, threads, size, stride, filters):
    """Of 49 tiles two threads take blocks, three do not; a single one shares nothing."""
    layer = fn.Conv2d(256, filters, 3, stride=stride, padding=1, algorithm="winograd", rng=0).eval()
    x = draw(1, 256, size, size, dtype=np.float32)
    results = []
    for n in (1, 2, 3):
        threads(n)
        results.append(layer(x))
    assert_same_bits([results[1], results[2]], [results[0]] * 2)
    exact = reference.conv2d(*in_double(x, layer.weight.data, layer.bias.data), stride=stride, padding=1)
    # Sums of 2,304 products, and tiles of stride 2: see the notes of conv2d.
    assert_close(results[:1], [exact], 4 * WINOGRAD[np.float32], np.float32)


def test_more_threads_than_tiles(threads):
    """36 tiles, which threads share beside the filters; packed filters, and ones that serve one call."""
    layer = fn.Conv2d(256, 260, 3, padding=1, rng=0)
    x = draw(1, 256, 24, 23, dtype=np.float32)
    results = []
    for n in (1, 3, 48):
        threads(n)
        results.append([layer.train()(x), layer.eval()(x)])
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


def test_filters_that_serve_one_call_are_transformed_as_they_are_read_where_tiles_are_few_or_they_are_many():
    for images, size, filters, expected in ((1, 56, 64, True), (2, 56, 64, False), (2, 56, 8192, True)):
        assert F.transforms_on_the_fly(6, (images, 64, size, size), (size, size), filters, (1, 1)) is expected
    assert not F.transforms_on_the_fly(0, (1, 64, 8, 8), (8, 8), 64, (1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_empty_batch(kind):
    args = KINDS[kind]._replace(n=0).arrays()
    y, _, grad_x, grad_weight, grad_bias = run(functional, args, **KINDS[kind].options)
    assert y.shape == reference.conv2d(*args, **KINDS[kind].options).shape
    assert grad_x.shape == args[0].shape
    assert_same_bits([grad_weight, grad_bias], [np.zeros_like(args[1]), np.zeros_like(args[2])])


@pytest.mark.parametrize("kind", KINDS)
def test_not_a_number_and_infinity_reach_what_reads_them_and_nothing_else(isa, dtype, kind):
    x, weight, bias = KINDS[kind].arrays(dtype)
    x[0, -1, 2, 3], x[1, 0, 4, 1] = np.nan, np.inf
    options = {"algorithm": "direct", **KINDS[kind].options}
    for activation in (None, "relu", "tanh"):
        y = functional.conv2d(x, weight, bias, activation=activation, **options)
        expected = reference.conv2d(*in_double(x, weight, bias), activation=activation, **options)
        assert_close([y], [expected], DIRECT[dtype], dtype)
        assert np.isnan(y).any()
    _, _, _, grad_weight, _ = run(functional, (x, weight, bias), **options)
    assert np.isnan(grad_weight).any()


@pytest.mark.parametrize("size", [4, 6, 16, 18])
@pytest.mark.parametrize("padding", [0, 2, (0, 1)])
def test_winograd_with_stride_2_reads_no_further_than_its_windows(isa, dtype, size, padding):
    options = {"stride": 2, "padding": padding, "algorithm": "winograd"}
    args = Case(2, 16, size, size + 2, 17).arrays(dtype)
    clean = run(functional, args, **options)
    pads = padding if isinstance(padding, tuple) else (padding, padding)
    for axis, pad in zip((2, 3), pads, strict=True):
        last = (clean[0].shape[axis] - 1) * 2 + 2 - pad
        np.moveaxis(args[0], axis, 0)[last + 1:] = (np.nan, np.inf)[axis - 2]
    assert np.isfinite(args[0]).all() == (padding == 2)  # such padding leaves no pixel out
    assert_same_bits(run(functional, args, clean[1], **options), clean)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "dilation", "padding"), [
    (4, 1, 0), (6, 1, (0, 1)), (16, 1, 0), (18, 1, 2), (9, 2, 2), (13, 2, 0), (33, 2, 2), (33, 4, 4),
    (27, 3, (1, 3)), (33, (1, 5), (0, 4)), (40, 7, 7)])
def test_winograd_reads_what_its_windows_read_and_nothing_else(isa, dtype, size, dilation, padding, stride):
    """Neither pixels beside and between the windows nor what lies behind the image in memory."""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "algorithm": "winograd"}
    args = Case(1, 16, size, size + 1, 17).arrays(dtype)
    ones, window = np.ones((1, 1, *functional.conv2d(*args, **options).shape[2:])), np.ones((1, 1, 3, 3))
    read = reference.conv2d_backward(ones, np.ones((1, 1, size, size + 1)), window, stride=stride,
                                     padding=padding, dilation=dilation)[0] > 0
    results = []
    for other in (0, np.nan):
        memory = np.full((2, size, size + 1, 16), other, dtype)
        memory[:1] = np.where(read, args[0], other).transpose(0, 2, 3, 1)
        x = memory[:1].transpose(0, 3, 1, 2)
        results.append(run(functional, (x, *args[1:]), results[0][1] if results else None, **options))
    assert np.isfinite(results[1][3]).all()
    assert_same_bits(results[1], results[0])


def test_winograd_with_stride_2_spreads_not_a_number_within_its_tile_of_outputs_alone():
    x, weight, bias = Case(1, 16, 16, 16, 16).arrays()
    clean = functional.conv2d(x, weight, bias, stride=2, algorithm="winograd")
    x[0, 0, 9, 9] = np.nan
    y = functional.conv2d(x, weight, bias, stride=2, algorithm="winograd")
    assert np.isnan(y[:, :, 4, 4]).all()
    assert_same_bits([y[:, :, :4], y[:, :, :, :4]], [clean[:, :, :4], clean[:, :, :, :4]])


def test_winograd_spreads_not_a_number_within_its_tile_of_outputs_alone():
    x, weight, bias = Case(1, 16, 12, 12, 16, padding=1).arrays()
    clean = functional.conv2d(x, weight, bias, padding=1, algorithm="winograd")
    x[0, 0, 5, 5] = np.nan
    y = functional.conv2d(x, weight, bias, padding=1, algorithm="winograd")
    assert np.isnan(y[:, :, 4:7, 4:7]).all()
    tile = np.zeros(y.shape, bool)
    tile[:, :, 4:8, 4:8] = True
    assert_same_bits([y[~tile]], [clean[~tile]])


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_kernel_adds_to_what_the_output_holds_before_it_applies_f(isa, dtype, kind):
    x, weight, bias = ALL_KINDS[kind].arrays(dtype)
    expected = functional.conv2d(x, weight, bias, **ALL_KINDS[kind].options)
    window, tile = F.plan("conv2d", "auto", F.TILES, x.shape, weight.shape, bias.shape,
                          *((v, v) if isinstance(v, int) else v
                            for v in list(ALL_KINDS[kind].options.values())[:3]),
                          ALL_KINDS[kind].groups)
    panels = F.pack_filters(weight, window, tile).panels
    residual = draw(*expected.shape, dtype=dtype, seed=9)
    y = residual.transpose(0, 2, 3, 1).copy()
    images = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    if tile:
        winograd_forward.forward(images, panels, bias, y, tile, *window.padding, *window.dilation, True, True)
    else:
        conv.forward(images, panels, bias, y, window.kernel, True, True)
    assert_close([y.transpose(0, 3, 1, 2)], [np.maximum(expected + residual, 0)], WINOGRAD[dtype])


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_prepared_by_the_one_before_gives_the_same_bits(dtype, kind):
    case = KINDS[kind]
    layer = fn.Conv2d(case.c, case.k, case.kernel, **case.options, activation="relu", dtype=dtype).eval()
    x, weight, bias = case.arrays(dtype)
    layer.weight, layer.bias = weight, bias
    expected = layer(x)
    for layout in LAYOUTS.values():
        assert_same_bits([layer(layout(x)), layer(layout(x[:1]))], [expected, expected[:1]])
    assert_same_bits([layer(x.tolist()) if dtype == np.float64 else expected], [expected])
    with pytest.raises(TypeError, match="Conv2d: x has dtype"):
        layer(x.astype(np.float16))
    layer.weight = 2 * weight
    layer.bias = 2 * bias
    assert_close([layer(x)], [2 * expected], WINOGRAD[dtype])
    layer.stride = tuple(2 * s for s in layer.stride)
    assert layer(x).shape != expected.shape or max(expected.shape[2:]) == 1


# --- convolve2d


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_convolve2d_of_any_sizes(ma, na, mb, nb):
    a, b = draw(ma, na, seed=1), draw(mb, nb, seed=2)
    c = functional.convolve2d(a, b)
    assert_close([c, functional.convolve2d(b, a)], [reference.convolve2d(a, b)] * 2, DIRECT[np.float64])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolve2d_reads_any_memory(isa, dtype, layout):
    a, b = draw(9, 8, dtype=dtype, seed=1), draw(3, 4, dtype=dtype, seed=2)
    c = functional.convolve2d(LAYOUTS[layout](a), LAYOUTS[layout](b))
    assert_same_bits([c], [functional.convolve2d(a, b)])
    assert_close([c], [reference.convolve2d(*in_double(a, b))], DIRECT[dtype], dtype)
    assert_close([c[:, 0]], [np.convolve(a[:, 0].astype(float), b[:, 0].astype(float))], DIRECT[dtype], dtype)


# --- Layers

LAYERS = {
    "Conv2d": lambda **o: fn.Conv2d(6, 4, (3, 2), 2, 1, (1, 2), 2, activation="tanh", rng=0, **o),
    "depthwise": lambda **o: fn.Conv2d(5, 10, 3, groups=5, padding="same", rng=0, **o),
    "winograd": lambda **o: fn.Conv2d(16, 17, 3, padding=1, bias=False, rng=0, **o),
    "winograd, strided": lambda **o: fn.Conv2d(16, 17, 3, 2, 1, algorithm="winograd", rng=0, **o),
    "direct": lambda **o: fn.Conv2d(16, 17, 3, padding=1, algorithm="direct", rng=0, **o),
    "Conv1d": lambda **o: fn.Conv1d(6, 4, 3, 2, 1, 3, 2, activation="sigmoid", rng=0, **o),
    "Conv1d, prepared": lambda **o: fn.Conv1d(3, 17, 5, padding=2, activation="relu", rng=0, **o),
}


def input_of(layer, seed=1):
    rank = 1 if isinstance(layer, fn.Conv1d) else 2
    return draw(2, layer.in_channels, *(13, 14)[:rank], dtype=layer.dtype, seed=seed)


def as_function(layer):
    """The layer as the call of a function: (args, options) for `run`."""
    keys = ("stride", "padding", "dilation", "groups", "activation", "algorithm")
    options = {key: getattr(layer, key) for key in keys}
    bias = () if layer.bias is None else (layer.bias.data,)
    return (layer.weight.data, *bias), {"name": type(layer).__name__.lower(), **options}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_their_functions(dtype, name):
    layer = LAYERS[name](dtype=dtype)
    x = input_of(layer)
    parameters, options = as_function(layer)
    y, grad_y, grad_x, *grads = run(functional, (x, *parameters), **options)
    for times in (1, 2):  # gradients are added
        assert_same_bits([layer(x), layer.backward(grad_y)], [y, grad_x])
        expected = [times * g for g in grads if g is not None]
        assert_same_bits([p.grad for p in layer.parameters()], expected)
    layer(x)
    assert layer.backward(grad_y, input_grad=False) is None
    single = LAYERS[name](dtype=dtype)
    assert_same_bits([single(x[0])], [run(functional, (x[0], *parameters), grad_y[0], **options)[0]])
    assert single.backward(grad_y[0]).shape == x[0].shape


@pytest.mark.parametrize("name", LAYERS)
def test_eval_mode_packs_once_until_parameters_change(name, monkeypatch):
    calls, pack = [], functional.conv.pack_filters
    monkeypatch.setattr(functional.conv, "pack_filters", lambda *args: calls.append(args) or pack(*args))
    layer, other = LAYERS[name](), LAYERS[name]()
    for p in other.parameters():
        p.data = -p.data
    x = input_of(layer)
    y, y_other = layer(x), other(x)
    layer.eval()
    calls.clear()
    assert_same_bits([layer(x), layer(x)], [y, y])
    assert len(calls) == 1
    layer.load_state_dict(other.state_dict())
    assert_same_bits([layer(x)], [y_other])
    layer.weight = -other.weight.data
    if layer.bias is not None:
        layer.bias = -other.bias.data
    assert_same_bits([layer(x), pickle.loads(pickle.dumps(layer))(x)], [y, y])


def test_eval_mode_has_as_many_filters_as_the_weight():
    """Those of a layer that was pruned, say."""
    layer = fn.Conv2d(3, 40, 3, rng=0)
    x = input_of(layer)
    expected = layer(x)[:, :4]
    layer.weight, layer.bias = (fn.Parameter(p.data[:4].copy()) for p in (layer.weight, layer.bias))
    layer.eval()
    for _ in range(2):  # the second call is a prepared one
        assert_close([layer(x)], [expected], DIRECT[np.float32])


def test_eval_mode_serves_images_of_all_sizes_with_filters_packed_for_each_algorithm():
    layer = fn.Conv2d(16, 16, 3, padding=1, rng=0).eval()
    for size in (3, 30, 4, 12, 3):
        x = draw(1, 16, size, size, dtype=np.float32)
        expected = reference.conv2d(*in_double(x, layer.weight.data, layer.bias.data), padding=1)
        assert_close([layer(x)], [expected], WINOGRAD[np.float32], np.float32)
        # What was called before decides nothing.
        assert_same_bits([layer(x)], [fn.Conv2d(16, 16, 3, padding=1, rng=0).eval()(x)])


def test_eval_mode_packs_anew_for_another_instruction_set(isa):
    layer = LAYERS["Conv2d"]().eval()
    x = input_of(layer)
    y = layer(x)
    for name in runtime.available_isas():
        runtime.set_isa(name)
        assert_close([layer(x)], [y], DIRECT[np.float32])


def test_backward_needs_a_forward_of_its_own():
    layer = fn.Conv2d(3, 4, 3)
    x, grad_y = draw(1, 3, 5, 5, dtype=np.float32), draw(1, 4, 3, 3, dtype=np.float32)
    message = r"Conv2d\.backward: call forward in training mode first"
    with pytest.raises(ValueError, match=message):
        layer.backward(grad_y)
    layer(x)
    layer.backward(grad_y)
    with pytest.raises(ValueError, match=message):
        layer.backward(grad_y)
    layer.eval()(x)
    with pytest.raises(ValueError, match=message):
        layer.backward(grad_y)


def test_initial_values_and_representation():
    layer = fn.Conv2d(8, 20, (3, 5), groups=2, rng=0)
    bound = (4 * 3 * 5) ** -0.5
    for p in layer.parameters():
        assert 0.8 * bound < np.abs(p.data).max() <= bound
    again = fn.Conv2d(8, 20, (3, 5), groups=2, rng=0)
    assert_same_bits(layer.state_dict().values(), again.state_dict().values())
    assert repr(layer) == "Conv2d(8, 20, kernel_size=(3, 5), stride=(1, 1), groups=2)"
    assert repr(fn.Conv1d(2, 3, 4, 2, "valid", bias=False)) == (
        "Conv1d(2, 3, kernel_size=(4,), stride=(2,), padding='valid', bias=False)")


# --- Refusals

HUGE = 2**31 - 1


def refusals():
    """Rows (error, words of the message, call): the message names the function and the argument."""
    x, weight, bias = Case(2, 4, 6, 7, 6, groups=2).arrays(np.float32)
    y = functional.conv2d(x, weight, bias, groups=2)
    conv = functools.partial(functional.conv2d, groups=2)
    back = functools.partial(functional.conv2d_backward, groups=2)
    double, small = x.astype(np.float64), np.ones((1, 1, 6, 7), np.float32)
    yield (TypeError, r"conv2d: x has dtype int64, expected float32 or float64",
           lambda: conv(x.astype(int), weight))
    yield TypeError, r"conv2d: x has dtype float16", lambda: conv(x.astype(np.float16), weight)
    yield TypeError, r"conv2d: x has dtype complex64", lambda: conv(x.astype(np.complex64), weight)
    yield TypeError, r"conv2d: x is None", lambda: conv(None, weight)
    yield TypeError, r"conv2d: x is a list of dtype int64", lambda: conv([[[[1, 2]]]], weight)
    yield TypeError, r"conv2d: x is a masked array", lambda: conv(np.ma.masked_array(x), weight)
    yield TypeError, r"conv2d: weight has dtype float32, expected float64", lambda: conv(double, weight)
    yield TypeError, r"conv2d: bias has dtype float64", lambda: conv(x, weight, bias.astype(float))
    yield (ValueError, r"conv2d: x has 2 dimensions \(shape \(6, 7\)\), expected 3 or 4",
           lambda: conv(x[0, 0], weight))
    yield ValueError, r"conv2d: x has 5 dimensions", lambda: conv(x[None], weight)
    yield ValueError, r"conv2d: weight has 3 dimensions", lambda: conv(x, weight[0])
    yield ValueError, r"conv2d: bias has 2 dimensions", lambda: conv(x, weight, bias[None])
    yield ValueError, r"conv2d: bias has shape \(5,\), expected \(6,\)", lambda: conv(x, weight, bias[1:])
    yield (ValueError, r"conv2d: x has 3 channels, weight expects 4 \(weight.shape\[1\] \* groups = 2 \* 2\)",
           lambda: conv(x[:, 1:], weight))
    yield ValueError, r"conv2d: weight has 5 filters, which groups = 2 does not", lambda: conv(x, weight[1:])
    yield ValueError, r"conv2d: weight has shape \(0, ", lambda: conv(x, weight[:0])
    yield ValueError, r"conv2d: weight has shape .*no zero sizes", lambda: conv(x, weight[:, :, :0])
    yield ValueError, r"conv2d: weight has shape .*no zero sizes", lambda: conv(x[:, :0], weight[:, :0])
    yield (ValueError, r"conv2d: the kernel spans 3 pixels of axis H .* input's 2",
           lambda: conv(x[:, :, :2], weight))
    yield ValueError, r"conv2d: the kernel spans 9 pixels of axis W", lambda: conv(x, weight, dilation=(1, 4))
    yield ValueError, r"conv2d: the kernel spans 3 .* padded input's 0", lambda: conv(x[:, :, :0], weight)
    for name, low in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
        for value, words in ((low - 1, f"at least {low}, got {low - 1}"), (-(2**31), f"at least {low}, got"),
                             (2**31, r"below 2\*\*31, got"), (2**64 + 1, r"below 2\*\*31, got"),
                             (10**400, "got an integer of 1329 bits")):
            call = functools.partial(functional.conv2d, x, weight, **{name: value})
            yield ValueError, f"conv2d: {name} must be .*{words}", call
        for value in (1.5, True, None, [1.0, 1.0]):
            call = functools.partial(functional.conv2d, x, weight, **{name: value})
            yield TypeError, f"conv2d: {name} must be an integer", call
    yield (ValueError, r"conv2d: stride must be an integer or 2 of them",
           lambda: conv(x, weight, stride=(1, 2, 3)))
    yield (ValueError, r"conv2d: padding must be 'same' or 'valid', got 'full'",
           lambda: conv(x, weight, padding="full"))
    yield (ValueError, r"conv2d: padding 'same' needs stride 1, got stride \(2, 2\)",
           lambda: conv(x, weight, stride=2, padding="same"))
    yield ValueError, r"conv2d: activation must be None, 'relu'", lambda: conv(x, weight, activation="elu")
    yield ValueError, r"conv2d: algorithm must be 'auto'", lambda: conv(x, weight, algorithm="fft")
    yield (ValueError, r"conv2d: algorithm 'winograd' is for 3 x 3 filters .* groups 2",
           lambda: conv(x, weight, algorithm="winograd"))
    yield ValueError, r"conv2d: the kernel spans \d+ pixels", lambda: conv(x, weight, dilation=HUGE)
    yield ValueError, r"conv2d_backward: grad_y has shape \(1, 6", lambda: back(y[:1], x, weight)
    yield ValueError, r"conv2d_backward: grad_y has 3 dimensions", lambda: back(y[0], x, weight)
    yield TypeError, r"conv2d_backward: grad_y has dtype float64", lambda: back(y.astype(float), x, weight)
    yield TypeError, r"conv2d_backward: y is None", lambda: back(y, x, weight, activation="tanh")
    yield (ValueError, r"conv2d_backward: y has shape",
           lambda: back(y, x, weight, y=y[:, :, 1:], activation="tanh"))
    yield ValueError, r"conv2d_backward: x has 3 channels", lambda: back(y, x[:, 1:], weight)
    yield ValueError, r"conv1d: x has 4 dimensions", lambda: functional.conv1d(x, weight[:, :, 0])
    yield (ValueError, r"conv1d: stride must be an integer or 1 of them",
           lambda: functional.conv1d(x[:, :, 0], weight[:, :, 0], stride=(1, 1), groups=2))
    yield (ValueError, r"conv1d_backward: grad_y has shape \(2, 6, 1, 4\), expected \(2, 6, 1, 5\)",
           lambda: functional.conv1d_backward(y[:, :, 0, 1:], x[:, :, 0], weight[:, :, 0], groups=2))
    yield ValueError, r"convolve2d: a has 4 dimensions", lambda: functional.convolve2d(small, small[0, 0])
    yield ValueError, r"convolve2d: b is empty", lambda: functional.convolve2d(x[0, 0], x[0, 0, :0])
    yield (TypeError, r"convolve2d: b has dtype float64, expected float32",
           lambda: functional.convolve2d(x[0, 0], double[0, 0]))
    yield ValueError, r"Conv2d: in_channels must be at least 1, got 0", lambda: fn.Conv2d(0, 4, 3)
    yield TypeError, r"Conv2d: out_channels must be an integer, got 4.0", lambda: fn.Conv2d(4, 4.0, 3)
    yield ValueError, r"Conv2d: kernel_size must be at least 1", lambda: fn.Conv2d(4, 4, (3, 0))
    yield (ValueError, r"Conv2d: out_channels = 4 is not divided by groups = 3",
           lambda: fn.Conv2d(3, 4, 3, groups=3))
    yield ValueError, r"Conv2d: stride must be below 2\*\*31", lambda: fn.Conv2d(3, 4, 3, stride=2**31)
    yield ValueError, r"Conv2d: padding must be at least 0", lambda: fn.Conv2d(3, 4, 3, padding=-1)
    yield (ValueError, r"Conv2d: padding 'same' needs stride 1",
           lambda: fn.Conv2d(3, 4, 3, stride=(1, 2), padding="same"))
    yield (ValueError, r"Conv2d: padding_mode must be 'zeros'",
           lambda: fn.Conv2d(3, 4, 3, padding_mode="reflect"))
    yield TypeError, r"Conv2d: bias must be True or False", lambda: fn.Conv2d(3, 4, 3, bias=1)
    yield TypeError, r"Conv2d: dtype must be float32 or float64", lambda: fn.Conv2d(3, 4, 3, dtype=np.float16)
    yield ValueError, r"Conv2d: activation must be", lambda: fn.Conv2d(3, 4, 3, activation="gelu")
    yield ValueError, r"Conv1d: kernel_size must be an integer or 1 of", lambda: fn.Conv1d(3, 4, (3, 3))
    yield (ValueError, r"Conv1d: algorithm 'winograd' is for 3 x 3",
           lambda: fn.Conv1d(4, 6, 3, algorithm="winograd")(x[:, :, 0]))
    yield ValueError, r"Conv2d: x has 2 dimensions", lambda: fn.Conv2d(4, 6, 3)(x[0, 0])
    yield ValueError, r"Conv2d: x has 4 channels, weight expects 3", lambda: fn.Conv2d(3, 6, 3)(x)
    yield TypeError, r"Conv2d: x has dtype float64, expected float32", lambda: fn.Conv2d(4, 6, 3)(double)


@pytest.mark.parametrize(("error", "words", "call"), [*refusals()])
def test_refusals_name_the_argument(error, words, call):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("groups", [1, 4], ids=["all channels", "depthwise"])
@pytest.mark.parametrize("options", [
    {"stride": HUGE}, {"stride": (1, HUGE)}, {"stride": HUGE, "padding": 1},
    {"stride": HUGE, "padding": HUGE // 2}, {"stride": HUGE, "padding": HUGE - 1},
    {"padding": 2**30, "dilation": HUGE}, {"padding": HUGE, "dilation": HUGE, "stride": HUGE},
], ids=str)
def test_options_near_the_largest_are_computed_where_the_output_is_small(options, groups):
    """The reference cannot: it pads in memory. Every output is a sum over the few taps inside the image."""
    def pair(key, default):
        return np.broadcast_to(options.get(key, default), 2)

    x, weight, bias = Case(1, 4, 3, 4, 4, groups=groups).arrays()
    weight = weight[:, :, :2, :2].copy()
    y, grad_y, grad_x, grad_weight, _ = run(functional, (x, weight, bias), groups=groups, **options)
    expected = np.broadcast_to(bias[:, None, None], y.shape[1:]).copy()
    expected_x, expected_weight = np.zeros_like(x), np.zeros_like(weight)
    for p, q, r, s in np.ndindex(*y.shape[2:], 2, 2):
        h, w = (i * step + t * spread - pad for i, t, step, spread, pad in zip(
            (p, q), (r, s), pair("stride", 1), pair("dilation", 1), pair("padding", 0), strict=True))
        if not (0 <= h < 3 and 0 <= w < 4):
            continue
        z, f = grad_y[0, :, p, q], weight[:, :, r, s]
        if groups == 1:
            expected[:, p, q] += f @ x[0, :, h, w]
            expected_x[0, :, h, w] += f.T @ z
            expected_weight[:, :, r, s] += np.outer(z, x[0, :, h, w])
        else:
            expected[:, p, q] += f[:, 0] * x[0, :, h, w]
            expected_x[0, :, h, w] += f[:, 0] * z
            expected_weight[:, 0, r, s] += z * x[0, :, h, w]
    assert_close([y[0], grad_x, grad_weight], [expected, expected_x, expected_weight], DIRECT[np.float64])


def test_an_output_beyond_memory_is_an_error_and_no_crash():
    x, weight, _ = Case(1, 4, 6, 7, 6).arrays()
    for options in ({"padding": HUGE}, {"padding": (0, 2**30)}):
        with pytest.raises((MemoryError, ValueError)):
            functional.conv2d(np.broadcast_to(x, (2**16, 4, 6, 7)), weight, **options)


@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.dtype(">f4"), np.int64])
def test_kernels_refuse_what_they_do_not_compute_with(dtype):
    """Callers have checked; a kernel would take four or eight bytes for a float."""
    x, weight, y = np.ones((1, 5, 5, 2), dtype), np.ones((3, 2, 3, 3), dtype), np.ones((1, 3, 3, 3), dtype)
    geometry = (3, 3, 1, 1, 0, 0, 1, 1, 1, 0)
    for call in (lambda: conv.forward(x, weight, None, y, geometry, 0),
                 lambda: conv.pack_filters(weight, 1, np.ones(10_000, dtype)),
                 lambda: conv_backward.backward_input(y, weight, x, geometry),
                 lambda: conv_backward.backward_weight(y, x.astype(np.float32), weight, geometry)):
        with pytest.raises(TypeError, match="float32 nor float64"):
            call()
