"""Dataset: training blocks from files, turned, cut and packed to batches of real coordinates."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..blocks import TRAINING, Blocks
from ..errors import CloudError
from ..sparse.samples import read_blocks
from ..training.sources import expect_apart, manifest_hashes
from ..weights import file_sha256
from .config import DataConfig
from .sampling import split

#: Blocks of a batch lie so far apart, in their sides, that no search reaches over.
_GAP = 64.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Batch:
    """Blocks packed to one list of points.

    Attributes:
        xyz: (n, 3) in voxels, blocks one after the other and far apart.
        offsets: (blocks + 1,).
        centre: (blocks, 3) middle of each cube.
        side: of the cubes.
        voxelised: whether the points are voxels.
    """

    xyz: Floats
    offsets: npt.NDArray[np.int64]
    centre: Floats
    side: float
    voxelised: bool

    @property
    def block(self) -> npt.NDArray[np.int64]:
        """(n,) number of each point's block."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training blocks in memory.

    Attributes:
        blocks: with enough points each.
        config: how they are used.
        files_sha256: hashes of the files that they were made of, and of the files of blocks.
    """

    blocks: Blocks
    config: DataConfig
    files_sha256: tuple[str, ...]
    _order: list[Any] = field(default_factory=lambda: [None, None])

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def batch_of(self, batch_size: int, seed: int, epoch: int, number: int, most: int | None = None) -> Batch:
        """One batch of a pass, in an order that seed and epoch determine; a resumed run draws what it would have.

        Args:
            batch_size: blocks.
            seed: of order and augmentation.
            epoch: number of the pass.
            number: of the batch.
            most: points that a block may have, if that is fewer than the configuration says.
        """
        if self._order[0] != (seed, epoch):
            self._order[:] = [(seed, epoch), np.random.default_rng([seed, epoch]).permutation(len(self.blocks))]
        rows = self._order[1][number * batch_size : (number + 1) * batch_size]
        return self.batch(rows, np.random.default_rng([seed, epoch, number]), most)

    def batch(self, rows: npt.NDArray[np.integer], rng: np.random.Generator, most: int | None = None) -> Batch:
        """Blocks `rows`, each turned and cut at random."""
        most = self.config.max_points if most is None else min(most, self.config.max_points)
        scanned = bool(rng.random() < self.config.scanned)
        parts = []
        side = float(self.blocks.size)
        shifts = np.arange(len(rows))[:, None] * np.array([_GAP * side, 0.0, 0.0])
        for row in rows:
            points = self.blocks.block(int(row)).astype(np.float64)
            if self.config.augment:
                points = turned(points, side - 1, rng)
            if scanned:
                points = scan(points, side, rng)
            parts.append(cut(points, most, rng))
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        xyz = np.concatenate([part + shift for part, shift in zip(parts, shifts, strict=True)])
        return Batch(xyz, offsets, shifts + (side - 1) / 2, side, not scanned)


def turned(points: Floats, last: float, rng: np.random.Generator) -> Floats:
    """Points of a cube 0..last under one of its 48 symmetries."""
    order = list(itertools.permutations(range(3)))[int(rng.integers(6))]
    moved = points[:, order]
    return np.where(rng.random(3) < 0.5, last - moved, moved)


def cut(points: Floats, most: int, rng: np.random.Generator) -> Floats:
    """One of the blocks of at most `most` points that the codec would cut."""
    order, offsets = split(points, most)
    pick = int(rng.integers(max(len(offsets) - 1, 1)))
    return points[order[offsets[pick] : offsets[pick + 1]]] if len(offsets) > 1 else points


def scan(points: Floats, side: float, rng: np.random.Generator) -> Floats:
    """What a rotating laser scanner in or near the cube would see: rings, and fewer points far away.

    Real coordinates: each voxel's point lies anywhere in it.
    """
    eye = (rng.random(3) * 3 - 1) * side
    moved = points + rng.random(points.shape) - 0.5
    ray = moved - eye
    distance = np.linalg.norm(ray, axis=1) + 1.0
    angle = np.arcsin(np.clip(ray[:, 2] / distance, -1, 1))
    rings = rng.uniform(2.0, 6.0) / float(np.median(distance))
    on_ring = np.abs((angle / rings) % 1.0 - 0.5) < rng.uniform(0.1, 0.25)
    near = float(np.quantile(distance, 0.25))
    kept = on_ring & (rng.random(len(points)) < np.minimum(near / distance, 1.0))
    return moved[kept] if int(kept.sum()) >= 256 else moved


def read_dataset(config: DataConfig, blocks: Blocks | None = None) -> Dataset:
    """The training blocks, none of which may come from a file that is evaluated.

    Args:
        config: where they are.
        blocks: all of them, if they are in memory already.

    Raises:
        ConfigError: a file of `evaluation_path` is among the training files.
        CloudError: there are no usable blocks.
    """
    if blocks is None:
        blocks = read_blocks(config.path)
    rows = np.flatnonzero(blocks.counts >= config.min_points)
    if not len(rows):
        raise CloudError(f"{config.path}: no block has {config.min_points} points or more")
    hashes = {file_sha256(path) for path in config.path.glob(TRAINING)} | set(manifest_hashes(config.path))
    expect_apart("data.evaluation_path", config.evaluation_path, hashes)
    return Dataset(blocks.take(rows), config, tuple(sorted(hashes)))
