"""Sequential, Residual, Parallel, ModuleList, Flatten and Identity."""

import copy
from collections import OrderedDict

import numpy as np
import pytest
from arrays import LAYOUTS
from plain_layers import PlainConstant, PlainCounter, PlainLinear, PlainTanh, finite_differences

import fastnn
from fastnn import Flatten, Identity, ModuleList, Parallel, Residual, Sequential


def linear(n_in, n_out, seed=0):
    return PlainLinear(n_in, n_out, dtype=np.float64, seed=seed)


def check_gradients(net, x):
    """Compare backward with finite differences of sum(y * r), for the input and every parameter."""
    r = np.random.default_rng(9).normal(size=net(x).shape)

    def value():
        return float((net(x) * r).sum())

    net.zero_grad()
    net(x)
    grad_x = net.backward(r)
    np.testing.assert_allclose(grad_x, finite_differences(value, x), rtol=1e-6, atol=1e-8)
    for name, p in net.named_parameters():
        numeric = finite_differences(value, p.data)
        np.testing.assert_allclose(p.grad, numeric, rtol=1e-6, atol=1e-8, err_msg=name)

    grads = [g.copy() for g in net.flat_gradients]
    net.zero_grad()
    net(x)
    assert net.backward(r, input_grad=False) is None
    assert all((a == b).all() for a, b in zip(grads, net.flat_gradients, strict=True))
    assert all(module._saved is None for module in net.modules())


def x_of(*shape):
    return np.random.default_rng(5).normal(size=shape)


# --- Sequential


def test_sequential_is_a_list_of_layers():
    a, b, c = linear(2, 3), PlainTanh(), linear(3, 1)
    net = Sequential(a, b)
    assert net.append(c) is net
    assert len(net) == 3
    assert list(net) == [a, b, c]
    assert net[0] is a
    assert net[-1] is c
    assert getattr(net, "1") is b
    part = net[1:]
    assert type(part) is Sequential
    assert list(part) == [b, c]
    assert list(part.state_dict()) == ["2.weight", "2.bias"]
    assert list(part.append(a).named_children())[-1] == ("3", a)
    net[1] = Identity()
    assert isinstance(net[1], Identity)
    for index in (3, -4):
        with pytest.raises(IndexError, match="no layer"):
            net[index]
    net.eval()
    assert not net[:1].training


def test_sequential_from_names():
    net = Sequential(OrderedDict(conv=linear(2, 3), act=PlainTanh()))
    assert list(net.state_dict()) == ["conv.weight", "conv.bias"]
    assert net.conv is net[0]
    net.head = linear(3, 1)
    assert len(net) == 3
    net.act = Identity()
    assert isinstance(net[1], Identity)
    with pytest.raises(AttributeError, match="no attribute 'body'"):
        net.body  # noqa: B018
    twin = copy.deepcopy(net)
    assert list(twin.state_dict()) == list(net.state_dict())


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        ([PlainTanh(), 3], TypeError, "Sequential: layer 1 is a int, expected a Module"),
        ([PlainTanh], TypeError, "expected a Module"),
        ([{"a.b": PlainTanh()}], ValueError, "without a dot"),
        ([{1: PlainTanh()}], ValueError, "string"),
        ([{"forward": PlainTanh()}], ValueError, "cannot be named 'forward'"),
        ([{"_cache": PlainTanh()}], ValueError, "cannot be named"),
    ],
)
def test_sequential_refuses_what_is_no_layer(layers, error, words):
    with pytest.raises(error, match=words):
        Sequential(*layers)


def test_sequential_gradients():
    check_gradients(Sequential(PlainTanh(), linear(3, 4), PlainTanh(), linear(4, 2, seed=1)), x_of(2, 3))
    check_gradients(Sequential(linear(3, 2)), x_of(2, 3))
    check_gradients(Sequential(PlainTanh()), x_of(2, 3))
    check_gradients(Sequential(), x_of(2, 3))
    check_gradients(Sequential(Sequential(Identity(), linear(3, 3)), PlainTanh()), x_of(2, 3))


