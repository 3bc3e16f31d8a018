"""Secondary metrics of whole clouds: each against its definition on clouds small enough for that."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pccbench.metrics.distortion import distortion
from pccbench.metrics.errors import MetricError
from pccbench.metrics.local_density import density_difference
from pccbench.metrics.normals import estimate_normals
from pccbench.metrics.secondary import Secondary, SecondaryReference


@pytest.fixture(scope="module")
def sphere():
    direction = np.random.default_rng(0).normal(size=(9000, 3))
    points = np.rint(60 + 50 * direction / np.linalg.norm(direction, axis=1, keepdims=True))
    points = np.unique(points, axis=0).astype(np.int32)
    return points, estimate_normals(points)[0]


def measured(sphere, decoded):
    points, normals = sphere
    result = distortion(points, decoded, normals=normals, peak=127)
    return SecondaryReference(points, normals), result


def test_an_equal_cloud_is_perfect_in_any_order_and_with_repeats(sphere):
    points = sphere[0]
    reference, result = measured(sphere, points)
    found = reference.measure(np.concatenate([points[::-1], points[:50]]), result)
    assert found == Secondary(0, 0, 0, 0, 0, 1, None, None) or found.density_difference < 1e-6
    assert found.normals_f1 == 1
    assert (found.d1_spacing_psnr_db, found.d2_spacing_psnr_db) == (None, None)


def test_every_figure_is_what_its_definition_says(sphere):
    points = sphere[0]
    decoded = np.unique(points // 3 * 3 + 1, axis=0)
    reference, result = measured(sphere, decoded)
    found = reference.measure(decoded, result)
    spacing = reference.passport["spacing"]
    gaps = cKDTree(points).query(points, 2)[0][:, 1]
    assert spacing == np.median(gaps)
    assert reference.passport["peak"] == gaps.max()
    assert reference.passport["radius"] == 4 * spacing
    whole = density_difference(points, decoded, 4 * spacing)
    # Which of several nearest points is taken differs.
    assert found.density_difference == pytest.approx(whole.value, rel=1e-3)
    assert found.density_count_ba == pytest.approx(whole.count_ba, rel=1e-3)
    assert found.d1_spacing_psnr_db == pytest.approx(10 * np.log10(3 * gaps.max() ** 2 / result.d1_mse))
    # A sphere's normals are its radii: a decoded point is a hit where it is near enough, nearly whatever its normal.
    distance, nearest = cKDTree(points).query(decoded)
    hits = int((distance <= spacing).sum())
    missed = len(points) - len(np.unique(nearest[distance <= spacing]))
    assert found.normals_f1 == pytest.approx(2 * hits / (hits + len(decoded) + missed), abs=0.05)


def test_a_thinner_cloud_differs_more_in_density_than_a_moved_one(sphere):
    points = sphere[0]
    thin, moved = points[::2], points + np.array([1, 0, 0], np.int32)
    figures = []
    for decoded in (thin, moved):
        reference, result = measured(sphere, decoded)
        figures.append(reference.measure(decoded, result))
    assert figures[0].density_difference > 3 * figures[1].density_difference
    assert figures[1].normals_f1 > 0.9


def test_large_clouds_are_sampled_and_the_sample_does_not_depend_on_the_order(sphere, monkeypatch):
    monkeypatch.setattr("pccbench.metrics.secondary.CENTRES", 2000)
    points, normals = sphere
    decoded = np.unique(points // 2 * 2, axis=0)
    reference, result = measured(sphere, decoded)
    first = reference.measure(decoded, result)
    assert reference.passport["centres"] == 2000
    assert SecondaryReference(points[::-1], normals[::-1]).measure(decoded[::-1], result) == first
    whole = density_difference(points, decoded, reference.passport["radius"])
    assert first.density_difference == pytest.approx(whole.value, rel=0.05)


def test_one_point_is_refused():
    with pytest.raises(MetricError, match="two distinct points"):
        SecondaryReference(np.zeros((3, 3)), np.zeros((3, 3)))
