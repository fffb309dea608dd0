"""Convolutions computed together, rows by rows: the bits of one after the other."""

import numpy as np
import pytest
from arrays import assert_same_bits, draw

import fastnn as fn
from fastnn._kernels import chain, conv
from fastnn.frozen.steps import convolution
from fastnn.functional import conv as C

# Each a list of (filters, size, stride, padding, groups, relu); "depthwise" groups are as many as channels.
CHAINS = {
    "inverted residual": (8, [(40, 1, 1, 0, 1, 2), (40, 3, 1, 1, "depthwise", 2), (8, 1, 1, 0, 1, 0)]),
    "stride 2": (16, [(33, 1, 1, 0, 1, 1), (33, 3, 2, 1, "depthwise", 2), (24, 1, 1, 0, 1, 1)]),
    "few channels": (3, [(17, 3, 2, 1, 1, 1), (17, 3, 1, 1, "depthwise", 1), (5, 1, 1, 0, 1, 0)]),
    "large filters": (1, [(16, 7, 3, 2, 1, 0), (16, 5, 2, 3, "depthwise", 1)]),
    "strided": (20, [(20, 3, 1, 0, "depthwise", 0), (300, 1, 2, 0, 1, 2)]),
    "long": (4, [(24, 1, 1, 0, 1, 0), (24, 3, 1, 2, "depthwise", 1), (24, 3, 2, 0, "depthwise", 0),
                 (24, 1, 1, 0, 1, 1), (24, 5, 1, 2, "depthwise", 1), (7, 1, 1, 0, 1, 0)]),
}


