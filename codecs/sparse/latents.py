"""Latents: what an encoder tells about the children of coarse voxels that the surface network cannot know.

Eight coarse voxels of a cube, a group, share a few integers.  From what the surface network makes of the coarse grid,
a network derives for each group (1) a basis, (2) how each integer is distributed.  The encoder projects its
corrections to the occupancy on the basis; the decoder adds integers times basis to the logits, and a further look
around corrects what one group alone cannot see.

Groups whose coordinates have an even sum come first; the others are predicted from those around them, too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..deepcompress.transforms import Gather
from ..entropy.exact import gathered
from ..entropy.gaussian import GaussianConditional, scale_table
from ..octree.occupancy import distinct, keys_of, points_of
from .neighbours import neighbours_of
from .surface import TAPS, Block, SurfaceModel, child_of

#: Coarse voxels of a group, and children of each.
MEMBERS = CHILDREN = 8
#: Tables for each scale, by the fraction of the mean.
MEAN_STEPS = 8
#: Place in the table of scales that an untrained network names: a scale of about 1/2.
_FIRST_PLACE = 12.0
#: The basis is small at first, so that the first integers are.
BASIS_GAIN = 2.0

Keys = npt.NDArray[np.int64]


def make_conditional() -> GaussianConditional:
    """The distribution of the integers."""
    return GaussianConditional(scale_table(0.1, 8.0, 32), kind="logistic", mean_steps=MEAN_STEPS)


@dataclass(frozen=True)
class LatentConfig:
    """Shape of a network.

    Attributes:
        trade_offs: wrong children that a bit is worth, one for each operating point.
        channels: integers of a group.
        features: of a group.
        blocks: residual blocks over groups.
        hidden: features between those of a group and what is made of them.
        encoder: features of a coarse voxel in the encoder, half of those of a group.
    """

    trade_offs: tuple[float, ...]
    channels: int = 6
    features: int = 48
    blocks: int = 2
    hidden: int = 96
    encoder: int = 32

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> LatentConfig:
        """What `to_dict` gave."""
        return cls(**{**record, "trade_offs": tuple(record["trade_offs"])})


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of coarse voxels.

    Attributes:
        keys: (m,) sorted.
        members: (m, 8) rows of the coarse voxels, x slowest and z fastest; their number for none.
        of_nodes: (n,) the group of each coarse voxel.
        place: (n,) which of its members it is.
    """

    keys: Keys
    members: npt.NDArray[np.int64]
    of_nodes: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]

    @classmethod
    def of(cls, nodes: Keys) -> Groups:
        """The groups of coarse voxels with these sorted distinct keys."""
        where = points_of(nodes)
        place = child_of(where, 2)
        own = keys_of(where >> 1)
        keys = distinct(own)
        of_nodes = np.searchsorted(keys, own)
        members = np.full((len(keys), MEMBERS), len(nodes), np.int64)
        members[of_nodes, place] = np.arange(len(nodes))
        return cls(keys, members, of_nodes, place)

    @cached_property
    def first(self) -> npt.NDArray[np.bool_]:
        """(m,) whether a group comes first."""
        even: npt.NDArray[np.bool_] = points_of(self.keys).sum(axis=1) % 2 == 0
        return even


class Around(NamedTuple):
    """Groups as a network takes them: members (m, 8), of_nodes and place (n,), neighbours (m, 27), first (m, 1)."""

    members: Tensor
    of_nodes: Tensor
    place: Tensor
    neighbours: Tensor
    first: Tensor

    @classmethod
    def of(cls, groups: Groups) -> Around:
        """For training."""
        neighbours = neighbours_of(groups.keys, 1).astype(np.int64)
        arrays = groups.members, groups.of_nodes, groups.place, neighbours, groups.first[:, None]
        return cls(*map(torch.from_numpy, arrays))


def _macs(*layers: nn.Module) -> int:
    """Multiplications of some layers for one row of theirs."""
    linear = (one for layer in layers for one in layer.modules() if isinstance(one, nn.Linear))
    return sum(one.weight.numel() for one in linear)


