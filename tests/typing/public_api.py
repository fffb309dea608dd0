"""A program of a user, as strict as `mypy` can be: test_stubs.py runs it, `make lint` checks its types."""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from numpy.typing import NDArray

import fastnn as fn


class Tagger(fn.Module):
    """A network of a user's own."""

    def __init__(self, words: int, tags: int) -> None:
        super().__init__(dtype=np.float32)
        self.embedding = fn.Embedding(words, 8, rng=0)
        self.lstm = fn.LSTM(8, 6, bidirectional=True, rng=1)
        self.head = fn.Linear(12, tags, rng=2)

    def forward(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        out, _ = self.lstm(self.embedding(indices))
        scores: NDArray[np.float32] = self.head(out)
        return scores


def classifier(classes: int) -> fn.Sequential:
    return fn.Sequential(fn.GRU(4, 5, batch_first=True, bidirectional=True, rng=0), fn.LastStep(True, True),
                         fn.Linear(10, classes, rng=1))


def functions(x: NDArray[np.float32]) -> NDArray[np.float32]:
    weight = np.ones((4, 3, 3, 3), np.float32)
    y = fn.functional.conv2d(x, weight, padding=(1, 1), activation="relu")
    grad_x, grad_weight, _ = fn.functional.conv2d_backward(y, x, weight, padding=1)
    assert grad_x.shape == x.shape
    assert grad_weight.shape == weight.shape
    pooled, places = fn.functional.max_pool2d(y, 2, return_indices=True)
    grad = fn.functional.max_pool2d_backward(pooled, places, y.shape)
    gates, ones = np.ones((12, 5), np.float32), np.ones((12, 3), np.float32)
    outputs, _h_n, c_n = fn.functional.lstm(np.ones((2, 1, 5), np.float32), None, None, gates, ones)
    assert outputs.shape[1:] == c_n.shape
    loss: float = fn.functional.mse_loss(y, grad)
    assert loss >= 0
    return fn.functional.softmax(fn.functional.global_avg_pool2d(y).reshape(len(y), -1), dim=-1)


def training(x: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    net = fn.Sequential(
        fn.Conv2d(3, 4, 3, padding=1, activation="relu", rng=0), fn.MaxPool2d(2), fn.Flatten(),
        fn.Linear(64, 2, rng=1))
    optimizer = fn.optim.AdamW(net.parameters(), lr=1e-3)
    schedule = fn.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    loss = fn.losses.CrossEntropyLoss(label_smoothing=0.1)
    history = net.fit(x, labels, loss=loss, optimizer=optimizer, scheduler=schedule, epochs=2, batch_size=4,
                      progress=False, rng=0)
    assert not history.interrupted
    value: float = loss(net(x), labels)
    net.zero_grad()
    net.backward(loss.backward())
    fn.optim.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    assert value > 0
    path = Path(mkdtemp()) / "net.npz"
    fn.save(net, path)
    net.load_state_dict(fn.load(path))
    checkpoint = path.with_suffix(".pt")
    fn.save({"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 2}, checkpoint)
    optimizer.load_state_dict(fn.load(checkpoint)["optimizer"])
    with fn.num_threads(1):
        predicted: NDArray[np.float32] = net.eval().predict(x)
    assert predicted.shape == (8, 2)
    numbers: dict[str, float] = net.evaluate(x, labels, loss=loss)
    return numbers


def main() -> None:
    fn.manual_seed(0)
    x = np.zeros((8, 3, 8, 8), np.float32)
    assert functions(x).shape == (8, 4)
    assert training(x, np.arange(8) % 2)["loss"] > 0
    assert Tagger(5, 3)(np.zeros((4, 2), np.int64)).shape == (4, 2, 3)
    config = fn.show_config(mode="dict")
    assert config is not None
    assert config["threads"] == fn.get_num_threads()


if __name__ == "__main__":
    main()
