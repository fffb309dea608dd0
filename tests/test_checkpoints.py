"""Trained networks from PyTorch's files, in layers of fastnn, against the outputs of torch."""

import checkpoints
import numpy as np
import pytest

import fastnn as fn

# float32 sums of up to a thousand products in another order, through up to a dozen layers; outputs around 1.
TOLERANCE = 2e-5


@pytest.fixture(params=checkpoints.NETWORKS)
def name(request):
    if not checkpoints.file(request.param).exists():
        pytest.skip("the checkpoints are not there: python tests/checkpoints.py downloads them")
    return request.param


class Network(fn.Module):
    """Layers by name."""

    def __init__(self, name):
        super().__init__()
        make, self.run, _ = checkpoints.NETWORKS[name]
        for key, layer in make(fn).items():
            setattr(self, key, layer)

    def forward(self, x):
        return self.run(dict(self.named_children()), x)


def loaded(name):
    network = Network(name).eval()
    keys = network.load_state_dict(
        checkpoints.weights(fn.load(checkpoints.file(name))), strict=name != "encoder"
    )
    assert not keys.missing_keys
    assert keys.unexpected_keys == (["similarity_weight", "similarity_bias"] if name == "encoder" else [])
    return network


def assert_outputs(actual, expected):
    for y, e in zip(actual, expected, strict=True):
        assert y.shape == e.shape
        np.testing.assert_allclose(y, e, rtol=0, atol=TOLERANCE * max(1, np.abs(e).max()))


def test_outputs_are_those_of_torch(name):
    with np.load(checkpoints.OUTPUTS) as stored:
        expected = [stored[key] for key in stored if key.startswith(f"{name} ")]
    assert_outputs(loaded(name)(checkpoints.sample(name)), expected)


def test_outputs_are_those_of_the_torch_that_is_here(name):
    pytest.importorskip("torch")
    assert_outputs(loaded(name)(checkpoints.sample(name)), checkpoints.run_torch(name))


def test_all_that_was_saved_is_read_as_torch_reads_it(name):
    torch = pytest.importorskip("torch")

    def assert_same(found, expected):
        if isinstance(expected, torch.Tensor):
            np.testing.assert_array_equal(found, expected.numpy(), strict=True)
            return
        assert type(found) is (dict if isinstance(expected, dict) else type(expected))
        if isinstance(expected, dict):
            assert list(found) == list(expected)
            for key, value in expected.items():
                assert_same(found[key], value)
        elif isinstance(expected, (list, tuple)):
            for values in zip(found, expected, strict=True):
                assert_same(*values)
        else:
            assert found == expected

    assert_same(
        fn.load(checkpoints.file(name)),
        torch.load(checkpoints.file(name), map_location="cpu", weights_only=True),
    )


def test_what_is_saved_gives_the_same_outputs(name, tmp_path):
    network, x = loaded(name), checkpoints.sample(name)
    fn.save(network, tmp_path / "saved.pt")
    again = Network(name).eval()
    again.load_state_dict(fn.load(tmp_path / "saved.pt"))
    for y, expected in zip(again(x), network(x), strict=True):
        np.testing.assert_array_equal(y, expected)
