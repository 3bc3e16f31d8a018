"""Normals: checked where a cloud has them, estimated where it has none, so that D2 can be computed.

D2 is a length along a direction, so normals must be unit vectors.  `checked_normals` brings others to unit length,
and counts as missing those without a direction (zero or not finite).  A cloud with some missing has no D2 of its
own: to fill them in would say of the surface what was not given, and pc_error's way, errors of 0 at zero normals,
makes any codec better than it is.  Runs estimate the normals of the whole cloud then, by one rule.

An estimated normal is the direction of least variance of a point's nearest neighbours (open3d).  Its sign is
arbitrary: D2 needs neighbours to agree, because it averages normals.  Signs are propagated along a minimum spanning
tree over a sample of the cloud [Hoppe et al. 1992, "Surface reconstruction from unorganized points"] by open3d, and
every point then takes the sign of the sample near it that is most parallel: a tree over all would take minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import plain_normals
from .errors import MetricError

#: Neighbours of a point whose covariance gives its normal, the point itself among them.
NEIGHBOURS = 12
#: The sample that signs are propagated over has about this many points.
_SAMPLE_POINTS = 12_000
#: Links of a sample point in the graph of the spanning tree.
_LINKS = 10
#: Samples near a point, of which the most parallel one gives the sign.
_VOTERS = 4
#: How far from 1 a length may be that was 1 before it was rounded to float32, or written with six decimals.
_UNIT_TOLERANCE = 2e-6
#: Coordinates this many times larger than their spread lose digits when they are squared.
_MOST_OFFSET = 16.0
#: Spreads whose squares need no scaling.
_LEAST_SPREAD, _MOST_SPREAD = 2.0**-10, 2.0**40
#: Squares of larger coordinates, and sums of these, would leave double precision.
_LARGEST = 1e150


@dataclass(frozen=True)
class NormalFacts:
    """What was found of given normals.

    Attributes:
        count: how many there are.
        zero: without length.
        not_finite: with a number that is NaN or infinite.
        normalised: brought to unit length.
    """

    count: int
    zero: int
    not_finite: int
    normalised: int

    @property
    def missing(self) -> int:
        """How many have no direction."""
        return self.zero + self.not_finite

    def passport(self) -> dict[str, Any]:
        """What a passport should say: nothing of unit vectors."""
        return {"normalised": True} if self.normalised else {}

    def why_missing(self, name: str) -> str:
        """Why there is no D2, one line."""
        if self.zero == self.count:
            return f"all normals of the {name} are zero"
        kinds = [f"{n} zero" for n in (self.zero,) if n] + [f"{n} not finite" for n in (self.not_finite,) if n]
        return f"{self.missing} of {self.count} normals of the {name} are no directions ({', '.join(kinds)})"


def checked_normals(normals: npt.ArrayLike) -> tuple[npt.NDArray[np.floating[Any]], NormalFacts]:
    """Normals of unit length, and what was done to make them so.

    Those that are of unit length within the rounding of float32 stay as they are, to the bit.

    Args:
        normals: (n, 3) directions.

    Returns:
        (n, 3) float32, or float64 where that was given; rows that are zero or not finite are 0, and counted.

    Raises:
        MetricError: another shape, or no numbers.
    """
    try:
        given = np.asarray(normals)
    except ValueError:
        raise MetricError("normals must have shape (n, 3), got rows of different lengths") from None
    if given.ndim != 2 or given.shape[1] != 3 or given.dtype.kind not in "iuf":
        raise MetricError(f"normals must be numbers of shape (n, 3), got {given.dtype} of shape {given.shape}")
    kind: Any = np.float64 if given.dtype == np.float64 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        vectors: npt.NDArray[np.floating[Any]] = np.asarray(given, kind, order="C")
        square = np.einsum("ij,ij->i", vectors, vectors)
    # What float32 or six decimals make of unit vectors; of NaN, neither.
    if not len(given) or (square.min() >= 1 - 2 * _UNIT_TOLERANCE and square.max() <= 1 + 2 * _UNIT_TOLERANCE):
        return vectors, NormalFacts(len(given), 0, 0, 0)
    wide = given.astype(np.float64)
    finite = np.isfinite(wide).all(axis=1)
    wide[~finite] = 0.0
    largest = np.abs(wide).max(axis=1)
    zero = (largest == 0.0) & finite
    other = finite & ~zero & ~(np.abs(square - 1.0) <= 2 * _UNIT_TOLERANCE)
    scaled = wide[other] / largest[other, None]  # so that no square leaves float64
    wide[other] = scaled / np.sqrt(np.einsum("ij,ij->i", scaled, scaled))[:, None]
    facts = NormalFacts(len(given), int(zero.sum()), int((~finite).sum()), int(other.sum()))
    return np.ascontiguousarray(wide, kind), facts


def estimate_normals(
    points: npt.ArrayLike, *, neighbours: int = NEIGHBOURS
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Unit normals of a cloud, and how they were made, for the passport.

    Args:
        points: (n, 3) coordinates; repeated points get one normal.
        neighbours: nearest points that count, at least 3.

    Returns:
        (n, 3) float32 unit vectors; where the neighbours lie on a line or in a point, any direction across it.
        Source, neighbours and orientation, plain values.

    Raises:
        MetricError: a coordinate is not finite or too large to be squared.
    """
    distinct, inverse = sorted_distinct(np.asarray(points))
    origin = {
        "source": f"estimated ({'scipy' if _open3d() is None else 'open3d'})",
        "neighbours": neighbours,
        "orientation": f"minimum spanning tree over a sample of about {_SAMPLE_POINTS} points",
    }
    normals = unoriented_normals(distinct, neighbours)
    _orient(distinct, normals)
    return normals[inverse].astype(np.float32), origin


