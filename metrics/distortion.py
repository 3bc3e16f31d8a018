"""Distortion: D1, D2, Hausdorff and chamfer distances between an input cloud and a decoded one.

The figures are those of MPEG's pc_error 0.14.2 with its default settings [mpeg-pcc-dmetric; Tian et al. 2017,
"Geometric distortion metrics for point cloud compression"], to the precision in which it computes:

- D1 (point to point): squared distance of each point to the nearest point of the other cloud.
- D2 (point to plane): that error projected on the normal there.  Normals of the decoded cloud are averaged from the
  input's; several nearest points at one distance are averaged.
- mse: mean over the points of a cloud; hausdorff: their maximum, squared like them; both symmetric as the larger
  of the two directions.  PSNR = 10 log10(3 peak^2 / mse).
- Repeated points count once.  Coordinates are rounded to float32.

`ab` goes from the input's points to the decoded cloud (pc_error's 1), `ba` the other way (its 2).

    >>> from pccbench.metrics.distortion import distortion
    >>> result = distortion([[0, 0, 0], [9, 0, 0]], [[0, 0, 0], [9, 0, 2]], peak=1023)
    >>> result.d1_mse, round(result.d1_psnr_db, 4), result.d2_mse, result.missing["d2_mse"]
    (2.0, 61.9584, None, 'the input cloud has no normals')
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import MetricError

if TYPE_CHECKING:
    from .neighbours import IndexedCloud, Neighbours, Workers

#: Geometry PSNR counts the energy of three axes.
PSNR_FACTOR = 3.0
#: The tool whose figures these are.
REFERENCE_TOOL = "pc_error 0.14.2"

#: Peak rules of the passport.
PEAK_GIVEN = "given"
PEAK_FROM_SPACING = "largest nearest-neighbour distance of the input"
_NO_NORMALS = "the input cloud has no normals"
_ZERO_NORMALS = "all normals of the input cloud are zero"
_IDENTICAL = "identical: mse is 0"
_NO_PEAK = "no peak: none was given and no point of the input has another near it"
#: Squared distances up to this are not counted as a spacing by pc_error.
_LEAST_SPACING_SQ = 1e-10


@dataclass(frozen=True)
class Direction:
    """Errors of the points of one cloud against another, as computed, even where they make no sense as a metric.

    Attributes:
        d1_mse, hausdorff_d1_sq: mean and maximum of the squared distances to the nearest point.
        mean_distance: mean of the distances, not squared.
        d2_mse, hausdorff_d2_sq: mean and maximum of the squared projections on normals; None without normals.
    """

    d1_mse: float
    hausdorff_d1_sq: float
    mean_distance: float
    d2_mse: float | None
    hausdorff_d2_sq: float | None


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
        normals: (n, 3) their unit normals, or None for no D2.  Where one is NaN, so is what pc_error makes of it.
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
        from .neighbours import IndexedCloud, Workers

        workers = Workers(threads)
        self._adopt(IndexedCloud(points, workers), normals, peak, normals_origin, workers)

    def _adopt(
        self,
        cloud: IndexedCloud,
        normals: npt.ArrayLike | None,
        peak: float | None,
        normals_origin: Mapping[str, Any] | None,
        workers: Workers,
    ) -> None:
        if peak is not None and not (math.isfinite(peak) and peak > 0):
            raise MetricError(f"the peak must be positive and finite, got {peak}")
        self._cloud, self._workers, self._given_peak = cloud, workers, peak
        self._origin = dict(normals_origin or {"source": "given"})
        self._normals: npt.NDArray[np.float32] | None = None
        self._no_normals = _NO_NORMALS
        if normals is not None:
            array = np.asarray(normals, dtype=np.float32)
            if array.shape != (cloud.given, 3):
                raise MetricError(f"normals must have shape ({cloud.given}, 3) like the points, got {array.shape}")
            if array.any():
                self._normals = cloud.stored(array)
            else:
                self._no_normals = _ZERO_NORMALS

    def __len__(self) -> int:
        """Distinct points."""
        return len(self._cloud)

    @cached_property
    def spacing(self) -> tuple[float, float] | None:
        """Least and largest distance of a point to its nearest other; None where no point has one."""
        square = self._cloud.spacings_sq(self._workers)
        square = square[(square > _LEAST_SPACING_SQ) & np.isfinite(square)]
        return (math.sqrt(square.min()), math.sqrt(square.max())) if len(square) else None

    @cached_property
    def peak(self) -> float | None:
        """Peak of the PSNR; a given one is rounded to float32, as pc_error's is."""
        if self._given_peak is not None:
            return float(np.float32(self._given_peak))
        return self.spacing[1] if self.spacing else None

    @cached_property
    def passport(self) -> dict[str, Any]:
        """How everything measured against this reference is made; plain values."""
        from .neighbours import gather_rows
        from .projection import count_not_finite

        normals: dict[str, Any] | None = None
        if self._normals is not None:
            ordered = gather_rows(self._normals, self._cloud.rank)
            normals = {
                **self._origin,
                "sha256": hashlib.sha256(ordered.data).hexdigest(),
                "decoded": "averaged from the input's (averageNormals 1)",
            }
            not_finite = count_not_finite(self._normals)
            if not_finite:
                normals["not_finite"] = not_finite
        given = self._given_peak is not None
        return {
            "peak": self._given_peak if given else self.peak,
            "peak_rule": PEAK_GIVEN if given else PEAK_FROM_SPACING,
            "psnr_factor": PSNR_FACTOR,
            "normals": normals,
            "duplicates": "counted once, the first keeps its normal (dropdups 2)",
            "ties": "neighbours at one distance averaged, 30 at most (neighborsProc 1)",
            "coordinates": "float32",
            "reference_tool": REFERENCE_TOOL,
        }

    def measure(self, points: npt.ArrayLike) -> Distortion:
        """Measure a decoded cloud.

        Args:
            points: (m, 3) the decoded points.

        Raises:
            MetricError: no points, a shape that does not fit, coordinates that are not finite.
        """
        from .neighbours import IndexedCloud

        return self._measure(IndexedCloud(points, self._workers, name="decoded cloud"))

    def _measure(self, decoded: IndexedCloud) -> Distortion:
        from .neighbours import find_neighbours
        from .projection import average_normals

        reference, workers = self._cloud, self._workers
        there = find_neighbours(reference, decoded, workers)
        back = find_neighbours(decoded, reference, workers)
        decoded_normals = None
        if self._normals is not None:
            decoded_normals = average_normals(self._normals, reference, there, back)
        ab = _sum_up(reference, decoded, there, decoded_normals, workers)
        ba = _sum_up(decoded, reference, back, self._normals, workers)
        return self._report(ab, ba, len(decoded))

    def _report(self, ab: Direction, ba: Direction, points_decoded: int) -> Distortion:
        missing: dict[str, str] = {}
        values: dict[str, float | None] = {}
        pairs: dict[str, tuple[float | None, float | None]] = {
            "d1_mse": (ab.d1_mse, ba.d1_mse),
            "d2_mse": (ab.d2_mse, ba.d2_mse),
            "hausdorff_d1_sq": (ab.hausdorff_d1_sq, ba.hausdorff_d1_sq),
            "hausdorff_d2_sq": (ab.hausdorff_d2_sq, ba.hausdorff_d2_sq),
        }
        for name, (there, back) in pairs.items():
            error = {f"{name}_ab": there, f"{name}_ba": back, name: _worse(there, back)}
            for column, value in error.items():
                values[column], reason = self._checked(value)
                psnr = column.replace("_mse", "_psnr").replace("_sq", "_psnr") + "_db"
                if reason:
                    missing[column] = missing[psnr] = reason
                else:
                    values[psnr], reason = self._psnr(value)
                    if reason:
                        missing[psnr] = reason
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

    def _checked(self, value: float | None) -> tuple[float | None, str]:
        if value is None:
            return None, self._no_normals
        if not math.isfinite(value) or value < 0.0:
            # pc_error adds unsquared coordinate differences where a normal is NaN, so that even the sign is lost.
            return None, f"normals that are not finite make it {value:.9g}"
        return value, ""

    def _psnr(self, error: float | None) -> tuple[float | None, str]:
        if self.peak is None:
            return None, _NO_PEAK
        if not error:
            return None, _IDENTICAL
        return psnr_db(error, self.peak), ""


def psnr_db(error_sq: float, peak: float) -> float:
    """10 log10(3 peak^2 / error), with pc_error's values where that is not a number (infinite for no error).

    >>> round(psnr_db(1.49849994, 1023.0), 7)
    63.2121579
    """
    if error_sq == 0.0:
        return math.inf
    ratio = PSNR_FACTOR * (peak * peak) / error_sq
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
    from .neighbours import IndexedCloud, Workers

    workers = Workers(threads)
    clouds = (("input cloud", reference_points), ("decoded cloud", decoded_points))
    cloud, decoded = workers.map(lambda named: IndexedCloud(named[1], workers, name=named[0]), clouds)
    reference = Reference.__new__(Reference)
    reference._adopt(cloud, normals, peak, normals_origin, workers)
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