def test_gradients_go_through_layers_in_eval_mode():
    options = {"dtype": np.float64, "rng": 0}
    net = Sequential(
        fastnn.Conv2d(2, 3, 3, activation="tanh", **options), fastnn.BatchNorm2d(3, dtype=np.float64),
        Parallel(fastnn.MaxPool2d(2), fastnn.AvgPool2d(2)), fastnn.Dropout(0.5), Flatten(2), fastnn.GELU(),
        Residual(Sequential(fastnn.LSTM(4, 4, 2, dropout=0.5, **options), fastnn.Sigmoid())),
        fastnn.LayerNorm(4, dtype=np.float64), fastnn.Linear(4, 2, activation="sigmoid", **options))
    for layer in net:
        layer.eval()
    check_gradients(net, x_of(2, 2, 6, 6))


def test_a_slice_in_eval_mode_is_a_part_of_the_whole():
    net = Sequential(linear(2, 3), PlainTanh(), linear(3, 1))
    net[:2].eval()
    assert [layer.training for layer in net] == [False, False, True]
    check_gradients(net, x_of(4, 2))
    net.eval()
    net[:2].eval()
    net(x_of(4, 2))
    assert all(layer._saved is None for layer in net)
    layers = ModuleList(net)
    layers[1:].eval()
    assert not layers[2].training


def test_a_layer_s_backward_need_not_know_input_grad():
    class Scale(fastnn.Module):
        def __init__(self):
            super().__init__(dtype=np.float64)
            self.factor = fastnn.Parameter(np.array([2.0]))

        def forward(self, x):
            self._save(x)
            return x * self.factor.data

        def backward(self, grad_y):
            (x,) = self._take()
            self.factor._grad += (grad_y * x).sum(keepdims=True).ravel()
            return grad_y * self.factor.data

    for net in (Sequential(Scale(), PlainTanh()), Residual(Scale()), Parallel(Scale(), PlainTanh())):
        check_gradients(net, x_of(2, 3))


def test_sequential_passes_on_the_first_of_a_tuple():
    net = Sequential(linear(2, 2), PlainCounter())
    x = x_of(3, 2)
    assert (net(x) == net[0](x)).all()


def test_an_error_says_in_which_layer():
    net = Sequential(Identity(), Sequential(linear(2, 2)))
    with pytest.raises(ValueError, match="matmul") as caught:
        net(x_of(1, 3))
    assert caught.value.__notes__ == [
        "in layer 0 of Sequential, PlainLinear",
        "in layer 1 of Sequential, Sequential",
    ]
    net = Sequential(Identity(), Sequential(fastnn.ReLU(dtype=np.float64), linear(2, 2)))
    y = net(x_of(1, 2))
    with pytest.raises(ValueError, match="matmul") as caught:
        net.backward(y[:, :1])
    assert caught.value.__notes__ == [
        "in layer 1 of Sequential, PlainLinear",
        "in layer 1 of Sequential, Sequential",
    ]


def test_backward_before_forward():
    with pytest.raises(ValueError, match="forward in training mode first"):
        Sequential(linear(2, 2)).backward(x_of(1, 2))
    for net in (Residual(PlainTanh()), Parallel(PlainTanh()), Flatten()):
        with pytest.raises(ValueError, match=rf"{type(net).__name__}\.backward: call forward"):
            net.backward(x_of(1, 2))
        net.eval()(x_of(1, 2))
        assert all(module._saved is None for module in net.modules())


def test_containers_have_their_children_s_dtype():
    assert Sequential(PlainTanh(), linear(2, 2)).dtype == np.float64
    assert Residual(PlainTanh()).dtype == np.float32


# --- ModuleList


def test_module_list():
    layers = ModuleList(linear(2, 2, seed=i) for i in range(3))
    assert list(layers.state_dict())[::2] == ["0.weight", "1.weight", "2.weight"]
    assert list(layers[1:]) == [layers[1], layers[2]]
    assert list(layers[1:].state_dict())[:2] == ["0.weight", "0.bias"]
    assert len(ModuleList()) == 0


# --- Sums


def sums(a, b):
    """The sum of two branches, and the same through a relu, as the containers make them."""
    x = np.zeros_like(a)
    return [Parallel(PlainConstant(a), PlainConstant(b), merge="sum")(x),
            Residual(PlainConstant(a), PlainConstant(b), activation="relu")(x)]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97, 40_000])
