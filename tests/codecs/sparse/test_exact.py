"""Exact networks: the same logits however they are computed, and those of the trained network nearly."""

import numpy as np
import pytest
import torch

from pccbench.codecs.octree.occupancy import keys_of
from pccbench.codecs.sparse.exact import ExactProduct, ExactSurface
from pccbench.codecs.sparse.neighbours import neighbours_of, windows_of
from pccbench.codecs.sparse.surface import SurfaceConfig, SurfaceModel
from pccbench.codecs.sparse.weights import load


@pytest.fixture(scope="module")
def inputs(surface):
    """Windows and neighbours of about 2,500 coarse voxels."""
    keys = np.unique(keys_of(surface // 2))
    return torch.from_numpy(windows_of(keys, 2)), torch.from_numpy(neighbours_of(keys, 1))


def make(channels=32):
    """A network whose features are as large as those of a trained one."""
    torch.manual_seed(3)
    model = SurfaceModel(SurfaceConfig((2,), channels=channels, blocks=2, hidden=24)).eval().requires_grad_(False)
    model.norm.weight.data.normal_(1, 0.3)
    return model


def logits_of(network, inputs):
    with torch.no_grad():
        return network.logits_of(network.features(*inputs, 2), 2)


def test_close_to_the_trained_network(inputs):
    model = make()
    expected, got = logits_of(model, inputs), logits_of(ExactSurface(model), inputs)
    assert float((got - expected).abs().mean()) < 0.01 * float(expected.std())


def test_the_same_for_any_threads_and_chunks(inputs, monkeypatch):
    network = ExactSurface(make())
    expected = logits_of(network, inputs)
    threads = torch.get_num_threads()
    try:
        for number, rows in ((1, 7), (2, 333), (3, 1 << 20)):
            torch.set_num_threads(number)
            monkeypatch.setattr("pccbench.codecs.sparse.surface._CHUNK_ROWS", rows)
            assert torch.equal(logits_of(network, inputs), expected)
    finally:
        torch.set_num_threads(threads)


def test_the_same_for_any_order_of_the_sums(inputs, monkeypatch):
    network = ExactSurface(make())
    expected = logits_of(network, inputs)
    rng = np.random.default_rng(1)

    def permuted(self, x):
        order = torch.from_numpy(rng.permutation(x.shape[1]))
        total = torch.zeros(len(x), len(self.weight))
        for part in order.split(101):
            total += x[:, part] @ self.weight[:, part].t()
        return total + self._bias

    monkeypatch.setattr(ExactProduct, "__call__", permuted)
    assert torch.equal(logits_of(network, inputs), expected)


def test_the_same_beside_other_voxels(inputs):
    """Grids of a voxel's own do not depend on what else is computed."""
    network = ExactSurface(make())
    features = network.features(*inputs, 2)
    whole = network.logits_of(features, 2)
    assert torch.equal(network.logits_of(features[100:103], 2), whole[100:103])


@pytest.mark.parametrize("limit", [1, 255, 1023])
def test_sums_stay_below_the_bound(limit):
    torch.manual_seed(0)
    layer = torch.nn.Linear(27 * 64, 8).requires_grad_(False)
    layer.weight.data[0] *= 1e-3
    layer.weight.data[1] = 0
    product = ExactProduct(layer, limit)
    whole = np.ldexp(product.weight.double().numpy(), product.fraction[:, None])
    np.testing.assert_array_equal(whole, np.floor(whole))
    assert (np.abs(whole).sum(axis=1) * limit <= 2**24).all()
    error = (product.weight - layer.weight).abs().amax(dim=1).double().numpy()
    assert (error <= np.ldexp(0.5 + 1e-6, -product.fraction)).all()


def test_weights_that_are_not_finite():
    layer = torch.nn.Linear(3, 2).requires_grad_(False)
    layer.weight.data[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        ExactProduct(layer, 1)


def test_the_codec_uses_exact_networks(weights):
    assert all(isinstance(network, ExactSurface) for network in load(weights).surfaces)
