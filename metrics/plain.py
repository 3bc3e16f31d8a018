"""Plain: neighbours and errors in numpy and scipy, where compiled searches are not the right means.

Two kinds of pairs come here: small ones in float32, which are answered before a compiler is loaded, with the figures
that `neighbours` and `projection` give; and all pairs in float64, whose coordinates float32 cannot hold.

In float64 neighbours are equidistant when their squared distances differ by no more than pc_error's tolerance, or
than the rounding of the coordinates makes of equal ones; all of them count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .coordinates import DOUBLE_STEP, Coordinates
from .ties import FIRST_NEIGHBOURS, MORE_NEIGHBOURS, MOST_TIES, RELATIVE_TIE_TOLERANCE, TIE_TOLERANCE_SQ

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int64]

#: Pairs of points whose products are taken at a time.
_CHUNK_PAIRS = 1 << 20
#: Up to so many pairs of points, comparing all with all is quicker than building a tree.
MOST_PAIRS = 20_000_000
#: Error of a squared distance that was computed from products, over the squared sizes of the points.
_PRODUCT_ERROR = 4e-15
#: Errors of equal squared distances differ by less than this many roundings of a coordinate times the distance.
_TIE_ROUNDINGS = 8.0


class UndecidedError(Exception):
    """More equidistant neighbours than pc_error takes: which ones depends on its tree."""


class PlainCloud:
    """The distinct points of a cloud.

    Args:
        coordinates: the points.
        kind: float32 or float64, in which distances are computed.
        origin: what is taken away from integers first.

    Attributes:
        points: (m, 3) distinct points in lexicographic order.
        rows: (m,) the first row of the given points that holds each.
        grain: rounding of the largest coordinate; 0 for integers.
    """

    def __init__(
        self, coordinates: Coordinates, kind: Literal["single", "double"], origin: tuple[int, int, int] | None = None
    ) -> None:
        given: Floats = coordinates.single if kind == "single" else coordinates.double(origin)
        order = np.lexsort(given.T[::-1])
        ordered = given[order]
        kept = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)]
        self.points, self.rows = ordered[kept], order[kept]
        self.integer = coordinates.integer
        self.grain = 0.0 if self.integer else DOUBLE_STEP * coordinates.largest

    def __len__(self) -> int:
        return len(self.points)

    @property
    def is_double(self) -> bool:
        """Whether distances are computed in float64."""
        return self.points.dtype == np.float64

    @cached_property
    def tree(self) -> Any:
        """A tree of scipy's over the points."""
        from scipy.spatial import cKDTree

        return cKDTree(self.points.astype(np.float64, copy=False), balanced_tree=False)

    def spacings_sq(self, threads: int) -> npt.NDArray[np.float64]:
        """(m,) squared distance of each point to its nearest other; infinite for a lone point."""
        if len(self) == 1:
            return np.array([np.inf])
        row, _, squares = _candidates(self, self, 0.0, threads, others=True)
        return np.minimum.reduceat(squares, np.flatnonzero(np.diff(row, prepend=-1)))


@dataclass(frozen=True, eq=False)
class PlainNeighbours:
    """What was found in one cloud for each of n points of another.

    Attributes:
        distance_sq: (n,) squared distance to the nearest point.
        query: (t,) point whose neighbour each entry is, rising.
        number: (t,) the neighbour.
        exact: (t,) whether it passes its normal on.
    """

    distance_sq: npt.NDArray[np.float64]
    query: Integers
    number: Integers
    exact: npt.NDArray[np.bool_]


def find_plain_neighbours(queries: PlainCloud, index: PlainCloud, threads: int) -> PlainNeighbours:
    """For each of the `queries` the points of `index` that are nearest, equidistant ones included.

    Raises:
        UndecidedError: float32, and more equidistant neighbours than pc_error asks for.
    """
    grain = max(queries.grain, index.grain)
    row, column, squares = _candidates(queries, index, grain, threads)
    order = np.lexsort((column, squares, row))
    row, column, squares = row[order], column[order], squares[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))
    least = squares[first]
    count = np.diff(np.append(first, len(row)))
    if queries.is_double:
        keep = squares <= np.repeat(least + _tie_tolerance(least, grain), count)
        exact = np.ones(int(keep.sum()), bool)
    else:
        keep, exact = _as_pc_error(squares, least, first, count)
    return PlainNeighbours(least, row[keep], column[keep], exact)


def _tie_tolerance(least: npt.NDArray[np.float64], grain: float) -> npt.NDArray[np.float64]:
    relative = np.minimum(TIE_TOLERANCE_SQ, RELATIVE_TIE_TOLERANCE * least)
    return np.maximum(relative, _TIE_ROUNDINGS * grain * np.sqrt(least))


