"""fit, predict, evaluate: what they compute, how they end, and that they learn."""

import signal

import numpy as np
import pytest
from plain_layers import PlainCounter, PlainLinear

import fastnn as fn
from fastnn.training import Callback, EarlyStopping
from fastnn.training import progress as progress_module


def line(samples=50, dtype=np.float32):
    """Samples of a plane with a little noise, and their targets."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, 3))
    y = x @ [[1.0], [-2.0], [0.5]] + 3 + 0.01 * rng.standard_normal((samples, 1))
    return x.astype(dtype), y.astype(dtype)


def blobs(samples=120):
    """Three clouds, and their numbers."""
    rng = np.random.default_rng(0)
    y = np.arange(samples) % 3
    return (rng.standard_normal((samples, 2)) + 4 * np.array([[0, 0], [1, 0], [0, 1]])[y]).astype(
        np.float32
    ), y


def classifier(seed=0):
    return fn.Sequential(fn.Linear(2, 16, activation="tanh", rng=seed), fn.Linear(16, 3, rng=seed + 1))


def fit_blobs(net, epochs=3, **options):
    x, y = blobs()
    options = {
        "loss": fn.losses.CrossEntropyLoss(),
        "optimizer": fn.optim.Adam(net.parameters(), lr=0.02),
        "epochs": epochs,
        "batch_size": 16,
        "rng": 0,
        "progress": False,
    } | options
    return net.fit(x, y, **options)


def test_linear_unit_by_batch_gradient_descent():
    """w <- w + eta sum_i (t_i - y_i) x_i, with the bias as x0 = 1: the same steps by hand."""
    x, t = line(dtype=np.float64)
    unit = fn.Linear(3, 1, dtype=np.float64, rng=0)
    w = np.concatenate([unit.bias.data, unit.weight.data[0]])
    x1 = np.hstack([np.ones((len(x), 1)), x])
    errors = []
    for _ in range(20):
        y = x1 @ w
        errors.append(0.5 * np.sum((t[:, 0] - y) ** 2))
        w = w + 0.01 * x1.T @ (t[:, 0] - y)
    history = unit.fit(
        x,
        t,
        loss=fn.losses.HalfSquaredError(reduction="sum"),
        optimizer=fn.optim.SGD(unit.parameters(), lr=0.01),
        epochs=20,
        batch_size=len(x),
        progress=False,
    )
    np.testing.assert_allclose(history.loss, errors, rtol=1e-9)
    np.testing.assert_allclose(np.concatenate([unit.bias.data, unit.weight.data[0]]), w, rtol=1e-9)


def test_linear_unit_reaches_least_squares():
    x, t = line(dtype=np.float64)
    unit = fn.Linear(3, 1, dtype=np.float64, rng=0)
    unit.fit(
        x,
        t,
        loss=fn.losses.HalfSquaredError(),
        optimizer=fn.optim.SGD(unit.parameters(), lr=0.01),
        epochs=300,
        batch_size=len(x),
        progress=False,
    )
    best = np.linalg.lstsq(np.hstack([x, np.ones((len(x), 1))]), t, rcond=None)[0][:, 0]
    np.testing.assert_allclose([*unit.weight.data[0], *unit.bias.data], best, rtol=1e-6)


def test_history_and_validation():
    net = classifier()
    history = fit_blobs(net, validation_data=blobs(30))
    assert sorted(history.history) == ["accuracy", "loss", "lr", "seconds", "val_accuracy", "val_loss"]
    assert history.epochs == len(history.loss) == 3
    assert not history.interrupted
    assert history.stopped is None
    found = net.evaluate(*blobs(30))
    assert found == pytest.approx({"loss": history.val_loss[-1], "accuracy": history.val_accuracy[-1]})
    with pytest.raises(AttributeError, match="speed"):
        _ = history.speed


def test_the_same_rng_the_same_training():
    nets = [classifier() for _ in range(3)]
    histories = [fit_blobs(net, rng=seed) for net, seed in zip(nets, (5, 5, 6), strict=True)]
    assert histories[0].loss == histories[1].loss != histories[2].loss
    np.testing.assert_array_equal(nets[0].flat_parameters[0], nets[1].flat_parameters[0])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_evaluate_weighs_a_last_partial_batch(reduction):
    x, y = blobs(50)
    net, loss = classifier(), fn.losses.CrossEntropyLoss(reduction=reduction)
    net.eval()
    whole = loss(net(x), y)
    assert net.evaluate(x, y, loss=loss, batch_size=16)["loss"] == pytest.approx(whole, rel=1e-5)


def test_evaluate_weighs_classes_and_leaves_out_the_ignored():
    x, y = blobs(50)
    y[:20] = -100  # a whole batch of them, and a part of one
    net, loss = classifier().eval(), fn.losses.CrossEntropyLoss(np.array([1, 2, 5], np.float32))
    found = net.evaluate(x, y, loss=loss, batch_size=16)
    assert found["loss"] == pytest.approx(loss(net(x), y), rel=1e-5)
    assert found["accuracy"] == np.mean(net(x[20:]).argmax(1) == y[20:])


def test_accuracy_of_binary_targets():
    logits, y = np.array([[2.0, -1], [0.5, 3]], np.float32), np.array([[1, 0], [0, 1]], np.float32)
    found = fn.Identity().evaluate(logits, y, loss=fn.losses.BCEWithLogitsLoss())
    assert found["accuracy"] == 0.75


def test_evaluate_leaves_the_loss_to_its_owner():
    # Between a loss and its gradient, and from as many threads as like: a call of evaluate keeps nothing.
    loss, (x, y) = fn.losses.CrossEntropyLoss(), blobs(30)
    net = classifier()
    loss(net(x), y)
    expected = fn.functional.cross_entropy_backward(*loss._saved)
    net.evaluate(x[:20], y[:20], loss=loss)
    np.testing.assert_array_equal(loss.backward(), expected)


def test_evaluate_needs_a_loss():
    with pytest.raises(ValueError, match="loss is None"):
        classifier().evaluate(*blobs())


def test_predict_in_batches_and_of_nothing():
    x, _ = blobs(50)
    net = classifier()
    np.testing.assert_allclose(net.predict(x, batch_size=16), net.predict(x), rtol=1e-6)
    assert net.predict(x[:0]).shape == (0, 3)
    assert net.training
    assert not net.eval().training
    net.predict(x)
    assert not net.training


class Modes(Callback):
    """Notes the modes at the end of each epoch and, if told to, leaves the model in eval mode."""

    def __init__(self, leave_in_eval=False):
        self.leave_in_eval, self.seen = leave_in_eval, []

    def on_batch_end(self, model, batch, loss):
        if batch == 0:
            self.seen.append(modes(model))

    def on_epoch_end(self, model, history):
        if self.leave_in_eval:
            model.eval()


def modes(net):
    return [module.training for module in net.modules()]


def partly_frozen():
    """A network in training mode, whose batch norm shall keep its statistics; it has no parameters."""
    net = fn.Sequential(fn.BatchNorm1d(2, affine=False), fn.Dropout(0.2, rng=0), fn.Linear(2, 3, rng=1))
    net[0].eval()
    return net


def test_predict_and_evaluate_leave_every_mode():
    x, y = blobs(30)
    net = partly_frozen()
    before = modes(net)
    outputs = net.predict(x, batch_size=7), net.evaluate(x, y, loss=fn.losses.CrossEntropyLoss())
    assert modes(net) == before == [True, False, True, True]
    net[2].weight.data[...] += 0  # not read-only
    net.eval()
    np.testing.assert_allclose(outputs[0], net(x), rtol=1e-6)
    net[1].train()  # inside a network in eval mode: neither draws, and both leave it so
    np.testing.assert_array_equal(net.predict(x, batch_size=7), outputs[0])
    assert net.evaluate(x, y, loss=fn.losses.CrossEntropyLoss()) == outputs[1]
    assert modes(net) == [False, False, True, False]


@pytest.mark.parametrize("leave_in_eval", [False, True])
def test_fit_leaves_frozen_layers_frozen(leave_in_eval):
    net, callback = partly_frozen(), Modes(leave_in_eval)
    before = net[0].state_dict()
    fit_blobs(net, callbacks=[callback], validation_data=blobs(30))
    assert callback.seen == 3 * [[True, False, True, True]]
    assert modes(net) == [True, False, True, True]
    for key, value in net[0].state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_fit_of_a_network_in_eval_mode_trains_all_of_it():
    net, callback = partly_frozen().eval(), Modes()
    net[1].train()
    fit_blobs(net, callbacks=[callback])
    assert callback.seen == 3 * [4 * [True]]
    assert net[0].running_mean.any()
    assert modes(net) == [False, False, True, False]


def test_last_batch_left_out():
    x, y = blobs(33)  # the last batch of 16 has one sample, too few for a batch norm
    net = normed()
    with pytest.raises(ValueError, match="BatchNorm1d"):
        net.fit(x, y, loss=fn.losses.CrossEntropyLoss(), optimizer=fn.optim.SGD(net), batch_size=16,
                progress=False)
    batches, seen = [], []

    class Watch(Callback):
        def on_batch_end(self, model, batch, loss):
            batches.append(batch)

    class Rows(fn.Identity):
        """Notes which samples came."""

        def forward(self, x):
            seen.append(x[:, 0].copy())
            return super().forward(x)

    def trained(rows, order, drop_last):
        net = fn.Sequential(Rows(), *normed())
        return net.fit(x[rows], y[rows], loss=fn.losses.CrossEntropyLoss(), epochs=2, batch_size=16, rng=0,
                       optimizer=fn.optim.SGD(net, lr=0.1), shuffle=order, drop_last=drop_last,
                       callbacks=[Watch()], progress=False)

    history = trained(slice(None), False, True)
    assert batches == 2 * [0, 1]
    assert history.loss == trained(slice(32), False, False).loss
    seen.clear()
    trained(slice(None), True, True)
    left_out = [set(x[:, 0]) - set(np.concatenate(epoch)) for epoch in (seen[:2], seen[2:])]
    assert [len(samples) for samples in left_out] == [1, 1]
    assert left_out[0] != left_out[1]


class Gated(fn.Module):
    """A network of two inputs."""

    def __init__(self):
        super().__init__()
        self.linear = PlainLinear(3, 1)

    def forward(self, x, gate):
        self._save(gate)
        return self.linear(x) * gate

    def backward(self, grad_y, *, input_grad=True):
        (gate,) = self._take()
        return self.linear.backward(grad_y * gate)


def test_several_inputs():
    x, y = line()
    gate = np.ones_like(y)
    net = Gated()
    history = net.fit(
        (x, gate),
        y,
        loss=fn.losses.MSELoss(),
        optimizer=fn.optim.Adam(net, lr=0.1),
        epochs=30,
        rng=0,
        progress=False,
    )
    assert history.loss[-1] < 0.05 * history.loss[0]
    assert net.predict((x, gate)).shape == y.shape


def all_by_batches(net, x, y):
    """predict, evaluate and fit, as calls without arguments."""
    loss = fn.losses.MSELoss()
    return (lambda: net.predict(x), lambda: net.evaluate(x, y, loss=loss),
            lambda: net.fit(x, y, loss=loss, optimizer=fn.optim.SGD(net), progress=False))


class Wrapped(fn.Sequential):
    """A network with a forward of its own, which puts time first for the layers within."""

    def forward(self, x):
        return super().forward(x.swapaxes(0, 1)).swapaxes(0, 1)

    def backward(self, grad_y, *, input_grad=True):
        return super().backward(grad_y.swapaxes(0, 1), input_grad=input_grad)


class BatchFirst(fn.LSTM):
    """A layer that puts time first itself."""

    def forward(self, x):
        return super().forward(x.swapaxes(0, 1))[0].swapaxes(0, 1)

    def backward(self, grad_y, *, input_grad=True):
        return super().backward(grad_y.swapaxes(0, 1), input_grad=input_grad)


SEQUENCES = np.random.default_rng(0).standard_normal((6, 5, 3), dtype=np.float32)
TIME_FIRST = {
    "layer": (lambda: fn.GRU(3, 4), SEQUENCES, r"GRU\(3, 4\)"),
    "sequential": (lambda: fn.Sequential(fn.RNN(3, 4), fn.RNNOutput(4, 2)), SEQUENCES, r"RNN\(3, 4\)"),
    "nested": (lambda: fn.Sequential(fn.Sequential(fn.LSTM(3, 4)), fn.Linear(4, 2)), SEQUENCES, "LSTM"),
    "after a linear layer": (lambda: fn.Sequential(fn.Dropout(0.1), fn.Linear(3, 3), fn.GRU(3, 4)), SEQUENCES,
                             "GRU"),
    "after an embedding": (lambda: fn.Sequential(fn.Embedding(9, 3), fn.GRU(3, 4)), np.ones((6, 5), int),
                           "GRU"),
    "one sequence": (lambda: fn.LSTM(3, 4), SEQUENCES[0], r"shape \(5, 3\), for time"),
    "one sequence, batch_first": (lambda: fn.LSTM(3, 4, batch_first=True), SEQUENCES[0], "LSTM.*, for time"),
}


@pytest.mark.parametrize("case", TIME_FIRST)
def test_batches_of_time_are_refused(case):
    make, x, words = TIME_FIRST[case]
    for call in all_by_batches(make(), x, np.zeros_like(x, np.float32)):
        with pytest.raises(ValueError, match=f"{words}.*batch_first=True.*fit_sequence"):
            call()


@pytest.mark.parametrize("make", [
    lambda: fn.GRU(3, 4, batch_first=True),
    lambda: fn.Sequential(fn.Linear(3, 3), fn.LSTM(3, 4, batch_first=True)),
    lambda: Wrapped(fn.RNN(3, 4)),
    lambda: fn.Sequential(Wrapped(fn.RNN(3, 4))),
    lambda: BatchFirst(3, 4),
])
def test_batches_of_sequences(make):
    net = make()
    for call in all_by_batches(net, SEQUENCES, np.zeros((6, 5, 4), np.float32)):
        call()
    np.testing.assert_allclose(net.predict(SEQUENCES, batch_size=4), net.predict(SEQUENCES), rtol=1e-5)


def test_optimizer_of_another_model_is_refused():
    net, twin = classifier(), classifier()
    for optimizer in (fn.optim.SGD(twin), fn.optim.SGD([{"params": twin[0].parameters()},
                                                        {"params": twin[1].parameters()}])):
        with pytest.raises(ValueError, match="fit: optimizer has 4 parameters, none of them of the Seq"):
            fit_blobs(net, optimizer=optimizer)
    before = net.state_dict()
    fit_blobs(net, optimizer=fn.optim.SGD(net[1].parameters() + twin.parameters(), lr=0.1))  # some are of it
    changed = [key for key, value in net.state_dict().items() if (value != before[key]).any()]
    assert changed == ["1.weight", "1.bias"]
    with pytest.raises(ValueError, match=r"fit_sequence: optimizer .* none of them of the GRU or Linear"):
        fn.training.fit_sequence(fn.GRU(3, 5), fn.Linear(5, 1), SEQUENCES, SEQUENCES[..., :1],
                                 loss=fn.losses.MSELoss(), optimizer=fn.optim.SGD(net), steps=3)


class NoKeyword(PlainLinear):
    """A layer with parameters that always returns the gradient of its input."""

    def backward(self, grad_y):
        return super().backward(grad_y)


class AnyKeyword(PlainLinear):
    """A layer that hands on what it is given."""

    def backward(self, grad_y, **options):
        assert options == {"input_grad": False}
        return super().backward(grad_y, **options)


@pytest.mark.parametrize("kind", [NoKeyword, AnyKeyword])
def test_backward_with_or_without_the_keyword(kind):
    x, y = line()
    weights = []
    for net in (PlainLinear(3, 1), kind(3, 1)):
        net.fit(x, y, loss=fn.losses.MSELoss(), optimizer=fn.optim.SGD(net, lr=0.1), rng=0, progress=False)
        weights.append(net.weight.data)
    np.testing.assert_array_equal(weights[0], weights[1])


def test_clipping_limits_the_step():
    x, y = line()
    net = PlainLinear(3, 1)
    before = net.weight.data.copy()
    net.fit(
        x,
        1e6 * y,
        loss=fn.losses.MSELoss(),
        optimizer=fn.optim.SGD(net, lr=1.0),
        batch_size=len(x),
        clip_grad_norm=0.1,
        progress=False,
    )
    assert 0 < np.linalg.norm(net.weight.data - before) <= 0.1


def test_scheduler_steps_each_epoch():
    net = classifier()
    optimizer = fn.optim.SGD(net.parameters(), lr=1.0)
    history = fit_blobs(
        net, optimizer=optimizer, scheduler=fn.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    )
    assert history.lr == [1.0, 0.5, 0.25]


def test_scheduler_of_just_as_many_steps():
    net = classifier()
    optimizer = fn.optim.SGD(net.parameters())
    history = fit_blobs(
        net, optimizer=optimizer, scheduler=fn.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=3)
    )
    assert history.epochs == 3
    assert history.lr[-1] == pytest.approx(0.5 / 25 / 1e4)


def test_scheduler_that_watches_the_validation():
    net = classifier()
    optimizer = fn.optim.SGD(net.parameters(), lr=0.0)  # so that nothing improves
    scheduler = fn.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    history = fit_blobs(net, optimizer=optimizer, scheduler=scheduler, validation_data=blobs(30))
    assert scheduler.best == history.val_loss[0] != history.loss[0]
    assert scheduler.last_epoch == 3


def test_early_stopping_restores_the_best():
    net = classifier()
    optimizer = fn.optim.SGD(net.parameters(), lr=0.1)

    class Worsen(Callback):
        """From the third epoch on the weights are noise."""

        def on_epoch_end(self, model, history):
            if history.epochs == 3:
                self.kept = model.flat_parameters[0].copy()
            if history.epochs >= 3:
                model.flat_parameters[0][:] = 10 * np.random.default_rng(history.epochs).standard_normal(
                    model.flat_parameters[0].size
                )
                optimizer.param_groups[0]["lr"] = 0.0

    stopping, worsen = EarlyStopping("loss", patience=2), Worsen()
    history = fit_blobs(net, epochs=20, optimizer=optimizer, callbacks=[stopping, worsen])
    assert history.epochs == 5  # two after the third
    assert history.stopped == "loss did not improve for 2 epochs"
    np.testing.assert_array_equal(net.flat_parameters[0], worsen.kept)


def test_early_stopping_of_a_number_that_shall_grow():
    class Numbers(Callback):
        """Puts what the test wants to see watched in the history."""

        def on_epoch_end(self, model, history):
            history.history["val_accuracy"] = [0.5, 0.7, 0.7, 0.6][: history.epochs]
            if history.epochs == 2:
                self.best = model.flat_parameters[0].copy()

    for patience, epochs in ((0, 3), (1, 3), (2, 4)):
        net, numbers = classifier(), Numbers()
        history = fit_blobs(net, epochs=4, callbacks=[numbers, EarlyStopping("val_accuracy", patience)])
        assert history.epochs == epochs
        assert history.stopped.startswith("val_accuracy did not improve")
        np.testing.assert_array_equal(net.flat_parameters[0], numbers.best)


@pytest.mark.parametrize("event", ["on_batch_end", "on_epoch_end"])
def test_callback_stops_and_is_told_the_end(event):
    ends = []

    class Enough(Callback):
        def on_train_end(self, model, history):
            ends.append((model.training, history.epochs, history.stopped))

    setattr(Enough, event, lambda self, *arguments: "enough")
    net = classifier()
    history = fit_blobs(net, callbacks=[Enough()])
    assert not history.interrupted
    assert ends == [(True, int(event == "on_epoch_end"), "enough")]


@pytest.mark.parametrize("event", ["on_batch_end", "on_epoch_end"])
def test_a_callback_that_stops_hides_nothing_from_those_after_it(event):
    seen = []
    first, after = Callback(), Callback()
    setattr(first, event, lambda *arguments: "enough")
    setattr(after, event, lambda *arguments: seen.append(event) or "more than enough")
    assert fit_blobs(classifier(), callbacks=[first, after]).stopped == "enough"
    assert seen == [event]


def test_no_epochs():
    net = classifier()
    before = net.state_dict()
    history = fit_blobs(net, epochs=0)
    assert (history.epochs, history.history, history.stopped) == (0, {}, None)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_early_stopping_needs_its_number():
    with pytest.raises(ValueError, match="val_loss"):
        fit_blobs(classifier(), callbacks=[EarlyStopping()])


class At(Callback):
    """Does something in a batch of the third epoch."""

    def __init__(self, action):
        self.action, self.best, self.smallest = action, None, np.inf

    def on_epoch_end(self, model, history):
        if history.loss[-1] < self.smallest:
            self.smallest, self.best = history.loss[-1], model.flat_parameters[0].copy()
        self.epochs = history.epochs

    def on_batch_end(self, model, batch, loss):
        if getattr(self, "epochs", 0) == 2 and batch == 3:
            self.action()


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.usefixtures("interrupts_are_heard")
@pytest.mark.parametrize(
    "action", [interrupt, lambda: signal.raise_signal(signal.SIGINT)], ids=["raised", "signal"]
)
def test_interruption_leaves_the_best_weights(action):
    net, callback = classifier(), At(action)
    net.eval()
    history = fit_blobs(net, epochs=10, callbacks=[callback])
    assert history.interrupted
    assert history.epochs == 2
    np.testing.assert_array_equal(net.flat_parameters[0], callback.best)
    assert not net.training
    assert np.isfinite(net.predict(blobs()[0])).all()


def test_interruption_leaves_the_best_by_validation():
    # The training loss falls; the targets of the validation are wrong, so its loss grows.
    x, y = blobs()
    net, first = classifier(), []

    class Watch(Callback):
        def on_epoch_end(self, model, history):
            if history.epochs == 1:
                first.append(model.flat_parameters[0].copy())
            if history.epochs == 3:
                raise KeyboardInterrupt

    history = fit_blobs(net, epochs=10, callbacks=[Watch()], validation_data=(x, (y + 1) % 3))
    assert history.loss[0] > history.loss[2]
    assert history.val_loss[0] < history.val_loss[1] < history.val_loss[2]
    assert history.interrupted
    np.testing.assert_array_equal(net.flat_parameters[0], first[0])


def test_a_first_validation_loss_of_nan_is_not_the_best():
    x, y = blobs(30)
    x[0] = np.nan
    net, weights = classifier(), []

    class Mend(Callback):
        def on_epoch_end(self, model, history):
            x[0] = 0
            weights.append(model.flat_parameters[0].copy())
            if history.epochs == 2:
                raise KeyboardInterrupt

    history = fit_blobs(net, callbacks=[Mend()], validation_data=(x, y))
    assert np.isnan(history.val_loss[0])
    assert np.isfinite(history.val_loss[1])
    np.testing.assert_array_equal(net.flat_parameters[0], weights[1])


class Third(Callback):
    """Does something after the third batch."""

    def __init__(self, action):
        self.action, self.ends = action, []

    def on_batch_end(self, model, batch, loss):
        if batch == 2:
            self.action()

    def on_train_end(self, model, history):
        self.ends.append((model.training, history.epochs))


def normed():
    """A network with buffers."""
    return fn.Sequential(fn.BatchNorm1d(2), fn.Linear(2, 3, rng=0))


def test_interruption_before_any_epoch_leaves_the_start():
    net = normed()
    before = net.state_dict()
    assert fit_blobs(net, callbacks=[Third(interrupt)]).interrupted
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_divergence_in_the_first_epoch_leaves_the_start():
    net, (x, y) = normed(), blobs()
    x[-1] = np.nan  # of the last batch, without shuffling
    before = net.state_dict()
    with pytest.warns(RuntimeWarning, match="the loss became nan; stopped, with the best weights so far"):
        history = net.fit(x, y, loss=fn.losses.CrossEntropyLoss(), optimizer=fn.optim.SGD(net, lr=0.1),
                          batch_size=16, shuffle=False, progress=False)
    assert history.epochs == 0
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_weights_without_a_finite_loss_are_not_the_best():
    # The first epoch is one batch: its loss is finite, but the step after it leaves numbers that are not.
    x, y = line()
    net = PlainLinear(3, 1)
    before = net.state_dict()
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="best weights so far"):
        history = net.fit(x, y, loss=fn.losses.MSELoss(), optimizer=fn.optim.SGD(net, lr=1e38), epochs=5,
                          batch_size=len(x), validation_data=(x, y), progress=False)
    assert history.epochs == 1
    assert not np.isfinite(history.val_loss[0])
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize("error", [FloatingPointError, OSError])
def test_errors_of_the_users_code_are_the_users(error):
    def fail():
        raise error("of the user")

    net, callback = classifier().eval(), Third(fail)
    with pytest.raises(error, match="of the user"):
        fit_blobs(net, callbacks=[callback])
    assert callback.ends == [(False, 0)]


def test_a_loss_that_is_not_finite():
    x, y = line()
    net = PlainLinear(3, 1)
    optimizer = fn.optim.SGD(net, lr=1e30)
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="best weights so far") as caught:
        history = net.fit(
            x, y, loss=fn.losses.MSELoss(), optimizer=optimizer, epochs=50, batch_size=len(x), progress=False
        )
    assert caught[0].filename == __file__
    assert "the loss became" in history.stopped
    assert np.isfinite(net.weight.data).all()


def test_progress(capsys, monkeypatch):
    fit_blobs(classifier(), epochs=2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress_module, "_tqdm", lambda: None)
    fit_blobs(classifier(), epochs=2, progress=True)
    printed = capsys.readouterr().out.splitlines()
    assert [text.split(":")[0] for text in printed] == ["epoch 1/2", "epoch 2/2"]
    assert "accuracy" in printed[0]


def test_progress_bar(capsys):
    pytest.importorskip("tqdm")
    fit_blobs(classifier(), epochs=2, progress=True)
    bar = capsys.readouterr().err
    assert "16/16" in bar
    assert "loss=" in bar


X, Y = blobs(8)
BAD = {
    "samples": ((X, Y[:3]), {}, "y has shape"),
    "none": ((X[:0], Y[:0]), {}, "no samples"),
    "scalar": ((np.float32(1), Y), {}, r"x has shape \(\)"),
    "inputs": (((X, X[:2]), Y), {}, r"x\[1\] has 2 samples"),
    "epochs": ((X, Y), {"epochs": -1}, "epochs"),
    "batch_size": ((X, Y), {"batch_size": 0}, "batch_size"),
    "drop_last of all": ((X, Y), {"drop_last": True}, "drop_last leaves no batch of 8 samples, b"),
    "validation alone": ((X, Y), {"validation_data": X}, "validation_data must be a pair"),
    "validation samples": ((X, Y), {"validation_data": (X, Y[:3])}, "validation_data: y has shape"),
    "validation of nothing": ((X, Y), {"validation_data": (X[:0], Y[:0])}, "validation_data: x has no"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    arguments, options, message = BAD[case]
    net = classifier()
    before = net.state_dict()
    with pytest.raises(ValueError, match=message):
        net.fit(
            *arguments,
            loss=fn.losses.CrossEntropyLoss(),
            optimizer=fn.optim.SGD(net),
            progress=False,
            **options,
        )
    for key, value in net.state_dict().items():  # refused before the first step
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize(("option", "value", "message"), [
    ("loss", None, "loss must be a Loss, got None"),
    ("loss", fn.losses.MSELoss, "loss must be a Loss, got <class"),
    ("optimizer", 0.1, "optimizer must be an Optimizer, got 0.1"),
    ("scheduler", 0.1, "scheduler must be an LRScheduler, got 0.1"),
    ("callbacks", EarlyStopping(), "callbacks must be a sequence of Callback, got"),
    ("callbacks", [5], r"callbacks has 5 \(int\), expected Callback alone"),
    ("shuffle", 1, "shuffle must be True or False, got 1"),
])
def test_what_is_no_part_of_a_training_is_refused(option, value, message):
    net = classifier()
    options = {"loss": fn.losses.CrossEntropyLoss(), "optimizer": fn.optim.SGD(net), "progress": False}
    with pytest.raises(TypeError, match=f"^fit: {message}"):
        net.fit(X, Y, **{**options, option: value})
    with pytest.raises(ValueError, match="evaluate: loss is None"):  # nothing is kept of it
        net.evaluate(X, Y)


def test_masks_are_not_lost():
    net, loss = classifier(), fn.losses.CrossEntropyLoss()
    options = {"loss": loss, "optimizer": fn.optim.SGD(net), "progress": False}
    masked_x, masked_y = np.ma.array(X, mask=X > 1), np.ma.array(Y, mask=Y > 0)
    for call, name in ((lambda: net.fit(masked_x, Y, **options), "fit: x"),
                       (lambda: net.fit((X, masked_x), Y, **options), r"fit: x\[1\]"),
                       (lambda: net.fit(X, masked_y, **options), "fit: y"),
                       (lambda: net.predict(masked_x), "predict: x"),
                       (lambda: net.evaluate(X, masked_y, loss=loss), "evaluate: y"),
                       (lambda: net.eval().freeze()(masked_x), "Sequential: input '.*'")):
        with pytest.raises(TypeError, match=f"^{name} is a masked array, whose mask would be lost"):
            call()
    with pytest.raises(ValueError, match=r"is not an array \(it is a masked array, whose mask"):
        net.load_state_dict({key: np.ma.array(value) for key, value in net.state_dict().items()})


def test_drop_last_is_a_flag():
    with pytest.raises(TypeError, match="fit: drop_last must be True or False, got 1"):
        fit_blobs(classifier(), drop_last=1)


def test_truncated_training_is_training_by_chunks():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((11, 2, 3), dtype=np.float32)
    y = rng.standard_normal((11, 2, 1), dtype=np.float32)
    losses, nets = [], []
    for by_hand in (True, False):
        rnn, head = fn.GRU(3, 5, rng=0), fn.Linear(5, 1, rng=1)
        optimizer = fn.optim.SGD(rnn.parameters() + head.parameters(), lr=0.1)
        loss = fn.losses.MSELoss()
        if by_hand:
            found, state = [], None
            for start in (0, 4, 8):
                out, state = rnn(x[start : start + 4], state)
                found.append(loss(head(out), y[start : start + 4]))
                optimizer.zero_grad()
                rnn.backward(head.backward(loss.backward()))
                optimizer.step()
        else:
            found, state = fn.training.fit_sequence(rnn, head, x, y, loss=loss, optimizer=optimizer, steps=4)
        losses.append(found)
        nets.append((rnn.weight_hh_l0.data.copy(), state))
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(nets[0][0], nets[1][0])
    np.testing.assert_array_equal(nets[0][1], nets[1][1])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(11, 3), (11, 2, 3)])
def test_sequence_is_cut_along_time(shape, batch_first):
    """The losses are those of a layer with time first."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, dtype=np.float32)
    y = rng.standard_normal((*shape[:-1], 1), dtype=np.float32)
    found = []
    for first in (False, batch_first):
        rnn, head = fn.GRU(3, 5, batch_first=first, rng=0), fn.Linear(5, 1, rng=1)
        swap = first and len(shape) == 3
        losses, state = fn.training.fit_sequence(
            rnn, head, *((x.swapaxes(0, 1), y.swapaxes(0, 1)) if swap else (x, y)), steps=4,
            loss=fn.losses.MSELoss(), optimizer=fn.optim.SGD(rnn.parameters() + head.parameters(), lr=0.1))
        assert len(losses) == 3
        found.append((losses, state))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)


