"""Completion: from the voxels of a coarse grid to candidates on the fine one, each with a level of confidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..._jit import njit
from ..deepcompress.cells import CELL_SIDE, CELL_VOXELS, cells_of, keys_of, morton_of_raster, voxel_offsets
from ..deepcompress.decision import THRESHOLDS
from ..deepcompress.upsampler import at_positions
from ..octree.occupancy import distinct
from .exact import Use

Keys = npt.NDArray[np.int64]

#: Level of a voxel that passes every threshold.
CERTAIN = len(THRESHOLDS)
_AXIS_BITS = 21
_AXIS = (1 << _AXIS_BITS) - 1
_LOWEST, _STEP = float(THRESHOLDS[0]), float(THRESHOLDS[1] - THRESHOLDS[0])
#: Cells that candidates may lie in: half a kilobyte each for their levels, and twice that while levels are chosen.
MAX_CELLS = 1 << 19


class TooManyCellsError(ValueError):
    """Candidates would take too much memory."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Voxels that may be put out.

    Attributes:
        positions: (n, 3) int32 cells of 8**3 voxels, sorted by z, then y, then x.
        levels: (n, 512) uint8 in Morton order: how many thresholds a voxel passes; 0 for one that is no candidate.
    """

    positions: npt.NDArray[np.int32]
    levels: npt.NDArray[np.uint8]

    def count_passing(self, level: npt.NDArray[np.uint8] | int) -> int:
        """How many voxels `passing` would give."""
        return int(_count(self.levels, self._least(level)))

    def passing(self, level: npt.NDArray[np.uint8] | int) -> npt.NDArray[np.int32]:
        """Voxels (m, 3) that pass more thresholds than `level`, one number or one a cell."""
        return _collect(self.positions, self.levels, self._least(level), voxel_offsets())

    def _least(self, level: npt.NDArray[np.uint8] | int) -> npt.NDArray[np.uint8]:
        return np.full(len(self.levels), level, np.uint8) if isinstance(level, int) else level

    def keys_passing(self, level: int) -> Keys:
        """Sorted keys of the voxels that pass more thresholds than `level`."""
        return np.sort(keys_of(self.passing(level)))

    def with_known(self, known: npt.NDArray[np.bool_], keys: Keys) -> Candidates:
        """The same, but in the cells of `known` (n,) only the voxels with these keys pass, and they do always."""
        levels = self.levels.copy()
        levels[known] = 0
        cells = at_positions(cells_of(coordinates_of(keys)), self.positions)
        levels[known] = CERTAIN * np.unpackbits(cells.bits[known], axis=1)
        return Candidates(self.positions, levels)


def coordinates_of(keys: Keys) -> npt.NDArray[np.int32]:
    """(n, 3) coordinates of keys."""
    return np.stack([keys & _AXIS, keys >> _AXIS_BITS & _AXIS, keys >> 2 * _AXIS_BITS], axis=1).astype(np.int32)


def cells_touched(keys: Keys, factor: int, side: int = CELL_SIDE) -> npt.NDArray[np.int32]:
    """Cubes of `side` (at least `factor`) fine voxels that children of coarse voxels lie in, (n, 3), by z, y, x."""
    low = coordinates_of(keys) * factor
    first, last = low // side, (low + factor - 1) // side
    if side % factor == 0:  # no child is beyond the cube of the first
        return coordinates_of(distinct(keys_of(first)))
    found = []
    for x in (first[:, 0], last[:, 0]):
        for y in (first[:, 1], last[:, 1]):
            for z in (first[:, 2], last[:, 2]):
                found.append(keys_of(np.stack([x, y, z], axis=1)))
    return coordinates_of(distinct(np.concatenate(found)))


def cells_of_children(keys: Keys, factor: int) -> npt.NDArray[np.int32]:
    """Cells that children of coarse voxels lie in, (n, 3), by z, y, x.

    Raises:
        TooManyCellsError: there are more than `MAX_CELLS`.
    """
    positions = cells_touched(keys, factor)
    if len(positions) > MAX_CELLS:
        raise TooManyCellsError(f"candidates lie in {len(positions)} cells, expected at most {MAX_CELLS}")
    return positions


def candidates_of(
    keys: Keys, factor: int, compute: Callable[[Use], None], limit: int = 1 << _AXIS_BITS
) -> Candidates:
    """Candidates among the children of coarse voxels.

    Args:
        keys: sorted distinct keys of the coarse voxels.
        factor: between the grids.
        compute: hands over the logits of their children, as `ExactSurface.logits` does.
        limit: side of the grid of the candidates; there are none beyond.

    Raises:
        TooManyCellsError: there would be more than `MAX_CELLS`.
    """
    positions = cells_of_children(keys, factor)
    levels = np.zeros((len(positions), CELL_VOXELS), np.uint8)
    cell_keys = keys_of(positions)

    def keep(rows: slice, logits: npt.NDArray[np.float32]) -> None:
        _scatter(keys[rows], logits, factor, limit, cell_keys, morton_of_raster(), levels)

    compute(keep)
    return Candidates(positions, levels)


@njit()
def _count(levels, least):  # type: ignore[no-untyped-def]
    """Number of the voxels above the level of their cell."""
    total = 0
    for row in range(len(levels)):
        total += np.sum(levels[row] > least[row])
    return total


@njit()
def _collect(positions, levels, least, offsets):  # type: ignore[no-untyped-def]
    """Coordinates of the voxels above the level of their cell."""
    points = np.empty((_count(levels, least), 3), np.int32)
    place = 0
    for row in range(len(levels)):
        for voxel in range(levels.shape[1]):
            if levels[row, voxel] > least[row]:
                for axis in range(3):
                    points[place, axis] = positions[row, axis] * CELL_SIDE + offsets[voxel, axis]
                place += 1
    return points


@njit()
def _likeliest(logits, factor, corner, limit):  # type: ignore[no-untyped-def]
    """The child with the largest logit, of those inside the grid."""
    best = -1
    for child in range(factor**3):
        x, y, z = corner[0] + child // factor**2, corner[1] + child // factor % factor, corner[2] + child % factor
        if max(x, y, z) < limit and (best < 0 or logits[child] > logits[best]):
            best = child
    return best


@njit(nogil=True)
def _scatter(  # type: ignore[no-untyped-def]  # a kernel takes arrays one by one
    keys, logits, factor, limit, cell_keys, morton, levels
):
    """Turn logits into levels at their places; the likeliest child of each voxel passes all thresholds."""
    for i in range(len(keys)):
        x0 = (keys[i] & _AXIS) * factor
        y0 = (keys[i] >> _AXIS_BITS & _AXIS) * factor
        z0 = (keys[i] >> 2 * _AXIS_BITS) * factor
        best = _likeliest(logits[i], factor, (x0, y0, z0), limit)
        last_key, row = np.int64(-1), 0
        child = 0
        for dx in range(factor):
            x = x0 + dx
            for dy in range(factor):
                y = y0 + dy
                for dz in range(factor):
                    z = z0 + dz
                    key = (z >> 3) << 2 * _AXIS_BITS | (y >> 3) << _AXIS_BITS | (x >> 3)
                    if key != last_key:
                        last_key, row = key, np.searchsorted(cell_keys, key)
                    level = np.floor((logits[i, child] - _LOWEST) / _STEP) + 1
                    if child == best:
                        level = CERTAIN
                    elif not level > 0 or max(x, y, z) >= limit:  # also for what is not a number
                        level = 0
                    elif level > CERTAIN:
                        level = CERTAIN
                    levels[row, morton[(x & 7) << 6 | (y & 7) << 3 | (z & 7)]] = level
                    child += 1
