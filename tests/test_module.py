"""Parameters, flat buffers, modes, state and copies of modules."""

import copy
import pickle
import threading

import numpy as np
import pytest
from plain_layers import PlainCounter, PlainLinear, PlainTanh

import fastnn
from fastnn import Module, ModuleList, Parameter, Sequential
from fastnn.layers.module import coalesce


class Net(Module):
    def __init__(self, dtype=np.float32):
        super().__init__(dtype=dtype)
        self.first = PlainLinear(3, 4, dtype=dtype, seed=1)
        self.counter = PlainCounter()
        self.last = PlainLinear(4, 2, dtype=dtype, seed=2)
        self.scale = Parameter(np.ones(1, dtype))
        self.bias = None

    def forward(self, x):
        return self.last(np.tanh(self.first(x)))


def address(array):
    return array.__array_interface__["data"][0]


def are_one_run(params):
    return len(coalesce(params)) == 1


# --- Parameters


def test_parameter_copies_its_initial_value_and_starts_without_gradient():
    source = np.ones((2, 3))
    p = Parameter(source)
    source[...] = 5
    assert p.data.tolist() == [[1] * 3] * 2
    assert (p.shape, p.ndim, p.size, p.dtype) == ((2, 3), 2, 6, np.float64)
    assert not p.grad.any()
    assert np.asarray(p).tolist() == p.data.tolist()
    assert repr(PlainLinear(2, 3).weight) == "Parameter(weight, shape=(3, 2), float32)"
    with pytest.raises(TypeError, match="Parameter: data"):
        Parameter(np.zeros(3, int))


def test_assignment_copies_into_the_parameter():
    layer = PlainLinear(2, 2)
    p, where = layer.weight, address(layer.weight.data)
    layer.weight = np.full((2, 2), 3, np.float32)
    assert layer.weight is p
    assert address(p.data) == where
    assert (p.data == 3).all()
    layer.weight = [[0.5, 1.0], [1.5, 2.0]]  # a list has no dtype of its own
    assert p.data.tolist() == [[0.5, 1.0], [1.5, 2.0]]
    p.data *= 2
    p.grad += 1
    assert p.data.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert (p.grad == 1).all()
    p.zero_grad()
    assert not p.grad.any()
    with pytest.raises(TypeError, match="weight is float32, got float64"):
        layer.weight = np.zeros((2, 2))
    with pytest.raises(TypeError, match="weight is float32, got float64"):
        p.data = Parameter(np.zeros((2, 2)))
    with pytest.raises(TypeError, match=r"weight\.grad is float32, got float64"):
        p.grad = np.float64(0)
    with pytest.raises(ValueError, match=r"weight has shape \(2,\), expected \(2, 2\)"):
        p.data = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match=r"weight\.grad has shape"):
        p.grad = np.zeros(2, np.float32)


def test_a_parameter_can_be_replaced_or_removed():
    layer = PlainLinear(2, 2)
    layer.weight = Parameter(np.zeros((5, 2), np.float32))
    assert layer.state_dict()["weight"].shape == (5, 2)
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]


# --- Flat buffers


def test_parameters_are_views_of_one_flat_buffer():
    net = Net()
    values = {name: p.data.copy() for name, p in net.named_parameters()}
    net.first.weight.grad += 1
    params = net.parameters()
    (data,), (grad,) = net.flat_parameters, net.flat_gradients
    assert data.size == grad.size == sum(p.size for p in params) == 1 + 16 + 10
    assert all(np.shares_memory(p.data, data) and np.shares_memory(p.grad, grad) for p in params)
    assert all((p.data == values[name]).all() for name, p in net.named_parameters())
    assert grad.sum() == net.first.weight.size
    grad += 2
    assert (net.last.bias.grad == 2).all()
    net.zero_grad()
    assert not grad.any()


def test_asking_for_a_part_leaves_the_whole_in_place():
    net = Net()
    params = net.parameters()
    buffers = {id(p._buffer) for p in params}
    net.first.parameters()
    assert net.last.flat_gradients[0].size == 10
    assert {id(p._buffer) for p in params} == buffers
    assert are_one_run(params)
    assert np.shares_memory(net.last.flat_parameters[0], net.flat_parameters[0])


