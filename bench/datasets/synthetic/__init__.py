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
        height = 1000 * self.scale
        points = voxels.without_crumbs(points, max(1, int(_CRUMB_SHARE * (height * height))))
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
        488_794,
        "a148122ba3c9a6c9fbf55fcb756465f623e9ee993ab1a26da4bb501f5f82561c",
        scene="gown",
        scale=0.6,
    ),
    ScannedSubject(
        "coat",
        10,
        447_323,
        "7bcdb60f2ddc9391ca21b8bc387c0447888cb2860f8ba48a2297c0c306a829b1",
        scene="coat",
        scale=0.6,
    ),
    ScannedSubject(
        "hiker",
        10,
        521_163,
        "58eb628817a8254cca59cf7ea9713a6577332aa37312a354a481e85808619b6c",
        scene="hiker",
        scale=0.6,
    ),
    ScannedSubject(
        "amphora",
        10,
        286_955,
        "44d8f129903c2458afdc1328139dc8eb6383388d4e70b7df595d2f6cd51c307a",
        scene="amphora",
        scale=0.4,
    ),
    ScannedSubject(
        "shrub",
        10,
        121_072,
        "3374aaf1f2bee9d46d4bc9b7bc4f8a3b97c086631bb746995b2640790dbde78c",
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
        4_676,
        "95e5c423fa0c11465f1f9a428d94463ab28978c1ca311f992d2fff2b8f35bd6d",
        scene="gown",
        scale=0.06,
    ),
    ScannedSubject(
        "tiny-coat",
        7,
        4_487,
        "5ba2abdb86212be031d78755a311d7012d3c493d5b0f79d758d663ad7bde04cc",
        scene="coat",
        scale=0.06,
    ),
    ScannedSubject(
        "tiny-shrub",
        7,
        6_045,
        "45722a8b729f3a787ec9c88eac14d120b958fdfc79ac1c4283f69e9d86850a5d",
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
