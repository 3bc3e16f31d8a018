"""Hierarchy: a cloud and what is left of it after each thinning, with all that the network asks about neighbours.

Everything here is free of learned parameters: it is computed once, before the network runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .neighbours import Points, Rows, around, nearest, nearest_k
from .sampling import farthest, sample_counts

#: Neighbours that a latent's scale is the root mean square distance of.
SCALE_NEIGHBOURS = 8

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stage:
    """One thinning, from n points to m.

    Attributes:
        xyz: (m, 3) points that are left.
        rows: (m,) which of the n they are (where latents were moved to a grid: which they were).
        parent: (n,) nearest of the m for each of the n.
        near: (m, k) rows of the nearest of the n.
        mask: (m, k) which of these have this point as their parent; at least one in a row.
        counts: (m,) how many of the n have it as their parent, not limited by k.
        mean_distance: (m,) sum of the distances of those in `mask`, divided by `counts`; 0 for a point without any.
    """

    xyz: Floats
    rows: Rows
    parent: Rows
    near: Rows
    mask: npt.NDArray[np.bool_]
    counts: Floats
    mean_distance: Floats


@dataclass(frozen=True, eq=False)
class Latents:
    """The points that are coded.

    Attributes:
        cells: (m, 3) int64 distinct coordinates on the latents' grid, sorted by z, then y, then x.
        origin: (3,) place of the cell 0, 0, 0.
        step: width of a cell.
    """

    cells: npt.NDArray[np.int64]
    origin: Floats
    step: float

    def __len__(self) -> int:
        """Number of latents."""
        return len(self.cells)

    @property
    def xyz(self) -> Floats:
        """(m, 3) places: one product and one sum in float64, the same everywhere."""
        return self.cells.astype(np.float64) * self.step + self.origin

    def neighbourhood(self, k: int) -> tuple[Rows, Floats, Floats]:
        """Neighbours (m, k), places relative to them in units of the scale (m, k, 3), and scales (m,).

        The scale of a latent is the root mean square distance to its nearest `SCALE_NEIGHBOURS`: sums of integers, a
        division and a root, which are rounded the same everywhere.
        """
        rows, squares = around(self.cells, max(k, SCALE_NEIGHBOURS))
        others = min(SCALE_NEIGHBOURS, max(len(self) - 1, 1))
        mean = squares[:, :SCALE_NEIGHBOURS].sum(axis=1) / others
        scale = np.sqrt(np.maximum(mean, 1.0))
        relative = (self.cells[rows[:, :k]] - self.cells[:, None]) / scale[:, None, None]
        return rows[:, :k], relative, scale * self.step


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A cloud in blocks and its thinnings.

    Attributes:
        xyz: (n, 3) the cloud, blocks one after the other.
        stages: first thinning to last.
        latents: what the last one left.
        owner: for each level, the cloud first, the latent that each point descends to.
    """

    xyz: Floats
    stages: tuple[Stage, ...]
    latents: Latents
    owner: tuple[Rows, ...]

    def level(self, number: int) -> Floats:
        """Points of a level: 0 is the cloud."""
        return self.xyz if number == 0 else self.stages[number - 1].xyz


def density(points: Points, kept: Points, k: int, workers: int = 1) -> dict[str, Any]:
    """What `Stage` says of the neighbours of `kept` among `points`, as a mapping of its fields.

    Counts take in all points whose nearest kept point it is; distances only those among the k nearest (this is how
    the published code has it).
    """
    _, parent = nearest(points, kept, workers)
    counts = np.bincount(parent, minlength=len(kept)).astype(np.float64)
    near = nearest_k(kept, points, k, workers)
    mask = parent[near] == np.arange(len(kept))[:, None]
    if len(points) < k:  # repeats of the last one
        mask[:, len(points) :] = False
    distance = np.sqrt(((points[near] - kept[:, None]) ** 2).sum(axis=2))
    mean = (distance * mask).sum(axis=1) / np.maximum(counts, 1.0)
    # Latents on a grid may be nobody's parent: attention needs somebody to look at.
    mask[~mask.any(axis=1), 0] = True
    return {"parent": parent, "near": near, "mask": mask, "counts": counts, "mean_distance": mean}


def thin(xyz: Floats, offsets: npt.NDArray[np.int64], ratio: float) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Rows of the farthest points of each block, one of `ratio`, and the offsets of what is left."""
    counts = sample_counts(np.diff(offsets), ratio)
    return farthest(xyz, offsets, counts), np.concatenate([[0], np.cumsum(counts)])


def on_grid(xyz: Floats, origin: Floats, step: float) -> tuple[npt.NDArray[np.int64], Rows]:
    """Distinct nearest cells of points, sorted by z, then y, then x, and the first point in each."""
    cells = np.maximum(np.floor((xyz - origin) / step + 0.5), 0).astype(np.int64)
    key = cells[:, 2] << 42 | cells[:, 1] << 21 | cells[:, 0]
    _, first = np.unique(key, return_index=True)
    return cells[first], first


def build(
    xyz: Floats,
    offsets: npt.NDArray[np.int64],
    ratios: tuple[float, ...],
    grid: Any,
    *,
    k: int,
    workers: int = 1,
) -> Hierarchy:
    """Thin a cloud.

    Args:
        xyz: (n, 3) distinct points, blocks one after the other.
        offsets: (blocks + 1,) of the blocks.
        ratios: of each thinning.
        grid: given the points that are left at the end, the origin and step of the grid of the latents.
        k: neighbours.
        workers: threads of the searches; results do not depend on it.
    """
    chain = [xyz]
    kept = []
    for ratio in ratios:
        rows, offsets = thin(chain[-1], offsets, ratio)
        kept.append(rows)
        chain.append(chain[-1][rows])
    origin, step = grid(chain[-1])
    cells, first = on_grid(chain[-1], origin, step)
    latents = Latents(cells, origin, step)
    kept[-1] = kept[-1][first]
    chain[-1] = latents.xyz
    stages = tuple(
        Stage(xyz=after, rows=rows, **density(before, after, k, workers))
        for before, after, rows in zip(chain, chain[1:], kept, strict=False)
    )
    owner = [np.arange(len(latents))]
    for stage in reversed(stages):
        owner.append(owner[-1][stage.parent])
    return Hierarchy(xyz, stages, latents, tuple(owner[::-1]))


def spacing(points: Points, workers: int = 1) -> float:
    """Median distance of a point to its nearest four others; 1 where that is nothing."""
    if len(points) < 2:
        return 1.0
    rows = nearest_k(points, points, min(5, len(points)), workers)[:, 1:]
    distances = np.sqrt(((points[rows] - points[:, None]) ** 2).sum(axis=2))
    return float(np.median(distances.mean(axis=1))) or 1.0


def voxel_grid(points: Points, share: float) -> tuple[Floats, float]:
    """Grid for the latents of a voxelised cloud: a whole number of voxels, near `share` of their spacing.

    At the same share, steps that are no whole number cost about half a decibel of D1: tried in sixteenths.
    """
    step = float(max(1, round(share * spacing(points))))
    return np.full(3, (step - 1) / 2), step
