"""Local density: the metrics that D-PCC brought (He et al., CVPR 2022), beside MPEG's and never in their place.

`density_difference` compares how many points lie around each point, and how far away, in two clouds; `normals_f1`
counts points whose place and normal are both right; `nearest_neighbour_peak` is the peak of that paper's PSNR.
All are functions of arrays and say in their result what they were computed with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import MetricError

Points = npt.NDArray[np.float64]

#: As published: neighbours looked at, themselves included; share of the distances.
MAX_NEIGHBOURS = 100
DISTANCE_WEIGHT = 1e-4
_EPSILON = 1e-8
_CHUNK_POINTS = 1 << 14


@dataclass(frozen=True)
class DensityDifference:
    """How the local densities of two clouds differ.

    Attributes:
        count_ab: mean relative difference of the number of neighbours, from each point of the input to its nearest
            decoded point.
        count_ba: from the decoded cloud to the input.
        distance_ab: mean relative difference of the mean distance of these neighbours.
        distance_ba: the other way.
        value: counts of both directions, and distances of both by their weight; 0 for equal clouds.
        passport: radius, limit and weight.
    """

    count_ab: float
    count_ba: float
    distance_ab: float
    distance_ba: float
    value: float
    passport: dict[str, Any]


class Tree:
    """A cloud made ready to look for neighbours in.

    Args:
        points: (n, 3), n >= 1.
        name: what errors call the cloud.

    Raises:
        MetricError: no points, another shape, coordinates that are not finite.
    """

    def __init__(self, points: npt.ArrayLike, name: str = "cloud") -> None:
        from scipy.spatial import cKDTree

        self.points = _points(points, name)
        self._tree = cKDTree(self.points, balanced_tree=False)

    def __len__(self) -> int:
        """Points."""
        return len(self.points)

    def nearest(self, of: Points) -> npt.NDArray[np.int64]:
        """Row of the point nearest to each of (m, 3) points, (m,)."""
        return np.asarray(self._tree.query(of, workers=-1)[1], np.int64)

    def spacings(self, of: Points) -> Points:
        """Distance of each of (m, 3) points of this cloud to another one, (m,); needs two."""
        distance = self._tree.query(of, 2, workers=-1)[0]
        return np.asarray(distance[:, 1])

    def peak(self) -> float:
        """Largest distance of a point to its nearest other one; needs two."""
        return float(self.spacings(self.points).max())

    def density(
        self, around: Points, radius: float, max_neighbours: int = MAX_NEIGHBOURS
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Number of points near each of (m, 3) points of this cloud, itself included, and their mean distance.

        Returns:
            (m,) counts of points within `radius`, at most `max_neighbours`, and (m,) mean distances.
        """
        k = min(max_neighbours, len(self))
        counts, means = np.empty(len(around)), np.empty(len(around))
        # The tree's bound leaves out what lies on it; the comparison below decides.
        bound = np.nextafter(radius * (1 + 1e-9), np.inf)
        for start in range(0, len(around), _CHUNK_POINTS):
            part = slice(start, start + _CHUNK_POINTS)
            distance = self._tree.query(around[part], k, distance_upper_bound=bound, workers=-1)[0].reshape(-1, k)
            inside = distance <= radius
            counts[part] = inside.sum(axis=1)
            means[part] = np.where(inside, distance, 0.0).sum(axis=1) / counts[part]
        return counts, means


def density_difference(
    reference: npt.ArrayLike | Tree,
    decoded: npt.ArrayLike | Tree,
    radius: float,
    *,
    max_neighbours: int = MAX_NEIGHBOURS,
    distance_weight: float = DISTANCE_WEIGHT,
    centres: tuple[Points, Points] | None = None,
) -> DensityDifference:
    """D-PCC's density metric.

    Around each point, the points within `radius` are counted, itself included, and their distances averaged, its own
    zero included; no more than the `max_neighbours` nearest are looked at, so that a radius with more points tells
    nothing of their number.  Both numbers are compared with those of the nearest point of the other cloud, relative
    to the latter.  As published, except that clouds of fewer points than `max_neighbours` are measured too.

    Args:
        reference: (n, 3) input cloud.
        decoded: (m, 3) decoded cloud.
        radius: in the unit of the coordinates; the published 0.15 is for patches scaled to -1..1.
        max_neighbours: at least 1.
        distance_weight: of the distances' difference.
        centres: points of the input and of the decoded cloud to look around, in place of all.

    Raises:
        MetricError: an empty cloud, or a parameter out of range.
    """
    if not (math.isfinite(radius) and radius > 0):
        raise MetricError(f"radius must be positive and finite, got {radius}")
    if max_neighbours < 1:
        raise MetricError(f"max_neighbours must be at least 1, got {max_neighbours}")
    a, b = _tree(reference, "input cloud"), _tree(decoded, "decoded cloud")
    around_a, around_b = (a.points, b.points) if centres is None else centres

    def compare(own: Tree, other: Tree, around: Points) -> tuple[float, float]:
        facing, back = np.unique(other.nearest(around), return_inverse=True)
        there = other.density(other.points[facing], radius, max_neighbours)
        here = own.density(around, radius, max_neighbours)
        count, distance = (_relative(one, two[back]) for one, two in zip(here, there, strict=True))
        return count, distance

    count_ab, distance_ab = compare(a, b, around_a)
    count_ba, distance_ba = compare(b, a, around_b)
    return DensityDifference(
        count_ab,
        count_ba,
        distance_ab,
        distance_ba,
        count_ab + count_ba + distance_weight * (distance_ab + distance_ba),
        {
            "radius": radius,
            "max_neighbours": max_neighbours,
            "distance_weight": distance_weight,
            "self": "counted",
            "centres": "all" if centres is None else [len(around_a), len(around_b)],
        },
    )