def fit_short_sequence(rnn, head, steps=4):
    x = np.random.default_rng(0).standard_normal((8, 2, 3), dtype=np.float32)
    return fn.training.fit_sequence(
        rnn, head, x, np.ones((8, 2, 1), np.float32), loss=fn.losses.MSELoss(),
        optimizer=fn.optim.SGD(rnn.parameters() + head.parameters(), lr=0.1), steps=steps)


def test_sequence_trains_what_was_in_eval_mode():
    losses = []
    for mode in (True, False):
        rnn, head = fn.RNN(3, 5, rng=0).train(mode), fn.Sequential(fn.Linear(5, 1, rng=1)).train(mode)
        losses.append(fit_short_sequence(rnn, head)[0])
        assert modes(rnn) + modes(head) == 3 * [mode]
    assert losses[0] == losses[1]
    frozen = fn.Sequential(PlainCounter(), fn.Linear(5, 1))
    frozen[0].eval()
    fit_short_sequence(fn.RNN(3, 5), frozen, steps=2)
    assert modes(frozen) == [True, False, True]
    assert frozen[0].calls == 0


def test_sequence_in_both_directions_is_one_chunk():
    rnn, head = fn.RNN(3, 5, bidirectional=True, rng=0), fn.RNNOutput(5, 1, bidirectional=True, rng=1)
    assert len(fit_short_sequence(rnn, head, steps=8)[0]) == 1
    with pytest.raises(ValueError, match=r"bidirectional, and steps = 7 .* expected steps >= 8"):
        fit_short_sequence(rnn, head, steps=7)