def test_a_larger_whole_takes_its_parts_in():
    a, b = Net(), Net()
    a.parameters(), b.parameters()
    both = ModuleList([a, b])
    assert not are_one_run(a.parameters() + b.parameters())
    a.first.weight.grad += 1
    assert are_one_run(both.parameters())
    assert (a.first.weight.grad == 1).all()
    both.append(PlainLinear(1, 1))
    assert are_one_run(both.parameters())


def test_coalesced_runs_keep_the_order_of_the_list():
    net = Net()
    params = net.parameters()
    chosen = [params[0], params[1], params[4]]
    runs = coalesce(chosen)
    assert len(runs) == 2
    values = np.concatenate([p.data.ravel() for p in chosen])
    assert (np.concatenate([data for data, _ in runs]) == values).all()
    assert coalesce([]) == []


def test_dtypes_have_buffers_of_their_own():
    net = Sequential(PlainLinear(2, 2), PlainLinear(2, 2, dtype=np.float64), PlainLinear(2, 2))
    arrays = net.flat_parameters
    assert [(a.dtype, a.size) for a in arrays] == [(np.float32, 12), (np.float64, 6)]
    assert [a.size for a in net.flat_gradients] == [12, 6]


def test_empty_parameters_and_none_at_all():
    net = Sequential(PlainLinear(0, 3), PlainLinear(3, 0))
    assert net.flat_parameters[0].size == 3
    assert PlainTanh().parameters() == []
    assert PlainTanh().flat_gradients == []
    PlainTanh().zero_grad()


def test_a_shared_parameter_counts_once():
    a, b = PlainLinear(2, 2), PlainLinear(2, 2)
    b.weight = a.weight
    net = Sequential(a, b)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert net.flat_parameters[0].size == 8
    x = np.ones((1, 2), np.float32)
    net(x)
    net.backward(np.ones((1, 2), np.float32))
    assert np.shares_memory(a.weight.grad, b.weight.grad)
    twin = pickle.loads(pickle.dumps(net))
    assert twin[0].weight is twin[1].weight


# --- Modes


def test_eval_mode_keeps_nothing_and_backward_asks_for_training():
    layer = PlainLinear(3, 2)
    x = np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match=r"PlainLinear\.backward: call forward in training mode first"):
        layer.backward(np.ones((1, 2), np.float32))
    assert layer.eval() is layer
    layer(x)
    assert layer._saved is None
    assert layer.train() is layer
    layer(x)
    layer.backward(np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match=r"PlainLinear\.backward"):
        layer.backward(np.ones((1, 2), np.float32))
    with pytest.raises(TypeError, match="train: mode"):
        layer.train("yes")


def test_train_and_eval_reach_every_module():
    net = Net().eval()
    assert not any(module.training for module in net.modules())
    assert all(module.training for module in net.train().modules())


def test_a_part_in_eval_mode_is_recorded_while_the_network_is_trained():
    net = Net()
    net.first.eval()
    assert net.training
    assert not net.first.training
    assert net.first.recording
    x, grad_y = np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)
    net(x)
    grad = net.last.backward(grad_y)
    assert net.first.backward(grad).shape == (1, 3)
    assert not net.first._cache  # the weights may change with every step
    net.first.weight.data[...] = 0
    net.eval()
    assert not any(module.recording for module in net.modules())
    net.first.eval()  # a part of what is not trained
    net(x)
    assert net.first._saved is None
    assert all(module.recording for module in net.train().modules())


def test_what_was_a_part_of_something_that_is_gone_stands_by_itself():
    net, old = Sequential(PlainLinear(2, 2), PlainLinear(2, 2)), PlainLinear(2, 2)
    whole = Sequential(net, old)
    assert net.eval().recording
    whole[1] = PlainLinear(2, 2)
    assert not old.eval().recording
    del whole
    assert not any(module.recording for module in net.eval().modules())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_know_what_is_a_part(duplicate):
    net = Sequential(PlainLinear(2, 2), Net())
    twin, part = duplicate(net), duplicate(net[0])
    assert twin[0].eval().recording
    assert twin[1].last.eval().recording
    assert not part.eval().recording


