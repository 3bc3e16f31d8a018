"""Distortion: D1, D2, Hausdorff and chamfer distances between an input cloud and a decoded one.

The figures are those of MPEG's pc_error 0.14.2 with its default settings [mpeg-pcc-dmetric; Tian et al. 2017,
"Geometric distortion metrics for point cloud compression"]:

- D1 (point to point): squared distance of each point to the nearest point of the other cloud.
- D2 (point to plane): that error projected on the normal there.  Normals of the decoded cloud are averaged from the
  input's; several nearest points at one distance are averaged.
- mse: mean over the points of a cloud; hausdorff: their maximum, squared like them; both symmetric as the larger
  of the two directions.  PSNR = 10 log10(3 peak^2 / mse).
- Repeated points count once.

Number type.  Where float32 holds the coordinates (voxels, scans in their own frame) the arithmetic is pc_error's, to
its last digit; so it is for voxels against a decoded cloud on one of G-PCC's coarser grids, thirds for example, if
float32 rounds it by less than a thousandth of the errors.  All other coordinates are compared in float64 as given,
whatever their offset (see `coordinates`); pc_error's figures would be those of its rounding.

Resolution.  A PSNR is a figure of errors that can be told from rounding.  Along the normals the error of a pair is
not resolved, and counts as 0, where the mean square is below 2^-36 of D1's (an angle of 4e-6 to the tangent planes;
normals in float32, and their means, are no more certain), or below that of float64's rounding of the coordinates,
4 steps of 2^-52 a coordinate; D1 is not resolved below the latter.  The PSNR is then missing, with the reason.
Only clouds whose points are all equal are called identical.

`ab` goes from the input's points to the decoded cloud (pc_error's 1), `ba` the other way (its 2).

    >>> from pccbench.metrics.distortion import distortion
    >>> result = distortion([[0, 0, 0], [9, 0, 0]], [[0, 0, 0], [9, 0, 2]], peak=1023)
    >>> result.d1_mse, round(result.d1_psnr_db, 4), result.d2_mse, result.missing["d2_mse"]
    (2.0, 61.9584, None, 'the input cloud has no normals')
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .coordinates import DOUBLE_STEP, Coordinates, check_extent
from .errors import MetricError
from .normals import checked_normals
from .plain import (
    MOST_PAIRS,
    PlainCloud,
    PlainNeighbours,
    UndecidedError,
    average_plain_normals,
    find_plain_neighbours,
    projections_sq,
)
from .workers import Workers

if TYPE_CHECKING:
    from .neighbours import IndexedCloud, Neighbours

#: Geometry PSNR counts the energy of three axes.
PSNR_FACTOR = 3.0
#: The tool whose figures these are.
REFERENCE_TOOL = "pc_error 0.14.2"

#: Peak rules of the passport.
PEAK_GIVEN = "given"
PEAK_FROM_SPACING = "largest nearest-neighbour distance of the input"
_NO_NORMALS = "the input cloud has no normals"
_IDENTICAL = "identical: mse is 0"
_ALL_DECODED = "every point of the input is a decoded one: mse is 0"
_ALL_OF_INPUT = "every decoded point is one of the input: mse is 0"
_TANGENT = "all errors lie in the tangent planes: mse is 0 within rounding"
_ROUNDING = "all errors are within the rounding of the coordinates"
_NO_PEAK = "no peak: none was given and no point of the input has another near it"
#: Squared distances up to this are not counted as a spacing by pc_error.
_LEAST_SPACING_SQ = 1e-10
#: Share of D1 below which an error along the normals cannot be told from one across them.
_LEAST_PLANE_SHARE = 2.0**-36
#: Smaller float32 numbers have not all of its digits.
_LEAST_SINGLE = 2.0**-126
#: Roundings of a coordinate that an error must exceed.
_RESOLVED_ROUNDINGS = 4.0
#: Most that float32 may move the points of a decoded cloud, over its errors.
_MOST_ROUNDING = 1e-3


@dataclass(frozen=True)
class Direction:
    """Errors of the points of one cloud against another, as computed, even where they make no sense as a metric.

    Attributes:
        d1_mse, hausdorff_d1_sq: mean and maximum of the squared distances to the nearest point.
        mean_distance: mean of the distances, not squared.
        d2_mse, hausdorff_d2_sq: mean and maximum of the squared projections on normals; None without normals.
        rounding_mse: mean square of what rounding can make of an error, over the points that have one.
    """

    d1_mse: float
    hausdorff_d1_sq: float
    mean_distance: float
    d2_mse: float | None
    hausdorff_d2_sq: float | None
    rounding_mse: float = 0.0


@dataclass(frozen=True)
class Distortion:
    """How far a decoded cloud is from the input.

    Squared errors are in squared units of the input's coordinates, PSNR in dB.  A figure that does not exist is None,
    and `missing` says why.

    Attributes:
        d1_*, d2_*, hausdorff_*: see the module; without `_ab` or `_ba` the worse of the two directions.
        chamfer_sq_mean_sum: sum over both directions of the mean squared distance.
        chamfer_mean_sum: sum over both directions of the mean distance.
        point_ratio: distinct points of the decoded cloud / of the input.
        missing: name of each figure that has no value, and why.
        passport: how the figures were made; figures of different passports must not be compared.
        points_reference, points_decoded: distinct points.
        peak: peak of the PSNR as used, or None.
        spacing: least and largest nearest-neighbour distance of the input, where the peak was taken from it.
        ab, ba: the errors as computed.
    """

    d1_mse: float | None
    d1_psnr_db: float | None
    d1_mse_ab: float | None
    d1_mse_ba: float | None
    d1_psnr_ab_db: float | None
    d1_psnr_ba_db: float | None
    d2_mse: float | None
    d2_psnr_db: float | None
    d2_mse_ab: float | None
    d2_mse_ba: float | None
    d2_psnr_ab_db: float | None
    d2_psnr_ba_db: float | None
    hausdorff_d1_sq: float | None
    hausdorff_d1_psnr_db: float | None
    hausdorff_d1_sq_ab: float | None
    hausdorff_d1_sq_ba: float | None
    hausdorff_d2_sq: float | None
    hausdorff_d2_psnr_db: float | None
    hausdorff_d2_sq_ab: float | None
    hausdorff_d2_sq_ba: float | None
    chamfer_sq_mean_sum: float | None
    chamfer_mean_sum: float | None
    point_ratio: float | None
    missing: dict[str, str]
    passport: dict[str, Any]
    points_reference: int
    points_decoded: int
    peak: float | None
    spacing: tuple[float, float] | None
    ab: Direction = field(repr=False)
    ba: Direction = field(repr=False)

    def columns(self) -> dict[str, float | None]:
        """The figures by name: the metric columns of a row."""
        return {name: getattr(self, name) for name in COLUMNS}


#: Names of the figures, in order.
COLUMNS: tuple[str, ...] = tuple(
    f.name for f in fields(Distortion)[: [f.name for f in fields(Distortion)].index("missing")]
)


class Reference:
    """An input cloud made ready once, to measure many decoded clouds against.

    Args:
        points: (n, 3) the input's points, n >= 1.
        normals: (n, 3) their normals, or None for no D2.  They are brought to unit length where they are not; where
            one is zero or not finite there is no D2, with the reason (see `normals.checked_normals`).
        peak: peak of the PSNR (2**bit_depth - 1 for voxels); None for the largest nearest-neighbour distance.
        normals_origin: where the normals come from, for the passport (`{"source": "file"}`, or what
            `normals.estimate_normals` says).
        threads: how many to use; None for as many as there are processors.  They change the time, not the result.

    Raises:
        MetricError: no points, a shape that does not fit, coordinates that are not finite, a peak that is not
            positive.
    """

    def __init__(
        self,
        points: npt.ArrayLike,
        normals: npt.ArrayLike | None = None,
        *,
        peak: float | None = None,
        normals_origin: Mapping[str, Any] | None = None,
        threads: int | None = None,
    ) -> None:
        self._adopt(Coordinates.of(points, "input cloud"), peak, normals_origin, Workers(threads))
        tasks: list[Callable[[], Any]] = [lambda: self._adopt_normals(normals)]
        if self._given.is_single and len(self._given) ** 2 > MOST_PAIRS:
            tasks.append(self._index_input)
        self._workers.map(lambda task: task(), tasks)

    def _adopt(
        self,
        given: Coordinates,
        peak: float | None,
        normals_origin: Mapping[str, Any] | None,
        workers: Workers,
    ) -> None:
        if peak is not None and not (math.isfinite(peak) and peak > 0):
            raise MetricError(f"the peak must be positive and finite, got {peak}")
        self._given, self._workers, self._given_peak = given, workers, peak
        self._origin = dict(normals_origin or {"source": "given"})
        self._indexed: IndexedCloud | None = None
        self._normals: npt.NDArray[np.floating[Any]] | None = None
        self._no_normals = _NO_NORMALS

    def _adopt_normals(self, normals: npt.ArrayLike | None) -> None:
        if normals is not None:
            unit, facts = checked_normals(normals)
            if unit.shape != (len(self._given), 3):
                raise MetricError(
                    f"normals must have shape ({len(self._given)}, 3) like the points, got {unit.shape}"
                )
            if facts.missing:
                self._no_normals = facts.why_missing("input cloud")
            else:
                self._normals = unit
                self._origin |= facts.passport()

    def __len__(self) -> int:
        """Distinct points."""
        return len(self._cloud)

    def _index(self, given: Coordinates) -> IndexedCloud:
        from .neighbours import IndexedCloud

        return IndexedCloud(given, self._workers)

    def _index_input(self) -> IndexedCloud:
        if self._indexed is None:
            self._indexed = self._index(self._given)
        return self._indexed

    @cached_property
    def _single(self) -> PlainCloud:
        return PlainCloud(self._given, "single")

    @cached_property
    def _double(self) -> PlainCloud:
        return PlainCloud(self._given, "double", self._given.origin)

    @property
    def _cloud(self) -> IndexedCloud | PlainCloud:
        """The distinct points in one form or the other, the one that is there if any is."""
        if self._indexed is not None:
            return self._indexed
        return self._single if self._given.is_single else self._double

    @cached_property
    def spacing(self) -> tuple[float, float] | None:
        """Least and largest distance of a point to its nearest other; None where no point has one."""
        if self._given.is_single and len(self._given) ** 2 > MOST_PAIRS:
            square = self._index_input().spacings_sq(self._workers)
        else:
            cloud = self._single if self._given.is_single else self._double
            if cloud.is_double:
                check_extent(cloud.points, cloud.points)
            square = cloud.spacings_sq(self._workers.threads)
        square = square[(square > 0.0) & np.isfinite(square)]
        if (square > _LEAST_SPACING_SQ).any():  # else the unit is a large one
            square = square[square > _LEAST_SPACING_SQ]
        return (math.sqrt(square.min()), math.sqrt(square.max())) if len(square) else None

    @cached_property
    def peak(self) -> float | None:
        """Peak of the PSNR; a given one is rounded to float32, as pc_error's is, where float32 holds such numbers."""
        if self._given_peak is not None:
            with np.errstate(over="ignore", under="ignore"):
                single = float(np.float32(self._given_peak))
            return single if math.isfinite(single) and single > _LEAST_SINGLE else float(self._given_peak)
        return self.spacing[1] if self.spacing else None

    @cached_property
    def passport(self) -> dict[str, Any]:
        """How everything measured against this reference is made; plain values."""
        normals: dict[str, Any] | None = None
        if self._normals is not None:
            normals = {
                **self._origin,
                "sha256": hashlib.sha256(self._ordered_normals.data).hexdigest(),
                "decoded": "averaged from the input's (averageNormals 1)",
            }
        given = self._given_peak is not None
        return {
            "peak": self._given_peak if given else self.peak,
            "peak_rule": PEAK_GIVEN if given else PEAK_FROM_SPACING,
            "psnr_factor": PSNR_FACTOR,
            "normals": normals,
            "duplicates": "counted once, the first keeps its normal (dropdups 2)",
            "ties": "neighbours at one distance averaged, 30 at most (neighborsProc 1)",
            "coordinates": "float32 where it holds them, else float64",
            "reference_tool": REFERENCE_TOOL,
        }

    def measure(self, points: npt.ArrayLike) -> Distortion:
        """Measure a decoded cloud.

        Args:
            points: (m, 3) the decoded points.

        Raises:
            MetricError: no points, a shape that does not fit, coordinates that are not finite, or so far apart that
                squared distances leave float64.
        """
        return self._measure(Coordinates.of(points, "decoded cloud"))

    def _measure(self, decoded: Coordinates) -> Distortion:
        if self._given.is_single and decoded.is_single:
            return self._report(*self._in_single(decoded))
        if self._given.is_voxels and decoded.is_coarser_grid:
            ab, ba, n = self._in_single(decoded)
            if decoded.rounding_sq() < _MOST_ROUNDING**2 * min(ab.d1_mse, ba.d1_mse):
                return self._report(ab, ba, n)
        return self._report(*self._in_double(decoded))

    def _in_single(self, decoded: Coordinates) -> tuple[Direction, Direction, int]:
        """The errors of both directions in float32, and the distinct decoded points."""
        if len(self._given) * len(decoded) <= MOST_PAIRS:
            try:
                return self._plainly(self._single, PlainCloud(decoded, "single"))
            except UndecidedError:
                pass
        # The index of the input stays; the first time, both are made at once.
        other = self._workers.map(lambda make: make(), (self._index_input, lambda: self._index(decoded)))[1]
        return self._compiled(self._index_input(), other)

    def _in_double(self, decoded: Coordinates) -> tuple[Direction, Direction, int]:
        origin = self._given.origin or decoded.origin
        reference = self._double if origin == self._given.origin else PlainCloud(self._given, "double", origin)
        other = PlainCloud(decoded, "double", origin)
        check_extent(reference.points, other.points)
        return self._plainly(reference, other)

    def _plainly(self, reference: PlainCloud, decoded: PlainCloud) -> tuple[Direction, Direction, int]:
        threads = self._workers.threads
        there = find_plain_neighbours(reference, decoded, threads)
        back = find_plain_neighbours(decoded, reference, threads)
        normals = decoded_normals = None
        if self._normals is not None:
            normals = self._normals[reference.rows].astype(reference.points.dtype, copy=False)
            decoded_normals = average_plain_normals(normals, there, back)
        ab = _sum_up_plain(reference, decoded, there, decoded_normals)
        ba = _sum_up_plain(decoded, reference, back, normals)
        return ab, ba, len(decoded)

    def _compiled(self, reference: IndexedCloud, decoded: IndexedCloud) -> tuple[Direction, Direction, int]:
        from .neighbours import find_neighbours
        from .projection import DecodedNormals

        workers = self._workers
        there = find_neighbours(reference, decoded, workers)

        def search_back() -> Neighbours:
            return find_neighbours(decoded, reference, workers)

        def sum_normals() -> DecodedNormals:
            return DecodedNormals(self._stored_normals(reference), reference, there, len(decoded))

        normals = decoded_normals = None
        if self._normals is None:
            back = search_back()
        else:
            # The sums take one thread, in pc_error's order; meanwhile the others search.
            normals = self._stored_normals(reference)
            tasks: tuple[Callable[[], Any], ...] = (sum_normals, search_back, lambda: self.passport)
            sums, back, _ = workers.map(lambda task: task(), tasks)
            decoded_normals = sums.means(back)
        ab = _sum_up(reference, decoded, there, decoded_normals, workers)
        ba = _sum_up(decoded, reference, back, normals, workers)
        return ab, ba, len(decoded)

    @property
    def _ordered_normals(self) -> npt.NDArray[np.float32]:
        """(n, 3) in the lexicographic order of the points, C-contiguous."""
        assert self._normals is not None  # noqa: S101  # for the type checker
        if self._indexed is None:
            rows = (self._single if self._given.is_single else self._double).rows
            return np.ascontiguousarray(self._normals[rows], np.float32)
        from .neighbours import gather_rows

        return gather_rows(self._stored_normals(self._indexed), self._indexed.rank)

    def _stored_normals(self, reference: IndexedCloud) -> npt.NDArray[np.float32]:
        if "_stored" not in self.__dict__ and self._normals is not None:
            self._stored = reference.stored(self._normals.astype(np.float32, copy=False))
        return self._stored

    def _report(self, ab: Direction, ba: Direction, points_decoded: int) -> Distortion:
        missing: dict[str, str] = {}
        values: dict[str, float | None] = {}
        reasons = _Reasons.of(ab, ba)
        pairs: dict[str, tuple[float | None, float | None]] = {
            "d1_mse": (ab.d1_mse, ba.d1_mse),
            "d2_mse": (ab.d2_mse, ba.d2_mse),
            "hausdorff_d1_sq": (ab.hausdorff_d1_sq, ba.hausdorff_d1_sq),
            "hausdorff_d2_sq": (ab.hausdorff_d2_sq, ba.hausdorff_d2_sq),
        }
        for name, (there, back) in pairs.items():
            error = {f"{name}_ab": there, f"{name}_ba": back, name: _worse(there, back)}
            why = reasons.of_plane if "d2" in name else reasons.of_points
            for column, value in error.items():
                psnr = column.replace("_mse", "_psnr").replace("_sq", "_psnr") + "_db"
                if value is None:
                    missing[column] = missing[psnr] = self._no_normals
                    continue
                reason = why[column[len(name) :]]
                # What is along the normals within rounding is 0; points that differ by a rounding do differ.
                values[column] = 0.0 if reason and "d2" in name else value
                if not reason and self.peak is None:
                    reason = _NO_PEAK
                if reason:
                    missing[psnr] = reason
                else:
                    values[psnr] = psnr_db(value, self.peak or 0.0)
        values["chamfer_sq_mean_sum"] = ab.d1_mse + ba.d1_mse
        values["chamfer_mean_sum"] = ab.mean_distance + ba.mean_distance
        values["point_ratio"] = points_decoded / len(self)
        return Distortion(
            **{name: values.get(name) for name in COLUMNS},
            missing={name: reason for name, reason in missing.items() if name in COLUMNS},
            passport=dict(self.passport),
            points_reference=len(self),
            points_decoded=points_decoded,
            peak=self.peak,
            spacing=self.spacing if self._given_peak is None else None,
            ab=ab,
            ba=ba,
        )