def test_sequence_refused():
    rnn, head = fn.RNN(3, 5), fn.Linear(5, 1)
    with pytest.raises(ValueError, match="axis 0, time"):
        fn.training.fit_sequence(
            rnn, head, np.ones((4, 1, 3)), np.ones((5, 1, 1)), loss=None, optimizer=None, steps=2
        )


def test_learns_handwritten_digits():
    """Three seeds, each at least 0.97 on the held-out fifth."""
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    images, target = (bunch.images[:, None] / 16).astype(np.float32), bunch.target
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(images))
        train, held_out = order[len(order) // 5 :], order[: len(order) // 5]
        rng = np.random.default_rng(seed)
        net = fn.Sequential(
            fn.Conv2d(1, 16, 3, padding=1, activation="relu", rng=rng),
            fn.MaxPool2d(2),
            fn.Dropout(0.1, rng=rng),
            fn.Conv2d(16, 32, 3, padding=1, activation="relu", rng=rng),
            fn.MaxPool2d(2),
            fn.Flatten(),
            fn.Dropout(0.3, rng=rng),
            fn.Linear(128, 10, rng=rng),
        )
        optimizer = fn.optim.Adam(net.parameters(), lr=5e-3)
        net.fit(
            images[train],
            target[train],
            loss=fn.losses.CrossEntropyLoss(),
            optimizer=optimizer,
            epochs=20,
            batch_size=64,
            scheduler=fn.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20),
            rng=seed,
            progress=False,
        )
        accuracy = net.evaluate(images[held_out], target[held_out])["accuracy"]
        assert accuracy >= 0.97, (seed, accuracy)


