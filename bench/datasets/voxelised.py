"""Voxelised: a cloud of real coordinates on a grid of a given step, as papers on learned codecs code LiDAR sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...codecs.cloud import MAX_BIT_DEPTH, PointCloud
from ...codecs.errors import CloudError
from .base import CloudFile


@dataclass(frozen=True)
class VoxelisedCloud(CloudFile):
    """The voxels that the points of a file lie in, from the lowest corner of its bounding box on.

    The bit depth is the smallest that holds them.  Distortion is against the voxels, not against the points.

    Attributes:
        step: side of a voxel, in the unit of the file.
    """

    step: float = 1.0

    def fingerprint(self) -> dict[str, Any]:
        """That of the file, with the step."""
        return {**super().fingerprint(), "step": self.step}

    def _read(self) -> PointCloud:
        from ...codecs.formats import read_cloud

        points: npt.NDArray[Any] = read_cloud(self.path, bit_depth=None, columns=self.columns).points
        if not len(points):
            raise CloudError(f"{self.path}: an empty cloud")
        wide = points.astype(np.float64)
        voxels = np.floor((wide - wide.min(axis=0)) / self.step)
        last = float(voxels.max())
        if not last < 1 << MAX_BIT_DEPTH:
            raise CloudError(
                f"{self.path}: {last:g} voxels of {self.step:g} a side, expected below 2**{MAX_BIT_DEPTH}"
            )
        return PointCloud(voxels.astype(np.int32), max(int(last).bit_length(), 1), declared_peak=self.peak)
