"""Regions: blocks of a coarse grid, which of them are lonely, and what centres would cost there."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pccbench.codecs.octree.occupancy import keys_of
from pccbench.codecs.sparse.completion import coordinates_of
from pccbench.codecs.sparse.regions import Regions, centre_errors


def regions_of(points, step, side=64):
    return Regions(np.unique(keys_of(points // step)), step, side)


@pytest.mark.parametrize("step", [2, 3, 5, 8])
def test_errors_of_centres_are_those_of_the_nearest_points(step, rng):
    points = coordinates_of(np.unique(keys_of(rng.integers(0, 300, (3000, 3)))))
    regions = regions_of(points, step)
    everywhere = np.ones(len(regions), np.bool_)
    errors = centre_errors(regions, everywhere, points)
    centres = regions.centres(everywhere, 9)
    there = cKDTree(centres).query(points)[0] ** 2
    back = cKDTree(points).query(centres)[0] ** 2
    assert errors.from_input_sq.sum() == pytest.approx(there.sum())
    assert errors.from_output_sq.sum() == pytest.approx(back.sum(), rel=0.02)
    assert errors.points.sum() == len(points)
    some = rng.random(len(regions)) < 0.5
    part = centre_errors(regions, some, points)
    np.testing.assert_allclose(part.from_input_sq, errors.from_input_sq * some)


def test_errors_along_normals_are_projections(rng):
    points = coordinates_of(np.unique(keys_of(rng.integers(0, 60, (500, 3)))))
    regions = regions_of(points, 4)
    normals = np.zeros((len(points), 3), np.float32)
    normals[:, 2] = 1
    errors = centre_errors(regions, np.ones(len(regions), np.bool_), points, normals)
    away = points[:, 2] - (points[:, 2] // 4 * 4 + 1.5)
    assert errors.from_input_sq.sum() == pytest.approx((away**2).sum())


def test_centres_stay_on_the_grid():
    points = np.array([[1023, 1023, 1023], [0, 5, 9]], np.int32)
    for step in (24, 3):
        regions = regions_of(points, step)
        centres = regions.centres(np.ones(len(regions), np.bool_), 10)
        assert centres.max() <= 1023
        assert (centres.dtype.kind == "i") == bool(step % 2)


def test_lonely_blocks_have_no_surface(rng, surface):
    scattered = rng.integers(0, 64, (800, 3)) + 128
    both = np.concatenate([surface, scattered])
    regions = regions_of(both, 2)
    lonely = regions.lonely()
    has_surface = np.isin(np.arange(len(regions)), regions.of_voxels(surface))
    np.testing.assert_array_equal(lonely, ~has_surface)
    assert regions.nodes.sum() == len(regions.base)