def test_fit_trains_through_what_was_in_eval_mode_before_it_became_a_part():
    body = fn.Sequential(fn.Linear(3, 4, rng=0), fn.BatchNorm1d(4)).eval()
    net = fn.Sequential(body, fn.Linear(4, 2, rng=1))
    before = net.state_dict()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3), dtype=np.float32), rng.standard_normal((6, 2), dtype=np.float32)
    net.fit(x, y, loss=fn.losses.MSELoss(),
            optimizer=fn.optim.SGD(net.parameters(), lr=0.1), progress=False)
    changed = {name for name, value in net.state_dict().items() if (value != before[name]).any()}
    assert changed == {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "1.weight", "1.bias"}
    assert not any(module.training or module.recording for module in body.modules())
    with pytest.raises(ValueError, match="comes before eval"):
        net.backward(net(np.ones((1, 3), np.float32)))


def test_a_part_of_a_network_that_is_trained_predicts_without_recording():
    net = fn.Sequential(fn.Linear(3, 4, rng=0), fn.Dropout(0.5), fn.Linear(4, 2, rng=1))
    body = net[:2]
    x, grad_y = np.ones((5, 3), np.float32), np.ones((5, 2), np.float32)
    for part in (body, net[0]):
        part.predict(x)
        assert all(layer._saved is None for layer in net)
        assert all(layer.training for layer in net)
    net(x)
    assert net.backward(grad_y).shape == x.shape


