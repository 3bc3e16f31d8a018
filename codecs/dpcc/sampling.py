"""Sampling: blocks of about equal numbers of points, and the farthest points of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..._jit import njit

Points = npt.NDArray[np.floating[Any]]


def split(points: Points, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut a cloud into blocks of equal numbers of points by halving it across its longest side, again and again.

    Blocks follow the density of the cloud, so that none is too small or too large for the network, and nothing has
    to be dropped (published code leaves out cubes with few points).

    Args:
        points: (n, 3).
        most: points that a block may have.

    Returns:
        Order (n,) in which the blocks lie one after the other, and their offsets (blocks + 1,); sizes differ by at
        most 1.
    """
    parts = [np.arange(len(points))]
    while parts and max(map(len, parts)) > most:
        parts = [half for part in parts for half in _halves(points, part)]
    sizes = [len(part) for part in parts if len(part)]
    order = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return order, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _halves(points: Points, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    if len(rows) < 2:
        return [rows]
    mine = points[rows]
    axis = int(np.argmax(np.ptp(mine, axis=0)))
    # A stable sort: points with equal coordinates must fall the same way on every machine.
    ranks = np.argsort(mine[:, axis], kind="stable")
    middle = len(rows) // 2
    return [np.sort(rows[ranks[:middle]]), np.sort(rows[ranks[middle:]])]


def sample_counts(sizes: npt.NDArray[np.int64], ratio: float) -> npt.NDArray[np.int64]:
    """How many points of each block are kept when one of `ratio` is: at least one of a block that has any."""
    return np.where(sizes > 0, np.maximum(np.round(sizes / ratio), 1), 0).astype(np.int64)


def farthest(points: Points, offsets: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Farthest points of each block: each next one is the farthest from those before; the first is the block's first.

    Args:
        points: (n, 3), blocks one after the other.
        offsets: (blocks + 1,) of the blocks.
        counts: (blocks,) how many to take, at most the size of the block.

    Returns:
        Rows of `points`, (sum of counts,), block after block, in the order of sampling; distances are compared in
        float64, and of equal ones the first point wins.
    """
    return _farthest(np.ascontiguousarray(points, np.float64), offsets, counts)


@njit(nogil=True)
def _farthest(points: Any, offsets: Any, counts: Any) -> Any:
    out = np.empty(counts.sum(), np.int64)
    place = 0
    for block in range(len(counts)):
        start, size = offsets[block], offsets[block + 1] - offsets[block]
        if counts[block] == 0:
            continue
        x = points[start : start + size, 0].copy()
        y = points[start : start + size, 1].copy()
        z = points[start : start + size, 2].copy()
        nearest = np.full(size, np.inf)
        last = 0
        for number in range(counts[block]):
            out[place] = start + last
            place += 1
            if number + 1 == counts[block]:
                break
            px, py, pz = x[last], y[last], z[last]
            best = -1.0
            for i in range(size):
                dx, dy, dz = x[i] - px, y[i] - py, z[i] - pz
                d = dx * dx + dy * dy + dz * dz
                nearest[i] = min(nearest[i], d)
                if nearest[i] > best:
                    best = nearest[i]
                    last = i
    return out
