"""Completion: neighbours, candidates and cascades, against plain searches."""

import functools
import itertools

import numpy as np
import pytest
import torch

from pccbench.codecs.deepcompress.decision import THRESHOLDS
from pccbench.codecs.octree.occupancy import keys_of, points_of
from pccbench.codecs.sparse.completion import CERTAIN, candidates_of, cells_touched
from pccbench.codecs.sparse.exact import ExactSurface
from pccbench.codecs.sparse.header import stages_of
from pccbench.codecs.sparse.neighbours import neighbours_of, windows_of
from pccbench.codecs.sparse.surface import SurfaceConfig, SurfaceModel, child_offsets


@pytest.mark.parametrize("radius", [1, 2])
def test_neighbours_equal_a_search(radius, rng):
    keys = np.unique(keys_of(rng.integers(0, 9, (300, 3))))
    points = points_of(keys)
    places = {tuple(point): row for row, point in enumerate(points)}
    table = neighbours_of(keys, radius)
    steps = [(x, y, z) for z, y, x in itertools.product(range(-radius, radius + 1), repeat=3)]
    for row, point in enumerate(points):
        expected = [places.get(tuple(point + step), len(keys)) for step in steps]
        np.testing.assert_array_equal(table[row], expected)
    np.testing.assert_array_equal(windows_of(keys, radius), table < len(keys))
    for rows in (slice(0, 7), slice(50, 120), slice(250, None), slice(9, 9)):
        np.testing.assert_array_equal(neighbours_of(keys, radius, rows), table[rows])
        np.testing.assert_array_equal(windows_of(keys, radius, rows), table[rows] < len(keys))


def test_no_neighbours_over_the_border_of_the_grid():
    far = (1 << 20) - 1
    keys = np.unique(keys_of(np.array([[0, 0, 0], [far, 0, 0], [0, far, 0], [0, 1, 0]])))
    assert (neighbours_of(keys, 1) < len(keys)).sum() == len(keys) + 2  # themselves, and one pair


@pytest.mark.parametrize("factor", [2, 3, 5, 8])
def test_candidates_equal_the_logits_at_their_places(factor, rng):
    torch.manual_seed(0)
    model = SurfaceModel(SurfaceConfig((factor,), channels=8, blocks=1, hidden=16)).eval()
    model.heads[str(factor)][2].weight.data.mul_(8)
    keys = np.unique(keys_of(rng.integers(0, 7, (60, 3))))
    network = ExactSurface(model)
    found = candidates_of(keys, factor, functools.partial(network.logits, keys, factor))
    logits = np.empty((len(keys), factor**3), np.float32)
    network.logits(keys, factor, logits.__setitem__)
    level = 12
    expected = set()
    for row, point in enumerate(points_of(keys)):
        passing = logits[row] >= THRESHOLDS[level]
        passing[np.argmax(logits[row])] = True
        expected |= set(map(tuple, (point * factor + child_offsets(factor)[passing]).tolist()))
    passing = found.keys_passing(level)
    got = set(map(tuple, points_of(passing).tolist()))
    assert got == expected
    assert len(found.keys_passing(CERTAIN - 1)) >= len(keys)
    np.testing.assert_array_equal(passing, np.sort(passing))


@pytest.mark.parametrize(("factor", "side"), [(2, 8), (3, 8), (24, 64), (64, 64)])
def test_cells_touched(factor, side, rng):
    points = np.unique(rng.integers(0, 30, (40, 3)), axis=0)
    found = set(map(tuple, cells_touched(np.unique(keys_of(points)), factor, side).tolist()))
    span = np.array(list(itertools.product([0, factor // 2, factor - 1], repeat=3)))
    inside = (points[:, None] * factor + span[None]).reshape(-1, 3) // side
    assert set(map(tuple, inside.tolist())) <= found
    corners = (points[:, None] * factor + span[None, [0, -1]]).reshape(-1, 3) // side
    assert len(found) <= 8 * len(corners)


def test_stages():
    factors = (2, 3, 4, 5, 6, 8)
    assert stages_of(1, factors) == ()
    assert stages_of(8, factors) == (8,)
    for step in (10, 12, 16, 24, 64):
        assert np.prod(stages_of(step, factors)) == step
    for step in (7, 11, 13):
        with pytest.raises(ValueError, match="no product"):
            stages_of(step, factors)


def test_known_cells_are_put_out_as_they_are(surface):
    model = SurfaceModel(SurfaceConfig((2,), channels=8, blocks=0, hidden=8)).eval()
    fine = np.unique(keys_of(surface))
    keys = np.unique(keys_of(surface // 2))
    found = candidates_of(keys, 2, functools.partial(ExactSurface(model).logits, keys, 2))
    everything = found.with_known(np.ones(len(found.positions), np.bool_), fine)
    for level in (0, 31):
        np.testing.assert_array_equal(everything.keys_passing(level), fine)
    nothing = found.with_known(np.zeros(len(found.positions), np.bool_), fine)
    np.testing.assert_array_equal(nothing.levels, found.levels)
