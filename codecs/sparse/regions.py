"""Regions: blocks of the coarse grid, and those in which a surface is not worth completing.

Where the points are so few that coarse voxels have hardly any neighbours, as far from a laser scanner, there is no
surface to complete: one point at the centre of each coarse voxel is then nearer to the input, as a plain octree does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..deepcompress.cells import CELL_SIDE, keys_of
from .completion import MAX_CELLS, Keys, cells_touched, coordinates_of
from .neighbours import windows_of

#: Mean number of neighbours, of 26, of the coarse voxels of a block below which no surface is looked for.
_LONELY = 4.0
_CHUNK_NODES = 1 << 20
#: Cells that the candidates of an encoder may lie in, about.
_MAX_CELLS = MAX_CELLS


@dataclass(frozen=True, eq=False)
class Regions:
    """Cubes of voxels, known from the coarse grid alone.

    Attributes:
        base: sorted keys of the coarse voxels, which are called nodes.
        step: side of a node.
        side: side of a block.
    """

    base: Keys
    step: int
    side: int

    @cached_property
    def keys(self) -> Keys:
        """Sorted keys of the blocks."""
        return keys_of(cells_touched(self.base, self.step, self.side))

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def of_nodes(self) -> npt.NDArray[np.int64]:
        """Block of the lowest corner of each node."""
        return self._of(coordinates_of(self.base) * self.step // self.side)

    @cached_property
    def nodes(self) -> npt.NDArray[np.int64]:
        """Number of nodes of each block."""
        return np.bincount(self.of_nodes, minlength=len(self))

    def completed(self, centred: npt.NDArray[np.bool_]) -> tuple[Keys, npt.NDArray[np.int64]]:
        """Keys of the nodes that do not stand at centres, and the block of each; `centred` (blocks,)."""
        rest = ~centred[self.of_nodes]
        return self.base[rest], self.of_nodes[rest]

    def of_cells(self, positions: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Block of each cell (n, 3), which must lie in one."""
        return self._of(positions // (self.side // CELL_SIDE))

    def of_voxels(self, points: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Block of the node of each voxel (n, 3), which must have one."""
        return self._of(points // self.step * self.step // self.side)

    def _of(self, positions: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        return np.searchsorted(self.keys, keys_of(positions))

    def lonely(self) -> npt.NDArray[np.bool_]:
        """Blocks whose nodes have too few neighbours for a surface, or for whose surface there is no memory."""
        total = np.zeros(len(self))
        near = _neighbours(self.base)
        total += np.bincount(self.of_nodes, near, minlength=len(self))
        return (total < _LONELY * self.nodes) | self._beyond_memory(total)

    def _beyond_memory(self, neighbours: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Blocks for whose candidates there is no room, those with the fewest neighbours first."""
        per_node = ((self.step + CELL_SIDE - 1) // CELL_SIDE) ** 2
        beyond = np.zeros(len(self), np.bool_)
        if len(self.base) * 8 * per_node <= _MAX_CELLS:
            return beyond
        if self.step > CELL_SIDE:  # as a surface has that passes through the node
            cells = self.nodes * per_node
        else:
            cells = np.bincount(self.of_cells(cells_touched(self.base, self.step)), minlength=len(self))
        order = np.argsort(-neighbours / np.maximum(self.nodes, 1), kind="stable")
        beyond[order] = np.cumsum(cells[order]) > _MAX_CELLS
        return beyond

    def emptier_half(self, which: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Half of the chosen blocks, those with the fewest nodes."""
        rows = np.flatnonzero(which)
        half = np.zeros(len(self), np.bool_)
        half[rows[np.argsort(self.nodes[rows], kind="stable")[: (len(rows) + 1) // 2]]] = True
        return half

    def centres(self, which: npt.NDArray[np.bool_], bit_depth: int) -> npt.NDArray[np.number]:
        """Centres of the nodes of the chosen blocks, (n, 3), whole numbers where the step is odd."""
        low = coordinates_of(self.base[which[self.of_nodes]]) * self.step
        last = (1 << bit_depth) - 1
        if self.step % 2:
            return np.minimum(low + self.step // 2, last).astype(np.int32)
        return np.minimum(low + (self.step - 1) / 2, last)


@dataclass(frozen=True, eq=False)
class CentreErrors:
    """What the blocks would add to the distortion with one point at the centre of each node; all (blocks,).

    Attributes:
        from_input_sq: sum of squared errors from the input's points.
        from_output_sq: the same from the centres.
        points: number of input points.
    """

    from_input_sq: npt.NDArray[np.float64]
    from_output_sq: npt.NDArray[np.float64]
    points: npt.NDArray[np.int64]


def centre_errors(
    regions: Regions,
    which: npt.NDArray[np.bool_],
    points: npt.NDArray[np.int32],
    normals: npt.NDArray[np.float32] | None = None,
) -> CentreErrors:
    """Errors of the chosen blocks.

    Args:
        regions: the blocks.
        which: (blocks,) those that are asked for; the others get 0.
        points: (n, 3) distinct voxels of the input.
        normals: of the points, to count point-to-plane errors.
    """
    from_input, from_output, counts = np.zeros(len(regions)), np.zeros(len(regions)), np.zeros(len(regions), np.int64)
    for start in range(0, len(points), _CHUNK_NODES):
        block = regions.of_voxels(points[start : start + _CHUNK_NODES])
        rows = np.flatnonzero(which[block])
        if not len(rows):
            continue
        block, near = block[rows], points[start + rows]
        away = near - (near // regions.step * regions.step + (regions.step - 1) / 2)
        square = (away * away).sum(axis=1)
        error = square if normals is None else (away * normals[start + rows]).sum(axis=1) ** 2
        from_input += np.bincount(block, error, minlength=len(regions))
        counts += np.bincount(block, minlength=len(regions))
        # A centre's nearest point is nearly always in its own node.
        node = keys_of(near // regions.step)
        order = np.lexsort((square, node))
        first = order[np.r_[True, np.diff(node[order]) != 0]]
        from_output += np.bincount(block[first], error[first], minlength=len(regions))
    return CentreErrors(from_input, from_output, counts)


def _neighbours(keys: Keys) -> npt.NDArray[np.int64]:
    """How many of the 26 voxels around each are occupied, (n,)."""
    return windows_of(keys, 1).sum(axis=1, dtype=np.int64) - 1
