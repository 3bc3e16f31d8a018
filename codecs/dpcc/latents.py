"""Latents: what the coder of their places learns from: the latents of training clouds, on grids of many steps.

Streams hold these places without loss, in the contexts of `sparse.occupancy`.  On validation shapes at the codec's
rates they take 21 % fewer bytes than by the octree coder, and 3 % fewer than in contexts that learned whole surfaces
instead (those of the codec `sparse`).  The published bottleneck of coordinates (`model.Coordinates`) codes each
latent on its own: at the mean error of the grid it took 8 to 11 bits a latent (estimated), where these contexts take
2 to 2.4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..blocks import Blocks
from ..octree.occupancy import distinct, keys_of
from ..sparse.experience import ContextTrainer, cloud_of
from ..sparse.occupancy import Keys
from .coding import BLOCK_POINTS
from .config import TrainingConfig
from .dataset import scan
from .hierarchy import Floats, on_grid, spacing, thin, voxel_grid
from .sampling import split

#: Points of a cloud that are enough.
_MAX_POINTS = 80_000
#: Steps of grids, over the operating point's own: what any rate may ask for.
_LEAST_SHARE, _MOST_SHARE = 0.6, 1.6


class LatentTrainer(ContextTrainer):
    """A training run of the contexts in which latents are coded.

    Args:
        config: its configuration.
        blocks: training blocks; those of one source make a cloud again.
        files_sha256: hashes of the files that they come from.
    """

    columns = ("point",)

    def __init__(self, config: TrainingConfig, blocks: Blocks, files_sha256: tuple[str, ...] = ()) -> None:
        self.config, self.blocks = config, blocks
        training, occupancy = config.training, config.occupancy
        points = [point.model_dump(mode="json") for point in config.model.points]
        record = {"points": points, "scanned": config.data.scanned, "training files": files_sha256}
        super().__init__(training.checkpoint_dir, occupancy.clouds, occupancy.units, training.seed, record)

    def draw(self, rng: np.random.Generator) -> tuple[dict[str, float], Keys]:
        """Latents of a cloud at one operating point; the cloud is turned, and sometimes seen as by a scanner."""
        points = cloud_of(self.blocks, rng)[:, rng.permutation(3)].astype(np.float64)
        points = np.where(rng.random(3) < 0.5, points.max(axis=0) - points, points) + rng.integers(0, 64, 3)
        scanned = bool(rng.random() < self.config.data.scanned)
        if scanned:
            points = scan(points, float(np.ptp(points, axis=0).max()), rng)
        number = int(rng.integers(len(self.config.model.points)))
        point = self.config.model.points[number]
        share = point.grid_share * rng.uniform(_LEAST_SHARE, _MOST_SHARE)
        cells = _latents(_part(points, rng), point.ratio, self.config.model.stages, share, voxelised=not scanned)
        return {"point": number + 1}, distinct(keys_of(cells))


def _part(points: Floats, rng: np.random.Generator) -> Floats:
    """At most `_MAX_POINTS` of a cloud: a slab of it."""
    if len(points) <= _MAX_POINTS:
        return points
    order = np.argsort(points[:, rng.integers(3)], kind="stable")
    start = int(rng.integers(len(points) - _MAX_POINTS + 1))
    return points[order[start : start + _MAX_POINTS]]


def _latents(points: Floats, ratio: float, stages: int, share: float, *, voxelised: bool) -> npt.NDArray[np.int64]:
    """Cells of the latents of a cloud, thinned in blocks as the codec does."""
    order, offsets = split(points, BLOCK_POINTS)
    left = points[order]
    for _ in range(stages):
        rows, offsets = thin(left, offsets, ratio)
        left = left[rows]
    origin, step = voxel_grid(left, share) if voxelised else (left.min(axis=0), share * spacing(left))
    return on_grid(left, origin, step)[0]
