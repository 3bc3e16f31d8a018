"""Surface: a network that completes a surface: from the voxels of a coarse grid to those of a finer one.

A voxel of the coarse grid covers `factor`**3 voxels of the fine grid.  From the occupancy of the coarse voxels around
it the network tells how near each of the fine ones lies to the surface.  One trunk serves several factors, since
surfaces look alike at all of them; each factor has a head of its own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..deepcompress.transforms import Gather

#: Reach of the window of occupancy that the network reads, and number of places in it.
WINDOW_RADIUS = 2
WINDOW = (2 * WINDOW_RADIUS + 1) ** 3
TAPS = 27
#: Logit of a fine voxel of which nothing is known, about.
RARE = -1.5


@dataclass(frozen=True)
class SurfaceConfig:
    """Shape of a network.

    Attributes:
        factors: by which it refines a grid.
        channels: features of a voxel.
        blocks: residual blocks, each of which looks one voxel further.
        hidden: features between trunk and logits.
    """

    factors: tuple[int, ...]
    channels: int = 64
    blocks: int = 3
    hidden: int = 128

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> SurfaceConfig:
        """What `to_dict` gave."""
        return cls(**{**record, "factors": tuple(record["factors"])})

    def macs_per_voxel(self, factor: int) -> int:
        """Multiplications for one coarse voxel."""
        c = self.channels
        return 2 * c * (WINDOW + c) + self.blocks * (TAPS + 1) * c * c + self.hidden * (c + factor**3)


class Block(nn.Module):
    """x + a look at the neighbours."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.around = nn.Linear(TAPS * channels, channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.bias)
        self.out.weight.data.mul_(0.3)

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """From (n, channels) to the same; `neighbours` (n, 27), n for none."""
        h = torch.relu(self.norm(x))
        if torch.is_autocast_enabled("cpu"):
            h = h.bfloat16()
        return x + self.out(torch.relu(self.around(Gather.apply(h, neighbours))))


class SurfaceModel(nn.Module):
    """Trunk and heads."""

    def __init__(self, config: SurfaceConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.stem = nn.Sequential(nn.Linear(WINDOW, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels))
        self.of_factor = nn.Parameter(torch.zeros(len(config.factors), channels))
        self.trunk = nn.ModuleList(Block(channels) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(channels)
        self.heads = nn.ModuleDict(
            {
                str(factor): nn.Sequential(
                    nn.Linear(channels, config.hidden), nn.ReLU(), nn.Linear(config.hidden, factor**3)
                )
                for factor in config.factors
            }
        )

    def trunk_features(self, windows: Tensor, neighbours: Tensor, factor: int) -> Tensor:
        """(n, channels) of windows (n, 125) and rows of neighbours (n, 27)."""
        x = self.stem(windows.float())
        x = x + self.of_factor[self.config.factors.index(factor)]
        for block in self.trunk:
            x = block(x, neighbours)
        return x

    def logits_of(self, features: Tensor, factor: int) -> Tensor:
        """(n, factor**3) of features, x slowest and z fastest."""
        logits: Tensor = self.heads[str(factor)](features) + RARE
        return logits

    def forward(self, windows: Tensor, neighbours: Tensor, factor: int) -> Tensor:
        """Logits (n, factor**3)."""
        return self.logits_of(torch.relu(self.norm(self.trunk_features(windows, neighbours, factor))), factor)


def child_of(voxels: npt.NDArray[np.int32], factor: int) -> npt.NDArray[np.int64]:
    """Which child of their coarse voxels fine voxels (n, 3) are, (n,), in the order of the logits."""
    inside = voxels.astype(np.int64) % factor
    return (inside[:, 0] * factor + inside[:, 1]) * factor + inside[:, 2]


def child_offsets(factor: int) -> npt.NDArray[np.int32]:
    """Coordinates of the fine voxels inside a coarse one, (factor**3, 3), in the order of the logits."""
    span = np.arange(factor, dtype=np.int32)
    return np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
