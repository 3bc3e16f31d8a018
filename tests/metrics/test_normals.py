"""Estimated normals: right on known surfaces, agreeing with their neighbours, the same every time."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pccbench.metrics import normals as module
from pccbench.metrics.errors import MetricError
from pccbench.metrics.normals import estimate_normals

pytest.importorskip("open3d", exc_type=ImportError)


def sphere(radius=60):
    axis = np.arange(2 * radius + 3)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = np.sqrt((x - radius - 1.0) ** 2 + (y - radius - 1.0) ** 2 + (z - radius - 1.0) ** 2)
    return np.argwhere(np.abs(distance - radius) < 0.5).astype(np.int32), np.full(3, radius + 1.0)


def test_a_sphere_has_radial_normals_all_of_one_orientation():
    points, centre = sphere()
    normals, origin = estimate_normals(points)
    radial = (points - centre) / np.linalg.norm(points - centre, axis=1, keepdims=True)
    cosines = (normals * radial).sum(axis=1)
    assert np.quantile(np.abs(cosines), 0.05) > 0.9
    assert max((cosines > 0).mean(), (cosines < 0).mean()) == 1.0
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-6)
    assert origin["neighbours"] == 12


def test_order_duplicates_and_number_type_do_not_matter():
    points, _ = sphere(20)
    generator = np.random.default_rng(0)
    rows = generator.integers(0, len(points), 2 * len(points))
    expected, _ = estimate_normals(points)
    mixed, _ = estimate_normals(np.r_[points, points[rows]].astype(np.float32))
    np.testing.assert_array_equal(mixed, expected[np.r_[np.arange(len(points)), rows]])


@pytest.mark.parametrize(
    "points",
    [
        [[1, 2, 3]],
        [[1, 2, 3]] * 40,
        [[1, 2, 3], [4, 5, 6]],
        [[i, 0, 0] for i in range(50)],
        [[i, j, 0] for i in range(30) for j in range(30)],
    ],
    ids=["one", "one, repeated", "two", "a line", "a plane"],
)
def test_clouds_without_a_surface_get_unit_vectors(points):
    normals, _ = estimate_normals(np.array(points, np.int32))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-6)
    if len(points) == 900:
        assert (np.abs(normals[:, 2]) > 0.999).all()
        assert len(np.unique(np.sign(normals[:, 2]))) == 1


def test_threads_do_not_matter():
    code = (
        "import numpy as np, hashlib\n"
        "from pccbench.metrics.normals import estimate_normals\n"
        "points = np.unique(np.random.default_rng(3).integers(0, 40, (20_000, 3)), axis=0)\n"
        "print(hashlib.sha256(estimate_normals(points)[0].tobytes()).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_coordinates_beyond_arithmetic_are_refused(bad):
    points = np.random.default_rng(4).normal(size=(50, 3))
    points[7, 1] = bad
    with pytest.raises(MetricError, match="beyond"):
        module.estimate_normals(points)
