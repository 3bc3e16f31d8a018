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


def density_difference(
    reference: npt.ArrayLike,
    decoded: npt.ArrayLike,
    radius: float,
    *,
    max_neighbours: int = MAX_NEIGHBOURS,
    distance_weight: float = DISTANCE_WEIGHT,
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

    Raises:
        MetricError: an empty cloud, or a parameter out of range.
    """
    a, b = _points(reference, "input cloud"), _points(decoded, "decoded cloud")
    if not (math.isfinite(radius) and radius > 0):
        raise MetricError(f"radius must be positive and finite, got {radius}")
    if max_neighbours < 1:
        raise MetricError(f"max_neighbours must be at least 1, got {max_neighbours}")
    counts_a, distances_a = local_density(a, radius, max_neighbours)
    counts_b, distances_b = local_density(b, radius, max_neighbours)
    to_b, to_a = _nearest(a, b), _nearest(b, a)
    count_ab, count_ba = _relative(counts_a, counts_b[to_b]), _relative(counts_b, counts_a[to_a])
    distance_ab, distance_ba = _relative(distances_a, distances_b[to_b]), _relative(distances_b, distances_a[to_a])
    return DensityDifference(
        count_ab,
        count_ba,
        distance_ab,
        distance_ba,
        count_ab + count_ba + distance_weight * (distance_ab + distance_ba),
        {"radius": radius, "max_neighbours": max_neighbours, "distance_weight": distance_weight, "self": "counted"},
    )


def local_density(
    points: Points, radius: float, max_neighbours: int = MAX_NEIGHBOURS
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Number of points within `radius` of each point, itself included, and their mean distance; (n,) both."""
    from scipy.spatial import cKDTree

    tree = cKDTree(points, balanced_tree=False)
    k = min(max_neighbours, len(points))
    counts, means = np.empty(len(points)), np.empty(len(points))
    for start in range(0, len(points), _CHUNK_POINTS):
        part = slice(start, start + _CHUNK_POINTS)
        # The tree's bound leaves out what lies on it; the comparison below decides.
        distance = tree.query(points[part], k, distance_upper_bound=np.nextafter(radius * (1 + 1e-9), np.inf))[0]
        distance = distance.reshape(-1, k)
        inside = distance <= radius
        counts[part] = inside.sum(axis=1)
        means[part] = np.where(inside, distance, 0.0).sum(axis=1) / counts[part]
    return counts, means


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
    reference: npt.ArrayLike,
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
    a, b = _points(reference, "input cloud"), _points(decoded, "decoded cloud")
    a_normals, b_normals = _points(reference_normals, "input normals"), _points(decoded_normals, "decoded normals")
    if len(a_normals) != len(a) or len(b_normals) != len(b):
        raise MetricError(f"{len(a_normals)} and {len(b_normals)} normals for {len(a)} and {len(b)} points")
    nearest = _nearest(b, a)
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
    from scipy.spatial import cKDTree

    distinct = np.unique(_points(points, "cloud"), axis=0)
    if len(distinct) < 2:
        raise MetricError("a peak from nearest neighbours needs two distinct points")
    distance = cKDTree(distinct, balanced_tree=False).query(distinct, 2)[0]
    return float(distance[:, 1].max())


def _points(values: npt.ArrayLike, name: str) -> Points:
    points = np.ascontiguousarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise MetricError(f"{name} must have shape (n, 3), got {points.shape}")
    if not len(points):
        raise MetricError(f"{name} is empty")
    if not np.isfinite(points).all():
        raise MetricError(f"{name} has coordinates that are not finite")
    return points


def _nearest(of: Points, among: Points) -> npt.NDArray[np.int64]:
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(among, balanced_tree=False).query(of)[1], np.int64)