@dataclass(frozen=True)
class _Reasons:
    """Why errors have no PSNR, empty where they have one; by the ending of the columns, `_ab`, `_ba` and none."""

    of_points: Mapping[str, str]
    of_plane: Mapping[str, str]

    @classmethod
    def of(cls, ab: Direction, ba: Direction) -> _Reasons:
        same = {"_ab": ab.hausdorff_d1_sq == 0.0, "_ba": ba.hausdorff_d1_sq == 0.0}
        identical = same["_ab"] and same["_ba"] and not ab.rounding_mse and not ba.rounding_mse
        points, plane = {}, {}
        for ending, direction, all_same in (("_ab", ab, _ALL_DECODED), ("_ba", ba, _ALL_OF_INPUT)):
            if direction.d1_mse > direction.rounding_mse:
                points[ending] = ""
                limit = max(_LEAST_PLANE_SHARE * direction.d1_mse, direction.rounding_mse)
                plane[ending] = _TANGENT if (direction.d2_mse or 0.0) <= limit else ""
            else:
                reason = _IDENTICAL if identical else _ROUNDING if direction.rounding_mse else all_same
                points[ending] = plane[ending] = reason
        # Both have a reason: the one of the direction that has errors, if any has.
        points[""] = plane[""] = ""
        if points["_ab"] and points["_ba"]:
            points[""] = next((reason for reason in points.values() if reason == _ROUNDING), _IDENTICAL)
        if plane["_ab"] and plane["_ba"]:
            plane[""] = next((reason for reason in plane.values() if reason == _TANGENT), points[""])
        return cls(points, plane)


