"""Projection: errors along the normals, and the normals of a decoded cloud, in the arithmetic of pc_error.

pc_error holds coordinates and normals in float32 and adds normals one by one in the lexicographic order of the
input's points; so do the kernels here, which makes their results equal to its, not only close.
"""

# Kernels have as many positional arguments as arrays.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._jit import njit
from .neighbours import IndexedCloud, Neighbours
from .workers import Workers

#: Points whose errors are summed at a time; the partial sums are exact whatever thread made them.
_CHUNK = 16384


@njit(nogil=True)
def _add_normals(normals: Any, rank: Any, start: Any, exact: Any, numbers: Any, sums: Any, counts: Any) -> Any:
    """Add the normal of each point, in lexicographic order, to the normals of its nearest neighbours."""
    for i in range(len(rank)):
        query = rank[i]
        for tie in range(start[query], start[query] + exact[query]):
            number = numbers[tie]
            sums[number, 0] += normals[query, 0]
            sums[number, 1] += normals[query, 1]
            sums[number, 2] += normals[query, 2]
            counts[number] += 1


@njit(nogil=True)
def _divide_normals(normals: Any, start: Any, exact: Any, numbers: Any, sums: Any, counts: Any) -> Any:
    """Make means of the sums; points that were nobody's neighbour take the mean normal of their own."""
    for i in range(len(counts)):
        if counts[i] == 0:
            for tie in range(start[i], start[i] + exact[i]):
                for axis in range(3):
                    sums[i, axis] += normals[numbers[tie], axis]
            counts[i] = exact[i]
        count = np.float32(counts[i])
        for axis in range(3):
            sums[i, axis] /= count


class DecodedNormals:
    """Normals of a decoded cloud, from those of the input; summed as soon as one direction is searched.

    Args:
        normals: (n, 3) of the input, in storage order.
        reference: the input.
        there: for each point of the input its neighbours in the decoded cloud.
        n: points of the decoded cloud.
    """

    def __init__(self, normals: npt.NDArray[np.float32], reference: IndexedCloud, there: Neighbours, n: int) -> None:
        self._normals, self._sums, self._counts = normals, np.zeros((n, 3), np.float32), np.zeros(n, np.int32)
        _add_normals(normals, reference.rank, there.start, there.exact, there.numbers, self._sums, self._counts)

    def means(self, back: Neighbours) -> npt.NDArray[np.float32]:
        """(n, 3) means of the normals of all input points that a decoded point is nearest to; not of unit length.

        Args:
            back: for each decoded point its neighbours in the input.
        """
        _divide_normals(self._normals, back.start, back.exact, back.numbers, self._sums, self._counts)
        return self._sums


@njit(nogil=True)
def _sum_distances(distance_sq: Any) -> Any:
    total = most = distances = 0.0
    for square in distance_sq:
        total += square
        distances += math.sqrt(square)
        most = max(most, square)
    return total, most, distances


@njit(nogil=True)
def _sum_projections(
    begin: Any, end: Any, points: Any, stored: Any, normals: Any, start: Any, run: Any, numbers: Any
) -> Any:
    total = most = 0.0
    for query in range(begin, end):
        qx, qy, qz = points[query, 0], points[query, 1], points[query, 2]
        projected = 0.0
        for tie in range(start[query], start[query] + run[query]):
            number = numbers[tie]
            px, py, pz = stored[number, 0], stored[number, 1], stored[number, 2]
            nx, ny, nz = normals[number, 0], normals[number, 1], normals[number, 2]
            along = (qx - px) * nx + (qy - py) * ny + (qz - pz) * nz
            projected += np.float64(along * along)
        projected /= np.float64(run[query])
        total += projected
        most = max(most, projected)
    return total, most


@dataclass(frozen=True)
class Errors:
    """Sums and maxima over the points of a cloud.

    Attributes:
        distance_sq, most_distance_sq: of the squared distances.
        distance: sum of the distances.
        plane_sq, most_plane_sq: of the squared projections; 0 without normals.
    """

    distance_sq: float
    most_distance_sq: float
    distance: float
    plane_sq: float
    most_plane_sq: float


def sum_errors(
    queries: IndexedCloud,
    index: IndexedCloud,
    neighbours: Neighbours,
    normals: npt.NDArray[np.float32] | None,
    workers: Workers,
) -> Errors:
    """Sum up the errors of all points of a cloud.

    Args:
        queries: the cloud.
        index: the cloud that it is compared with.
        neighbours: for each point of `queries` its neighbours in `index`.
        normals: (m, 3) normals of `index` in storage order, or None.
        workers: threads; they change the time, not the result.
    """

    def chunk(begin: int) -> tuple[float, ...]:
        end = min(begin + _CHUNK, len(queries))
        plane = (0.0, 0.0)
        if normals is not None:
            plane = _sum_projections(
                begin, end, queries.points, index.points, normals,
                neighbours.start, neighbours.run, neighbours.numbers,
            )  # fmt: skip
        return *_sum_distances(neighbours.distance_sq[begin:end]), *plane

    parts = np.array(workers.map(chunk, range(0, len(queries), _CHUNK)))
    sums, most = parts.sum(axis=0), parts.max(axis=0)
    return Errors(float(sums[0]), float(most[1]), float(sums[2]), float(sums[3]), float(most[4]))
