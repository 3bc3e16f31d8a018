"""Samples: pieces of training clouds, quantised to a coarse grid, and what the network shall say of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..blocks import TRAINING, Blocks
from ..errors import CloudError
from ..octree.occupancy import keys_of, points_of
from .neighbours import neighbours_of, windows_of
from .surface import WINDOW, WINDOW_RADIUS, child_of

#: Side of a piece in coarse voxels, and of its margin that is seen but not counted.
PIECE, MARGIN = 32, 2
#: Coarse voxels of a batch, whatever the pieces: kernels of fixed shapes are made once.
BATCH = 3072
#: Empty voxels between the pieces of a batch, more than any window reaches.
_GAP = 8
#: Largest factor for which clouds are halved before: others would have too few voxels left.
_MOST_HALVED = 4
_LEAST_VOXELS, _LEAST_POINTS = 32, 50
#: Pieces that are drawn for a batch at most, and the share of it that is enough.
_TRIES, _FULL_SHARE = 10, 0.8

_SYMMETRIES = [
    (np.array(order), np.array(flips))
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


@dataclass(frozen=True, eq=False)
class Sample:
    """A batch of coarse voxels.

    Attributes:
        keys: (n,) of those that are there, sorted; the rest of the batch is empty.
        windows: (BATCH, WINDOW) uint8.
        neighbours: (BATCH, 27) int64.
        targets: (BATCH, factor**3) uint8, 1 where there is a point.
        weight: (BATCH,) float32, 1 where the voxel counts.
        points: fine points in voxels that count.
    """

    keys: npt.NDArray[np.int64]
    windows: Tensor
    neighbours: Tensor
    targets: Tensor
    weight: Tensor
    points: int


@dataclass(frozen=True, eq=False)
class _Piece:
    keys: npt.NDArray[np.int64]
    targets: npt.NDArray[np.uint8]
    weight: npt.NDArray[np.float32]
    points: int


class Sampler:
    """Draws batches; each depends on seed and number alone.

    Args:
        blocks: training blocks.
        halve_share: share of the pieces for small factors that come from clouds of half the resolution.
    """

    def __init__(self, blocks: Blocks, halve_share: float) -> None:
        self.blocks = blocks
        self.halve_share = halve_share
        self._ends = np.cumsum(blocks.counts)

    def draw(self, factor: int, rng: np.random.Generator) -> Sample:
        """A batch for a factor."""
        pieces: list[_Piece] = []
        total = 0
        for _ in range(_TRIES):
            piece = self._piece(factor, rng, halve=factor <= _MOST_HALVED and rng.random() < self.halve_share)
            if piece is not None and total + len(piece.keys) <= BATCH:
                pieces.append(piece)
                total += len(piece.keys)
            if total > _FULL_SHARE * BATCH:
                break
        return _packed(pieces, factor)

    def _piece(self, factor: int, rng: np.random.Generator, *, halve: bool) -> _Piece | None:
        """A piece; None if it has too few voxels or too many."""
        # By points: a block is drawn the more often the more surface it has.
        number = int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))
        points = self.blocks.block(number)
        scale = 2 if halve else 1
        extent = PIECE * factor
        spare = self.blocks.size - scale * extent
        if spare > 0:
            centre = points[int(rng.integers(len(points)))].astype(np.int64)
            low = np.clip(centre - rng.integers(scale * extent, size=3), 0, spare)
        else:
            low = -rng.integers(scale * factor, size=3)
        # Blocks are sorted by x: most of one is out of the question at once.
        slab = slice(*np.searchsorted(points[:, 0], [max(low[0], 0), low[0] + scale * extent]))
        local = points[slab].astype(np.int16) - low.astype(np.int16)
        local = local[((local >= 0) & (local < scale * extent)).all(axis=1)]
        if halve:
            local = points_of(np.unique(keys_of(local >> 1)))
        # What lies beyond the block is not known.
        first, end = np.maximum(-low, 0) // scale, np.minimum(self.blocks.size - low, scale * extent) // scale
        order, flips = _SYMMETRIES[int(rng.integers(len(_SYMMETRIES)))]
        local, first, end = local[:, order].astype(np.int32), first[order], end[order]
        local = np.where(flips, extent - 1 - local, local)
        first, end = np.where(flips, extent - end, first), np.where(flips, extent - first, end)

        keys, rows = np.unique(keys_of(local // factor), return_inverse=True)
        if not _LEAST_VOXELS <= len(keys) <= BATCH:
            return None
        targets = np.zeros((len(keys), factor**3), np.uint8)
        targets[rows, child_of(local, factor)] = 1
        place = points_of(keys)
        counts = (place >= -(-first // factor) + MARGIN) & (place < end // factor - MARGIN)
        weight = counts.all(axis=1).astype(np.float32)
        counted = int(weight[rows].sum())
        return _Piece(keys, targets, weight, counted) if counted >= _LEAST_POINTS else None


def _packed(pieces: Sequence[_Piece], factor: int) -> Sample:
    if not pieces:
        raise CloudError("no piece of the training blocks has enough points: expected surfaces of 64 voxels and more")
    # Side by side along z, so that the keys stay sorted.
    shifted = [piece.keys + (number * (PIECE + _GAP) << 42) for number, piece in enumerate(pieces)]
    keys = np.concatenate(shifted)
    n = len(keys)
    windows = np.zeros((BATCH, WINDOW), np.uint8)
    windows[:n] = windows_of(keys, WINDOW_RADIUS)
    neighbours = np.full((BATCH, 27), BATCH, np.int64)
    found = neighbours_of(keys, 1)
    neighbours[:n] = np.where(found < n, found, BATCH)
    targets = np.zeros((BATCH, factor**3), np.uint8)
    targets[:n] = np.concatenate([piece.targets for piece in pieces])
    weight = np.zeros(BATCH, np.float32)
    weight[:n] = np.concatenate([piece.weight for piece in pieces])
    return Sample(
        keys,
        torch.from_numpy(windows),
        torch.from_numpy(neighbours),
        torch.from_numpy(targets),
        torch.from_numpy(weight),
        sum(piece.points for piece in pieces),
    )


def read_blocks(folder: Path) -> Blocks:
    """The training blocks that `bench prepare` wrote.

    Raises:
        CloudError: there are none.
    """
    blocks = Blocks.of_folder(folder, TRAINING)
    if blocks is None:
        raise CloudError(f"{folder}: expected training blocks ({TRAINING}) of `bench prepare`, found none")
    return blocks