def unoriented_normals(points: npt.NDArray[np.float64], neighbours: int = NEIGHBOURS) -> npt.NDArray[np.float64]:
    """Unit normals of distinct points, of any sign, (n, 3).

    Raises:
        MetricError: as `estimate_normals`.
    """
    if len(points) and not np.abs(points).max() < _LARGEST:
        raise MetricError(f"normals cannot be estimated for coordinates beyond +-{_LARGEST:g}")
    open3d = _open3d()
    framed = _framed(points)
    if open3d is None:
        return plain_normals.unoriented(framed, neighbours)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(framed))
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(neighbours))
    normals = np.array(cloud.normals)
    lengths = np.linalg.norm(normals, axis=1)
    bad = ~(np.abs(lengths - 1) < 1e-6)
    normals[bad] = (0.0, 0.0, 1.0)
    return normals


def _framed(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The points about their middle where they are far from the origin, and of a size whose squares can be summed."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    spread = float((high - low).max())
    if spread == 0.0:
        return np.zeros_like(points)
    if max(float(-low.min()), float(high.max())) > _MOST_OFFSET * spread:
        points = points - (low + (high - low) / 2)
    if not _LEAST_SPREAD <= spread <= _MOST_SPREAD:
        points = np.ldexp(points, -int(np.frexp(spread)[1]))  # a power of two: no digit changes
    return points


def sorted_distinct(points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """The distinct points, sorted by z, y, x, and the row of each point among them.

    The order matters where neighbours are equally far: sorted, the normals do not depend on the input's order.
    """
    if points.dtype.kind in "iu" and len(points) and points.min() >= 0 and points.max() < 1 << 21:
        wide = points.astype(np.int64)
        _, first, inverse = np.unique(
            (wide[:, 2] << 42) + (wide[:, 1] << 21) + wide[:, 0], return_index=True, return_inverse=True
        )
        return points[first].astype(np.float64), inverse
    reverse = np.ascontiguousarray(points[:, ::-1], dtype=np.float64)
    distinct, inverse = np.unique(reverse, axis=0, return_inverse=True)
    return np.ascontiguousarray(distinct[:, ::-1]), inverse.reshape(-1)


def _open3d() -> Any:
    """The package; None where it does not load: it has wheels for some systems only, and needs libusb-1.0."""
    try:
        import open3d
    except (ImportError, OSError):
        return None
    return open3d


def _orient(points: npt.NDArray[np.float64], normals: npt.NDArray[np.float64]) -> None:
    """Turn normals, in place, so that those of neighbours agree."""
    from scipy.spatial import cKDTree

    sample = _sampled(points)
    if len(sample) <= _LINKS:
        return
    points = _framed(points)
    turned = _turned(points[sample], normals[sample])
    near = cKDTree(points[sample]).query(points, _VOTERS, workers=-1)[1]
    products = np.einsum("ijk,ik->ij", turned[near], normals)
    most = np.abs(products).argmax(axis=1)
    normals[np.take_along_axis(products, most[:, None], axis=1)[:, 0] < 0] *= -1


def _turned(points: npt.NDArray[np.float64], normals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Normals of a sample, turned so that those of neighbours agree."""
    open3d = _open3d()
    if open3d is None:
        return plain_normals.oriented(points, normals, _LINKS)
    few = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    few.normals = open3d.utility.Vector3dVector(normals)
    try:
        few.orient_normals_consistent_tangent_plane(_LINKS)
    except RuntimeError:  # a plane: qhull finds no tetrahedra, and one sign serves all
        return normals * np.where(normals @ normals[0] < 0, -1.0, 1.0)[:, None]
    return np.array(few.normals)


def _sampled(points: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Indices of the first point in each cell of a grid with about `_SAMPLE_POINTS` cells in use."""
    if len(points) <= _SAMPLE_POINTS:
        return np.arange(len(points))
    low = points.min(axis=0)
    width = float((points.max(axis=0) - low).max())
    # A surface uses cells in proportion to the square of their number along an axis.
    divisions = 64.0
    for _ in range(6):
        cells = np.floor((points - low) * (divisions / width)).astype(np.int64)
        keys = (cells[:, 0] << 42) + (cells[:, 1] << 21) + cells[:, 2]
        sample = np.unique(keys, return_index=True)[1]
        if 0.7 < len(sample) / _SAMPLE_POINTS < 1.3:
            break
        divisions = min(divisions * (_SAMPLE_POINTS / len(sample)) ** 0.5, 2.0**20)
    return np.sort(sample)