def test_sums_have_numpys_bits(isa, threads, size, dtype):
    rng = np.random.default_rng(size)
    a, b = (rng.choice(np.array([-1.5, -0.0, 0, 0.1, 3, np.inf, np.nan], dtype), (1, size)) for _ in range(2))
    with np.errstate(invalid="ignore"):
        expected = a + b
    for n in (1, 2, 3):
        threads(n)
        plain, above = sums(a, b)
        np.testing.assert_array_equal(plain, expected, strict=True)
        np.testing.assert_array_equal(above, np.maximum(expected, 0), strict=True)
        numbers = ~np.isnan(expected)
        assert (np.signbit(plain) == np.signbit(expected))[numbers].all()
        assert not np.signbit(above[numbers]).any()


@pytest.mark.parametrize("one", LAYOUTS)
@pytest.mark.parametrize("other", LAYOUTS)
def test_sums_of_any_layouts(one, other):
    a, b = np.random.default_rng(0).normal(size=(2, 2, 5, 4, 3)).astype(np.float32)
    plain, above = sums(LAYOUTS[one](a), LAYOUTS[other](b))
    np.testing.assert_array_equal(plain, a + b)
    np.testing.assert_array_equal(above, np.maximum(a + b, 0))
    assert not np.signbit(sums(LAYOUTS[one](0 * a - 0.0), LAYOUTS[other](0 * a - 0.0))[1]).any()


def test_sums_of_two_dtypes():
    plain, above = sums(np.full((2, 3), -1, np.float32), np.full((2, 3), 0.25))
    np.testing.assert_array_equal(plain, np.full((2, 3), -0.75), strict=True)
    np.testing.assert_array_equal(above, np.zeros((2, 3)), strict=True)


def test_relus_of_sums_refuse_what_relu_refuses():
    net = Residual(Identity(), activation="relu")
    with pytest.raises(TypeError, match="relu: x has dtype int64"):
        net(np.ones((2, 3), np.int64))
    with pytest.raises(TypeError, match="relu: x is a masked array"):
        net(np.ma.masked_array(np.ones((2, 3)), [[True, False, False]] * 2))


# --- Residual


@pytest.mark.parametrize("activation", [None, PlainTanh()], ids=["none", "module"])
@pytest.mark.parametrize("shortcut", [None, linear(3, 3, seed=4)], ids=["identity", "linear"])
def test_residual_gradients(shortcut, activation):
    body = Sequential(linear(3, 3), PlainTanh())
    net = Residual(body, shortcut, activation)
    x = x_of(2, 3)
    expected = body(x) + (x if shortcut is None else shortcut(x))
    np.testing.assert_array_equal(net(x), expected if activation is None else np.tanh(expected))
    check_gradients(net, x)


@pytest.mark.skipif(not hasattr(fastnn.functional, "relu_backward"), reason="no activations yet")
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_residual_with_a_named_activation(activation):
    net = Residual(linear(3, 3), activation=activation)
    check_gradients(net, x_of(2, 3))
    assert f"activation='{activation}'" in repr(net)


def test_residual_takes_a_list_as_gradient():
    net = Residual(fastnn.Linear(3, 3, dtype=np.float64))
    net(x_of(1, 3))
    expected = net.backward(np.ones((1, 3)))
    net(x_of(1, 3))
    np.testing.assert_array_equal(net.backward([[1.0, 1.0, 1.0]]), expected)


def test_residual_of_lists_has_the_dtype_of_its_body():
    net = Residual(fastnn.Linear(2, 2))
    y = net([[1.0, 2.0]])
    assert y.dtype == net.backward([[1.0, 1.0]]).dtype == np.float32


def test_residual_does_not_write_into_its_input():
    x = x_of(2, 3)
    kept = x.copy()
    assert (Residual(Identity())(x) == 2 * kept).all()
    assert (x == kept).all()


