"""Cells: a voxelised cloud as the occupied cubes of 8 x 8 x 8 voxels, and who is whose neighbour.

The voxels of a cell are numbered in Morton order, so that cutting a cell into cubes of side 4 or 2 is a reshape.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Side of a cell in voxels, and of a block in cells: a block has 64 voxels a side.
CELL_SIDE = 8
BLOCK_CELLS = 8
#: Voxels of a cell.
CELL_VOXELS = CELL_SIDE**3

_AXIS_BITS = 21
_CHUNK = 1 << 14


@dataclass(frozen=True, eq=False)
class Cells:
    """The occupied cells of a cloud.

    Attributes:
        positions: (n, 3) int32 cell coordinates, sorted by z, then y, then x.
        bits: (n, 64) uint8: occupancy of the 512 voxels of each cell, Morton order, packed high bit first.
    """

    positions: npt.NDArray[np.int32]
    bits: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.positions)


@functools.cache
def morton_of_raster() -> npt.NDArray[np.int64]:
    """Morton number of the voxel x * 64 + y * 8 + z of a cell, (512,)."""
    raster = np.arange(CELL_VOXELS)
    x, y, z = raster >> 6, raster >> 3 & 7, raster & 7
    number = np.zeros(CELL_VOXELS, np.int64)
    for bit in range(3):
        number |= (x >> bit & 1) << 3 * bit + 2 | (y >> bit & 1) << 3 * bit + 1 | (z >> bit & 1) << 3 * bit
    return number


@functools.cache
def voxel_offsets() -> npt.NDArray[np.int32]:
    """Coordinates inside the cell of the voxels in Morton order, (512, 3)."""
    offsets = np.empty((CELL_VOXELS, 3), np.int32)
    raster = np.arange(CELL_VOXELS)
    offsets[morton_of_raster()] = np.stack([raster >> 6, raster >> 3 & 7, raster & 7], axis=1)
    return offsets


def keys_of(positions: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """One integer a position, z in the highest bits: sorting it sorts by z, y, x."""
    wide = positions.astype(np.int64)
    return wide[:, 2] << 2 * _AXIS_BITS | wide[:, 1] << _AXIS_BITS | wide[:, 0]


def cells_of(points: npt.NDArray[np.integer]) -> Cells:
    """The cells of a set of voxels, (n, 3) non-negative coordinates; repeated points count once."""
    positions = points >> 3
    unique, first, row = np.unique(keys_of(positions), return_index=True, return_inverse=True)
    inside = (points & 7).astype(np.int64)
    voxel = morton_of_raster()[inside[:, 0] << 6 | inside[:, 1] << 3 | inside[:, 2]]
    dense = np.zeros((len(unique), CELL_VOXELS), np.bool_)
    dense[row, voxel] = True
    return Cells(positions[first].astype(np.int32), np.packbits(dense, axis=1))


def neighbours_of(positions: npt.NDArray[np.integer], radius: int = 1) -> npt.NDArray[np.int32]:
    """Rows of the neighbours of each cell.

    Args:
        positions: (n, 3) distinct cell coordinates in any order.
        radius: 1 for the 27 of a kernel of 3, 2 for the 125 of a kernel of 5.

    Returns:
        (n, (2 radius + 1)**3) rows, in the order of offsets x, y, z from -radius with z fastest; n where there is
        no cell.  The offset of entry k and that of the entry k from the end are opposite.
    """
    span = range(-radius, radius + 1)
    # A margin keeps a step over the border of the grid from wrapping into the next row.
    keys = keys_of(positions + radius)
    order = np.argsort(keys)
    ranked = keys[order]
    table = np.empty((len(keys), (2 * radius + 1) ** 3), np.int32)
    column = 0
    for x in span:
        for y in span:
            for z in span:
                wanted = ranked + ((z << 2 * _AXIS_BITS) + (y << _AXIS_BITS) + x)
                place = np.minimum(np.searchsorted(ranked, wanted), max(len(ranked) - 1, 0))
                found = np.where(ranked[place] == wanted, order[place], len(keys)) if len(keys) else place
                table[order, column] = found
                column += 1
    return table


def points_of(positions: npt.NDArray[np.int32], packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Voxels of the cells, (m, 3), from their packed masks (n, 64) in Morton order."""
    pieces = [np.empty((0, 3), np.int32)]
    for start in range(0, len(positions), _CHUNK):
        row, voxel = np.nonzero(np.unpackbits(packed[start : start + _CHUNK], axis=1))
        pieces.append(positions[start + row] * CELL_SIDE + voxel_offsets()[voxel])
    return np.concatenate(pieces)
