"""`synthetic`: the embedded data set, made from formulas: clothed figures and objects as a scanner would see them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ....codecs.cloud import PointCloud
from ..base import CloudRef, Dataset

#: Raised whenever a recipe gives other points than before.
VERSION = 1
#: Connected pieces smaller than this share of a figure's height in voxels, squared, are dropped as crumbs.
_CRUMB_SHARE = 0.003


@dataclass(frozen=True)
class SyntheticCloud(CloudRef):
    """A cloud made from a recipe.

    Attributes:
        scene: function of `figures` that builds the surface.
        scale: voxels per unit of the scene (millimetres, about).
        bit_depth: of the grid.
    """

    name: str
    scene: str
    scale: float
    bit_depth: int
    dataset: str = "synthetic"

    @property
    def source_sha256(self) -> str:
        """Hash of the recipe."""
        return hashlib.sha256(repr((VERSION, self)).encode()).hexdigest()

    def fingerprint(self) -> dict[str, Any]:
        """Hash of the recipe."""
        return {"source_sha256": self.source_sha256}

    def load(self) -> PointCloud:
        """The cloud, made now: the same points on every machine."""
        from . import figures, voxels

        side = float(1 << self.bit_depth)
        scene = getattr(figures, self.scene)(self.scale)
        points = voxels.shell(scene, self.bit_depth, self.scale, (side / 2, 14 * self.scale, side / 2))
        cameras = [(turn / 12, height) for turn in range(12) for height in (0.02, 0.11)]
        points = voxels.scanned(points, cameras)
        points = voxels.without_crumbs(points, max(1, int(_CRUMB_SHARE * (1000 * self.scale) ** 2)))
        return PointCloud(points.astype(np.int32), bit_depth=self.bit_depth)


_CLOUDS = (
    SyntheticCloud("gown", "gown", 0.6, 10),
    SyntheticCloud("coat", "coat", 0.6, 10),
    SyntheticCloud("hiker", "hiker", 0.6, 10),
    SyntheticCloud("tiny-gown", "gown", 0.06, 7),
    SyntheticCloud("tiny-coat", "coat", 0.06, 7),
)


@dataclass(frozen=True)
class SyntheticSet(Dataset):
    """The clouds of the recipes; those named `tiny-...` are for tests, and run only when asked for."""

    key: ClassVar[str] = "synthetic"
    name: str = "synthetic"
    title: str = "procedural clothed figures and objects, embedded"

    def available(self) -> dict[str, CloudRef]:
        """Every recipe."""
        return {cloud.name: cloud for cloud in _CLOUDS}

    @property
    def default(self) -> Sequence[str]:
        """All but the tiny ones."""
        return tuple(cloud.name for cloud in _CLOUDS if not cloud.name.startswith("tiny-"))
