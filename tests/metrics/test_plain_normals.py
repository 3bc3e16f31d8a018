"""Normals without open3d: as right as open3d's, with a passport of their own."""

import sys

import numpy as np
import pytest

from pccbench.metrics.distortion import distortion
from pccbench.metrics.normals import estimate_normals


@pytest.fixture
def without_open3d(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)


def sphere(radius):
    axis = np.arange(2 * radius + 3)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distance = np.linalg.norm(grid - radius - 1.0, axis=1)
    return grid[np.abs(distance - radius) < 0.5].astype(np.int32), np.full(3, radius + 1.0)


def test_a_sphere_has_radial_normals_all_of_one_orientation(without_open3d):
    points, centre = sphere(60)
    normals, origin = estimate_normals(points)
    radial = (points - centre) / np.linalg.norm(points - centre, axis=1, keepdims=True)
    cosines = (normals * radial).sum(axis=1)
    assert np.quantile(np.abs(cosines), 0.05) > 0.9
    assert max((cosines > 0).mean(), (cosines < 0).mean()) == 1.0
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-6)
    assert origin["source"] == "estimated (scipy)"


def test_they_are_the_same_every_time_and_in_any_order(without_open3d):
    points, _ = sphere(20)
    rows = np.random.default_rng(0).permutation(len(points))
    np.testing.assert_array_equal(estimate_normals(points[rows])[0], estimate_normals(points)[0][rows])


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 3)),
        [[1, 2, 3]],
        [[1, 2, 3]] * 40,
        [[1, 2, 3], [4, 5, 6]],
        [[i, 0, 0] for i in range(50)],
        [[i, j, 0] for i in range(20) for j in range(20)],
        [[i + 1e6, j, i * 1e-3] for i in range(20) for j in range(20)],
    ],
)
def test_small_and_flat_clouds_have_unit_normals(without_open3d, points):
    normals, _ = estimate_normals(np.asarray(points, float).reshape(-1, 3))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-6)


def test_pieces_far_apart(without_open3d):
    points, _ = sphere(12)
    normals, _ = estimate_normals(np.concatenate([points, points + 1000]))
    assert np.isfinite(normals).all()


def test_a_plane_has_one_normal(without_open3d):
    points = np.array([[i, j, 7] for i in range(30) for j in range(30)])
    normals, _ = estimate_normals(points)
    np.testing.assert_allclose(np.abs(normals), np.tile([0, 0, 1], (900, 1)), atol=1e-6)
    assert len(np.unique(np.sign(normals[:, 2]))) == 1


def test_d2_is_that_of_open3d_within_a_tenth_of_a_decibel(monkeypatch):
    pytest.importorskip("open3d", exc_type=ImportError)
    points, _ = sphere(40)
    decoded = np.unique(points // 2 * 2, axis=0)
    theirs, origin = estimate_normals(points)
    assert origin["source"] == "estimated (open3d)"
    monkeypatch.setitem(sys.modules, "open3d", None)
    ours, _ = estimate_normals(points)
    assert np.quantile(np.abs((ours * theirs).sum(axis=1)), 0.1) > 0.95
    values = [distortion(points, decoded, normals=normals, peak=1023).d2_psnr_db for normals in (theirs, ours)]
    assert values[1] == pytest.approx(values[0], abs=0.1)
