"""Modes of blocks: round trips, sizes, damage."""

import numpy as np
import pytest

from pccbench.codecs.errors import BitstreamError
from pccbench.codecs.sparse.modes import EXACT, GUESSED, UNCODED, Modes, decode_modes, encode_modes


def modes_of(rng, blocks, *, centres, children, spread=3.0):
    levels = np.clip(np.round(rng.normal(20, spread, blocks)), 0, 31).astype(np.uint8)
    centred = (rng.random(blocks) < 0.4) & centres
    coded = rng.choice([UNCODED, GUESSED, EXACT], blocks).astype(np.uint8) * np.uint8(children)
    return Modes(levels, centred, coded)


@pytest.mark.parametrize("blocks", [1, 2, 500])
@pytest.mark.parametrize("centres", [False, True])
@pytest.mark.parametrize("children", [False, True])
def test_round_trip(blocks, centres, children, rng):
    modes = modes_of(rng, blocks, centres=centres, children=children, spread=12)
    data, bits = encode_modes(modes, has_centres=centres, has_children=children)
    found = decode_modes(data, blocks, has_centres=centres, has_children=children)
    np.testing.assert_array_equal(found.centred, modes.centred)
    np.testing.assert_array_equal(found.children, modes.children)
    matters = ~modes.centred & (modes.children == UNCODED)
    np.testing.assert_array_equal(found.levels[matters], modes.levels[matters])
    assert abs(bits - 8 * len(data)) <= max(0.01 * bits, 8)


def test_what_is_alike_costs_next_to_nothing(rng):
    same = Modes(np.full(4000, 17, np.uint8), np.zeros(4000, np.bool_), np.full(4000, UNCODED, np.uint8))
    assert len(encode_modes(same, has_centres=True, has_children=True)[0]) < 40
    near = encode_modes(modes_of(rng, 4000, centres=False, children=False), has_centres=False, has_children=False)[0]
    assert len(near) < 4000 * 3.9 / 8  # the entropy of the rounded normal distribution is 3.6 bits


def test_damage_is_a_bitstream_error_or_other_modes(rng):
    data, _ = encode_modes(modes_of(rng, 60, centres=True, children=True), has_centres=True, has_children=True)
    for broken in (b"", b"\x20" + data[1:]):
        with pytest.raises(BitstreamError):
            decode_modes(broken, 60, has_centres=True, has_children=True)
    with pytest.raises(BitstreamError, match="before the last block"):
        decode_modes(data, 100_000, has_centres=True, has_children=True)
    for _ in range(200):
        broken = bytearray(data)
        broken[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            found = decode_modes(bytes(broken), 60, has_centres=True, has_children=True)
        except BitstreamError:
            continue
        assert found.levels.max() < 32
        assert found.children.max() <= EXACT
