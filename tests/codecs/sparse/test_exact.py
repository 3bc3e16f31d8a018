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
def keys(surface):
    """About 2,500 coarse voxels."""
    return np.unique(keys_of(surface // 2))


def make(channels=32):
    """A network whose features are as large as those of a trained one."""
    torch.manual_seed(3)
    model = SurfaceModel(SurfaceConfig((2,), channels=channels, blocks=2, hidden=24)).eval().requires_grad_(False)
    model.norm.weight.data.normal_(1, 0.3)
    return model


def logits_of(network, keys):
    logits = np.full((len(keys), 8), np.nan, np.float32)
    network.logits(keys, 2, logits.__setitem__)
    return logits


def test_close_to_the_trained_network(keys):
    model = make()
    inputs = torch.from_numpy(windows_of(keys, 2)), torch.from_numpy(neighbours_of(keys, 1)).long()
    expected = model(*inputs, 2).numpy()
    assert np.abs(logits_of(ExactSurface(model), keys) - expected).mean() < 0.01 * expected.std()


def test_the_same_for_any_threads_and_pieces(keys, threads_and_pieces):
    network = ExactSurface(make())
    expected = logits_of(network, keys)
    threads = torch.get_num_threads()
    for _ in threads_and_pieces():
        np.testing.assert_array_equal(logits_of(network, keys), expected)
    assert torch.get_num_threads() == threads


def test_the_same_for_any_order_of_the_sums(keys, permute_sums):
    network = ExactSurface(make())
    expected = logits_of(network, keys)
    permute_sums()
    np.testing.assert_array_equal(logits_of(network, keys), expected)


def test_the_same_where_float32_products_lose_bits(keys, monkeypatch):
    """A user may allow that; sums are made in float64 then."""
    network = ExactSurface(make())
    expected = logits_of(network, keys)
    monkeypatch.setattr("pccbench.codecs.sparse.exact.float32_is_whole", lambda: False)
    np.testing.assert_array_equal(logits_of(network, keys), expected)


def test_the_same_beside_other_voxels(keys):
    """A second, distant cloud changes nothing: grids are a voxel's own."""
    network = ExactSurface(make())
    alone, beside = (logits_of(network, some) for some in (keys, np.concatenate([keys, keys + (1 << 50)])))
    np.testing.assert_array_equal(beside, np.concatenate([alone, alone]))


@pytest.mark.parametrize("limit", [1, 255, 1023])
def test_sums_stay_below_the_bound(limit):
    torch.manual_seed(0)
    layer = torch.nn.Linear(27 * 64, 8).requires_grad_(False)
    layer.weight.data[0] *= 1e-3
    layer.weight.data[1] = 0
    product = ExactProduct(layer, limit)
    weight = product.matrix.T.astype(np.float64)
    whole = np.ldexp(weight, product.fraction[:, None])
    np.testing.assert_array_equal(whole, np.floor(whole))
    assert (np.abs(whole).sum(axis=1) * limit <= 2**24).all()
    error = np.abs(weight - layer.weight.numpy()).max(axis=1)
    assert (error <= np.ldexp(0.5 + 1e-6, -product.fraction)).all()


def test_weights_that_are_not_finite():
    layer = torch.nn.Linear(3, 2).requires_grad_(False)
    layer.weight.data[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        ExactProduct(layer, 1)


def test_the_codec_uses_exact_networks(weights):
    assert all(isinstance(network, ExactSurface) for network in load(weights).surfaces)
