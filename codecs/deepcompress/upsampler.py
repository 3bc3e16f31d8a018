"""Upsampler: from the features of a cloud on half the grid to its voxels on the whole grid.

At the lowest rates most bits go to the occupancy of cells.  Coded at half the resolution, a cloud has a quarter of
the cells; what lies between the coarse voxels is then guessed by a small network, and thresholded like all else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .cells import CELL_VOXELS, Cells, keys_of
from .transforms import Mixer, Synthesis, TransformConfig

_CHILDREN = 8


class Upsampler(nn.Module):
    """Logits of the eight children of every voxel of a cell."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.cubes = 8 if len(config.strides) > 1 else 1
        channels = config.sub_filters if len(config.strides) > 1 else CELL_VOXELS
        self.mixer = Mixer(config, self.cubes * channels)
        self.norm = nn.LayerNorm(self.cubes * channels)
        self.unfold = nn.Linear(channels, CELL_VOXELS // self.cubes * _CHILDREN)

    def forward(self, mixed: Tensor) -> Tensor:
        """From `Synthesis.mixed` (n, cubes * channels) to (n * 8, 512): fine cells, Morton order in all."""
        n = len(mixed)
        x = self.norm(self.mixer(mixed)).view(n, self.cubes, -1)
        logits: Tensor = self.unfold(torch.relu(x)).view(n * _CHILDREN, CELL_VOXELS) - 2.0
        return logits

    def of(self, synthesis: Synthesis) -> Callable[[Tensor], Tensor]:
        """The function from features of cells (n, filters) to logits (n * 8, 512)."""
        return lambda features: self(synthesis.mixed(features))


def fine_positions(positions: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The eight cells of the whole grid in each cell of half the grid, (n * 8, 3), in the order of the logits."""
    child = np.arange(_CHILDREN)
    steps = np.stack([child >> 2 & 1, child >> 1 & 1, child & 1], axis=1).astype(np.int32)
    return (positions[:, None, :] * 2 + steps[None]).reshape(-1, 3)


def at_positions(cells: Cells, positions: npt.NDArray[np.int32]) -> Cells:
    """The cells at given positions, empty where there are none; every cell must have its place among them."""
    keys = keys_of(positions)
    order = np.argsort(keys)
    rows = order[np.searchsorted(keys[order], keys_of(cells.positions))]
    bits = np.zeros((len(positions), cells.bits.shape[1]), np.uint8)
    bits[rows] = cells.bits
    return Cells(positions, bits)


def halved(voxels: Tensor) -> Tensor:
    """Occupancy on half the grid (n, 512) of fine cells (n * 8, 512) in the order of `fine_positions`."""
    return voxels.reshape(-1, CELL_VOXELS, _CHILDREN).amax(2)
