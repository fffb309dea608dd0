"""Copies of images from one order of their axes to another."""

import itertools
import sys

import numpy as np
import pytest
from arrays import LAYOUTS

import fastnn as fn
from fastnn._kernels import memory
from fastnn.functional import _layout

SIZES = [1, 2, 3, 4, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97]


def numbers(*shape, dtype):
    """Every bit pattern counts: integers seen as `dtype`, so that some are NaN."""
    bits = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    return bits.view(dtype)[..., 0]


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def assert_copied(x):
    """To C order bit by bit, into memory of its own, x being left as it was."""
    before = x.tobytes()
    y = _layout.contiguous(x)
    assert y.flags.c_contiguous
    assert same_bits(x, y)
    assert x.tobytes() == before
    assert y is x if x.flags.c_contiguous else not np.shares_memory(x, y)


@pytest.mark.parametrize("type_", [np.float32, np.float64, np.int16, np.int64, np.complex128, np.bool_])
def test_every_number_finds_its_place(isa, type_):
    for c, pixels in itertools.product(SIZES, SIZES):
        x = numbers(2, c, 1, pixels, dtype=np.uint8 if type_ is np.bool_ else type_)
        x = x > 9 if type_ is np.bool_ else x
        assert_copied(x.transpose(0, 2, 3, 1))
        assert_copied(np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("axes", list(itertools.permutations(range(4))), ids=str)
def test_every_order_of_axes(layout, axes, dtype):
    for shape in [(3, 5, 7, 2), (1, 16, 4, 4), (2, 1, 3, 3), (2, 3, 1, 1), (0, 3, 2, 2), (2, 3, 0, 2)]:
        x = numbers(*shape, dtype=dtype)
        assert_copied(layout(x).transpose(axes))
        assert_copied(layout(x)[::-1, :, ::2].transpose(axes))


def test_other_ranks(dtype):
    for shape in [(), (3,), (5, 3), (2, 3, 5), (2, 3, 2, 3, 2, 3)]:
        x = numbers(*shape, dtype=dtype)
        assert_copied(x.T)
        assert_copied(np.moveaxis(x, 0, -1) if shape else x)
    assert_copied(np.broadcast_to(numbers(3, 1, 5, dtype=dtype), (3, 17, 5)).transpose(0, 2, 1))


def test_threads_share_large_images(threads, dtype):
    for shape in [(1, 64, 97, 65), (33, 3, 63, 63), (2, 3000, 7, 7), (1, 3, 333, 333)]:
        x = numbers(*shape, dtype=dtype)
        for n in 1, 2, 3:
            threads(n)
            assert_copied(x.transpose(0, 2, 3, 1))
            assert_copied(np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))


def test_images_are_not_left_to_numpy(monkeypatch, dtype):
    monkeypatch.setattr(memory, "copyto", None)
    x = numbers(2, 3, 5, 8, dtype=dtype)
    for images in x, x[:1], x[::-1]:
        assert_copied(images.transpose(0, 2, 3, 1))
    assert_copied(x[0, 0].T)
    with pytest.raises(TypeError):
        _layout.contiguous(x[..., ::2])


def test_large_arrays_are_copied_in_parts(monkeypatch, dtype):
    monkeypatch.setattr(_layout, "AT_ONCE", 1000)
    x = numbers(7, 5, 3, 9, dtype=dtype)
    assert_copied(x.transpose(0, 2, 3, 1))
    assert_copied(x[:, ::2, ::-1])


def test_references_are_counted():
    for size in 3, 200:  # 200 x 200 pointers are more than memory.pyx leaves to NumPy
        word = object()
        count = sys.getrefcount(word)
        x = np.empty((1, 2, size, size), object)
        x.fill(word)
        y = _layout.contiguous(x.transpose(0, 2, 3, 1))
        assert (y == word).all()
        assert sys.getrefcount(word) == count + x.size + y.size
        del x, y
        assert sys.getrefcount(word) == count
        pairs = np.zeros((1, 2, size, size), [("name", object), ("number", np.int64)])
        assert (_layout.contiguous(pairs.transpose(0, 2, 3, 1)) == pairs.transpose(0, 2, 3, 1)).all()


def test_flatten_copies_only_what_it_has_to():
    x = np.zeros((2, 16, 1, 1), np.float32)[:, :8]
    assert np.shares_memory(fn.Flatten()(x), x)
    words = np.full((2, 3, 4, 5), "word", object)
    last = np.ascontiguousarray(words.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert (fn.Flatten()(last) == "word").all()


@pytest.mark.parametrize("layer", [
    fn.Conv2d(17, 33, 3, padding=1), fn.Conv2d(17, 5, 1), fn.Conv2d(17, 17, 3, groups=17),
    fn.ConvTranspose2d(17, 4, 3), fn.MaxPool2d(2), fn.AvgPool2d(3), fn.BatchNorm2d(17), fn.PReLU(17),
    fn.Flatten(), fn.ReLU(), fn.SiLU(), fn.Softmax(1),
], ids=repr)
def test_layers_make_no_difference_between_orders(layer):
    x = np.random.default_rng(0).standard_normal((3, 17, 9, 11), dtype=np.float32)
    grad_y = np.random.default_rng(1).standard_normal(layer(x).shape, dtype=np.float32)
    results = []
    for layout in LAYOUTS["C"], LAYOUTS["channels-last"]:
        y = layer(layout(x))
        results.append((np.ascontiguousarray(y), np.ascontiguousarray(layer.backward(layout(grad_y)))))
    for first, second in zip(*results, strict=True):
        assert same_bits(first, second)
