"""Neighbours: the nearest points of one cloud for every point of another, with pc_error's ties.

`IndexedCloud` holds a cloud ready to be searched and to search with; `find_neighbours` picks the fastest search that
is exact for the pair at hand, and leaves to the next one what that cannot answer.  Work is cut into pieces that do
not depend on the number of threads, and every piece writes its own results, so neither do the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .._jit import njit
from .coordinates import Coordinates
from .errors import MetricError
from .grid import bound_shells, choose_grid, distance_shells
from .kernels import (
    MOST_SPARSE_SIDE,
    TIE_REACH_SQ,
    VOXEL_LIMIT,
    Grid,
    Results,
    Tree,
    nearest_spacings,
    search_far,
    search_near,
    search_sparse,
    search_tree,
    search_voxels,
)
from .order import distinct_points
from .tree import build_tree
from .workers import Workers

#: Queries that a task answers, about; fewer where there would be less than so many tasks, as far ones take long.
_TASK_QUERIES = 16384
_LEAST_TASKS, _LEAST_TASK_QUERIES = 16, 512
#: Rings of bricks searched for the queries that a grid leaves open: far ones only when there are few of them, else
#: building a tree costs less.  The share is that of open queries to points searched at which both cost the same.
_RINGS = (2, 8)
_RING_SHARE = 16.0


@njit(nogil=True)
def _inspect(points: Any) -> Any:
    """Whether all coordinates are finite, whether all are integers, and the bounds of each axis, (2, 3)."""
    finite, integer = True, True
    bounds = np.empty((2, 3), np.float32)
    for axis in range(3):
        bounds[0, axis], bounds[1, axis] = np.inf, -np.inf
    for i in range(len(points)):
        for axis in range(3):
            value = points[i, axis]
            finite &= np.isfinite(value)
            integer &= value == np.floor(value)
            bounds[0, axis] = min(bounds[0, axis], value)
            bounds[1, axis] = max(bounds[1, axis], value)
    return finite, integer, bounds


@njit(nogil=True)
def _place(points: Any, order: Any, rank: Any) -> Any:
    """Points and row numbers in storage order, from lexicographic order."""
    stored = np.empty((len(order), 3), np.float32)
    rows = np.empty(len(order), np.int32)
    for i in range(len(order)):
        place = rank[i]
        rows[place] = order[i]
        stored[place, 0] = points[i, 0]
        stored[place, 1] = points[i, 1]
        stored[place, 2] = points[i, 2]
    return stored, rows


@njit(nogil=True)
def gather_rows(column: Any, rows: Any) -> Any:
    """Rows of an (n, 3) float32 array; many times as fast as numpy's indexing."""
    gathered = np.empty((len(rows), 3), np.float32)
    for i in range(len(rows)):
        for axis in range(3):
            gathered[i, axis] = column[rows[i], axis]
    return gathered


