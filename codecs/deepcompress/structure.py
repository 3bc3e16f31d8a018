"""Structure: where the latents are, as the entropy models see it; a decoder knows it before any latent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .cells import BLOCK_CELLS, keys_of, neighbours_of

#: Side of an attention window, in cells.
WINDOW_CELLS = 4
#: Rates that a stream can name: 0 .. RATE_STEPS, on a log scale.
RATE_STEPS = 64
#: Hats by which the rate enters a network; RATE_STEPS divided by their distance is a power of two.
RATE_KNOTS = 9


@dataclass(frozen=True, eq=False)
class Structure:
    """Cells with latents, and their relations.

    Attributes:
        positions: (n, 3) int32.
        neighbours: (n, 27) int64 rows of the cells around, -1 for none; the cell itself in the middle.
        rate: (n, RATE_KNOTS) weights of the hats, multiples of 1/8.
        parent: (n,) int64 row of the cube of 2 x 2 x 2 cells, whose hyper-latents it shares.
        child: (n,) int64 place in that cube, 0 to 7.
        parent_neighbours: (m, 27) int64 rows of the cubes around, -1 for none.
        windows: (w, most) int64 rows of the cells of each attention window, -1 for none.
        window_slot: (n,) int64 place of each cell in `windows`, row-major.
    """

    positions: npt.NDArray[np.int32]
    neighbours: Tensor
    rate: Tensor
    parent: Tensor
    child: Tensor
    parent_neighbours: Tensor
    windows: Tensor
    window_slot: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def parents(self) -> int:
        """Number of cubes that have hyper-latents."""
        return len(self.parent_neighbours)

    def raster_step(self) -> Tensor:
        """Place of each cell in the raster order of its block of 8**3 cells, (n,): z slowest."""
        inside = self.positions.astype(np.int64) % BLOCK_CELLS
        return torch.from_numpy(inside @ np.array([1, BLOCK_CELLS, BLOCK_CELLS**2]))

    def coset(self) -> Tensor:
        """Which of four interleaved sets each cell belongs to, (n,): a checkerboard, each colour split in two."""
        inside = self.positions.astype(np.int64) & 1
        return torch.from_numpy((inside.sum(axis=1) & 1) * 2 + (inside[:, 0] ^ inside[:, 1]))

    def known_neighbours(self, order: Tensor) -> Tensor:
        """`neighbours` without those that are not coded before the cell, -1 in their place."""
        behind = torch.where(self.neighbours >= 0, order[self.neighbours.clamp_min(0)], len(self) + RATE_STEPS**3)
        return torch.where(behind < order[:, None], self.neighbours, -1)


def structure_of(
    positions: npt.NDArray[np.int32],
    rate_index: npt.NDArray[np.integer],
    table: npt.NDArray[np.int32] | None = None,
) -> Structure:
    """The structure of cells.

    Args:
        positions: (n, 3).
        rate_index: (n,) 0 .. RATE_STEPS.
        table: (n, 27) of `neighbours_of`, if it is there already.
    """
    n = len(positions)
    table = neighbours_of(positions) if table is None else table
    parent_positions, parent = _grouped(positions // 2)
    around = neighbours_of(parent_positions)
    child = (positions & 1).astype(np.int64) @ np.array([1, 2, 4])
    _, window = _grouped(positions // WINDOW_CELLS)
    windows, slot = _listed(window)
    knots = np.arange(RATE_KNOTS) * (RATE_STEPS // (RATE_KNOTS - 1))
    distance = np.abs(rate_index.astype(np.float64)[:, None] - knots) / (RATE_STEPS // (RATE_KNOTS - 1))
    return Structure(
        positions,
        torch.from_numpy(np.where(table < n, table, -1).astype(np.int64)),
        torch.from_numpy(np.maximum(1.0 - distance, 0.0).astype(np.float32)),
        torch.from_numpy(parent),
        torch.from_numpy(child),
        torch.from_numpy(np.where(around < len(parent_positions), around, -1).astype(np.int64)),
        torch.from_numpy(windows),
        torch.from_numpy(slot),
    )


def _grouped(positions: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Distinct positions, and the row of each among them."""
    _, first, row = np.unique(keys_of(positions), return_index=True, return_inverse=True)
    return positions[first], row.reshape(-1).astype(np.int64)


def _listed(group: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Members of each group as rows of a table filled up with -1, and the place of each in that table."""
    counts = np.bincount(group)
    most = int(counts.max(initial=1))
    order = np.argsort(group, kind="stable")
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    slot = group * most + rank
    table = np.full(len(counts) * most, -1, np.int64)
    table[slot] = np.arange(len(group))
    return table.reshape(len(counts), most), slot
