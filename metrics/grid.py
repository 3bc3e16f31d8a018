"""Grid: the voxels of a cloud, and the tables that searches on it go by."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from .kernels import (
    BOUND_SQUARES,
    DISTANCE_SQUARES,
    REACH,
    VOXEL_LIMIT,
    Grid,
    Shells,
    bin_blocks,
    fill_bricks,
    number_members,
    rank_points,
)

#: A grid's voxels should hold about a point each, and its bricks a few: 4 to 16 on a surface.
_MOST_VOXEL_POINTS = 2.0
_LEAST_BRICK_POINTS = 3.0
#: Clouds of integers gain so much from voxels of side 1 that fewer will do.
_LEAST_LATTICE_POINTS = 2.0
#: How many times more points than the mean the brick of a point may hold before a tree is better.
_MOST_CROWDING = 4.0


def build_grid(points: npt.NDArray[np.float32], side: float) -> tuple[Grid, npt.NDArray[np.int32]]:
    """Put distinct points into voxels.

    Args:
        points: (n, 3) in lexicographic order.
        side: side of a voxel, a power of two; coordinates in sides must be below VOXEL_LIMIT - 64 in magnitude.

    Returns:
        The grid, and the (n,) number in storage of each point.
    """
    member_of, bits_of, keys, masks, slots = bin_blocks(points, 1.0 / side)
    bricks = number_members(masks)
    occupancy = fill_bricks(member_of, bits_of, masks, bricks)
    voxels = number_members(occupancy)
    start, rank = rank_points(member_of, bits_of, occupancy, voxels)
    return Grid(side, keys, slots, masks, bricks, occupancy, voxels, start), rank


def choose_grid(
    points: npt.NDArray[np.float32], bounds: npt.NDArray[np.float32], integer: bool
) -> tuple[Grid, npt.NDArray[np.int32]] | None:
    """A grid with about a point to a voxel, or None when points are too unevenly spread or too far out for one.

    Args:
        points: (n, 3) distinct, in lexicographic order.
        bounds: (2, 3) their least and largest coordinates.
        integer: all coordinates are integers.

    Returns:
        As `build_grid`; for integers the side is 1 wherever that is not too sparse.
    """
    low, high = bounds.astype(np.float64)
    extent, largest = float((high - low).max()), float(max(-low.min(), high.max()))
    # A square sheet of n points a side s apart is s sqrt(n) wide.
    side = 2.0 ** np.floor(np.log2(extent / np.sqrt(len(points)))) if extent > 0.0 else 1.0
    if integer and side < 4.0:
        grid, rank = build_grid(points, 1.0)
        if len(points) >= _LEAST_LATTICE_POINTS * len(grid.occupancy):
            return grid, rank
        side = 2.0
    for _ in range(4):
        if not 0.0 < side < np.inf or largest / side > VOXEL_LIMIT - 64:
            return None
        grid, rank = build_grid(points, side)
        if len(points) > _MOST_VOXEL_POINTS * (len(grid.start) - 1):
            side /= 2.0
        elif len(points) < _LEAST_BRICK_POINTS * len(grid.occupancy):
            side *= 2.0
        else:
            return (grid, rank) if _is_even(grid) else None
    return None


def _is_even(grid: Grid) -> bool:
    """Whether the brick of a point holds, on average over points, not many more points than a brick does."""
    counts = np.diff(grid.start[grid.voxels]).astype(np.float64)
    return bool(np.dot(counts, counts) / counts.sum() <= _MOST_CROWDING * counts.mean())


def _offsets() -> npt.NDArray[np.int64]:
    reach = np.arange(-REACH, REACH + 1)
    return np.stack(np.meshgrid(reach, reach, reach, indexing="ij"), axis=-1).reshape(-1, 3)


def _tabulate(offsets: npt.NDArray[np.int64], squares: npt.NDArray[np.int64], limit: int) -> Shells:
    """Shells of the voxels at `offsets` from each place in a brick.

    Args:
        offsets: (o, 3).
        squares: (p, o) square of each voxel for each of the p parts of a query's voxel.
        limit: voxels of this square or more are left out.
    """
    side, parts = np.arange(4), len(squares)
    place = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1).reshape(-1, 1, 1, 3)
    part, near = np.nonzero(squares < limit)
    voxel = (place + offsets[near]).reshape(64, -1, 3)
    brick = ((voxel >> 2) + 1) @ np.array([9, 3, 1])
    bit = ((voxel & 3) @ np.array([16, 4, 1])).astype(np.uint64)
    group = ((np.arange(64)[:, None] * parts + part) * limit + squares[part, near]) * 32 + brick
    order = np.argsort(group, axis=None, kind="stable")
    sorted_group = group.ravel()[order]
    begin = np.flatnonzero(np.diff(sorted_group, prepend=-1))
    mask = np.bitwise_or.reduceat(np.uint64(1) << bit.ravel()[order], begin)
    group = sorted_group[begin]
    first = np.searchsorted(group, np.arange(64 * parts * limit + 1) * 32).astype(np.int32)
    return Shells(first, (group // 32 % limit).astype(np.uint8), (group % 32).astype(np.uint8), mask)


@lru_cache(maxsize=1)
def distance_shells() -> Shells:
    """Shells by the squared distance of voxels, as far as the 27 bricks are certain to hold all of them."""
    offsets = _offsets()
    return _tabulate(offsets, (offsets**2).sum(axis=1)[None], DISTANCE_SQUARES)


@lru_cache(maxsize=3)
def bound_shells(queries_exact: bool, points_exact: bool) -> Shells:
    """Shells by four times the least squared distance of a query and a point, as far as the 27 bricks reach.

    Args:
        queries_exact: queries lie at the low corners of voxels; else each of the eight parts of a voxel has shells.
        points_exact: points lie at the low corners of voxels.
    """
    offsets = _offsets()
    # In halves of a side: where a query can be along an axis, and where a point of a voxel.
    parts = [(0, 0)] if queries_exact else [(0, 1), (1, 2)]
    extent = 0 if points_exact else 2
    gaps = [np.maximum(0, np.maximum(2 * offsets - high, low - 2 * offsets - extent)) ** 2 for low, high in parts]
    squares = np.array([x[:, 0] + y[:, 1] + z[:, 2] for x, y, z in product(gaps, repeat=3)])
    return _tabulate(offsets, squares, BOUND_SQUARES)
