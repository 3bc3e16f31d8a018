"""`synthetic`: the embedded data set, made from formulas.

Clothed figures and an amphora as dense surface scans, a shrub as a sparse one, and a turn of a laser scanner in a
street.  Every machine makes the same points: each cloud is checked against the hash recorded here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ....codecs.cloud import PointCloud
from ....codecs.errors import CloudError
from ..base import CloudRef, Dataset

#: Connected pieces smaller than this share of a subject's height in voxels, squared, are dropped as crumbs.
_CRUMB_SHARE = 0.003


@dataclass(frozen=True)
class SyntheticCloud(CloudRef):
    """A cloud made from a recipe.

    Attributes:
        bit_depth: of the grid.
        points: that come out.
        geometry_sha256: `PointCloud.geometry_sha256()` of what comes out.
    """

    name: str
    bit_depth: int
    points: int
    geometry_sha256: str
    dataset: str = "synthetic"

    @property
    def source_sha256(self) -> str:
        """Hash of the cloud: whatever the recipe says, this is what comes of it."""
        return self.geometry_sha256

    def fingerprint(self) -> dict[str, Any]:
        """Hash of the cloud."""
        return {"source_sha256": self.source_sha256}

    def load(self) -> PointCloud:
        """The cloud, made now.

        Raises:
            CloudError: this machine makes another cloud than the recorded one.
        """
        cloud = PointCloud(self._voxels(), bit_depth=self.bit_depth)
        found = cloud.geometry_sha256()
        if found != self.geometry_sha256:
            raise CloudError(
                f"{self.dataset} {self.name}: expected {self.points:,} points with hash {self.geometry_sha256[:12]}, "
                f"made {len(cloud):,} with hash {found[:12]}: the recipe was changed, or this machine's arithmetic "
                "is not that of IEEE 754"
            )
        return cloud

    @abstractmethod
    def _voxels(self) -> npt.NDArray[np.int32]:
        """(n, 3) coordinates without repeats."""


@dataclass(frozen=True)
class ScannedSubject(SyntheticCloud):
    """What cameras all around see of the surface of a subject.

    Attributes:
        scene: function of `figures` or `objects` that builds the surface.
        scale: voxels per unit of the scene; subjects are about 1000 units tall.
        kept: share of the voxels that are kept, drawn at random; sparse below 1.
    """

    scene: str = ""
    scale: float = 1.0
    kept: float = 1.0

    def _voxels(self) -> npt.NDArray[np.int32]:
        from . import figures, objects, voxels
        from .field import uniforms

        side = float(1 << self.bit_depth)
        build = getattr(figures, self.scene, None) or getattr(objects, self.scene)
        points = voxels.shell(build(self.scale), self.bit_depth, self.scale, (side / 2, 14 * self.scale, side / 2))
        cameras = [(turn / 12, height) for turn in range(12) for height in (0.02, 0.11)]
        points = voxels.scanned(points, cameras)
        points = voxels.without_crumbs(points, max(1, int(_CRUMB_SHARE * (1000 * self.scale) ** 2)))
        if self.kept < 1.0:
            points = points[uniforms(1, len(points)) < self.kept]
        return points.astype(np.int32)


@dataclass(frozen=True)
class StreetSweep(SyntheticCloud):
    """A turn of a laser scanner in a street.

    Attributes:
        step_m: edge of a voxel.
        beams: lasers of the scanner.
        columns: directions in a turn.
    """

    step_m: float = 0.03
    beams: int = 64
    columns: int = 2000

    def _voxels(self) -> npt.NDArray[np.int32]:
        from .street import on_grid, sweep

        return on_grid(sweep(self.beams, self.columns, seed=7), self.bit_depth, self.step_m)


_CLOUDS: tuple[SyntheticCloud, ...] = (
    ScannedSubject(
        "gown",
        10,
        478_886,
        "20c36040f16fd861a7c655c1a2cc3925b08ca0979970cf027fdceecf1496a156",
        scene="gown",
        scale=0.6,
    ),
    ScannedSubject(
        "coat",
        10,
        428_931,
        "4dd6f9f5123dc81d67b744823fba8552075a706f1ee2fb1431e4a3a3779a727d",
        scene="coat",
        scale=0.6,
    ),
    ScannedSubject(
        "hiker",
        10,
        503_899,
        "0339a5c36396e6b5c3064df55ef250e4e135d90ee61b52822f6dfbddcd09a80e",
        scene="hiker",
        scale=0.6,
    ),
    ScannedSubject(
        "amphora",
        10,
        283_758,
        "6a566b857032dfb78e9e44df11bf1aaa7311acf9b08d8cbbd60bf3150140a9b7",
        scene="amphora",
        scale=0.4,
    ),
    ScannedSubject(
        "shrub",
        10,
        118_803,
        "74c676825ffb1015ed4d84fb2fbe61e70dd49ba9efa062841f284e32e915ff7a",
        scene="shrub",
        scale=0.4,
        kept=0.3,
    ),
    StreetSweep(
        "street", 12, 109_041, "1aa9164af4db94451d51354527558338e13a74b6e611a262d4cc427f7dd892be", step_m=0.03
    ),
    ScannedSubject(
        "tiny-gown",
        7,
        4_536,
        "860951a7c2011961c1f7aa6472e993d1ce2064065a3c9c022aa30f760e93df27",
        scene="gown",
        scale=0.06,
    ),
    ScannedSubject(
        "tiny-coat",
        7,
        4_299,
        "e37772c38379c310c4c3748e14e5cdfcd074304110536fef3bd20e813a0415b8",
        scene="coat",
        scale=0.06,
    ),
    ScannedSubject(
        "tiny-shrub",
        7,
        5_686,
        "d8d8d2200a7f12089de35eead5b0bee90dd2724afafdb1bf3f65de5349296b30",
        scene="shrub",
        scale=0.1,
        kept=0.3,
    ),
    StreetSweep(
        "tiny-street",
        10,
        7_129,
        "7f7ef50605a2be31240fff02f5801cc823eae6c11a06be8ccc35de349b438e5c",
        step_m=0.12,
        beams=32,
        columns=240,
    ),
)


@dataclass(frozen=True)
class SyntheticSet(Dataset):
    """The clouds of the recipes; those named `tiny-...` are for tests, and run only when asked for."""

    key: ClassVar[str] = "synthetic"
    name: str = "synthetic"
    title: str = "procedural scans of clothed figures and objects, dense and sparse, and a street; embedded"

    def available(self) -> dict[str, CloudRef]:
        """Every recipe."""
        return {cloud.name: cloud for cloud in _CLOUDS}

    @property
    def default(self) -> Sequence[str]:
        """All but the tiny ones."""
        return tuple(cloud.name for cloud in _CLOUDS if not cloud.name.startswith("tiny-"))