def _as_pc_error(
    squares: npt.NDArray[np.float64], least: npt.NDArray[np.float64], first: Integers, count: Integers
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The rules of `kernels._settle` for all queries: which candidates count, and which of those tie exactly.

    `squares` holds the squared distances of one query after the other, each query's in rising order; `least`, `first`
    and `count` say of each query which is its least one, where its own begin and how many they are.
    """
    place = np.arange(len(squares)) - np.repeat(first, count)
    is_exact = squares == np.repeat(least, count)
    n_exact = np.add.reduceat(is_exact, first, dtype=np.int64)
    asked = np.full(len(first), FIRST_NEIGHBOURS)
    while (more := (n_exact >= asked) & (asked < MOST_TIES)).any():
        asked[more] += MORE_NEIGHBOURS
    tolerance = np.repeat(np.minimum(TIE_TOLERANCE_SQ, RELATIVE_TIE_TOLERANCE * least), count)
    ends_run = ~is_exact
    ends_run[1:] &= np.diff(squares) >= tolerance[1:]
    # The first candidate that ends its query's run, else the number of candidates.
    run = np.minimum.reduceat(np.where(ends_run, place, len(squares)), first)
    run = np.minimum(np.minimum(run, count), asked)
    full = np.flatnonzero((run == asked) & (count > asked))
    cut = first[full] + asked[full]
    if (n_exact > MOST_TIES).any() or (squares[cut] == squares[cut - 1]).any():
        raise UndecidedError
    keep = place < np.repeat(run, count)
    return keep, is_exact[keep]


def _candidates(
    queries: PlainCloud, index: PlainCloud, grain: float, threads: int, others: bool = False
) -> tuple[Integers, Integers, npt.NDArray[np.float64]]:
    """All that may count as nearest: numbers of query and neighbour, and their squared distance; queries rising.

    `grain` is the rounding of the coordinates; with `others` the clouds are one, and no point is its own candidate.
    """
    if len(queries) * len(index) <= MOST_PAIRS:
        row, column = _by_products(queries, index, grain, others)
    else:
        row, column = _by_tree(queries, index, grain, threads, others)
    # As pc_error: differences in the coordinates' own type, squares in float64.
    apart = (queries.points[row] - index.points[column]).astype(np.float64)
    return row, column, apart[:, 0] ** 2 + apart[:, 1] ** 2 + apart[:, 2] ** 2


def _reach_sq(least: npt.NDArray[np.float64], grain: float) -> npt.NDArray[np.float64]:
    """How far beyond a least squared distance candidates can lie, chains of ties and float32 included."""
    relative = np.minimum(MOST_TIES * TIE_TOLERANCE_SQ, MOST_TIES * RELATIVE_TIE_TOLERANCE * least)
    return relative + 1e-6 * least + 2 * _TIE_ROUNDINGS * grain * np.sqrt(least)


def _by_products(queries: PlainCloud, index: PlainCloud, grain: float, others: bool) -> tuple[Integers, Integers]:
    """Compare all with all by |a - b|^2 = |a|^2 - 2 ab + |b|^2; what its rounding leaves open stays."""
    b = index.points.astype(np.float64)
    middle = b[0] + (b[-1] - b[0]) / 2
    b -= middle
    a = queries.points.astype(np.float64) - middle
    a_sq, b_sq = (a * a).sum(axis=1), (b * b).sum(axis=1)
    left = np.column_stack((a, a_sq, np.ones(len(a))))
    right = np.vstack((-2.0 * b.T, np.ones(len(b)), b_sq))
    error = _PRODUCT_ERROR * (a_sq + b_sq.max())
    step = max(1, _CHUNK_PAIRS // len(b))
    rows, columns = [], []
    for begin in range(0, len(a), step):
        squares = left[begin : begin + step] @ right
        if others:
            own = np.arange(len(squares))
            squares[own, begin + own] = np.inf
        bound = error[begin : begin + step]
        least = np.maximum(squares.min(axis=1), 0.0) + bound
        limit = least + bound + _reach_sq(least, grain)
        row, column = np.nonzero(squares <= limit[:, None])
        rows.append(row + begin)
        columns.append(column)
    return np.concatenate(rows), np.concatenate(columns)


def _by_tree(
    queries: PlainCloud, index: PlainCloud, grain: float, threads: int, others: bool
) -> tuple[Integers, Integers]:
    """Ask a tree for more and more neighbours until one is too far to count."""
    points = queries.points.astype(np.float64, copy=False)
    todo = np.arange(len(points))
    rows, columns = [], []
    asked = 2 + others
    while len(todo):
        asked = min(asked, len(index))
        distance, column = index.tree.query(points[todo], asked, workers=threads)
        distance, column = distance.reshape(len(todo), -1), column.reshape(len(todo), -1)
        squares = distance**2
        if others:
            squares[column == todo[:, None]] = np.inf
        least = squares.min(axis=1)
        near = squares <= (least + _reach_sq(least, grain))[:, None]
        done = np.ones(len(todo), bool) if asked == len(index) else ~near[:, -1]
        row, place = np.nonzero(near & done[:, None])
        rows.append(todo[row])
        columns.append(column[row, place])
        todo = todo[~done]
        asked *= 2
    row, column = np.concatenate(rows), np.concatenate(columns)
    order = np.argsort(row, kind="stable")
    return row[order], column[order]


def average_plain_normals(normals: Floats, there: PlainNeighbours, back: PlainNeighbours) -> Floats:
    """Normals of the decoded cloud, from those of the input: as `projection.average_normals`."""
    sums = np.zeros((len(back.distance_sq), 3), normals.dtype)
    query, number = there.query[there.exact], there.number[there.exact]
    counts = np.bincount(number, minlength=len(sums))
    lonely = (counts == 0)[back.query] & back.exact
    own, theirs = back.query[lonely], back.number[lonely]
    for axis in range(3):
        np.add.at(sums[:, axis], number, normals[query, axis])
        np.add.at(sums[:, axis], own, normals[theirs, axis])
    counts += np.bincount(own, minlength=len(sums))
    return sums / counts.astype(normals.dtype)[:, None]


def projections_sq(
    queries: PlainCloud, index: PlainCloud, neighbours: PlainNeighbours, normals: Floats
) -> npt.NDArray[np.float64]:
    """(n,) mean of the squared errors of each point along the normals of its neighbours."""
    apart = queries.points[neighbours.query] - index.points[neighbours.number]
    of = normals[neighbours.number]
    along = apart[:, 0] * of[:, 0] + apart[:, 1] * of[:, 1] + apart[:, 2] * of[:, 2]
    sums = np.bincount(neighbours.query, (along * along).astype(np.float64), minlength=len(queries))
    return sums / np.bincount(neighbours.query, minlength=len(queries))