@pytest.mark.parametrize("before", [fn.ReLU(), fn.GELU(), fn.PReLU(), fn.LayerNorm(3), fn.Softmax(),
                                    fn.RNNOutput(3, 3), fn.GRU(3, 3, batch_first=True)], ids=repr)
def test_time_is_seen_behind_layers_that_keep_it(before):
    with pytest.raises(ValueError, match="for time"):
        fn.Sequential(before, fn.LSTM(3, 2)).predict(np.ones((6, 2, 3), np.float32))


def test_a_train_of_the_model_s_own_freezes_its_parts():
    class Frozen(fn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    net = Frozen(fn.Linear(3, 4, rng=0), fn.BatchNorm1d(4), fn.Linear(4, 2, rng=1))
    x, y = np.ones((6, 3), np.float32), np.ones((6, 2), np.float32)
    net.fit(x, y, loss=fn.losses.MSELoss(), optimizer=fn.optim.SGD(net.parameters(), lr=0.1), progress=False)
    assert net[1].num_batches_tracked == 0


def test_a_callback_may_replace_a_layer_and_leave_eval_mode():
    class Replace(fn.training.Callback):
        def on_epoch_end(self, model, history):
            model[1] = fn.Tanh()
            model.eval()

    net = fn.Sequential(fn.Linear(3, 4, rng=0), fn.ReLU(), fn.Linear(4, 2, rng=1))
    x, y = np.ones((6, 3), np.float32), np.ones((6, 2), np.float32)
    history = net.fit(x, y, loss=fn.losses.MSELoss(), epochs=3,
                      optimizer=fn.optim.SGD(net.parameters(), lr=0.1), callbacks=[Replace()], progress=False)
    assert history.epochs == 3
