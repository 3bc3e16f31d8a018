"""Dataset: clouds cut to training blocks, turned and mirrored, packed to batches of cells."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..blocks import Blocks as PackedBlocks
from ..errors import CloudError
from ..formats import read_cloud, walk_files
from .cells import CELL_SIDE, Cells, cells_of, keys_of, morton_of_raster, neighbours_of, voxel_offsets

#: Files that `cloud_files` finds, and the split of `bench prepare` that is trained on.
CLOUD_SUFFIXES = (".ply", ".npy", ".bin")
TRAINING_SPLIT = "train"
#: Empty cells between the blocks of a batch: no kernel reaches over, and blocks stay aligned to multiples of 8.
_GAP_CELLS = 8


@dataclass(frozen=True, eq=False)
class Batch:
    """Blocks packed to one list of cells; cells of different blocks are no neighbours.

    Attributes:
        voxels: (n, 512) float32 occupancy, Morton order.
        neighbours: (n, 27) int64 of `neighbours_of`.
        block: (n,) int64 number of the block of each cell.
        positions: (n, 3) int32, positions of cells, blocks side by side with a gap.
        blocks: number of blocks.
    """

    voxels: Tensor
    neighbours: Tensor
    block: Tensor
    positions: npt.NDArray[np.int32]
    blocks: int


@dataclass(frozen=True, eq=False)
class Blocks:
    """Training blocks in memory.

    Attributes:
        cells: of each block, positions counted from the block's corner.
        block_cells: side of a block in cells.
        files_sha256: hash of each file that they come from.
    """

    cells: Sequence[Cells]
    block_cells: int
    files_sha256: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.cells)

    def epoch(self, batch_size: int, seed: int, epoch: int, *, augment: bool) -> Iterator[Batch]:
        """The batches of one pass, in an order that seed and epoch determine; the last incomplete one is left out."""
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self.cells))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            symmetries = rng.integers(48, size=batch_size) if augment else np.zeros(batch_size, int)
            yield self.batch(order[start : start + batch_size], symmetries)

    def batch(self, rows: npt.NDArray[np.integer], symmetries: npt.NDArray[np.integer]) -> Batch:
        """Blocks `rows`, each under one of the 48 symmetries of the cube."""
        positions, voxels, block = [], [], []
        for number, (row, symmetry) in enumerate(zip(rows, symmetries, strict=True)):
            moved, bits = turned(self.cells[row], self.block_cells, int(symmetry))
            positions.append(moved + np.array([number * (self.block_cells + _GAP_CELLS), 0, 0], np.int32))
            voxels.append(bits)
            block.append(np.full(len(moved), number))
        place = np.concatenate(positions)
        return Batch(
            torch.from_numpy(np.concatenate(voxels)).float(),
            torch.from_numpy(neighbours_of(place).astype(np.int64)),
            torch.from_numpy(np.concatenate(block)),
            place,
            len(rows),
        )


@functools.cache
def _symmetries() -> list[tuple[tuple[int, ...], npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
    """For each symmetry of the cube: order of axes, mirrored axes, and source of each voxel of a cell."""
    found = []
    for order in itertools.permutations(range(3)):
        for mirrored in itertools.product((False, True), repeat=3):
            flips = np.array(mirrored)
            target = np.where(flips, CELL_SIDE - 1 - voxel_offsets()[:, order], voxel_offsets()[:, order])
            number = morton_of_raster()[target[:, 0] << 6 | target[:, 1] << 3 | target[:, 2]]
            found.append((order, flips, np.argsort(number)))
    return found


def turned(cells: Cells, side: int, symmetry: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Positions (n, 3) and voxels (n, 512) of cells of a cube of `side` cells under a symmetry; 0 leaves them."""
    order, flips, source = _symmetries()[symmetry]
    positions = cells.positions[:, order]
    positions = np.where(flips, side - 1 - positions, positions)
    return positions.astype(np.int32), np.unpackbits(cells.bits, axis=1)[:, source]


def cloud_files(folder: Path) -> list[Path]:
    """The files of clouds below a folder, sorted.

    Raises:
        CloudError: there is none.
    """
    files = walk_files(folder, [f"*{suffix}" for suffix in CLOUD_SUFFIXES])
    if not files:
        suffixes = ", ".join(CLOUD_SUFFIXES)
        raise CloudError(f"{folder}: expected the blocks of bench prepare, or clouds ({suffixes}), found none")
    return files


def file_sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_blocks(folder: Path, resolution: int, min_points: int) -> Blocks:
    """Training blocks: what `bench prepare` wrote to a folder, else all clouds below it, cut.

    Args:
        folder: with `train-*.npz` and `manifest.json`, or with files of clouds anywhere below.
        resolution: side of a block in voxels.
        min_points: blocks with fewer points are left out.

    Raises:
        CloudError: a file cannot be read, is not voxelised or of another resolution, or nothing is left.
    """
    side = resolution // CELL_SIDE
    shards = sorted(folder.glob(f"{TRAINING_SPLIT}-*.npz"))
    if shards:
        packed = PackedBlocks.join([PackedBlocks.load(path) for path in shards])
        if packed.size != resolution:
            raise CloudError(f"{folder}: expected blocks of {resolution} voxels, got {packed.size}")
        found = [cells_of(packed.block(int(i)).astype(np.int32)) for i in np.flatnonzero(packed.counts >= min_points)]
        hashes = _manifest_hashes(folder / "manifest.json") or tuple(file_sha256(path) for path in shards)
    else:
        found, names = [], cloud_files(folder)
        for path in names:
            found.extend(_cut(path, side, min_points))
        hashes = tuple(file_sha256(path) for path in names)
    if not found:
        raise CloudError(f"{folder}: no block of {resolution} voxels has {min_points} points or more")
    return Blocks(found, side, hashes)


def _cut(path: Path, side: int, min_points: int) -> Iterator[Cells]:
    points = np.asarray(read_cloud(path).points)
    if points.dtype.kind not in "iu":
        raise CloudError(f"{path}: expected voxels, integer coordinates, got {points.dtype}")
    cells = cells_of(points)
    key = keys_of(cells.positions // side)
    order = np.argsort(key, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if int(np.unpackbits(cells.bits[rows]).sum()) >= min_points:
            yield Cells(cells.positions[rows] % side, cells.bits[rows])


def _manifest_hashes(path: Path) -> tuple[str, ...]:
    """Hashes of the source files of the training blocks, as the manifest of `bench prepare` names them."""
    if not path.exists():
        return ()
    record = json.loads(path.read_text())
    sources = record.get("sources", [])
    used = {one["sha256"] for one in sources if one.get("split") == TRAINING_SPLIT and one.get("sha256")}
    return tuple(sorted(used))
