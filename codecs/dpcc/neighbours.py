"""Neighbours: nearest points in float64 trees, and exact ones on integer grids.

What only the encoder or the training looks at may depend on how a library breaks ties.  What the decoder looks at
(`around`) may not: ties go to the lower row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.int64]

#: More neighbours than asked for are looked up at first, so that those at equal distance are all among them.
_SPARE = 8
#: Rows whose ties do not fit so many neighbours are cut off there; integer grids have at most 102 at a distance of
#: up to 9 steps, and ties of farther ones come from clouds that are hardly surfaces.
_MOST = 256


def nearest(of: Points, among: Points, workers: int = 1) -> tuple[npt.NDArray[np.float64], Rows]:
    """Distance to, and row of, the nearest point of `among` for each of `of`, (n,) both."""
    from scipy.spatial import cKDTree

    distance, row = cKDTree(among, balanced_tree=False, compact_nodes=False).query(of, 1, workers=workers)
    return np.asarray(distance, np.float64), np.asarray(row, np.int64)


def nearest_k(of: Points, among: Points, k: int, workers: int = 1) -> Rows:
    """Rows of the k nearest points of `among`, nearest first, (n, k); short of k points the last one repeats."""
    from scipy.spatial import cKDTree

    found = min(k, len(among))
    _, rows = cKDTree(among, balanced_tree=False, compact_nodes=False).query(of, found, workers=workers)
    rows = np.asarray(rows, np.int64).reshape(len(of), found)
    return rows if found == k else np.concatenate([rows, np.repeat(rows[:, -1:], k - found, axis=1)], axis=1)


def around(cells: npt.NDArray[np.integer[Any]], k: int) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Rows of the k nearest other cells of each, and their squared distances, (n, k) both; the same everywhere.

    Ordered by squared distance, an exact integer, and then by row.  Short of k others, a cell is its own neighbour
    at distance 0.

    Args:
        cells: (n, 3) distinct integers in [0, 2**21).
        k: how many.
    """
    n = len(cells)
    rows = np.repeat(np.arange(n)[:, None], k, axis=1)
    squares = np.zeros((n, k))
    if n < 2:
        return rows, squares
    from scipy.spatial import cKDTree

    points = np.ascontiguousarray(cells, np.float64)
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    todo = np.arange(n)
    asked = k + 1 + _SPARE
    while len(todo):
        found = min(asked, n)
        _, near = tree.query(points[todo], found)
        near = np.asarray(near, np.int64).reshape(len(todo), found)
        # The tree's own distances are rounded roots: these are exact.
        square = ((points[near] - points[todo][:, None]) ** 2).sum(axis=2)
        square[near == todo[:, None]] = -1.0  # itself comes first
        order = np.lexsort((near, square), axis=1)
        near, square = np.take_along_axis(near, order, 1), np.take_along_axis(square, order, 1)
        last = min(k, found - 1)
        # Complete when something farther than the last neighbour was seen, so that no tie is missing.
        done = square[:, -1] > square[:, last] if found < min(n, _MOST) else np.ones(len(todo), bool)
        rows[todo[done], :last] = near[done, 1 : last + 1]
        squares[todo[done], :last] = square[done, 1 : last + 1]
        todo = todo[~done]
        asked *= 2
    return rows, squares