def _damp(layer: nn.Module) -> None:
    """Have a layer say little at first."""
    layer.weight.data.mul_(0.1)  # type: ignore[operator]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class LatentModel(nn.Module):
    """The decoder's networks.

    Args:
        config: its shape.
        channels: features of a coarse voxel in the surface network.
    """

    def __init__(self, config: LatentConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        latents, features, hidden = config.channels, config.features, config.hidden
        self.down = nn.Linear(MEMBERS * channels, features)
        self.of_point = nn.Parameter(torch.zeros(len(config.trade_offs), features))
        self.blocks = nn.ModuleList(Block(features) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(features)
        self.basis = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, MEMBERS * CHILDREN * latents)
        )
        self.gain = nn.Parameter(torch.full((len(config.trade_offs), latents), 1 / BASIS_GAIN))
        self.prior = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latents))
        self.beside = nn.Sequential(
            nn.Linear(TAPS * latents + features, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latents)
        )
        self.spread = nn.Sequential(
            nn.Linear(TAPS * latents + features, hidden), nn.ReLU(), nn.Linear(hidden, MEMBERS * channels)
        )
        self.look = Block(channels)
        self.last_norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, CHILDREN)
        for layer in (self.prior[2], self.beside[2], self.head):
            _damp(layer)
        nn.init.constant_(self.prior[2].bias[latents:], _FIRST_PLACE)  # type: ignore[index]

    def macs_per_voxel(self) -> float:
        """Multiplications for one coarse voxel, of four in a group, as on a surface."""
        of_groups = self.down, *self.blocks, self.basis, self.prior, self.beside, self.spread
        return _macs(self.look, self.head) + _macs(*of_groups) / 4

    def features(self, seen: Tensor, around: Around, point: int) -> Tensor:
        """(m, features) of groups, from those (n, channels) of the coarse voxels."""
        x = self.down(gathered(seen, around.members)) + self.of_point[point]
        for block in self.blocks:
            x = block(x, around.neighbours)
        return torch.relu(self.norm(x))

    def basis_of(self, features: Tensor) -> Tensor:
        """(m, 64, latents)."""
        basis: Tensor = self.basis(features)
        return basis.view(len(features), MEMBERS * CHILDREN, -1)

    def distribution(self, features: Tensor, latents: Tensor, around: Around) -> tuple[Tensor, Tensor]:
        """Means, and places in the table of scales, (m, latents) each."""
        beside = Gather.apply(latents * around.first, around.neighbours)
        parameters = self.prior(features) + ~around.first * self.beside(torch.cat([beside, features], 1))
        mean, place = parameters.chunk(2, dim=1)
        return mean, place

    def correction(
        self, x: Tensor, neighbours: Tensor, latents: Tensor, features: Tensor, around: Around, point: int
    ) -> Tensor:
        """What is added to the logits (n, 8) of coarse voxels with trunk features x (n, channels)."""
        basis = self.basis_of(features)
        own = torch.einsum("mc,mkc->mk", latents * self.gain[point], basis)
        row = around.of_nodes * MEMBERS + around.place
        spread = self.spread(torch.cat([Gather.apply(latents, around.neighbours), features], 1))
        x = self.look(x + spread.view(len(spread) * MEMBERS, -1)[row], neighbours)
        corrected: Tensor = own.reshape(-1, CHILDREN)[row] + self.head(torch.relu(self.last_norm(x)))
        return corrected


class LatentEncoder(nn.Module):
    """The encoder's network, beyond the projection on the basis."""

    def __init__(self, config: LatentConfig, channels: int) -> None:
        super().__init__()
        width = config.encoder
        self.enter = nn.Sequential(nn.Linear(CHILDREN + channels, width), nn.ReLU(), nn.Linear(width, width))
        self.look = Block(width)
        self.down = nn.Linear(MEMBERS * width, 2 * width)
        self.block = Block(2 * width)
        self.out = nn.Linear(2 * width, config.channels)
        self.of_point = nn.Parameter(torch.zeros(len(config.trade_offs), 2 * width))
        _damp(self.out)

    def macs_per_voxel(self) -> float:
        """As that of `LatentModel`."""
        return _macs(self.enter, self.look) + _macs(self.down, self.block, self.out) / 4

    def forward(
        self, missing: Tensor, seen: Tensor, neighbours: Tensor, basis: Tensor, around: Around, point: int
    ) -> Tensor:
        """Latents (m, latents), not yet integers, of occupancy less its probability (n, 8)."""
        x = self.look(self.enter(torch.cat([missing, seen], 1)), neighbours)
        x = torch.relu(self.down(gathered(x, around.members)) + self.of_point[point])
        x = self.out(torch.relu(self.block(x, around.neighbours)))
        projected = torch.einsum("mk,mkc->mc", gathered(missing, around.members), basis)
        return x + BASIS_GAIN * projected


class Surface(NamedTuple):
    """What the surface network makes of coarse voxels: trunk features x and seen (n, channels), logits (n, 8)."""

    x: Tensor
    seen: Tensor
    logits: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: SurfaceModel, windows: Tensor, neighbours: Tensor, factor: int) -> Surface:
        """Of a trained network, which stays as it is."""
        x = model.trunk_features(windows, neighbours, factor)
        seen = torch.relu(model.norm(x))
        return cls(x, seen, model.logits_of(seen, factor))


class LatentPair(nn.Module):
    """Encoder and decoder, as they are trained."""

    def __init__(self, config: LatentConfig, channels: int) -> None:
        super().__init__()
        self.decoder, self.encoder = LatentModel(config, channels), LatentEncoder(config, channels)
        self.conditional = make_conditional()

    def forward(
        self, surface: Surface, occupied: Tensor, neighbours: Tensor, around: Around, point: int, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Logits (n, 8), and bits of the integers (m, latents).

        Args:
            surface: of the surface network.
            occupied: (n, 8) whether there is a point.
            neighbours: (n, 27).
            around: the groups.
            point: which operating point.
            noise: (m, latents) that stands for rounding; None to round.
        """
        decoder = self.decoder
        features = decoder.features(surface.seen, around, point)
        basis = decoder.basis_of(features)
        missing = occupied.float() - torch.sigmoid(surface.logits)
        latents = self.encoder(missing, surface.seen, neighbours, basis, around, point)
        latents = torch.round(latents) if noise is None else latents + noise
        mean, place = decoder.distribution(features, latents, around)
        bits = -torch.log2(self.conditional.likelihood(latents, self.conditional.scale_of(place), mean))
        logits = surface.logits + decoder.correction(surface.x, neighbours, latents, features, around, point)
        return logits, bits


def distortion_of(logits: Tensor, occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Of each coarse voxel (n,): wrong children, softly counted, and bits that they would take."""
    sign = 2 * occupied.float() - 1
    wrong = torch.sigmoid(-2 * sign * logits).sum(1)
    bits = functional.softplus(-sign * logits).sum(1) / np.log(2)
    return wrong, bits
