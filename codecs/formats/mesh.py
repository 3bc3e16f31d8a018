"""Mesh: triangles, and points sampled on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import CloudError


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: (v, 3) float64.
        faces: (f, 3) int64, each row three rows of `vertices`.
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        bad = int((~np.isfinite(self.vertices)).any(axis=1).sum())
        if bad:
            raise CloudError(f"{bad:,} of {len(self.vertices):,} vertices have a coordinate that is not finite")
        if len(self.faces) and (int(self.faces.min()) < 0 or int(self.faces.max()) >= len(self.vertices)):
            low, high = int(self.faces.min()), int(self.faces.max())
            raise CloudError(f"faces name vertices {low}..{high}, but there are 0..{len(self.vertices) - 1}")

    def areas(self) -> npt.NDArray[np.float64]:
        """Area of each triangle, (f,)."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        ab, ac = b - a, c - a
        x = ab[:, 1] * ac[:, 2] - ab[:, 2] * ac[:, 1]
        y = ab[:, 2] * ac[:, 0] - ab[:, 0] * ac[:, 2]
        z = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
        return np.sqrt(x * x + y * y + z * z) * 0.5


def triangles(sizes: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Polygons as fans of triangles; those of fewer than three corners are dropped.

    Args:
        sizes: (p,) corners of each polygon.
        indices: corners of all polygons, one polygon after the other.

    Returns:
        (f, 3) corners.
    """
    n_each = np.maximum(sizes - 2, 0)
    total = int(n_each.sum())
    if not total:
        raise CloudError("no faces: expected a mesh")
    first = np.repeat(np.cumsum(sizes) - sizes, n_each)
    corner = np.arange(total) - np.repeat(np.cumsum(n_each) - n_each, n_each) + 1
    return np.stack([indices[first], indices[first + corner], indices[first + corner + 1]], axis=1)