def test_data_is_read_only_in_eval_mode():
    net = Net().eval()
    with pytest.raises(ValueError, match="read-only"):
        net.first.weight.data[...] = 0
    with pytest.raises(ValueError, match="read-only"):
        net.flat_parameters[0][0] = 0
    with pytest.raises(ValueError, match="read-only"):
        net.first.weight.data += 1
    net.flat_gradients[0][0] = 1
    net.train()
    net.first.weight.data[...] = 0
    layer = PlainLinear(2, 2).eval()
    layer.weight = Parameter(np.zeros((2, 2), np.float32))
    assert not layer.weight.data.flags.writeable


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net.first, "weight", np.zeros((4, 3), np.float32)),
        lambda net: setattr(net.first.weight, "data", np.zeros((4, 3), np.float32)),
        lambda net: setattr(net.first, "weight", Parameter(np.zeros((4, 3), np.float32))),
        lambda net: net.load_state_dict({"first.weight": np.zeros((4, 3))}, strict=False),
        lambda net: net.parameters()[1].data.fill(0) if net.train() else None,
        lambda net: [data.fill(0) for data, _ in coalesce(net.parameters())],  # as optimizers do
    ],
    ids=["attribute", "data", "parameter", "load", "train", "optimizer"],
)
def test_every_change_of_a_parameter_drops_what_eval_mode_cached(change):
    net = Net()
    net.parameters()
    net.first.bias.data[...] = 1
    net.eval()
    x = np.ones((2, 3), np.float32)
    before = net.first(x)
    assert net.first._cache
    assert (net.first(x) == before).all()
    change(net)
    net.eval()
    bias = net.first.bias.data
    assert (net.first(x) == bias).all()


def test_a_cache_is_dropped_through_a_shared_parameter_and_after_a_move():
    a, b = PlainLinear(2, 2), PlainLinear(2, 2, seed=1)
    b.weight = a.weight
    x = np.eye(2, dtype=np.float32)
    Sequential(a, b).eval()
    b(x)
    a.weight = np.zeros((2, 2), np.float32)
    assert (b(x) == b.bias.data).all()
    a(x)
    Sequential(b, a).parameters()
    b.weight = np.ones((2, 2), np.float32)
    assert (a(x) == 1 + a.bias.data).all()


def test_what_is_packed_while_weights_change_is_not_kept():
    layer = PlainLinear(2, 2).eval()

    def build():
        old = layer.weight.data.copy()
        layer.weight = np.zeros((2, 2), np.float32)  # by another thread, say, between reading and keeping
        return old

    assert layer._cached("weights", build).any()
    assert not layer._cached("weights", lambda: layer.weight.data).any()


def test_a_reader_that_comes_while_caches_are_dropped_is_told_of_the_next_change():
    a, b = PlainLinear(2, 2), PlainLinear(2, 2, seed=1)
    net, x = Sequential(a, b).eval(), np.eye(2, dtype=np.float32)
    net.parameters()
    a(x)
    drop, called = a._drop_cache, []

    def drop_slowly():
        drop()
        if not called:
            called.append(b(x))  # by another thread, for the first time

    a.__dict__["_drop_cache"] = drop_slowly
    a.weight = np.zeros((2, 2), np.float32)
    del a.__dict__["_drop_cache"]
    b.weight = np.zeros((2, 2), np.float32)
    assert called
    assert (b(x) == b.bias.data).all()


def test_a_step_of_an_optimizer_is_seen_by_a_layer_that_was_called_meanwhile():
    trained, served = PlainLinear(2, 2), PlainLinear(2, 2).eval()
    served.weight = trained.weight
    x = np.eye(2, dtype=np.float32)
    trained(x)
    trained.backward(x)
    optimizer = fastnn.optim.SGD(trained.parameters(), lr=1.0)
    update = optimizer.update
    optimizer.update = lambda *arguments: (served(x), update(*arguments))
    optimizer.step()
    assert (served(x) == x @ trained.weight.data.T + served.bias.data).all()


def test_one_model_serves_many_threads():
    net = Net().eval()
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    expected = net(x)
    wrong = []

    def work():
        wrong.extend(i for i in range(200) if not (net(x) == expected).all())

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    net.parameters()  # moves them meanwhile
    [t.join() for t in threads]
    assert not wrong


