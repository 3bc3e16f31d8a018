"""Cells and their neighbours, against brute force."""

import numpy as np
import pytest

from pccbench.codecs.deepcompress.cells import cells_of, neighbours_of, points_of, voxel_offsets


def test_points_come_back_from_cells(rng):
    points = rng.integers(0, 200, (500, 3))
    points = np.r_[points, points[:20]]  # repeated points count once
    cells = cells_of(points)
    back = points_of(cells.positions, cells.bits)
    assert {tuple(p) for p in back} == {tuple(p) for p in points}
    assert len(back) == len(np.unique(points, axis=0))


def test_voxels_are_in_morton_order():
    offsets = voxel_offsets().reshape(8, 8, 8, 3)  # cubes of 4, of 2, voxels
    sides = np.ptp(offsets.reshape(8, 64, 3), axis=1)
    assert (sides == 3).all()
    assert (np.ptp(offsets.reshape(64, 8, 3), axis=1) == 1).all()


@pytest.mark.parametrize("radius", [1, 2])
def test_neighbours_are_those_of_brute_force(rng, radius):
    positions = np.unique(rng.integers(0, 5, (60, 3)), axis=0)[rng.permutation(30)]
    table = neighbours_of(positions, radius)
    row = {tuple(p): i for i, p in enumerate(positions)}
    span = range(-radius, radius + 1)
    steps = [(x, y, z) for x in span for y in span for z in span]
    for i, p in enumerate(positions):
        expected = [row.get((p[0] + x, p[1] + y, p[2] + z), len(positions)) for x, y, z in steps]
        assert table[i].tolist() == expected


def test_neighbours_do_not_wrap_at_the_border_of_the_grid():
    top = (1 << 18) - 1
    positions = np.array([[0, 1, 0], [top, 0, 0], [0, 0, 0], [top, top, top]])
    table = neighbours_of(positions)
    assert [int((row < 4).sum()) for row in table] == [2, 1, 2, 1]


def test_no_cells():
    assert neighbours_of(np.empty((0, 3), np.int32)).shape == (0, 27)
    assert len(cells_of(np.empty((0, 3), np.int32))) == 0
