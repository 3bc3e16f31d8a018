"""Blocks: cutting clouds, keeping them, refusing what is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccbench.codecs.blocks import Blocks, cut
from pccbench.codecs.errors import CloudError


def put_back(blocks: Blocks) -> np.ndarray:
    return blocks.points.astype(np.int64) + np.repeat(blocks.origins, blocks.counts, axis=0)


@given(st.integers(0, 2**32), st.integers(0, 400), st.sampled_from([1, 3, 8, 64, 256]), st.integers(1, 21))
@settings(max_examples=60, deadline=None)
def test_blocks_hold_the_cloud_and_nothing_else(seed, n, size, depth):
    points = np.random.default_rng(seed).integers(0, 1 << depth, (n, 3))
    blocks = cut(points, size, source=7)
    again = put_back(blocks)
    assert len(np.unique(again, axis=0)) == len(again)
    assert {*map(tuple, again.tolist())} == {*map(tuple, points.tolist())}
    assert (blocks.origins % size == 0).all()
    assert (blocks.counts > 0).all()
    assert len(np.unique(blocks.origins, axis=0)) == len(blocks)
    assert (blocks.sources == 7).all()


def test_far_corner_of_the_grid():
    corner = (1 << 21) - 1
    blocks = cut(np.array([[corner] * 3, [0, 0, 0]]), 64)
    assert blocks.origins.tolist() == [[0, 0, 0], [corner - 63] * 3]
    with pytest.raises(CloudError, match="outside"):
        cut(np.array([[corner + 1, 0, 0]]), 64)
    with pytest.raises(CloudError, match="outside"):
        cut(np.array([[-1, 0, 0]]), 64)
    with pytest.raises(CloudError, match="block size"):
        cut(np.array([[0, 0, 0]]), 257)


def make(seed: int = 0, n: int = 5000) -> Blocks:
    return cut(np.random.default_rng(seed).integers(0, 200, (n, 3)), 64, source=seed)


def test_take_largest_join_and_occupancy():
    blocks = make()
    order = np.argsort(-blocks.counts, kind="stable")
    best = blocks.largest(5)
    assert best.counts.tolist() == blocks.counts[order[:5]].tolist()
    assert (best.block(2) == blocks.block(int(order[2]))).all()
    dense = blocks.occupancy([3, 0])
    assert dense.shape == (2, 64, 64, 64)
    assert (np.argwhere(dense[1]) == blocks.block(0)).all()
    both = Blocks.join([blocks, make(1)])
    assert len(both) == len(blocks) + len(make(1))
    assert (both.block(len(blocks)) == make(1).block(0)).all()
    assert set(both.sources.tolist()) == {0, 1}
    assert len(blocks.take(np.array([], np.int64))) == 0
    with pytest.raises(CloudError, match="one size"):
        Blocks.join([blocks, cut(np.zeros((1, 3), int), 32)])


def test_files_are_the_same_bytes_and_come_back(tmp_path):
    blocks = make()
    blocks.save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == make().to_bytes()
    again = Blocks.load(tmp_path / "a.npz")
    assert again.size == 64
    for name in ("points", "offsets", "origins", "sources"):
        assert (getattr(again, name) == getattr(blocks, name)).all()


def test_damaged_files_are_refused(tmp_path):
    data = make().to_bytes()
    path = tmp_path / "b.npz"
    rng = np.random.default_rng(0)
    for turn in range(40):
        damaged = bytearray(data)
        if turn % 2:
            damaged = damaged[: rng.integers(0, len(damaged))]
        else:
            damaged[rng.integers(0, len(damaged))] ^= 255
        path.write_bytes(damaged)
        try:
            Blocks.load(path)
        except CloudError as error:
            assert str(path) in str(error)
    np.savez(path, format=np.frombuffer(b"something else", np.uint8))
    with pytest.raises(CloudError, match="expected blocks in format"):
        Blocks.load(path)
    with pytest.raises(CloudError, match="cannot be read"):
        Blocks.load(tmp_path / "missing.npz")