def links_of(x, parts):
    """The links of a chain for images x (N, H, W, C), and what follows from them one by one."""
    shape = (x.shape[0], x.shape[3], *x.shape[1:3])
    links, outputs = [], [x]
    for i, (k, size, stride, padding, groups, relu) in enumerate(parts):
        groups = shape[1] if groups == "depthwise" else groups
        weight = draw(k, shape[1] // groups, size, size, dtype=x.dtype, seed=i) / size
        bias = draw(k, dtype=x.dtype, seed=i) if i != 1 else None
        window = C.conv_window("conv2d", shape, weight.shape, None, (stride,) * 2, (padding,) * 2, (1, 1),
                               groups)
        panels = C.pack_filters(weight, window, 0).panels
        links.append((panels, bias, window.kernel, (*window.output, k), relu))
        outputs.append(np.empty((shape[0], *window.output, k), x.dtype))
        conv.forward(outputs[-2], panels, bias, outputs[-1], window.kernel, relu)
        shape = (shape[0], k, *window.output)
    return links, outputs


def run(x, links, y, residual=None, threads=1):
    chained = chain.Chain(x.shape, x.strides, y.strides[2] // y.itemsize, links)
    for _ in range(2):  # the workspace is as the last call left it
        chained(x, y, np.empty(chained.workspace(threads), np.uint8), residual)


@pytest.mark.parametrize("size", [(12, 12), (31, 9), (5, 40), (70, 64)], ids=str)
@pytest.mark.parametrize("name", CHAINS)
def test_bits_of_one_after_the_other(name, size, isa, dtype, threads):
    channels, parts = CHAINS[name]
    x = draw(2, *size, channels, dtype=dtype)
    links, (*_, expected) = links_of(x, parts)
    for count in (1, 2, 3):
        threads(count)
        y = np.full_like(expected, np.nan)
        run(x, links, y, threads=count)
        assert_same_bits([y], [expected])


def test_planes_and_a_range_of_channels(dtype):
    """A first convolution of few channels takes any strides; the last may write to some channels of many."""
    _, parts = CHAINS["few channels"]
    x = draw(3, 3, 20, 21, dtype=dtype).transpose(0, 2, 3, 1)
    links, (*_, expected) = links_of(x, parts)
    whole = np.zeros((*expected.shape[:3], 9), dtype)
    run(x, links, whole[..., 2:7])
    assert_same_bits([whole[..., 2:7]], [expected])
    assert not whole[..., :2].any()
    assert not whole[..., 7:].any()


def test_what_is_added_may_be_the_input(dtype):
    x = draw(2, 40, 24, 8, dtype=dtype)
    links, (_, *between, y) = links_of(x, CHAINS["inverted residual"][1])
    panels, bias, window, _, relu = links[-1]
    expected = x.copy()
    conv.forward(between[-1], panels, bias, expected, window, relu, True)
    run(x, links, y, x)
    assert_same_bits([y], [expected])


@pytest.mark.parametrize("parts", [[(16, 3, 1, 1, 2, 1)], [(8, 1, 1, 0, 1, 1), (4, 3, 1, 1, 1, 0)]], ids=str)
def test_what_cannot_be_chained(parts):
    x = draw(1, 9, 9, 16, dtype=np.float32)
    links, (*_, y) = links_of(x, parts)
    with pytest.raises(ValueError, match="a chain of convolutions"):
        chain.Chain(x.shape, x.strides, y.shape[3], links)


# --- In frozen networks


def inverted_residual(c, k, stride, rng, dtype):
    o = {"bias": False, "dtype": dtype, "rng": rng}
    body = [fn.Conv2d(c, 4 * c, 1, **o), fn.BatchNorm2d(4 * c, dtype=dtype), fn.ReLU6(),
            fn.Conv2d(4 * c, 4 * c, 3, stride, 1, groups=4 * c, **o), fn.BatchNorm2d(4 * c, dtype=dtype),
            fn.ReLU6(), fn.Conv2d(4 * c, k, 1, **o), fn.BatchNorm2d(k, dtype=dtype)]
    return fn.Residual(fn.Sequential(*body)) if stride == 1 and c == k else fn.Sequential(*body)


def chains(frozen):
    (graph,) = frozen._graphs.values()
    return [len(node.attributes["links"]) for node in graph.nodes if node.op == "chain"]


def in_bands(frozen):
    """How many steps of each plan, the latest last, go band by band."""
    return [sum(isinstance(function, chain.Chain) for function, _ in free[0]._steps)
            for _, free in frozen._plans.values() if free]


def test_frozen_networks_use_them(dtype, threads, monkeypatch):
    """All in bands, those of more than a few rows, or none: the bits are the same."""
    rng = np.random.default_rng(0)
    net = fn.Sequential(
        fn.Conv2d(3, 16, 3, 2, 1, dtype=dtype, rng=rng), fn.ReLU6(),
        fn.Conv2d(16, 16, 3, padding=1, groups=16, dtype=dtype, rng=rng), fn.SiLU(),
        inverted_residual(16, 24, 2, rng, dtype), inverted_residual(24, 24, 1, rng, dtype)).eval()
    bits = {}
    for few_rows, counts in ((0, [3, 3]), (convolution._FEW_ROWS, [3, 0]), (100, [0, 0])):
        monkeypatch.setattr(convolution, "_FEW_ROWS", few_rows)
        frozen = net.freeze()
        for shape in ((2, 3, 33, 40), (1, 3, 8, 8), (0, 3, 8, 8)):
            x = draw(*shape, dtype=dtype)
            for count in (1, 2, 3):
                threads(count)
                y = frozen(x)
                assert np.allclose(y, net(x), atol=1e-12 if dtype == np.float64 else 1e-5)
                assert_same_bits([y], [bits.setdefault(shape, y)])
        assert chains(frozen) == [2, 3, 3]
        assert in_bands(frozen)[:2] == counts


def test_a_single_image(dtype):
    net = fn.Sequential(fn.Conv2d(2, 8, 1, dtype=dtype), fn.Conv2d(8, 8, 3, groups=8, dtype=dtype)).eval()
    for size, bands in ((9, 0), (12, 1)):
        frozen, x = net.freeze(), draw(2, size, size, dtype=dtype)
        for _ in range(2):
            assert np.allclose(frozen(x), net(x), atol=1e-12 if dtype == np.float64 else 1e-5)
        assert chains(frozen) == [2]
        assert in_bands(frozen) == [bands]


def test_winograd_is_not_chained(dtype):
    """A chain's first convolution of few channels is a direct one."""
    net = fn.Sequential(fn.Conv2d(8, 16, 3, padding=1, algorithm="winograd", dtype=dtype, rng=0),
                        fn.Conv2d(16, 16, 3, padding=1, groups=16, dtype=dtype, rng=1)).eval()
    frozen, x = net.freeze(), draw(2, 8, 12, 13, dtype=dtype)
    for _ in range(2):
        assert np.allclose(frozen(x), net(x), atol=1e-12 if dtype == np.float64 else 1e-4)
    assert chains(frozen) == []


def test_a_chain_refuses_images_by_the_name_of_a_layer():
    frozen = fn.Sequential(fn.Conv2d(16, 8, 1), fn.Conv2d(8, 8, 3, groups=8)).eval().freeze()
    with pytest.raises(ValueError, match="Conv2d 0: x has 15 channels, weight expects 16"):
        frozen(draw(1, 15, 8, 8, dtype=np.float32))
    with pytest.raises(ValueError, match=r"Conv2d 1: .*2"):
        frozen(draw(1, 16, 2, 8, dtype=np.float32))
    with pytest.raises(TypeError, match="Conv2d 0: x has dtype float64, expected float32"):
        frozen(draw(1, 16, 8, 8))


def test_something_of_another_shape_is_added():
    class Scaled(fn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = fn.Conv2d(4, 4, 3, padding=1, groups=4, rng=0), fn.Conv2d(4, 4, 1, rng=1)
            self.mean = fn.GlobalAvgPool2d()

        def forward(self, x):
            return self.b(self.a(x)) + self.mean(x)

    net = Scaled().eval()
    for images in (1, 2):
        x = draw(images, 4, 7, 8, dtype=np.float32)
        assert np.allclose(net.freeze()(x), net(x), atol=1e-5)