def _relative(own: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Mean of |other - own| / other, as published with a small number for lonely points, whose distance is 0."""
    other = other + _EPSILON
    return float((np.abs(other - own) / other).mean())


@dataclass(frozen=True)
class NormalsF1:
    """Points that are right in place and normal.

    Attributes:
        f1: 2 hits / (2 hits + false + missed).
        hits: decoded points near enough to an input point of nearly the same normal.
        false: other decoded points.
        missed: input points that no hit belongs to.
        passport: thresholds.
    """

    f1: float
    hits: int
    false: int
    missed: int
    passport: dict[str, Any]


def normals_f1(
    reference: npt.ArrayLike | Tree,
    reference_normals: npt.ArrayLike,
    decoded: npt.ArrayLike,
    decoded_normals: npt.ArrayLike,
    *,
    max_distance: float,
    max_normal_distance: float,
) -> NormalsF1:
    """D-PCC's F1 score of decoded normals.

    Each decoded point is compared with the nearest input point: a hit is at most `max_distance` away, and its normal
    at most `max_normal_distance` from that point's (length of the difference; opposite normals are 2 apart).

    Args:
        reference: (n, 3).
        reference_normals: (n, 3).
        decoded: (m, 3).
        decoded_normals: (m, 3).
        max_distance: published 0.05 (ShapeNet) and 0.5 (SemanticKITTI), in their patches' units.
        max_normal_distance: published 0.2 and 0.5.

    Raises:
        MetricError: an empty cloud, or as many normals as points are missing.
    """
    tree, b = _tree(reference, "input cloud"), _points(decoded, "decoded cloud")
    a = tree.points
    a_normals, b_normals = _points(reference_normals, "input normals"), _points(decoded_normals, "decoded normals")
    if len(a_normals) != len(a) or len(b_normals) != len(b):
        raise MetricError(f"{len(a_normals)} and {len(b_normals)} normals for {len(a)} and {len(b)} points")
    nearest = tree.nearest(b)
    hit = np.linalg.norm(a[nearest] - b, axis=1) <= max_distance
    hit &= np.linalg.norm(a_normals[nearest] - b_normals, axis=1) <= max_normal_distance
    hits = int(hit.sum())
    missed = len(a) - len(np.unique(nearest[hit]))
    total = 2 * hits + len(b) - hits + missed
    passport = {"max_distance": max_distance, "max_normal_distance": max_normal_distance}
    return NormalsF1(2 * hits / total, hits, len(b) - hits, missed, passport)


def nearest_neighbour_peak(points: npt.ArrayLike) -> float:
    """Largest distance of a point to its nearest other point: the peak of D-PCC's PSNR (with the factor 3).

    The published peak is the largest over all patches of a test set, so that its decibels change with the set; here
    it is that of one cloud, which a passport can state.  Feed it to `distortion.psnr_db`.

    Raises:
        MetricError: fewer than two distinct points.
    """
    distinct = np.unique(_points(points, "cloud"), axis=0)
    if len(distinct) < 2:
        raise MetricError("a peak from nearest neighbours needs two distinct points")
    return Tree(distinct).peak()


def _points(values: npt.ArrayLike, name: str) -> Points:
    points = np.ascontiguousarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise MetricError(f"{name} must have shape (n, 3), got {points.shape}")
    if not len(points):
        raise MetricError(f"{name} is empty")
    if not np.isfinite(points).all():
        raise MetricError(f"{name} has coordinates that are not finite")
    return points


def _tree(values: npt.ArrayLike | Tree, name: str) -> Tree:
    return values if isinstance(values, Tree) else Tree(values, name)
