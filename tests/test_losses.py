"""Losses against the reference, by finite differences, and at the ends of the range."""

import numpy as np
import pytest
from plain_layers import finite_differences

from fastnn import functional as F
from fastnn import losses
from fastnn import reference as R

# float32: logarithms of sums over up to 7 classes; float64 likewise.
RTOL = {np.float32: 2e-5, np.float64: 1e-12}
RNG = np.random.default_rng(0)

CLASS_CASES = {
    "rows": ((6, 7), {}),
    "one": ((7,), {}),
    "images": ((3, 5, 4, 2), {}),
    "weights": ((6, 7), {"weight": np.arange(1.0, 8.0)}),
    "ignored": ((6, 7), {"ignore_index": 2}),
    "smoothed": ((6, 7), {"label_smoothing": 0.1}),
    "all at once": ((6, 7), {"weight": np.arange(1.0, 8.0), "ignore_index": 2, "label_smoothing": 0.3}),
}


def classes_of(shape, soft, dtype):
    """Logits and targets, the second class among them."""
    logits = RNG.standard_normal(shape).astype(dtype) * 3
    axis = 0 if len(shape) == 1 else 1
    if soft:
        p = np.abs(RNG.standard_normal(shape)) + 0.1
        return logits, (p / p.sum(axis, keepdims=True)).astype(dtype)
    rest = shape[:axis] + shape[axis + 1 :]
    target = RNG.integers(0, shape[axis], rest)
    if target.size:
        target.reshape(-1)[:1] = 2 if target.size > 1 else 1
    return logits, target


def as_dtype(options, dtype):
    return {k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in options.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("case", CLASS_CASES)
def test_cross_entropy(case, soft, reduction, dtype):
    shape, options = CLASS_CASES[case]
    logits, target = classes_of(shape, soft, dtype)
    options = as_dtype(options, dtype) | {"reduction": reduction}
    value = F.cross_entropy(logits, target, **options)
    np.testing.assert_allclose(value, R.cross_entropy(logits, target, **options), rtol=RTOL[dtype])
    grad = F.cross_entropy_backward(logits, target, **options)
    assert grad.dtype == dtype
    expected = R.cross_entropy_backward(logits, target, **options)
    np.testing.assert_allclose(grad, expected, rtol=10 * RTOL[dtype], atol=RTOL[dtype])


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 65, 97, 1025])
def test_cross_entropy_at_sizes_around_a_vector(isa, dtype, threads, classes):
    rng = np.random.default_rng(classes)
    logits = (rng.standard_normal((70, classes)) * 3).astype(dtype)
    target = np.where(rng.random(70) < 0.2, -100, rng.integers(0, classes, 70))
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append((F.cross_entropy(logits, target, reduction="none"),
                        F.cross_entropy_backward(logits, target)))
    wide = logits.astype(np.float64)
    tolerance = {"rtol": RTOL[dtype], "atol": RTOL[dtype]}
    np.testing.assert_allclose(results[0][0], R.cross_entropy(wide, target, reduction="none"), **tolerance)
    np.testing.assert_allclose(results[0][1], R.cross_entropy_backward(wide, target), **tolerance)
    for others in results[1:]:
        for array, same in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("case", CLASS_CASES)
def test_cross_entropy_gradient(case, reduction, soft):
    shape, options = CLASS_CASES[case]
    logits, target = classes_of(shape, soft, np.float64)
    options = options | {"reduction": reduction}
    grad = F.cross_entropy_backward(logits, target, **options)
    numeric = finite_differences(lambda: F.cross_entropy(logits, target, **options), logits)
    np.testing.assert_allclose(grad, numeric, atol=1e-7)


def test_cross_entropy_far_out():
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], np.float32)
    assert F.cross_entropy(logits, np.array([0, 1]), reduction="none") == pytest.approx([0, np.log(3)])
    assert F.cross_entropy(logits, np.array([1, 1]), reduction="none")[0] == 2e4
    assert np.isfinite(F.cross_entropy_backward(logits, np.array([1, 1]))).all()


# Options with three classes, of which the second is masked, and with the two others alone.
MASKED = {
    "plain": ({"target": np.array([0, 2])}, {"target": np.array([0, 1])}),
    "weights": ({"target": np.array([0, 2]), "weight": np.array([1.0, 3, 2])},
                {"target": np.array([0, 1]), "weight": np.array([1.0, 2])}),
    "soft": ({"target": np.array([[0.5, 0, 0.5], [0, 0, 1]])}, {"target": np.array([[0.5, 0.5], [0, 1]])}),
}


@pytest.mark.parametrize("case", MASKED)
def test_masked_class(case):
    # A logit of -inf: as if there were no such class.
    options, without = MASKED[case]
    logits = np.array([[1.0, -np.inf, 2.0], [0.5, -np.inf, -3.0]])
    rest = logits[:, [0, 2]]
    assert F.cross_entropy(logits, **options) == pytest.approx(F.cross_entropy(rest, **without), rel=1e-12)
    grad = F.cross_entropy_backward(logits, **options)
    np.testing.assert_array_equal(grad[:, 1], 0)
    np.testing.assert_allclose(grad[:, [0, 2]], F.cross_entropy_backward(rest, **without), rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"weight": np.ones(3)}, {"label_smoothing": 0.1}])
