"""Secondary metrics: local density, normals and decibels by spacing, which say what D1 and D2 do not.

They are those of D-PCC (He et al., CVPR 2022; see `local_density`) for whole clouds.  Its radii and thresholds are
for patches of a size of its own; here they follow the input's spacing, so that they mean the same on every cloud, and
the passport states them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .distortion import Distortion, psnr_db
from .errors import MetricError
from .local_density import Tree, density_difference, normals_f1
from .normals import sorted_distinct, unoriented_normals

#: Radius of the density, and how far off a point of the right place is, over the input's spacing.
RADIUS_SPACINGS = 4.0
HIT_SPACINGS = 1.0
#: How far off a right normal is: the published length of the difference for scans.
HIT_NORMAL_DISTANCE = 0.5
#: Points of each cloud around which the density is taken.
CENTRES = 10_000
_SEED = 0


@dataclass(frozen=True)
class Secondary:
    """The figures of a decoded cloud; one that does not exist is None.

    Attributes:
        density_difference: relative difference of the local densities, 0 for equal clouds (see `DensityDifference`).
        density_count_ab, density_count_ba: its part of the numbers of neighbours, from the input and back.
        density_distance_ab, density_distance_ba: its part of their mean distances.
        normals_f1: share of points that are right in place and normal, 0 to 1.
        d1_spacing_psnr_db, d2_spacing_psnr_db: PSNR with the largest nearest-neighbour distance as peak.
    """

    density_difference: float | None
    density_count_ab: float | None
    density_count_ba: float | None
    density_distance_ab: float | None
    density_distance_ba: float | None
    normals_f1: float | None
    d1_spacing_psnr_db: float | None
    d2_spacing_psnr_db: float | None

    def columns(self) -> dict[str, float | None]:
        """The figures by name: the secondary columns of a row."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class SecondaryReference:
    """An input cloud made ready once, to measure many decoded clouds against.

    Args:
        points: (n, 3) the input's points; repeated ones count once.
        normals: (n, 3) their normals.

    Raises:
        MetricError: fewer than two distinct points, or coordinates that are not finite.
    """

    def __init__(self, points: npt.ArrayLike, normals: npt.ArrayLike) -> None:
        distinct, row = sorted_distinct(np.asarray(points))
        if len(distinct) < 2:
            raise MetricError("secondary metrics need an input of two distinct points")
        self._normals = np.empty((len(distinct), 3))
        self._normals[row] = normals  # of repeated points, one stays
        self._tree = Tree(distinct)
        self._centres = _drawn(distinct)
        spacing = float(np.median(self._tree.spacings(self._centres)))
        self._radius, self._hit = RADIUS_SPACINGS * spacing, HIT_SPACINGS * spacing
        self._peak = self._tree.peak()
        self.passport: dict[str, Any] = {
            "spacing": spacing,
            "radius": self._radius,
            "centres": len(self._centres),
            "hit_distance": self._hit,
            "hit_normal_distance": HIT_NORMAL_DISTANCE,
            "decoded_normals": "estimated, of the sign that fits the input's",
            "peak": self._peak,
        }

    def measure(self, points: npt.ArrayLike, result: Distortion) -> Secondary:
        """Measure a decoded cloud.

        Args:
            points: (m, 3) the decoded points; repeated ones count once.
            result: what D1 and D2 say of them.

        Raises:
            MetricError: coordinates that are not finite or too large, or open3d does not load.
        """
        decoded = sorted_distinct(np.asarray(points))[0]  # the order in which the input's normals were estimated
        tree = Tree(decoded)
        density = density_difference(self._tree, tree, self._radius, centres=(self._centres, _drawn(decoded)))
        nearest = self._tree.nearest(decoded)
        normals = unoriented_normals(decoded)
        normals *= np.where((normals * self._normals[nearest]).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        f1 = normals_f1(
            self._tree,
            self._normals,
            decoded,
            normals,
            max_distance=self._hit,
            max_normal_distance=HIT_NORMAL_DISTANCE,
        )
        return Secondary(
            density.value,
            density.count_ab,
            density.count_ba,
            density.distance_ab,
            density.distance_ba,
            f1.f1,
            self._psnr(result.d1_mse),
            self._psnr(result.d2_mse),
        )

    def _psnr(self, mse: float | None) -> float | None:
        return psnr_db(mse, self._peak) if mse else None


def _drawn(distinct: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Some of the points, evenly drawn and the same for the same set."""
    if len(distinct) <= CENTRES:
        return distinct
    return distinct[np.random.default_rng(_SEED).choice(len(distinct), CENTRES, replace=False)]