def test_residual_names_and_refusals():
    net = Residual(linear(2, 2), linear(2, 2))
    assert list(net.state_dict()) == ["body.weight", "body.bias", "shortcut.weight", "shortcut.bias"]
    with pytest.raises(ValueError, match=r"Residual: the shortcut has shape \(1, 2\), expected \(1, 3\)"):
        Residual(linear(2, 3))(x_of(1, 2))
    with pytest.raises(TypeError, match="Residual: body is a function"):
        Residual(lambda x: x)
    with pytest.raises(TypeError, match="Residual: shortcut is a str"):
        Residual(linear(2, 2), "relu")
    with pytest.raises(ValueError, match="Residual: activation must be"):
        Residual(linear(2, 2), activation="gelu")


# --- Parallel


@pytest.mark.parametrize("dim", [1, -1])
def test_parallel_concat(dim):
    a, b = linear(3, 2), Sequential(linear(3, 4, seed=1), PlainTanh())
    net = Parallel(a, b, Identity(), dim=dim)
    x = x_of(2, 3)
    np.testing.assert_array_equal(net(x), np.concatenate([a(x), b(x), x], 1))
    check_gradients(net, x)
    assert list(net.state_dict())[:2] == ["0.weight", "0.bias"]


def test_parallel_sum():
    a, b = linear(3, 2), linear(3, 2, seed=1)
    net = Parallel(a, b, merge="sum")
    x = x_of(2, 3)
    np.testing.assert_array_equal(net(x), a(x) + b(x))
    check_gradients(net, x)
    check_gradients(Parallel(a, merge="sum"), x)


def test_parallel_keeps_channels_last_memory():
    x = np.ascontiguousarray(x_of(2, 5, 6, 3)).transpose(0, 3, 1, 2)
    y = Parallel(Identity(), Identity())(x)
    assert y.shape == (2, 6, 5, 6)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_parallel_refusals():
    x = x_of(2, 3)
    with pytest.raises(ValueError, match="at least one branch"):
        Parallel()
    with pytest.raises(ValueError, match="Parallel: merge must be 'concat' or 'sum', got 'mean'"):
        Parallel(Identity(), merge="mean")
    with pytest.raises(ValueError, match="Parallel: dim 2 is out of range"):
        Parallel(Identity(), dim=2)(x)
    with pytest.raises(ValueError, match="cannot be joined along dimension 0"):
        Parallel(linear(3, 2), Identity(), dim=0)(x)
    with pytest.raises(ValueError, match="branch 1's output has shape"):
        Parallel(linear(3, 2), Identity(), merge="sum")(x)
    net = Parallel(Identity(), Identity())
    net(x)
    with pytest.raises(ValueError, match="expected 6 elements in dimension 1"):
        net.backward(x)


# --- Shapes


@pytest.mark.parametrize(
    ("dims", "shape", "expected"),
    [
        ((), (2, 3, 4, 5), (2, 60)),
        ((), (2, 3), (2, 3)),
        ((0,), (2, 3, 4), (24,)),
        ((1, 2), (2, 3, 4, 5), (2, 12, 5)),
        ((-2, -1), (2, 3, 4), (2, 12)),
        ((0, -1), (), (1,)),
        ((), (0, 3, 4), (0, 12)),
        ((), (2, 0, 4), (2, 0)),
    ],
)
def test_flatten(dims, shape, expected):
    layer, x = Flatten(*dims), x_of(*shape)
    y = layer(x)
    assert y.shape == expected
    assert (y.ravel() == x.ravel()).all()
    assert layer.backward(y).shape == shape


def test_flatten_is_in_logical_order_whatever_the_memory():
    x = x_of(2, 3, 4, 5)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert (Flatten()(last) == Flatten()(x)).all()


def test_flatten_refusals():
    with pytest.raises(ValueError, match="start_dim 1 is out of range for an input of 1"):
        Flatten()(x_of(3))
    with pytest.raises(ValueError, match="start_dim 2 comes after end_dim 1"):
        Flatten(2, 1)(x_of(1, 2, 3))
    with pytest.raises(TypeError, match="Flatten: start_dim"):
        Flatten(1.0)
    layer = Flatten()
    layer(x_of(2, 3, 4))
    with pytest.raises(ValueError, match=r"grad_y has shape \(2, 3\)"):
        layer.backward(x_of(2, 3))
    assert repr(layer) == "Flatten(start_dim=1, end_dim=-1)"


def test_identity():
    x = x_of(2)
    layer = Identity(54, anything=True)
    assert layer(x) is x
    assert layer.backward(x) is x
