"""Choice: the encoder's levels, by what they would do to the distortion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..deepcompress.cells import CELL_SIDE, CELL_VOXELS, Cells, cells_of, keys_of, neighbours_of, points_of
from ..deepcompress.decision import FAR_SQ, Costs, choose, d1_mse, measure
from ..deepcompress.upsampler import at_positions
from .completion import Candidates
from .regions import CentreErrors, Regions

#: Squared error of what a block cannot do.
_NEVER = 1e30
#: Points that a block puts out for each of the input's, at most.
_MOST_COMPLETED = 32


@dataclass(frozen=True, eq=False)
class Choice:
    """Levels, and what is expected of them.

    Attributes:
        levels: (blocks,) uint8; one more than the highest for a block that is better off with centres.
        mse: mean squared error.
        error_sq: (blocks,) sum of the squared errors of each block, of both directions.
    """

    levels: npt.NDArray[np.uint8]
    mse: float
    error_sq: npt.NDArray[np.float64]


def costs_of(
    found: Candidates,
    points: npt.NDArray[np.int32],
    block: npt.NDArray[np.int64],
    blocks: int,
    normals: Normals | None = None,
) -> Costs:
    """What each block adds to the distortion at each level.

    Args:
        found: the candidates.
        points: (n, 3) voxels of the input on the grid of the candidates.
        block: (cells,) block of each cell of the candidates.
        blocks: their number.
        normals: of the points, to count point-to-plane errors.
    """
    cells = cells_of(points)
    everywhere, levels, block = _with_all(found, cells, block)
    target = at_positions(cells, everywhere)
    along = None if normals is None else normals.of(points_of(target.positions, target.bits))
    # A third of a squared distance lies along a normal, where the direction is not known.
    far_sq = FAR_SQ if along is None else FAR_SQ / 3
    costs = measure(target, neighbours_of(everywhere), levels, block, blocks, along, far_sq)
    # Beyond its reach an error counts too little: where no surface is, it would seem best to fill space with points.
    inside = np.bincount(block, np.unpackbits(target.bits, axis=1).sum(axis=1), blocks)
    crowded = costs.passed > _MOST_COMPLETED * inside[:, None]
    crowded[:, -1] = False  # what passes all thresholds is put out in any case
    return replace(costs, from_output_sq=np.where(crowded, _NEVER, costs.from_output_sq))


def best_of(costs: Costs, other_bits: float) -> Choice:
    """The level of each block that makes the distortion of the whole small.

    Args:
        costs: of the blocks.
        other_bits: size of the rest of the stream, which tells what a bit is worth.
    """
    picked = choose(costs, other_bits)
    row = np.arange(len(picked))
    error_sq = costs.from_input_sq[row, picked] + costs.from_output_sq[row, picked]
    return Choice(picked, d1_mse(costs, picked), error_sq)


def with_rows(costs: Costs, rows: npt.NDArray[np.bool_], fixed: CentreErrors, passed: npt.NDArray[np.int64]) -> Costs:
    """Costs in which the blocks of `rows` add the same at each level, whatever the candidates say."""
    there, back = costs.from_input_sq.copy(), costs.from_output_sq.copy()
    there[rows], back[rows] = fixed.from_input_sq[rows, None], fixed.from_output_sq[rows, None]
    through = np.where(rows[:, None], passed[:, None], costs.passed)
    return Costs(there, back, through, costs.points + int(fixed.points[rows].sum()))


def with_column(
    costs: Costs, rows: npt.NDArray[np.bool_], other: CentreErrors, passed: npt.NDArray[np.int64]
) -> Costs:
    """Costs with one more level, which the blocks of `rows` alone can take."""
    there, back = (np.where(rows, values, _NEVER) for values in (other.from_input_sq, other.from_output_sq))
    return Costs(
        np.column_stack([costs.from_input_sq, there]),
        np.column_stack([costs.from_output_sq, back]),
        np.column_stack([costs.passed, np.where(rows, passed, 0)]),
        costs.points,
    )


def costs_at(costs: Costs, levels: npt.NDArray[np.uint8]) -> Costs:
    """Costs with one level, that of each block, (blocks, 1)."""
    at = np.arange(len(levels)), levels, None
    return Costs(costs.from_input_sq[at], costs.from_output_sq[at], costs.passed[at], costs.points)


def real_costs(
    regions: Regions,
    which: npt.NDArray[np.bool_],
    points: npt.NDArray[np.int32],
    output: npt.NDArray[np.int32],
    costs: Costs,
    every: int = 1,
) -> Costs:
    """Costs (blocks, 1) in which those of chosen blocks are measured, however far the nearest point is.

    Args:
        regions: the blocks.
        which: (blocks,) the chosen ones.
        points: (n, 3) voxels of the input.
        output: (m, 3) voxels that come out of those blocks, or one of each few of them.
        costs: of all blocks.
        every: for how many each of the output stands.
    """
    from ...metrics.neighbours import IndexedCloud, find_neighbours
    from ...metrics.workers import Workers

    inside = points[which[regions.of_voxels(points)]]
    if not len(inside) or not len(output):
        return costs
    workers, blocks = Workers(), len(regions)
    there, back = IndexedCloud(inside, workers), IndexedCloud(output, workers)
    block = regions.of_voxels(there.points.astype(np.int32))
    from_input = np.bincount(block, find_neighbours(there, back, workers).distance_sq, blocks)
    block = regions.of_cells(back.points.astype(np.int32) // CELL_SIDE)
    from_output = every * np.bincount(block, find_neighbours(back, there, workers).distance_sq, blocks)
    rows = which[:, None]
    return Costs(
        np.where(rows, from_input[:, None], costs.from_input_sq),
        np.where(rows, from_output[:, None], costs.from_output_sq),
        costs.passed,
        costs.points,
    )


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

    def of(self, voxels: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Normals (n, 3) of voxels of the input, in their order."""
        return self.normals[np.searchsorted(self.keys, keys_of(voxels))]


def normals_of(cloud: PointCloud) -> Normals:
    """The cloud's own normals, or estimated ones."""
    from ...metrics.normals import estimate_normals

    points = np.asarray(cloud.points, np.int32)
    return Normals(points, estimate_normals(points)[0] if cloud.normals is None else cloud.normals)
