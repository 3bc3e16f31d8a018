"""Estimated normals: right on known surfaces, agreeing with their neighbours, the same every time."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pccbench.metrics import normals as module
from pccbench.metrics.errors import MetricError
from pccbench.metrics.normals import checked_normals, estimate_normals

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


@pytest.mark.parametrize(("offset", "scale"), [((5e5, 5e6, 0), 1.0), ((6e6, -1e6, 3e6), 1e-3), ((0, 0, 0), 1e-9)])
def test_offset_and_scale_do_not_matter(offset, scale):
    points, _ = sphere(15)
    expected, _ = estimate_normals(points)
    moved, _ = estimate_normals(points * scale + np.array(offset))
    cosines = np.abs((expected * moved).sum(axis=1))
    assert np.quantile(cosines, 0.05) > 0.9  # of neighbours at one distance others can be taken


def test_normals_of_unit_length_stay_as_they_are():
    vectors = np.random.default_rng(5).normal(size=(500, 3))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    kept, facts = checked_normals(unit)
    assert kept.dtype == np.float32 and (kept == unit).all() and facts.passport() == {}
    mixed = unit.copy()
    mixed[3] *= 7
    turned, facts = checked_normals(mixed)
    assert (np.delete(turned, 3, axis=0) == np.delete(unit, 3, axis=0)).all() and facts.normalised == 1
    np.testing.assert_allclose(turned[3], unit[3], atol=1e-7)
    mixed[:2] = [[0, 0, 0], [np.nan, 0, 1]]
    _, facts = checked_normals(mixed)
    assert (facts.zero, facts.not_finite, facts.missing) == (1, 1, 2)


@pytest.mark.parametrize("normals", [[1, 2, 3], [[1, 2]], [["a", "b", "c"]], [[1, 2, 3], [4]]])
def test_what_is_no_array_of_normals_is_refused(normals):
    with pytest.raises(MetricError, match="normals must"):
        checked_normals(normals)
