"""One network in eval mode serves many threads: the bits of a call alone, and nothing stored."""

import importlib
import threading

import numpy as np
import pytest
from arrays import assert_same_bits, draw

import fastnn as fn

WORKERS, CALLS = 8, 5


def image_network(dtype, rng):
    """A layer of each kind that takes images, with each algorithm of the convolution."""
    conv = {"dtype": dtype, "rng": rng}
    return fn.Sequential(
        fn.Conv2d(3, 16, 3, padding=1, activation="relu", **conv),
        fn.BatchNorm2d(16, dtype=dtype),
        fn.Residual(fn.Sequential(fn.Conv2d(16, 16, 3, padding=1, algorithm="winograd", **conv), fn.ReLU())),
        fn.Parallel(fn.Conv2d(16, 16, 3, padding=1, groups=16, **conv), fn.Conv2d(16, 8, 1, **conv)),
        fn.MaxPool2d(2),
        fn.Dropout(0.5),
        fn.ConvTranspose2d(24, 8, 2, stride=2, **conv),
        fn.Conv2d(8, 8, 3, stride=2, algorithm="direct", **conv),
        fn.AvgPool2d(2),
        fn.AdaptiveAvgPool2d(2),
        fn.Flatten(),
        fn.LayerNorm(32, dtype=dtype),
        fn.Linear(32, 10, activation="tanh", **conv),
        fn.Softmax(),
    )


class TextNetwork(fn.Module):
    """Word numbers to the states of three recurrent layers, one above the other, to an output."""

    def __init__(self, dtype, rng):
        super().__init__(dtype=dtype)
        options = {"dtype": dtype, "rng": rng}
        self.words = fn.Embedding(20, 6, **options)
        self.lstm = fn.LSTM(6, 5, 2, dropout=0.5, bidirectional=True, **options)
        self.gru = fn.GRU(10, 9, **options)
        self.rnn = fn.RNN(9, 7, bidirectional=True, **options)
        self.head = fn.RNNOutput(7, 4, bidirectional=True, activation="sigmoid", **options)

    def forward(self, indices):
        x = self.words(indices)
        for layer in (self.lstm, self.gru, self.rnn):
            x, _ = layer(x)
        return self.head(x)


# Networks, and inputs of which no two have one shape: what is worked out for a call must not reach another.
NETWORKS = {
    "images": (image_network, lambda i, dtype: draw(1 + i % 3, 3, 12 + 2 * i, 14 + i, dtype=dtype, seed=i)),
    "texts": (TextNetwork, lambda i, dtype: np.random.default_rng(i).integers(0, 20, (3 + i, 1 + i % 4))),
}


def in_threads(serve):
    """Run ``serve(i)`` in as many threads as there are workers, all at once."""
    barrier = threading.Barrier(WORKERS)

    def start(i):
        barrier.wait()
        serve(i)

    workers = [threading.Thread(target=start, args=(i,)) for i in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def attributes(net):
    """What each module holds, except for the cache of what follows from its parameters."""
    return [{k: v for k, v in vars(module).items() if k != "_cache"} for module in net.modules()]


@pytest.mark.parametrize("case", NETWORKS)
def test_one_network_in_many_threads(case, dtype):
    make, make_input = NETWORKS[case]
    net = make(dtype, np.random.default_rng(0)).eval()
    inputs = [make_input(i, dtype) for i in range(WORKERS)]
    alone = [net(x) for x in inputs]
    net.eval()  # forgets the packed weights: the threads make them anew, at once
    before, state = attributes(net), net.state_dict()
    together = [[] for _ in inputs]
    in_threads(lambda i: together[i].extend(net(inputs[i]) for _ in range(CALLS)))
    for expected, found in zip(alone, together, strict=True):
        assert_same_bits(found, [expected] * CALLS)
    for old, new in zip(before, attributes(net), strict=True):
        assert old.keys() == new.keys()
        assert all(new[key] is value for key, value in old.items())
    assert_same_bits(net.state_dict().values(), state.values())


def test_predict_and_evaluate_in_many_threads():
    x, y = draw(100, 6, dtype=np.float32), np.arange(100) % 3
    net = fn.Sequential(fn.Linear(6, 16, rng=0), fn.Tanh(), fn.Linear(16, 3, rng=1)).eval()
    loss = fn.losses.CrossEntropyLoss()
    expected = net.predict(x, batch_size=16), net.evaluate(x, y, loss=loss, batch_size=16)
    found = []

    def serve(i):
        for _ in range(CALLS):
            found.append((net.predict(x, batch_size=16), net.evaluate(x, y, loss=loss, batch_size=16)))

    in_threads(serve)
    assert len(found) == WORKERS * CALLS
    for outputs, numbers in found:
        assert_same_bits([outputs], [expected[0]])
        assert numbers == expected[1]


LAYERS = {
    "Linear": (lambda: fn.Linear(8, 3), (4, 8), ("pack_weight", "prepare")),
    "Conv2d": (lambda: fn.Conv2d(8, 3, 3), (2, 8, 5, 5), ("pack_filters", "prepare")),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("moment", [0, 1])
def test_weights_that_come_while_a_layer_prepares_are_those_of_the_next_call(layer, moment, monkeypatch):
    """As if by another thread, right after the weights were packed, or their prepared call was made."""
    make, shape, names = LAYERS[layer]
    module, x = make().eval(), np.ones(shape, np.float32)
    home = importlib.import_module(type(module).__module__)
    home = getattr(home, "F", home)
    real, changed = getattr(home, names[moment]), []

    def interrupted(*arguments):
        made = real(*arguments)
        if not changed:
            changed.append(True)
            module.weight = np.zeros(module.weight.shape, np.float32)
            module.bias = np.zeros(3, np.float32)
        return made

    monkeypatch.setattr(home, names[moment], interrupted)
    module(x)
    assert changed
    for _ in range(3):
        assert not module(x).any()