class IndexedCloud:
    """The distinct points of a cloud, stored in an order that suits searching.

    Args:
        points: (n, 3) coordinates, n >= 1, integers or real numbers, which are rounded to float32; or checked ones.
        workers: threads for building.
        name: what to call the cloud in an error.

    Attributes:
        given: points of the given array.
        points: (m, 3) float32 distinct points, in storage order.
        rows: (m,) the first row of the given array that holds each.
        rank: (m,) number in storage of the i-th point in lexicographic order, the order that pc_error works in.
        integer: all coordinates are integers.
        grid: the points' voxels, or None for a cloud too uneven for voxels of one size.

    Raises:
        MetricError: no points, another shape, or a coordinate that is not finite.
    """

    def __init__(
        self, points: npt.ArrayLike | Coordinates, workers: Workers | None = None, name: str = "input cloud"
    ) -> None:
        coordinates = points if isinstance(points, Coordinates) else Coordinates.of(points, name)
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
            single = coordinates.single
        finite, integer, bounds = _inspect(single)
        if not finite:
            bad = int((~np.isfinite(single)).any(axis=1).sum())
            raise MetricError(
                f"{bad} of {len(single)} points of the {coordinates.name} have a coordinate that float32 cannot hold"
            )
        self.given = len(single)
        self._workers = workers or Workers()
        self.integer = integer and float(np.abs(bounds).max()) <= VOXEL_LIMIT
        self._bounds = bounds
        self._sorted, order = distinct_points(single, self.integer)
        chosen = choose_grid(self._sorted, bounds, self.integer)
        self.grid: Grid | None = None
        if chosen is None:
            self.rank = np.empty(len(order), np.int32)
            self.rank[self._tree[1]] = np.arange(len(order), dtype=np.int32)
        else:
            self.grid, self.rank = chosen
        self.points, self.rows = _place(self._sorted, order, self.rank)

    def __len__(self) -> int:
        return len(self.points)

    def stored(self, column: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Rows of a per-point array, (n, 3), brought into storage order, (m, 3)."""
        return gather_rows(column, self.rows)

    @property
    def voxels(self) -> bool:
        """Whether the points are the voxels of the grid, so that distances follow from the grid alone."""
        return self.integer and self.grid is not None and self.grid.side == 1.0

    @cached_property
    def _tree(self) -> tuple[Tree, npt.NDArray[np.int32]]:
        return build_tree(self._sorted, self._bounds, self._workers.map)

    @property
    def tree(self) -> Tree:
        """The tree over the points, built when a search first needs it."""
        return self._tree[0]

    @cached_property
    def tree_numbers(self) -> npt.NDArray[np.int32]:
        """(m,) number in storage of each point of the tree."""
        return self.rank[self._tree[1]]

    def spacings_sq(self, workers: Workers) -> npt.NDArray[np.float64]:
        """(m,) squared distance of each point to its nearest other, in no useful order; infinite for a lone point."""
        tree = self.tree
        begins = range(0, len(self), _TASK_QUERIES)
        return np.concatenate(
            workers.map(lambda i: nearest_spacings(tree, i, min(i + _TASK_QUERIES, len(self))), begins)
        )


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What pc_error would find in one cloud for each of n points of another.

    Attributes:
        distance_sq: (n,) squared distance to the nearest point.
        start: (n,) where in `numbers` the neighbours taken as nearest begin.
        run: (n,) how many they are, 1 to 30.
        exact: (n,) how many of them, from the first, are at exactly the least distance.
        numbers: numbers of neighbours in the storage of the cloud searched.
    """

    distance_sq: npt.NDArray[np.float64]
    start: npt.NDArray[np.int32]
    run: npt.NDArray[np.uint8]
    exact: npt.NDArray[np.uint8]
    numbers: npt.NDArray[np.int32]


class _Search:
    """Collects the answers of several searches over the same queries."""

    def __init__(self, queries: IndexedCloud, index: IndexedCloud, workers: Workers) -> None:
        n = len(queries)
        self.queries, self.index, self.workers = queries, index, workers
        self.reach_sq = 0.0 if queries.integer and index.integer else TIE_REACH_SQ
        self.results = Results(np.empty(n), np.empty(n, np.int32), np.empty(n, np.uint8), np.empty(n, np.uint8))
        self.parts: list[npt.NDArray[np.int32]] = []
        self.found = 0

    def _keep(self, which: slice | npt.NDArray[np.int32], ties: npt.NDArray[np.int32]) -> None:
        # What is left open gets a start that a later search overwrites.
        self.results.start[which] += self.found
        self.parts.append(ties)
        self.found += len(ties)

    def _keep_all(self, pieces: Sequence[slice | npt.NDArray[np.int32]], answers: list[Any]) -> npt.NDArray[np.int32]:
        for piece, (ties, _) in zip(pieces, answers, strict=True):
            self._keep(piece, ties)
        return np.concatenate([left_open for _, left_open in answers])

    def voxels(self, queries: Grid, index: Grid) -> npt.NDArray[np.int32]:
        """Answer what lies within the bricks around; returns the queries left open."""
        blocks = len(queries.keys)
        step = max(1, round(_TASK_QUERIES * blocks / len(self.queries)))
        ranges = [(low, min(low + step, blocks)) for low in range(0, blocks, step)]
        points, shells, results = self.index.points, distance_shells(), self.results

        def answer(ends: tuple[int, int]) -> Any:
            if index.side == 1.0:
                return search_voxels(queries, *ends, index, shells, results)
            return search_sparse(queries, *ends, index, points, results)

        answers = self.workers.map(answer, ranges)
        return self._keep_all([slice(*queries.voxels[queries.bricks[[*ends]]]) for ends in ranges], answers)

    def near(self, grid: Grid, todo: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Answer what lies within a few voxels; returns the queries left open."""
        queries, points = self.queries.points, self.index.points
        shells = bound_shells(self.queries.integer and grid.side <= 1.0, self.index.voxels)
        answers = self.workers.map(
            lambda piece: search_near(queries, piece, grid, points, shells, self.reach_sq, self.results),
            pieces := _pieces(todo),
        )
        return self._keep_all(pieces, answers)

    def far(self, grid: Grid, todo: npt.NDArray[np.int32], rings: int) -> npt.NDArray[np.int32]:
        """Answer what lies within rings of bricks; returns the queries left open."""
        queries, points = self.queries.points, self.index.points
        answers = self.workers.map(
            lambda piece: search_far(queries, piece, grid, points, rings, self.reach_sq, self.results),
            pieces := _pieces(todo),
        )
        return self._keep_all(pieces, answers)

    def tree(self, todo: npt.NDArray[np.int32]) -> None:
        """Answer all that is left."""
        queries, tree, numbers = self.queries.points, self.index.tree, self.index.tree_numbers
        answers = self.workers.map(
            lambda piece: search_tree(queries, piece, tree, numbers, self.reach_sq, self.results),
            pieces := _pieces(todo),
        )
        for piece, ties in zip(pieces, answers, strict=True):
            self._keep(piece, ties)


def _pieces(todo: npt.NDArray[np.int32]) -> list[npt.NDArray[np.int32]]:
    step = min(_TASK_QUERIES, max(_LEAST_TASK_QUERIES, len(todo) // _LEAST_TASKS))
    return [todo[i : i + step] for i in range(0, len(todo), step)]


def find_neighbours(
    queries: IndexedCloud, index: IndexedCloud, workers: Workers, *, tree_only: bool = False
) -> Neighbours:
    """For each of the `queries`, the points of `index` that pc_error takes as its nearest.

    Args:
        queries: the cloud to search for.
        index: the cloud to search in.
        workers: threads; they change the time, not the result.
        tree_only: use the general search throughout (same result; for tests).
    """
    search = _Search(queries, index, workers)
    todo = np.arange(len(queries), dtype=np.int32)
    grid = index.grid
    if grid is not None and not tree_only:
        sparse = index.integer and 1.0 < grid.side <= MOST_SPARSE_SIDE
        if queries.voxels and queries.grid is not None and (index.voxels or sparse):
            todo = search.voxels(queries.grid, grid)
        else:
            todo = search.near(grid, todo)
        for rings in _RINGS:
            if 0 < len(todo) <= len(index) * _RING_SHARE / rings**3:
                todo = search.far(grid, todo, rings)
    if len(todo):
        search.tree(todo)
    return Neighbours(*search.results, np.concatenate(search.parts))
