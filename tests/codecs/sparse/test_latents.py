"""Latents: groups, exactness, and streams of them."""

import numpy as np
import pytest
import torch

from pccbench.codecs.errors import BitstreamError
from pccbench.codecs.octree.occupancy import keys_of, points_of
from pccbench.codecs.sparse.exact import ExactSurface
from pccbench.codecs.sparse.latent_coding import LATENT_LIMIT, ExactLatents
from pccbench.codecs.sparse.latents import Around, Groups, LatentConfig, LatentPair, Surface
from pccbench.codecs.sparse.neighbours import neighbours_of, windows_of
from pccbench.codecs.sparse.surface import SurfaceConfig, SurfaceModel

POINT = 1


@pytest.fixture(scope="module")
def keys(surface):
    """About 2,500 coarse voxels."""
    return np.unique(keys_of(surface // 2))


@pytest.fixture(scope="module")
def models():
    """Networks whose outputs are as large as those of trained ones."""
    torch.manual_seed(5)
    surface = SurfaceModel(SurfaceConfig((2,), channels=16, blocks=1, hidden=24)).eval().requires_grad_(False)
    pair = LatentPair(LatentConfig((0.5, 0.1), channels=3, features=16, blocks=1, hidden=24, encoder=8), 16)
    pair = pair.eval().requires_grad_(False)
    for layer in (pair.decoder.prior[2], pair.decoder.beside[2], pair.decoder.head, pair.encoder.out):
        layer.weight.mul_(10)
    pair.decoder.of_point.normal_()
    return surface, pair


@pytest.fixture
def exact(models):
    surface, pair = models
    return ExactLatents(pair, ExactSurface(surface), pair.conditional.tables())


@pytest.fixture(scope="module")
def occupied(keys, surface):
    found = np.zeros((len(keys), 8), np.uint8)
    found[np.searchsorted(keys, keys_of(surface // 2)), (surface % 2) @ [4, 2, 1]] = 1
    return found


def outcome(exact, keys, occupied):
    """Latents, their stream, and the logits that come of them."""
    known = exact.prepare(keys, POINT)
    latents = exact.choose(known, occupied)
    data, bits = exact.encode(known, latents, np.ones(len(latents), np.bool_))
    logits = np.full((len(keys), 8), np.nan, np.float32)
    exact.complete(known, latents, logits.__setitem__)
    return latents, data, bits, logits


def test_groups_hold_their_members(keys):
    groups = Groups.of(keys)
    where = points_of(keys)
    np.testing.assert_array_equal(points_of(groups.keys)[groups.of_nodes], where // 2)
    np.testing.assert_array_equal(groups.place, (where % 2) @ [4, 2, 1])
    np.testing.assert_array_equal(groups.members[groups.of_nodes, groups.place], np.arange(len(keys)))
    assert (groups.members < len(keys)).sum() == len(keys)
    beside = neighbours_of(groups.keys, 1)[:, [4, 10, 12, 14, 16, 22]]  # across a face
    row, _ = np.nonzero(beside < len(groups.keys))
    assert (groups.first[row] != groups.first[beside[beside < len(groups.keys)]]).all()


def test_close_to_the_trained_networks(models, exact, keys, occupied):
    surface, pair = models
    latents, data, bits, logits = outcome(exact, keys, occupied)
    assert 1 < np.abs(latents).max() < LATENT_LIMIT
    neighbours = torch.from_numpy(neighbours_of(keys, 1)).long()
    known = Surface.of(surface, torch.from_numpy(windows_of(keys, 2)), neighbours, 2)
    around = Around.of(Groups.of(keys))
    features = pair.decoder.features(known.seen, around, POINT)
    # Given the same latents: one at a half may be rounded either way.
    told = torch.from_numpy(latents).float()
    expected = known.logits + pair.decoder.correction(known.x, neighbours, told, features, around, POINT)
    assert np.abs(logits - expected.numpy()).mean() < 0.02 * expected.std()
    missing = torch.from_numpy(occupied).float() - torch.sigmoid(known.logits)
    basis = pair.decoder.basis_of(features)
    wanted = pair.encoder(missing, known.seen, neighbours, basis, around, POINT)
    assert np.mean(torch.round(wanted).numpy() == latents) > 0.95
    mean, place = pair.decoder.distribution(features, told, around)
    likelihood = pair.conditional.likelihood(told, pair.conditional.scale_of(place), mean)
    assert bits == pytest.approx(float(-torch.log2(likelihood).sum()), rel=0.03)
    assert 8 * len(data) == pytest.approx(bits, rel=0.01, abs=64)


def assert_decodes(exact, keys, data, latents, logits):
    known = exact.prepare(keys, POINT)
    np.testing.assert_array_equal(exact.decode(known, data, np.ones(len(latents), np.bool_)), latents)
    found = np.empty_like(logits)
    exact.complete(known, latents, found.__setitem__)
    np.testing.assert_array_equal(found, logits)


def test_the_same_for_any_threads_and_pieces(exact, keys, occupied, threads_and_pieces):
    latents, data, _, logits = outcome(exact, keys, occupied)
    for _ in threads_and_pieces():
        assert_decodes(exact, keys, data, latents, logits)


def test_the_same_for_any_order_of_the_sums(exact, keys, occupied, permute_sums):
    latents, data, _, logits = outcome(exact, keys, occupied)
    permute_sums()
    assert_decodes(exact, keys, data, latents, logits)


def test_some_groups_alone(exact, keys, occupied, rng):
    known = exact.prepare(keys, POINT)
    latents = exact.choose(known, occupied)
    coded = rng.random(len(latents)) < 0.4
    latents[~coded] = 0
    data, _ = exact.encode(known, latents, coded)
    np.testing.assert_array_equal(exact.decode(known, data, coded), latents)
    nothing, bits = exact.encode(known, latents, np.zeros_like(coded))
    assert (nothing, bits) == (b"", 0)
    assert not exact.decode(known, b"", np.zeros_like(coded)).any()


def test_the_largest_latents(exact, keys):
    known = exact.prepare(keys, POINT)
    every = np.ones(len(known.groups.keys), np.bool_)
    extreme = np.full((len(every), exact.channels), LATENT_LIMIT, np.int16)
    extreme[::2] *= -1
    data, _ = exact.encode(known, extreme, every)
    np.testing.assert_array_equal(exact.decode(known, data, every), extreme)
    data, _ = exact.encode(known, extreme * 2, every)
    with pytest.raises(BitstreamError, match="of size"):
        exact.decode(known, data, every)


def test_damage(exact, keys, occupied):
    latents, data, _, _ = outcome(exact, keys, occupied)
    every = np.ones(len(latents), np.bool_)
    for broken in (data[: len(data) // 2], data + b"\1\2\3\4\5"):
        with pytest.raises(BitstreamError):
            exact.decode(exact.prepare(keys, POINT), broken, every)