# --- State


def test_state_dict_has_torch_names_and_order_and_is_a_copy():
    net = Net()
    state = net.state_dict()
    assert list(state) == [
        "scale",
        "first.weight",
        "first.bias",
        "counter.calls",
        "last.weight",
        "last.bias",
    ]
    state["first.weight"][...] = 7
    assert not (net.first.weight.data == 7).any()
    assert dict(net.named_buffers()) == {"counter.calls": 0}


def test_load_state_dict_restores_in_either_mode():
    source, target = Net(), Net().eval()
    source.counter(np.zeros(1))
    for p in source.parameters():
        p.data += 1
    where = address(target.first.weight._data)
    assert target.load_state_dict(source.state_dict()) == ([], [])
    assert address(target.first.weight._data) == where
    assert all((a == target.state_dict()[k]).all() for k, a in source.state_dict().items())
    assert target.counter.calls == 1
    assert target.counter.calls.dtype == np.int64


def test_load_state_dict_converts_floats():
    state = Net(np.float64).state_dict()
    net = Net()
    net.load_state_dict(state)
    assert net.first.weight.dtype == np.float32
    state = {key: a.astype(">f8") if a.dtype.kind == "f" else a for key, a in state.items()}
    net.load_state_dict(state)


def test_load_state_dict_names_all_that_does_not_fit_and_changes_nothing():
    net = Net()
    before = net.state_dict()
    state = net.state_dict()
    del state["last.bias"]
    state["scale"] = np.array([9.0])
    state["first.weight"] = np.zeros((3, 4))
    state["last.weight"] = np.zeros((2, 4), int)
    state["counter.calls"] = np.float64(1)
    state["first.bias"] = [[1.0], [1.0, 2.0]]
    state["extra"] = np.zeros(1)
    with pytest.raises(ValueError, match="load_state_dict: Net") as caught:
        net.load_state_dict(state)
    for words in (
        "last.bias is missing",
        "extra is not expected",
        "first.weight has shape (3, 4), expected (4, 3)",
        "last.weight has dtype int64, expected float32",
        "counter.calls has dtype float64, expected int64",
        "first.bias is not an array",
    ):
        assert words in str(caught.value)
    assert all((before[k] == a).all() for k, a in net.state_dict().items())
    with pytest.raises(ValueError, match=r"first\.weight"):
        net.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match="state_dict is a list"):
        net.load_state_dict([])


def test_load_state_dict_loosely_says_what_it_did_not_use():
    net = Net()
    result = net.load_state_dict({"scale": [2.0], "extra": 1}, strict=False)
    assert result.unexpected_keys == ["extra"]
    assert "last.bias" in result.missing_keys
    assert net.scale.data == 2


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_whole_and_independent(duplicate):
    net = Net()
    net.parameters()
    x = np.ones((1, 3), np.float32)
    net(x)
    net.last.bias.grad += 3
    net.eval()(x)
    twin = duplicate(net)
    assert twin.first._saved is None
    assert twin.first._cache == {}
    assert not twin.training
    assert not twin.first.weight.data.flags.writeable
    assert (twin.last.bias.grad == 3).all()
    assert (twin(x) == net(x)).all()
    twin.first.weight = np.zeros((4, 3), np.float32)
    assert net.first.weight.data.any()
    assert are_one_run(twin.parameters())


def test_a_part_is_pickled_without_the_rest():
    net = Sequential(PlainLinear(2, 2), PlainLinear(500, 500))
    net.parameters()
    assert len(pickle.dumps(net[0])) < 5000


# --- Attributes and walking


def test_walking():
    net = Net()
    assert [name for name, _ in net.named_modules()] == ["", "first", "counter", "last"]
    assert list(net.children()) == [net.first, net.counter, net.last]
    assert [name for name, _ in net.named_parameters("net")][1] == "net.first.weight"
    seen = []
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["PlainLinear", "PlainCounter", "PlainLinear", "Net"]


def test_buffers_are_replaced_by_copies():
    counter, array = PlainCounter(), np.array(4)
    counter.calls = array
    array[...] = 5
    assert counter.state_dict()["calls"] == 4
    with pytest.raises(ValueError, match="'calls' already"):
        counter.register_buffer("calls", None)


