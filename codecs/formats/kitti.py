"""KITTI: velodyne sweeps, float32 x, y, z, intensity without any header."""

from __future__ import annotations

import numpy as np

from ..cloud import PointCloud
from ..errors import CloudError
from .table import Table

_ROW = np.dtype([(name, "<f4") for name in ("x", "y", "z", "intensity")])


def read_kitti(data: bytes) -> Table:
    """The points of a sweep in metres, and their intensity.

    Raises:
        CloudError: not a whole number of points.
    """
    if len(data) % _ROW.itemsize:
        raise CloudError(
            f"not a KITTI sweep: expected float32 x y z intensity, 16 bytes a point, "
            f"got {len(data):,} bytes ({len(data) % _ROW.itemsize} too many)"
        )
    rows = np.frombuffer(data, _ROW)
    return Table({name: rows[name] for name in _ROW.names or ()})


def format_kitti(cloud: PointCloud) -> bytes:
    """A sweep of the cloud; intensity 0 where it has none.

    Raises:
        CloudError: coordinates that float32 cannot hold.
    """
    rows = np.zeros(len(cloud), _ROW)
    for axis, name in enumerate(("x", "y", "z")):
        rows[name] = cloud.points[:, axis]
        if not np.array_equal(rows[name], cloud.points[:, axis]):
            raise CloudError("KITTI sweeps are float32, which does not hold these coordinates exactly")
    if "intensity" in cloud.attributes:
        rows["intensity"] = cloud.attributes["intensity"]
    return rows.tobytes()
