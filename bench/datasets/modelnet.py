"""ModelNet: meshes made into clouds, the same on every machine: sampled by area, scaled, voxelised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...codecs.cloud import PointCloud
from ...codecs.errors import CloudError
from .base import CloudFile

#: Points drawn on a mesh, as pcc_geo_cnn_v2 does; fewer remain after voxelising.
SAMPLES = 500_000


@dataclass(frozen=True)
class MeshCloud(CloudFile):
    """A cloud sampled on the mesh in a file.

    The longest side of the mesh spans the grid.  The generator is seeded by the file's hash, so that a cloud depends
    on its mesh alone.
    """

    def fingerprint(self) -> dict[str, Any]:
        """That of the file, with the sampling."""
        return {**super().fingerprint(), "samples": SAMPLES}

    def _read(self) -> PointCloud:
        from ...codecs.formats import read_mesh

        mesh = read_mesh(self.path)
        depth = self.bit_depth or 10
        areas = mesh.areas()
        total = areas.sum()
        if not total > 0:
            raise CloudError(f"{self.path}: the mesh has no area to sample")
        generator = np.random.Generator(np.random.PCG64(int(self.source_sha256[:16], 16)))
        faces = mesh.faces[np.searchsorted(np.cumsum(areas) / total, generator.random(SAMPLES), side="right")]
        points = _on_triangles(mesh.vertices[faces], generator)
        low, high = points.min(axis=0), points.max(axis=0)
        scale = ((1 << depth) - 1) / max(float((high - low).max()), np.finfo(np.float64).tiny)
        voxels = np.unique(np.rint((points - low) * scale).astype(np.int32), axis=0)
        return PointCloud(voxels, bit_depth=depth, repeats_dropped=SAMPLES - len(voxels))


def _on_triangles(corners: npt.NDArray[np.float64], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """A uniform point on each triangle.

    Args:
        corners: (n, 3, 3) corner, axis.
        generator: source of randomness.

    Returns:
        (n, 3) points.
    """
    # The square root makes the distribution uniform over the triangle [Osada et al. 2002].
    root = np.sqrt(generator.random((len(corners), 1)))
    along = generator.random((len(corners), 1))
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    points: npt.NDArray[np.float64] = (1 - root) * a + root * (1 - along) * b + root * along * c
    return points