def test_ignored_sample_may_be_anything(options):
    logits = np.array([[1.0, 0.0, 2.0], [np.nan, np.inf, 0.0]])
    expected = F.cross_entropy(logits[:1], np.array([1]), **options)
    assert F.cross_entropy(logits, np.array([1, -100]), **options) == expected


def test_all_targets_ignored():
    logits = np.ones((2, 3), np.float32)
    assert np.isnan(F.cross_entropy(logits, np.array([-100, -100])))
    assert F.cross_entropy(logits, np.array([-100, -100]), reduction="sum") == 0
    assert not F.cross_entropy_backward(logits, np.array([-100, -100])).any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_no_classes(smoothing):
    logits = np.ones((2, 0), np.float32)
    for target in (logits, np.array([-100, -100])):
        assert F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing) == 0
        assert F.cross_entropy_backward(logits, target, label_smoothing=smoothing).shape == (2, 0)


ELEMENTWISE = {
    "mse_loss": {},
    "half_squared_error": {},
    "binary_cross_entropy_with_logits": {},
    "binary_cross_entropy_with_logits, weights": {"weight": np.array([0.5, 2, 1]),
                                                  "pos_weight": np.array([3.0, 1, 2])},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", ELEMENTWISE)
def test_elementwise(case, reduction, dtype):
    name, options = case.split(",")[0], as_dtype(ELEMENTWISE[case], dtype) | {"reduction": reduction}
    y, target = RNG.standard_normal((4, 3)).astype(dtype), RNG.random((4, 3)).astype(dtype)
    for suffix in ("", "_backward"):
        got = getattr(F, name + suffix)(y, target, **options)
        expected = getattr(R, name + suffix)(y, target, **options)
        np.testing.assert_allclose(got, expected, rtol=RTOL[dtype], atol=RTOL[dtype] / 100)
    assert got.dtype == dtype


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("case", ELEMENTWISE)
def test_elementwise_gradient(case, reduction):
    name, options = case.split(",")[0], ELEMENTWISE[case] | {"reduction": reduction}
    y, target = RNG.standard_normal((4, 3)), RNG.random((4, 3))
    numeric = finite_differences(lambda: getattr(F, name)(y, target, **options), y)
    np.testing.assert_allclose(getattr(F, name + "_backward")(y, target, **options), numeric, atol=1e-7)


def test_binary_far_out():
    logits, target = np.array([1e4, -1e4, 1e4], np.float32), np.array([1, 0, 0], np.float32)
    assert list(F.binary_cross_entropy_with_logits(logits, target, reduction="none")) == [0, 0, 1e4]


ROWS, CLASSES = np.ones((2, 3)), np.array([0, 1])
BAD = {
    "class too large": (F.cross_entropy, (ROWS, np.array([0, 3])), {}, ValueError, r"target\[1\] = 3"),
    "class negative": (F.cross_entropy, (ROWS, np.array([-1, 0])), {}, ValueError, r"target\[0\] = -1"),
    "number of targets": (F.cross_entropy, (ROWS, np.array([0])), {}, ValueError, "target has shape"),
    "ragged target": (F.cross_entropy, (ROWS, [[1.0], [1.0, 2.0]]), {}, ValueError, "target cannot be made"),
    "integer logits": (F.cross_entropy, (np.ones((2, 3), int), CLASSES), {}, TypeError, "logits"),
    "float targets": (F.cross_entropy, (ROWS, np.array([0.0, 1.0])), {}, TypeError, "target"),
    "weights": (F.cross_entropy, (ROWS, CLASSES), {"weight": np.ones(2)}, ValueError, "weight"),
    "smoothing": (F.cross_entropy, (ROWS, CLASSES), {"label_smoothing": 1.5}, ValueError, "label_smoothing"),
    "reduction": (F.mse_loss, (ROWS, ROWS, "max"), {}, ValueError, "reduction"),
    "shapes": (F.mse_loss, (np.ones(3), np.ones((3, 1))), {}, ValueError, "target has shape"),
    "mixed dtypes": (F.mse_loss, (np.ones(3), np.ones(3, np.float32)), {}, TypeError, "target"),
    "pos_weight": (F.binary_cross_entropy_with_logits, (ROWS, ROWS), {"pos_weight": np.ones(2)}, ValueError,
                   "pos_weight"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    function, arguments, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        function(*arguments, **options)


LOSSES = [losses.MSELoss(), losses.HalfSquaredError(), losses.CrossEntropyLoss(label_smoothing=0.1),
          losses.BCEWithLogitsLoss(reduction="sum")]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_objects(loss):
    y, target = RNG.standard_normal((4, 3)), RNG.random((4, 3))
    with pytest.raises(ValueError, match="call the loss first"):
        loss.backward()
    value = loss(y, target)
    assert isinstance(value, float)
    grad = loss.backward()
    np.testing.assert_allclose(grad, finite_differences(lambda: loss(y, target), y), atol=1e-7)


def test_loss_has_no_reduction_none():
    with pytest.raises(ValueError, match="reduction"):
        losses.MSELoss("none")
