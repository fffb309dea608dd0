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
    "one, smoothed": ((7,), {"label_smoothing": 0.1}),
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
    # A small loss is the difference of numbers around 10.
    np.testing.assert_allclose(value, R.cross_entropy(logits, target, **options), rtol=RTOL[dtype],
                               atol=RTOL[dtype] / 10)
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


def log_probabilities(shape, dtype):
    logits, target = classes_of(shape, False, dtype)
    return R.log_softmax(logits, 0 if len(shape) == 1 else 1).astype(dtype), target


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", ["rows", "one", "images", "weights", "ignored"])
def test_nll(case, reduction, dtype):
    shape, options = CLASS_CASES[case]
    log_probs, target = log_probabilities(shape, dtype)
    options = as_dtype(options, dtype) | {"reduction": reduction}
    value = F.nll_loss(log_probs, target, **options)
    np.testing.assert_allclose(value, R.nll_loss(log_probs, target, **options), rtol=RTOL[dtype])
    np.testing.assert_allclose(value, F.cross_entropy(log_probs, target, **options), rtol=10 * RTOL[dtype],
                               atol=RTOL[dtype])
    assert isinstance(value, np.ndarray if reduction == "none" else float)
    assert np.asarray(value).dtype == (dtype if reduction == "none" else np.float64)
    grad = F.nll_loss_backward(log_probs, target, **options)
    assert grad.dtype == dtype
    assert grad.shape == log_probs.shape
    expected = R.nll_loss_backward(log_probs, target, **options)
    np.testing.assert_allclose(grad, expected, rtol=RTOL[dtype])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("case", ["rows", "one", "images", "weights", "ignored"])
def test_nll_gradient(case, reduction):
    shape, options = CLASS_CASES[case]
    log_probs, target = log_probabilities(shape, np.float64)
    options = options | {"reduction": reduction}
    numeric = finite_differences(lambda: F.nll_loss(log_probs, target, **options), log_probs)
    np.testing.assert_allclose(F.nll_loss_backward(log_probs, target, **options), numeric, atol=1e-7)


def test_nll_of_what_does_not_count():
    log_probs, target = np.array([[-1.0, np.nan, -2.0], [np.nan, -np.inf, 0.0]]), np.array([2, -100])
    assert F.nll_loss(log_probs, target) == 2
    np.testing.assert_array_equal(F.nll_loss_backward(log_probs, target), [[0, 0, -1], [0, 0, 0]])
    ignored = np.array([-100, -100])
    assert np.isnan(F.nll_loss(log_probs, ignored))
    assert F.nll_loss(log_probs, ignored, reduction="sum") == 0
    assert not F.nll_loss_backward(log_probs, ignored).any()
    assert F.nll_loss(np.ones((2, 0)), ignored, reduction="sum") == 0
    assert F.nll_loss_backward(np.ones((2, 0)), ignored).shape == (2, 0)
    assert F.nll_loss(np.ones((0, 3)), np.ones(0, int), reduction="none").shape == (0,)


ELEMENTWISE = {
    "mse_loss": {},
    "l1_loss": {},
    "smooth_l1_loss": {},
    "smooth_l1_loss, narrow": {"beta": 0.3},
    "smooth_l1_loss, L1": {"beta": 0},
    "huber_loss": {},
    "huber_loss, narrow": {"delta": 0.3},
    "binary_cross_entropy": {},
    "binary_cross_entropy, weights": {"weight": np.array([0.5, 2, 1])},
    "half_squared_error": {},
    "binary_cross_entropy_with_logits": {},
    "binary_cross_entropy_with_logits, weights": {"weight": np.array([0.5, 2, 1]),
                                                  "pos_weight": np.array([3.0, 1, 2])},
}


