"""Small clouds by formulas in integers, the same on every machine: what the golden streams code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pccbench.codecs.cloud import PointCloud


def surface() -> PointCloud:
    """Two closed surfaces that touch, dense, 7 bits: about 9,000 points."""
    axis = np.arange(128)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    ball = (x - 52) ** 2 + (y - 60) ** 2 + (z - 64) ** 2
    flat = 4 * (x - 84) ** 2 + (y - 60) ** 2 + 2 * (z - 52) ** 2
    is_on = (abs(ball - 30**2) <= 30) | (abs(flat - 38**2) <= 76)
    return PointCloud(np.argwhere(is_on).astype(np.int32), bit_depth=7)


def scatter() -> PointCloud:
    """Isolated points, 9 bits: 600 of a sequence that fills space evenly (multiples of irrational numbers)."""
    n = np.arange(1, 601, dtype=np.int64)[:, None]
    steps = np.array([[int(2**32 * part) for part in (0.8191725134, 0.6710436067, 0.5497004779)]], dtype=np.int64)
    points = ((n * steps) % 2**32) >> 23
    return PointCloud(np.unique(points, axis=0).astype(np.int32), bit_depth=9)


def single() -> PointCloud:
    """One point, 5 bits."""
    return PointCloud(np.array([[3, 31, 16]], dtype=np.int32), bit_depth=5)


def sweep() -> PointCloud:
    """Real numbers, metres: 1,500 points on eight rings, as of a laser scanner; quarters of a millimetre."""
    n = np.arange(1500, dtype=np.int64)
    ring, turn = n % 8, (n // 8) * 33
    x = (turn % 2000 - 1000) * (ring + 3)
    y = (abs(turn % 4000 - 2000) - 1000) * (ring + 3)
    points = np.stack([x * 8, y * 8, ring * 1000 - (x * y >> 12)], axis=1) / 4096
    return PointCloud(points.astype(np.float32))


CLOUDS: dict[str, Callable[[], PointCloud]] = {
    "surface": surface,
    "scatter": scatter,
    "single": single,
    "sweep": sweep,
}