def test_buffers_keep_their_shape_and_dtype():
    norm = fastnn.BatchNorm2d(3)
    norm.running_mean = np.array([1, 2, 3], ">f4")
    assert norm.running_mean.dtype is np.dtype(np.float32)
    norm(np.full((2, 3, 4, 4), 11, np.float32))
    np.testing.assert_allclose(norm.running_mean, [2, 2.9, 3.8], rtol=1e-6)
    norm.running_var = np.ones(3)
    assert norm.running_var.dtype == np.float32
    with pytest.raises(ValueError, match=r"^BatchNorm2d: running_mean has shape \(2,\), expected \(3,\)"):
        norm.running_mean = np.zeros(2, np.float32)
    with pytest.raises(TypeError, match=r"^BatchNorm2d: running_mean has dtype complex64, expected float32"):
        norm.running_mean = np.zeros(3, np.complex64)
    with pytest.raises(TypeError, match=r"^BatchNorm2d: num_batches_tracked has dtype float64, expected "):
        norm.num_batches_tracked = 1.5
    norm.num_batches_tracked = np.uint8(7)
    assert norm.num_batches_tracked == 7
    with pytest.raises(TypeError, match=r"^BatchNorm2d: num_batches_tracked has dtype uint64, expected "):
        norm.num_batches_tracked = np.uint64(2**63 + 5)
    with pytest.raises(ValueError, match=r"num_batches_tracked has numbers beyond int64"):
        norm.load_state_dict({**norm.state_dict(), "num_batches_tracked": np.uint64(2**63 + 5)})
    with pytest.raises(TypeError, match=r"^BatchNorm2d: running_mean is a buffer, got a Parameter"):
        norm.running_mean = Parameter(np.zeros(3))
    norm.running_mean = None
    assert "running_mean" not in norm.state_dict()


def test_buffers_hold_numbers_and_a_refused_one_leaves_nothing_behind():
    module = Module()
    for value, error in (([[1], [2, 3]], ValueError), ("x", TypeError), (object(), TypeError)):
        with pytest.raises(error, match=r"^register_buffer: b "):
            module.register_buffer("b", value)
    for name in ("dtype", "forward", "train"):
        with pytest.raises(ValueError, match=f"Module has an attribute '{name}' already"):
            module.register_buffer(name, np.zeros(2))
    with pytest.raises(TypeError, match="name must be a string, got 5"):
        module.register_buffer(5, np.zeros(2))
    assert module.state_dict() == {}
    module.register_buffer("b", np.zeros(2, np.uint8))
    module.b = [1, 0]
    assert module.b.dtype == np.uint8
    module.load_state_dict(module.state_dict())
    assert module.b.dtype == np.uint8
    for beyond in ([1, 300], [-1, 0]):
        with pytest.raises(ValueError, match="b has numbers beyond uint8"):
            module.load_state_dict({"b": beyond})
    for value in ([1, 300], [0.5, 1]):
        with pytest.raises(TypeError, match=r"^Module: b has dtype \w+, expected uint8"):
            module.b = value


def test_attributes_need_the_base_class_first():
    class Hasty(Module):
        def __init__(self):
            self.weight = Parameter([1.0])

    with pytest.raises(AttributeError, match="super"):
        Hasty()


def test_calling_is_forward():
    with pytest.raises(TypeError, match="Twice defines __call__, which is forward: define forward"):
        class Twice(Module):
            def __call__(self, x):
                return 2 * x


def test_modules_without_forward_say_so():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        Module()(1)
    with pytest.raises(NotImplementedError, match="Module has no backward"):
        Module().backward(1)


def test_dtype_is_float32_or_float64():
    assert PlainLinear(1, 1).dtype == np.float32
    with pytest.raises(TypeError, match="PlainTanh: dtype must be float32 or float64"):
        PlainTanh(dtype=int)


def test_repr_is_torch_s():
    net = Sequential(PlainLinear(2, 3), Sequential(PlainTanh()))
    assert repr(net) == (
        "Sequential(\n  (0): PlainLinear(2, 3)\n  (1): Sequential(\n    (0): PlainTanh()\n  )\n)"
    )
