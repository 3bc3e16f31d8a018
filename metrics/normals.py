"""Normals: estimated for clouds that have none, so that D2 can be computed; consistently oriented.

Each normal is the direction of least variance of a point's nearest neighbours (open3d).  Its sign is arbitrary:
D2 needs neighbours to agree, because it averages normals.  Signs are propagated along a minimum spanning tree over a
sample of the cloud [Hoppe et al. 1992, "Surface reconstruction from unorganized points"] by open3d, and every
point then takes the sign of the sample near it that is most parallel: the tree over all points would take minutes.
"""

from __future__ import annotations

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
#: Squares of larger coordinates, and sums of these, would leave double precision.
_LARGEST = 1e150


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
    if open3d is None:
        return plain_normals.unoriented(points, neighbours)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(neighbours))
    normals = np.array(cloud.normals)
    lengths = np.linalg.norm(normals, axis=1)
    bad = ~(np.abs(lengths - 1) < 1e-6)
    normals[bad] = (0.0, 0.0, 1.0)
    return normals


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