def predictions(name, *shape):
    """Numbers on both sides of the targets, or probabilities not too near 0 and 1 for finite differences."""
    if name == "binary_cross_entropy":
        return 0.1 + 0.8 * RNG.random(shape)
    return RNG.standard_normal(shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", ELEMENTWISE)
def test_elementwise(case, reduction, dtype):
    name, options = case.split(",")[0], as_dtype(ELEMENTWISE[case], dtype) | {"reduction": reduction}
    y, target = predictions(name, 4, 3).astype(dtype), RNG.random((4, 3)).astype(dtype)
    for suffix in ("", "_backward"):
        got = getattr(F, name + suffix)(y, target, **options)
        expected = getattr(R, name + suffix)(y, target, **options)
        np.testing.assert_allclose(got, expected, rtol=RTOL[dtype], atol=RTOL[dtype] / 100)
    assert got.dtype == dtype


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("case", ELEMENTWISE)
def test_elementwise_gradient(case, reduction):
    name, options = case.split(",")[0], ELEMENTWISE[case] | {"reduction": reduction}
    y, target = predictions(name, 4, 3), RNG.random((4, 3))
    numeric = finite_differences(lambda: getattr(F, name)(y, target, **options), y)
    np.testing.assert_allclose(getattr(F, name + "_backward")(y, target, **options), numeric, atol=1e-7)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,), (97,), (16384 + 17,), (3, 5, 7)])
@pytest.mark.parametrize("case", ELEMENTWISE)
def test_elementwise_shapes_and_threads(case, shape, isa, dtype, threads):
    name, options = case.split(",")[0], as_dtype(ELEMENTWISE[case], dtype)
    if "weight" in options:
        options = {key: value[:1] for key, value in options.items()} if shape else {}
    y = np.asarray(predictions(name, *shape), dtype)
    target = np.asarray(RNG.random(shape), dtype)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append((getattr(F, name)(y, target, **options, reduction="sum"),
                        getattr(F, name)(y, target, **options, reduction="none"),
                        getattr(F, f"{name}_backward")(y, target, **options)))
    total, losses, grad = results[0]
    for array in losses, grad:
        assert isinstance(array, np.ndarray)
        assert (array.shape, array.dtype) == (shape, dtype)
    wide = {key: np.float64(value) for key, value in options.items()}, np.float64(y), np.float64(target)
    expected = getattr(R, name)(*wide[1:], **wide[0], reduction="none")
    np.testing.assert_allclose(losses, expected, rtol=RTOL[dtype], atol=RTOL[dtype] / 100)
    np.testing.assert_allclose(total, np.sum(expected), rtol=RTOL[dtype])
    if y.size:
        np.testing.assert_allclose(grad, getattr(R, f"{name}_backward")(*wide[1:], **wide[0]),
                                   rtol=RTOL[dtype], atol=RTOL[dtype] / 100)
    for others in results[1:]:
        for array, same in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(array, same)


def test_bent_losses_at_their_edges():
    y, target = np.array([0.0, -0.5, 0.5, 3, -3]), np.zeros(5)
    none = {"reduction": "none"}
    assert list(F.smooth_l1_loss(y, target, beta=0.5, **none)) == [0, 0.25, 0.25, 2.75, 2.75]
    assert list(F.huber_loss(y, target, delta=0.5, **none)) == [0, 0.125, 0.125, 1.375, 1.375]
    assert list(F.l1_loss(y, target, **none)) == [0, 0.5, 0.5, 3, 3]
    assert list(F.smooth_l1_loss_backward(y, target, "sum", 0.5)) == [0, -1, 1, 1, -1]
    assert list(F.huber_loss_backward(y, target, "sum", 0.5)) == [0, -0.5, 0.5, 0.5, -0.5]
    assert list(F.l1_loss_backward(y, target, "sum")) == [0, -1, 1, 1, -1]
    # Both are half the square where the edge is far, and the L1 loss where it is no number of the dtype's.
    np.testing.assert_array_equal(F.huber_loss(y, target, delta=1e6, **none), y * y / 2)
    single = y.astype(np.float32), target.astype(np.float32)
    for beta in (0.0, 1e-42, 1e-60):
        assert list(F.smooth_l1_loss(*single, beta=beta, **none)) == [0, 0.5, 0.5, 3, 3]
        assert list(F.smooth_l1_loss_backward(*single, "sum", beta)) == [0, -1, 1, 1, -1]


