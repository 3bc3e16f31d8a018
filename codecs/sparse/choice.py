"""Choice: the encoder's levels, by what they would do to the distortion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..deepcompress.cells import CELL_VOXELS, Cells, cells_of, keys_of, neighbours_of, points_of
from ..deepcompress.decision import choose, d1_mse, measure
from ..deepcompress.upsampler import at_positions
from .completion import Candidates


@dataclass(frozen=True, eq=False)
class Choice:
    """Levels, and what is expected of them.

    Attributes:
        levels: (blocks,) uint8.
        mse: mean squared error.
        error_sq: (blocks,) sum of the squared errors of each block, of both directions.
    """

    levels: npt.NDArray[np.uint8]
    mse: float
    error_sq: npt.NDArray[np.float64]


def chosen_levels(
    found: Candidates,
    points: npt.NDArray[np.int32],
    block: npt.NDArray[np.int64],
    blocks: int,
    other_bits: float,
    normals: Normals | None = None,
) -> Choice:
    """The level of each block that makes the distortion of the whole small.

    Args:
        found: the candidates.
        points: (n, 3) voxels of the input on the grid of the candidates.
        block: (cells,) block of each cell of the candidates.
        blocks: their number.
        other_bits: size of the rest of the stream, which tells what a bit is worth.
        normals: of the points, to count point-to-plane errors.
    """
    cells = cells_of(points)
    everywhere, levels, block = _with_all(found, cells, block)
    target = at_positions(cells, everywhere)
    along = None if normals is None else normals.of(target)
    costs = measure(target, neighbours_of(everywhere), levels, block, blocks, along)
    picked = choose(costs, other_bits)
    row = np.arange(blocks)
    error_sq = costs.from_input_sq[row, picked] + costs.from_output_sq[row, picked]
    return Choice(picked, d1_mse(costs, picked), error_sq)


def _with_all(
    found: Candidates, cells: Cells, block: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Positions, levels and blocks with the cells of the input that an earlier completion lost."""
    own = keys_of(found.positions)
    lost = cells.positions[~np.isin(keys_of(cells.positions), own)]
    if not len(lost):
        return found.positions, found.levels, block
    everywhere = np.concatenate([found.positions, lost])
    levels = np.concatenate([found.levels, np.zeros((len(lost), CELL_VOXELS), np.uint8)])
    # What a lost cell costs does not depend on any level there: it may count to any block.
    return everywhere, levels, np.concatenate([block, np.zeros(len(lost), np.int64)])


class Normals:
    """Normals of an input, found again by voxel."""

    def __init__(self, points: npt.NDArray[np.int32], normals: npt.NDArray[np.floating]) -> None:
        # Repeated points: the normal of the first counts.
        self.keys, first = np.unique(keys_of(points), return_index=True)
        self.normals = np.ascontiguousarray(normals[first], np.float32)

    def of(self, target: Cells) -> npt.NDArray[np.float32]:
        """Normals of the voxels of cells, in their order."""
        return self.normals[np.searchsorted(self.keys, keys_of(points_of(target.positions, target.bits)))]


def normals_of(cloud: PointCloud) -> Normals:
    """The cloud's own normals, or estimated ones."""
    from ...metrics.normals import estimate_normals

    points = np.asarray(cloud.points, np.int32)
    return Normals(points, estimate_normals(points)[0] if cloud.normals is None else cloud.normals)
