"""Neighbour searches: every one finds what brute force finds, and all agree on ties."""

import numpy as np
import pytest

from pccbench.metrics.neighbours import IndexedCloud, find_neighbours
from pccbench.metrics.order import distinct_points
from pccbench.metrics.workers import Workers


def ties(neighbours, query, exact=False):
    start = neighbours.start[query]
    count = (neighbours.exact if exact else neighbours.run)[query]
    return set(neighbours.numbers[start : start + count].tolist())


def assert_nearest(queries, index, neighbours):
    """Squared distances and exact ties are those of brute force, float32 differences squared in float64."""
    for begin in range(0, len(queries), 500):
        block = queries.points[begin : begin + 500]
        squares = ((block[:, None] - index.points[None]).astype(np.float64) ** 2).sum(axis=2)
        least = squares.min(axis=1)
        np.testing.assert_array_equal(neighbours.distance_sq[begin : begin + 500], least)
        for row in range(len(block)):
            expected = set(np.flatnonzero(squares[row] == least[row]).tolist())
            found = ties(neighbours, begin + row, exact=True)
            assert found == expected if len(expected) <= 30 else (len(found) == 30 and found < expected)


def kinds():
    generator = np.random.default_rng(4)
    cube = generator.integers(0, 16, (1500, 3))
    sheet = np.stack(np.meshgrid(np.arange(36), np.arange(36), indexing="ij"), axis=-1).reshape(-1, 2)
    sheet = np.c_[sheet, (20 + 9 * np.sin(sheet[:, 0] / 9) * np.cos(sheet[:, 1] / 7)).astype(int)]
    yield "dense integers", cube, generator.integers(0, 16, (900, 3))
    yield "surface and its neighbourhood", sheet, sheet + generator.integers(-2, 3, sheet.shape)
    yield "negative integers", sheet - 35, (sheet - 35) // 2 * 2
    yield "every second voxel", sheet, sheet // 2 * 2
    yield "every eighth voxel", sheet, sheet // 8 * 8
    yield "every 16th voxel of many", cube * 9, np.unique(cube * 9 // 16 * 16, axis=0)
    yield "negative, every 8th", sheet * 2 - 90, np.unique((sheet * 2 - 90) // 8 * 8 + 3, axis=0)
    yield "sparse, far apart", sheet, np.r_[sheet[::9] * 8, sheet[::9] * 8 + np.array([0, 4000, 0])]
    yield "far clusters", sheet, np.r_[sheet[:300], sheet[:300] + np.array([300, 0, 0]), [[-4000, 90, 17]]]
    yield "3/4 scale", sheet, np.round(sheet * 0.75) / 0.75
    yield "floats", sheet * 0.013, sheet * 0.013 + generator.normal(size=sheet.shape) * 0.004
    yield "floats on integers", sheet, sheet + generator.normal(size=sheet.shape)
    yield "uneven", sheet * np.exp(sheet[:, :1] / 9), sheet[::3] * np.exp(sheet[::3, :1] / 9) + 0.01
    yield "on a line", np.c_[np.arange(999), np.zeros((999, 2))], np.c_[np.arange(0, 994, 7), np.ones((142, 2))]
    yield "one point", sheet[:1], cube
    yield "to one point", cube, sheet[:1]
    yield "two points", sheet[:2], sheet[5:7]
    yield (
        "at the limits",
        np.array([[2**24, -(2**24), 0], [0, 1, 2]]),
        np.array([[2**24 - 2, 1 - 2**24, 1], [9, 9, 9]]),
    )
    yield "beyond the limits", np.array([[3e38, -3e38, 0], [0, 1, 2]]), np.array([[1e30, 1, 1], [9, 9, 9]])


KINDS = {name: (points, decoded) for name, points, decoded in kinds()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_brute_force(kind):
    workers = Workers(2)
    clouds = [IndexedCloud(points, workers) for points in KINDS[kind]]
    for queries, index in (clouds, clouds[::-1], clouds[:1] * 2):
        assert_nearest(queries, index, find_neighbours(queries, index, workers))


@pytest.mark.parametrize("kind", KINDS)
def test_searches_agree(kind):
    workers = Workers(1)
    one, two = (IndexedCloud(points, workers) for points in KINDS[kind])
    for queries, index in ((one, two), (two, one)):
        fast = find_neighbours(queries, index, workers)
        slow = find_neighbours(queries, index, workers, tree_only=True)
        for field in ("distance_sq", "run", "exact"):
            np.testing.assert_array_equal(getattr(fast, field), getattr(slow, field))
        for query in range(len(queries)):
            assert ties(fast, query) == ties(slow, query)


def test_near_ties_run_on_while_each_is_within_the_tolerance():
    steps = np.sqrt(1.0 + 0.8e-8 * np.arange(8))  # squared distances 0.8e-8 apart, in a chain
    index = IndexedCloud(np.r_[np.c_[np.zeros((8, 2)), steps], [[1.001, 0, 0]]] * [1, 1, 1e-2])
    queries = IndexedCloud([[0.0, 0.0, 0.0]])
    found = find_neighbours(queries, index, Workers(1))
    squares = np.sort((index.points.astype(np.float64) ** 2).sum(axis=1))
    run = 1 + int(np.argmax(np.append(np.diff(squares) >= 1e-8, True)))
    assert found.run[0] == run > found.exact[0]


def test_grids_are_chosen_where_they_pay():
    generator = np.random.default_rng(2)
    sheet = KINDS["dense integers"][0]
    assert IndexedCloud(sheet).voxels
    assert IndexedCloud(sheet * 0.5).grid is not None and not IndexedCloud(sheet * 0.5).voxels
    assert IndexedCloud(np.exp(generator.normal(size=(5000, 3)) * 3)).grid is None


@pytest.mark.parametrize(
    "kind", ["voxels", "wide", "floats", "repeats", "sorted", "thirds", "large thirds", "near thirds"]
)
def test_order(kind):
    generator = np.random.default_rng(6)
    points = {
        "voxels": generator.integers(-9, 12, (3000, 3)),
        "wide": generator.integers(-(2**24), 2**24, (3000, 3)),
        "floats": generator.normal(size=(3000, 3)) * 10.0 ** generator.integers(-30, 30, (3000, 1)),
        "repeats": np.repeat(generator.normal(size=(100, 3)), 30, axis=0),
        "thirds": generator.integers(-900, 900, (3000, 3)) / 3,
        "large thirds": generator.integers(300, 320, (9000, 3)) / 3,
        "near thirds": generator.integers(0, 9, (9000, 3)) / 3 + (generator.random((9000, 1)) < 1e-3) * 1e-6,
        "sorted": np.unique(generator.integers(0, 99, (3000, 3)), axis=0),
    }[kind].astype(np.float32) + np.float32(0)
    found, rows = distinct_points(points, kind in ("voxels", "wide", "sorted"))
    expected, first = np.unique(points, axis=0, return_index=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(rows, first)