def test_probabilities_of_0_and_1():
    y, target = np.array([0, 1, 0, 1, 0.5], np.float32), np.array([0, 1, 1, 0, 1], np.float32)
    losses = F.binary_cross_entropy(y, target, reduction="none")
    np.testing.assert_allclose(losses, [0, 0, 100, 100, np.log(2)], rtol=1e-6)
    grad = F.binary_cross_entropy_backward(y, target, reduction="sum")
    np.testing.assert_allclose(grad, [0, 0, -1e12, 1e12, -2], rtol=1e-6)
    assert np.isnan(F.binary_cross_entropy(np.array([np.nan]), np.array([1.0])))


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
    "beta": (F.smooth_l1_loss, (ROWS, ROWS), {"beta": -1.0}, ValueError, "smooth_l1_loss: beta"),
    "beta of an object": (losses.SmoothL1Loss, (), {"beta": "1"}, TypeError, "SmoothL1Loss: beta"),
    "delta": (F.huber_loss, (ROWS, ROWS), {"delta": 0.0}, ValueError, "huber_loss: delta must be"),
    "delta of an object": (losses.HuberLoss, (), {"delta": 0.0}, ValueError, "HuberLoss: delta must be more"),
    "no probability": (F.binary_cross_entropy, (ROWS * 1.5, ROWS), {}, ValueError, "y has the value 1.5"),
    "negative probability": (F.binary_cross_entropy_backward, (-ROWS, ROWS), {}, ValueError, "value -1"),
    "weights of probabilities": (F.binary_cross_entropy, (ROWS, ROWS), {"weight": np.ones(2)}, ValueError,
                                 "weight has shape"),
    "no class": (F.nll_loss, (ROWS, np.array([0, 3])), {}, ValueError, r"target\[1\] = 3"),
    "number of classes": (F.nll_loss, (ROWS, np.array([0])), {}, ValueError, "target has shape"),
    "classes as floats": (F.nll_loss, (ROWS, ROWS), {}, TypeError, "target has dtype"),
    "integer log_probs": (F.nll_loss_backward, (np.ones((2, 3), int), CLASSES), {}, TypeError, "log_probs"),
    "pos_weight": (F.binary_cross_entropy_with_logits, (ROWS, ROWS), {"pos_weight": np.ones(2)}, ValueError,
                   "pos_weight"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    function, arguments, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        function(*arguments, **options)


LOSSES = [losses.MSELoss(), losses.HalfSquaredError(), losses.CrossEntropyLoss(label_smoothing=0.1),
          losses.BCEWithLogitsLoss(reduction="sum"), losses.L1Loss(), losses.SmoothL1Loss(beta=0.4),
          losses.HuberLoss("sum", delta=0.4), losses.BCELoss(weight=np.array([1.0, 2, 3]))]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_objects(loss):
    y, target = RNG.standard_normal((4, 3)), RNG.random((4, 3))
    if isinstance(loss, losses.BCELoss):
        y = predictions("binary_cross_entropy", 4, 3)
    with pytest.raises(ValueError, match="call the loss first"):
        loss.backward()
    value = loss(y, target)
    assert isinstance(value, float)
    grad = loss.backward()
    np.testing.assert_allclose(grad, finite_differences(lambda: loss(y, target), y), atol=1e-7)


def test_classes_and_log_probabilities_are_one_loss():
    logits, target = classes_of((6, 7), False, np.float64)
    options = {"weight": np.arange(1.0, 8.0), "ignore_index": 2}
    whole, part = losses.CrossEntropyLoss(**options), losses.NLLLoss(**options)
    log_probs = F.log_softmax(logits)
    assert part(log_probs, target) == pytest.approx(whole(logits, target), rel=1e-12)
    np.testing.assert_allclose(F.log_softmax_backward(part.backward(), log_probs), whole.backward(),
                               rtol=1e-9, atol=1e-12)
    assert part.samples(target) == whole.samples(target)
    assert part.correct(log_probs, target) == whole.correct(logits, target)


def test_how_many_probabilities_are_right():
    y, target = np.array([0.1, 0.6, 0.9, 0.4]), np.array([0.0, 1, 0, 1])
    assert losses.BCELoss().correct(y, target) == (2, 4)


def test_no_probability_is_ignored():
    loss = losses.CrossEntropyLoss(ignore_index=0)
    logits, target = np.array([[2.0, 1], [0, 1], [3, 1]]), np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    assert loss.correct(logits, target) == (2, 3)
    assert loss.correct(logits, target.argmax(1)) == (1, 2)


def test_label_smoothing_is_looked_at_when_the_loss_is_made():
    with pytest.raises(ValueError, match="CrossEntropyLoss: label_smoothing must be between 0 and 1"):
        losses.CrossEntropyLoss(label_smoothing=5)


def test_loss_has_no_reduction_none():
    with pytest.raises(ValueError, match="reduction"):
        losses.MSELoss("none")
