import numpy as np
import pytest

from pccbench.codecs.dpcc.hierarchy import Latents, build, density, on_grid, voxel_grid
from pccbench.codecs.dpcc.neighbours import around, nearest_k
from pccbench.codecs.dpcc.sampling import farthest, sample_counts, split


def brute_farthest(points, count):
    picked = [0]
    nearest = np.full(len(points), np.inf)
    while len(picked) < count:
        nearest = np.minimum(nearest, ((points - points[picked[-1]]) ** 2).sum(1))
        picked.append(int(np.argmax(nearest)))
    return picked


def test_farthest_points_of_each_block():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 20, (130, 3)).astype(float)  # many equal distances
    offsets = np.array([0, 60, 60, 130])
    counts = sample_counts(np.diff(offsets), 3.0)
    assert counts.tolist() == [20, 0, 23]
    found = farthest(points, offsets, counts)
    expected = brute_farthest(points[:60], 20) + [60 + row for row in brute_farthest(points[60:], 23)]
    assert found.tolist() == expected


def test_split_leaves_nobody_out_and_no_block_small():
    points = np.random.default_rng(1).random((1003, 3))
    order, offsets = split(points, 100)
    assert sorted(order.tolist()) == list(range(1003))
    sizes = np.diff(offsets)
    assert sizes.max() <= 100
    assert sizes.max() - sizes.min() <= 1
    assert split(points[:0], 10)[1].tolist() == [0]
    assert split(points[[0] * 50], 8)[1][-1] == 50


def test_counts_of_a_cluster_of_20_are_not_limited_by_k_but_distances_are():
    """One kept point with 20 around it: the count is 21 (itself too), the distances are those of the 16 nearest."""
    ring = np.array([[np.cos(a), np.sin(a), 0.0] for a in np.arange(20) / 20 * 2 * np.pi])
    points = np.concatenate([[[0.0, 0, 0]], ring * np.linspace(1, 2, 20)[:, None], [[50.0, 0, 0]]])
    kept = points[[0, 21]]
    found = density(points, kept, 16)
    assert found["counts"].tolist() == [21, 1]
    assert found["mean_distance"][0] == pytest.approx(np.linspace(1, 2, 20)[:15].sum() / 21)
    assert found["mean_distance"][1] == 0
    assert found["mask"].sum(1).tolist() == [16, 1]


def test_few_points_are_not_counted_twice():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    found = density(points, points[[0]], 16)
    assert found["counts"].tolist() == [3]
    assert found["mean_distance"][0] == pytest.approx(1.0)
    assert found["mask"].sum() == 3
    assert nearest_k(points, points, 5).shape == (3, 5)


def test_a_point_that_is_nobodys_parent_still_looks_at_somebody():
    points = np.array([[0.0, 0, 0], [1, 0, 0]])
    found = density(points, np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 9, 0]]), 2)
    assert found["counts"].tolist() == [1, 1, 0]
    assert found["mask"].any(1).all()
    assert np.isfinite(found["mean_distance"]).all()


@pytest.mark.parametrize("k", [1, 8, 30])
def test_neighbours_on_a_grid_are_exact_and_ties_go_to_the_lower_row(k):
    rng = np.random.default_rng(k)
    cells = np.unique(rng.integers(0, 9, (300, 3)), axis=0)
    rows, squares = around(cells, k)
    for number, cell in enumerate(cells):
        distance = ((cells - cell) ** 2).sum(1)
        order = sorted((d, row) for row, d in enumerate(distance) if row != number)[:k]
        assert rows[number].tolist() == [row for _, row in order]
        assert squares[number].tolist() == [d for d, _ in order]


def test_neighbours_where_there_are_none():
    assert around(np.zeros((1, 3), np.int64), 3)[0].tolist() == [[0, 0, 0]]
    rows, squares = around(np.array([[0, 0, 0], [0, 0, 5]]), 3)
    assert rows.tolist() == [[1, 0, 0], [0, 1, 1]]
    assert squares.tolist() == [[25, 0, 0], [25, 0, 0]]


def test_scale_is_the_root_mean_square_distance_of_eight():
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 2, [0], indexing="ij"), -1).reshape(-1, 3)
    latents = Latents(grid[np.lexsort(grid.T)] * 2, np.zeros(3), 1.5)
    _, relative, scale = latents.neighbourhood(4)
    middle = int(np.flatnonzero((latents.cells == [4, 4, 0]).all(1))[0])
    assert scale[middle] == np.sqrt((4 * 4 + 4 * 8) / 8) * 1.5
    assert np.abs(relative[middle]).max() == 2 / np.sqrt(6)


def test_latents_lie_on_the_grid_in_the_order_of_the_octree():
    rng = np.random.default_rng(4)
    points = np.unique(rng.integers(0, 60, (900, 3)), axis=0).astype(float)
    order, offsets = split(points, 400)
    hierarchy = build(points[order], offsets, (3.0, 3.0, 3.0), lambda x: voxel_grid(x, 0.6), k=8)
    cells = hierarchy.latents.cells
    key = cells[:, 2] << 42 | cells[:, 1] << 21 | cells[:, 0]
    assert (np.diff(key) > 0).all()
    sizes = [len(stage.xyz) for stage in hierarchy.stages[:2]]
    assert sizes == pytest.approx([len(points) / 3, len(points) / 9], abs=4)
    assert (hierarchy.stages[-1].xyz == hierarchy.latents.xyz).all()
    assert len(hierarchy.owner[0]) == len(points)
    assert sum(hierarchy.stages[0].counts) == len(points)
    step = hierarchy.latents.step
    moved = hierarchy.level(2)[hierarchy.stages[-1].rows] - hierarchy.latents.xyz
    assert np.abs(moved).max() <= step / 2


def test_every_voxel_falls_into_the_cell_around_it():
    points = np.stack([np.arange(12.0)] * 3, 1)
    cells, _ = on_grid(points, np.full(3, 1.0), 3.0)  # steps of 3: the middle of the first cell is 1
    assert cells[:, 0].tolist() == [0, 1, 2, 3]
