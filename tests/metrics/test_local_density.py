import numpy as np
import pytest

from pccbench.metrics.distortion import psnr_db
from pccbench.metrics.errors import MetricError
from pccbench.metrics.local_density import (
    Tree,
    density_difference,
    nearest_neighbour_peak,
    normals_f1,
)


def brute_density(points, radius, limit):
    counts, means = [], []
    for point in points:
        distance = np.sort(np.linalg.norm(points - point, axis=1))[:limit]
        inside = distance[distance <= radius]
        counts.append(len(inside))
        means.append(inside.sum() / len(inside))
    return np.array(counts, float), np.array(means)


def brute_nearest(of, among):
    return np.array([np.argmin(np.linalg.norm(among - point, axis=1)) for point in of])


@pytest.mark.parametrize(("radius", "limit"), [(0.15, 100), (0.5, 20), (0.02, 100), (3.0, 7)])
def test_density_against_brute_force(radius, limit):
    rng = np.random.default_rng(1)
    a, b = rng.random((150, 3)), rng.random((130, 3))
    count_a, mean_a = brute_density(a, radius, limit)
    count_b, mean_b = brute_density(b, radius, limit)
    ab, ba = brute_nearest(a, b), brute_nearest(b, a)

    def relative(own, other):
        return np.mean(np.abs(other + 1e-8 - own) / (other + 1e-8))

    found = density_difference(a, b, radius, max_neighbours=limit, distance_weight=1e-3)
    assert found.count_ab == pytest.approx(relative(count_a, count_b[ab]), rel=1e-12)
    assert found.count_ba == pytest.approx(relative(count_b, count_a[ba]), rel=1e-12)
    assert found.distance_ab == pytest.approx(relative(mean_a, mean_b[ab]), rel=1e-9)
    assert found.distance_ba == pytest.approx(relative(mean_b, mean_a[ba]), rel=1e-9)
    total = found.count_ab + found.count_ba + 1e-3 * (found.distance_ab + found.distance_ba)
    assert found.value == pytest.approx(total, rel=1e-12)
    assert found.passport["radius"] == radius
    some = density_difference(Tree(a), b, radius, max_neighbours=limit, centres=(a[:40], b[30:]))
    assert some.count_ab == pytest.approx(relative(count_a[:40], count_b[ab[:40]]), rel=1e-12)
    assert some.distance_ba == pytest.approx(relative(mean_b[30:], mean_a[ba[30:]]), rel=1e-9)


def test_radius_includes_its_end_and_the_point_itself():
    line = np.arange(5.0)[:, None] * [1.0, 0, 0]
    counts, means = Tree(line).density(line, 1.0)
    assert counts.tolist() == [2, 3, 3, 3, 2]
    assert means == pytest.approx([0.5, 2 / 3, 2 / 3, 2 / 3, 0.5])


def test_equal_clouds_differ_by_nothing_and_thinner_ones_by_something():
    grid = np.stack(np.meshgrid(*[np.arange(12.0)] * 2, [0.0]), -1).reshape(-1, 3)
    assert density_difference(grid, grid[::-1], 2.5).value < 1e-6
    half = grid[grid[:, 0] % 2 == 0]
    assert density_difference(grid, half, 2.5).value > 0.5


def test_normals_f1_by_hand():
    a = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    up = np.tile([0.0, 0, 1], (4, 1))
    b = np.array([[0.0, 0, 0.1], [0.0, 0, -0.1], [1, 0, 0.1], [2, 0, 0.4]])
    normals = np.array([[0.0, 0, 1], [0, 0, 1], [0, 0, -1], [0, 0, 1]])
    found = normals_f1(a, up, b, normals, max_distance=0.2, max_normal_distance=0.2)
    # Two hits on the first input point; a wrong normal; one too far.
    assert (found.hits, found.false, found.missed) == (2, 2, 3)
    assert found.f1 == pytest.approx(4 / (4 + 2 + 3))
    same = normals_f1(a, up, a, up, max_distance=0.2, max_normal_distance=0.2)
    assert same.f1 == 1.0


def test_peak_is_the_loneliest_point():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 0], [3, 0, 0], [3, 4, 0]])
    assert nearest_neighbour_peak(points) == 4.0
    rng = np.random.default_rng(2)
    cloud = rng.random((80, 3))
    gaps = np.linalg.norm(cloud[:, None] - cloud[None], axis=2) + np.eye(80) * 9
    assert nearest_neighbour_peak(cloud) == pytest.approx(gaps.min(axis=1).max())
    assert psnr_db(0.5, nearest_neighbour_peak(points)) == pytest.approx(10 * np.log10(3 * 16 / 0.5))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda p: density_difference(p, np.zeros((0, 3)), 1.0), "decoded cloud is empty"),
        (lambda p: density_difference(p, p, -1.0), "radius must be positive"),
        (lambda p: density_difference(p, p, 1.0, max_neighbours=0), "max_neighbours must be at least 1"),
        (lambda p: density_difference(p, p * np.nan, 1.0), "not finite"),
        (lambda p: nearest_neighbour_peak(p[[0, 0]]), "two distinct points"),
        (
            lambda p: normals_f1(p, p[:1], p, p, max_distance=1, max_normal_distance=1),
            "1 and 3 normals for 3 and 3 points",
        ),
    ],
)
def test_refused_in_one_line(call, text):
    with pytest.raises(MetricError, match=text):
        call(np.eye(3))