def psnr_db(error_sq: float, peak: float) -> float:
    """10 log10(3 peak^2 / error), with pc_error's values where that is not a number (infinite for no error).

    >>> round(psnr_db(1.49849994, 1023.0), 7)
    63.2121579
    """
    if error_sq == 0.0:
        return math.inf
    ratio = PSNR_FACTOR * (peak * peak) / error_sq
    if error_sq > 0.0 and not 0.0 < ratio < math.inf:  # as numbers they leave float64, as decibels they do not
        return 10.0 * (math.log10(PSNR_FACTOR) + 2.0 * math.log10(peak) - math.log10(error_sq))
    if not ratio > 0.0:
        return -math.inf if ratio == 0.0 else math.nan
    return 10.0 * math.log10(ratio)


def distortion(
    reference_points: npt.ArrayLike,
    decoded_points: npt.ArrayLike,
    *,
    normals: npt.ArrayLike | None = None,
    peak: float | None = None,
    normals_origin: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> Distortion:
    """Measure one decoded cloud against one input; for several, make a `Reference` once.

    Args:
        reference_points: (n, 3) the input's points.
        decoded_points: (m, 3) the decoded points.
        normals: see `Reference`, as for the others.
        peak: peak of the PSNR.
        normals_origin: where the normals come from.
        threads: how many to use.

    Raises:
        MetricError: a cloud without points, a shape that does not fit, coordinates that are not finite, a peak that
            is not positive.
    """
    workers = Workers(threads)
    given = Coordinates.of(reference_points, "input cloud")
    decoded = Coordinates.of(decoded_points, "decoded cloud")
    reference = Reference.__new__(Reference)  # both clouds are indexed at the same time
    reference._adopt(given, peak, normals_origin, workers)
    reference._adopt_normals(normals)
    return reference._measure(decoded)


def _worse(there: float | None, back: float | None) -> float | None:
    """The larger; of values that are not numbers the one that std::max of C++ would take."""
    if there is None or back is None:
        return None
    return back if there < back else there


def _sum_up(
    queries: IndexedCloud,
    index: IndexedCloud,
    neighbours: Neighbours,
    normals: npt.NDArray[np.float32] | None,
    workers: Workers,
) -> Direction:
    from .projection import sum_errors

    total = sum_errors(queries, index, neighbours, normals, workers)
    n = len(queries)
    plane = None if normals is None else total.plane_sq / n
    return Direction(
        d1_mse=total.distance_sq / n,
        hausdorff_d1_sq=total.most_distance_sq,
        mean_distance=total.distance / n,
        d2_mse=plane,
        hausdorff_d2_sq=None if normals is None else total.most_plane_sq,
    )


def _sum_up_plain(
    queries: PlainCloud,
    index: PlainCloud,
    neighbours: PlainNeighbours,
    normals: npt.NDArray[np.floating[Any]] | None,
) -> Direction:
    squares = neighbours.distance_sq
    n = len(queries)
    rounding = 0.0
    if queries.is_double and not (queries.integer and index.integer):
        first = np.flatnonzero(np.diff(neighbours.query, prepend=-1))
        apart = (queries.points != index.points[neighbours.number[first]]).any(axis=1)
        # Least normal numbers keep a rounding from vanishing when it is squared.
        step = np.maximum(_RESOLVED_ROUNDINGS * DOUBLE_STEP * np.abs(queries.points[apart]).max(axis=1), 1e-150)
        rounding = float((step * step).sum()) / n
    plane = None if normals is None else projections_sq(queries, index, neighbours, normals)
    return Direction(
        d1_mse=float(squares.sum()) / n,
        hausdorff_d1_sq=float(squares.max()),
        mean_distance=float(np.sqrt(squares).sum()) / n,
        d2_mse=None if plane is None else float(plane.sum()) / n,
        hausdorff_d2_sq=None if plane is None else float(plane.max()),
        rounding_mse=rounding,
    )
