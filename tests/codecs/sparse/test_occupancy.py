"""Occupancy by trained contexts: lossless, never worse for having learned, and no damage goes unseen."""

import numpy as np
import pytest

from pccbench.codecs.errors import BitstreamError
from pccbench.codecs.octree import occupancy as octree
from pccbench.codecs.octree.occupancy import keys_of
from pccbench.codecs.sparse.kernel import LOSSLESS, new_model
from pccbench.codecs.sparse.occupancy import (
    Experience,
    decode_children,
    decode_keys,
    encode_children,
    encode_keys,
    learn,
    parents_of,
)


@pytest.fixture(scope="module")
def experience(surface):
    model = new_model(14, 16)
    for order in ([1, 2, 0], [0, 2, 1], [2, 0, 1]):
        learn(np.unique(keys_of(surface[:, order])), model)
    return Experience.of(model)


@pytest.fixture(params=[False, True], ids=["whole", "in parts"])
def _cut(request, monkeypatch):
    """Small sets are cut like large ones, too."""
    if request.param:
        monkeypatch.setattr("pccbench.codecs.sparse.occupancy._CUT_NODES", 1)
        monkeypatch.setattr("pccbench.codecs.sparse.occupancy._CUT_CHILDREN", 1)


@pytest.mark.usefixtures("_cut")
@pytest.mark.parametrize("n", [0, 1, 2, 50, 3000])
@pytest.mark.parametrize("depth", [1, 5, 10, 21])
def test_round_trip(n, depth, rng, experience):
    keys = np.unique(keys_of(rng.integers(0, 1 << depth, (n, 3))))
    data, bits = encode_keys(keys, experience)
    np.testing.assert_array_equal(decode_keys(data, experience), keys)
    assert abs(bits - 8 * len(data)) <= 0.01 * bits + 16


def test_experience_saves_bits_and_the_estimate_holds(surface, experience):
    keys = np.unique(keys_of(surface))
    data, bits = encode_keys(keys, experience)
    untaught = Experience.of(new_model(14, 16))
    assert len(data) < 0.93 * len(encode_keys(keys, untaught)[0])
    assert len(data) < 0.9 * len(octree.encode_keys(keys)[0])
    assert abs(8 * len(data) - bits) < 0.01 * bits + 32


def test_coding_does_not_change_what_coding_starts_from(surface, experience):
    keys = np.unique(keys_of(surface // 2))
    before = {name: array.copy() for name, array in experience.arrays.items()}
    first = encode_keys(keys, experience)
    assert encode_keys(keys, experience) == first
    for name, array in experience.arrays.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_parts_decode_alike_on_any_number_of_cores(share, surface, experience, rng, monkeypatch):
    monkeypatch.setattr("pccbench.codecs.sparse.occupancy._CUT_NODES", 1)
    monkeypatch.setattr("pccbench.codecs.sparse.occupancy._CUT_CHILDREN", 1)
    keys = np.unique(keys_of(surface))
    nodes = parents_of(keys)
    skipped = (rng.random(len(nodes)) >= share).astype(np.uint8)
    strings = []
    for cores in ({0}, set(range(8))):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: cores)
        data = encode_keys(keys, experience)[0]
        np.testing.assert_array_equal(decode_keys(data, experience), keys)
        children, bits, found = encode_children(nodes, keys, skipped, (2000, 64000), experience)
        np.testing.assert_array_equal(decode_children(children, nodes, skipped, (2000, 64000), experience), found)
        assert abs(8 * len(children) - bits) < 0.01 * bits + 64
        strings.append((data, children))
    assert strings[0] == strings[1]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_children_of_some_nodes(share, surface, experience, rng):
    fine = np.unique(keys_of(surface))
    nodes = parents_of(fine)
    skipped = (rng.random(len(nodes)) >= share).astype(np.uint8)
    wanted = fine[~np.isin(fine >> 1 & _mask(), nodes[skipped == 1])]
    sizes = []
    for band in (LOSSLESS, (2000, 64000), (20000, 50000)):
        data, bits, found = encode_children(nodes, fine, skipped, band, experience)
        np.testing.assert_array_equal(decode_children(data, nodes, skipped, band, experience), found)
        assert abs(8 * len(data) - bits) < 0.01 * bits + 48
        sizes.append(len(data))
        if band is LOSSLESS:
            np.testing.assert_array_equal(found, wanted)
        assert len(np.setxor1d(found, wanted)) <= 0.3 * len(wanted)
    assert sizes == sorted(sizes, reverse=True)


def _mask():
    low = (1 << 20) - 1
    return low << 42 | low << 21 | low


@pytest.mark.usefixtures("_cut")
def test_damage_is_refused(surface, experience, rng):
    data, _ = encode_keys(np.unique(keys_of(surface // 2)), experience)
    refused = 0
    for _ in range(40):
        broken = bytearray(data)
        broken[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            decode_keys(bytes(broken), experience)  # without the container's checksum, a few look whole
        except BitstreamError:
            refused += 1
    assert refused > 20
    for size in (0, 1, 2, len(data) // 2):
        with pytest.raises(BitstreamError):
            decode_keys(data[:size], experience)


def test_idle_units_stay_idle_and_need_not_be_kept(surface):
    keys = np.unique(keys_of(surface))
    model = new_model(14, 24)
    learn(keys, model)
    whole = Experience.of(model)
    assert whole.arrays["hidden"].shape[1] == 32
    assert not whole.arrays["hidden"][:, 24:].any()
    assert not whole.arrays["output"][24:].any()
    narrow = {
        name: value[..., :24] if name in ("hidden", "output") else value for name, value in whole.arrays.items()
    }
    assert encode_keys(keys, Experience(narrow)) == encode_keys(keys, whole)
