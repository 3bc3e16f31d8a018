"""Model: from a hierarchy to features of its latents, and from latents to points."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .bottleneck import QuantileBottleneck
from .config import ModelConfig
from .hierarchy import Hierarchy, Latents
from .layers import Downsample, ExactPerceptron, Perceptron, Upsample, exact_linear, family

_IN_FEATURES = 3
#: Bottlenecks of several operating points start narrower: gains make the features what they need.
_INIT_SCALE = 4.0
#: Rows worked on at a time outside training, to bound memory.
_ROWS = 1 << 13


class TooManyError(ValueError):
    """The decoder would grow more points than it may."""


@dataclass(frozen=True, eq=False)
class Grown:
    """What a stage of the decoder made of n points.

    Attributes:
        xyz: (m, 3) its points, float64.
        counts: (n,) children that each point should have, real numbers.
        parent: (m,) which of the n each child has.
        latent: (m,) latent that each child descends from.
    """

    xyz: Tensor
    counts: Tensor
    parent: Tensor
    latent: Tensor


@dataclass(frozen=True, eq=False)
class State:
    """Where the decoder stands.

    Attributes:
        stage: number of the next stage.
        x: (n, decoder_dim) features of the points so far.
        xyz: (n, 3) their places, float64.
        latent: (n,) latent that each descends from.
        scale: (m,) of the latents, float64.
        point: number of the operating point.
    """

    stage: int
    x: Tensor
    xyz: Tensor
    latent: Tensor
    scale: Tensor
    point: int


class Context(nn.Module):
    """What lies around a latent: places and features of its neighbours, the largest of each feature, and its own.

    Args:
        dim: features of a latent.
        hidden: of the layers.
        out: features for the decoder.
        points: number of operating points, each with a bias of its own.
    """

    def __init__(self, dim: int, hidden: int, out: int, points: int) -> None:
        super().__init__()
        self.neighbour = ExactPerceptron(dim + 4, hidden, hidden)
        self.own = exact_linear(hidden + dim, hidden)
        self.bias = nn.Parameter(torch.zeros(points, hidden))
        self.out = exact_linear(hidden, out)

    def forward(self, y: Tensor, near: Tensor, relative: Tensor, point: int) -> Tensor:
        """(m, dim), (m, k) rows, (m, k, 3) places -> (m, out)."""
        a, b, c = relative.unbind(2)
        distance = torch.sqrt(a * a + b * b + c * c)[:, :, None]
        seen = torch.relu(self.neighbour(torch.cat([relative, distance, y[near]], 2))).amax(1)
        hidden = torch.relu(self.own(torch.cat([seen, y], 1)) + self.bias[point])
        out: Tensor = self.out(hidden)
        return out


class Coordinates(nn.Module):
    """Learned codec of latents' coordinates: analysis, bottleneck, synthesis."""

    def __init__(self, dim: int, hidden: int, norm: str) -> None:
        super().__init__()
        self.analysis = Perceptron(3, hidden, dim, norm)
        self.bottleneck = QuantileBottleneck(dim)
        self.synthesis = Perceptron(dim, hidden, 3, norm)

    def forward(self, xyz: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        """Coded coordinates (m, 3) and likelihoods."""
        y_hat, likelihood = self.bottleneck(self.analysis(xyz, block))
        return self.synthesis(y_hat, block), likelihood


class PointModel(nn.Module):
    """Encoder, bottlenecks and decoder.

    Args:
        config: architecture.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        points = len(config.points)
        self.first = Perceptron(_IN_FEATURES, config.hidden_dim, config.dim, config.norm)
        self.encoder = nn.ModuleList(
            Downsample(config.dim, config.hidden_dim, config.norm) for _ in range(config.stages)
        )
        self.bottlenecks = nn.ModuleList(
            QuantileBottleneck(config.dim, init_scale=_INIT_SCALE if points > 1 else 10.0) for _ in range(points)
        )
        self.log_gain = nn.Parameter(torch.zeros(points, config.dim)) if points > 1 else None
        self.count_bias = nn.Parameter(_usual_counts(config)) if points > 1 else None
        self.coordinates = (
            Coordinates(config.dim, config.hidden_dim, config.norm) if config.coordinates == "learned" else None
        )
        self.context = (
            Context(config.dim, config.decoder_hidden_dim, config.decoder_dim, points)
            if config.context_neighbours
            else None
        )
        self.decoder = nn.ModuleList(
            Upsample(config.decoder_dim, config.decoder_hidden_dim, config.max_children) for _ in range(config.stages)
        )

    def parameter_count(self) -> int:
        """Trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def bottleneck(self, point: int) -> QuantileBottleneck:
        """That of an operating point."""
        found = self.bottlenecks[point]
        if not isinstance(found, QuantileBottleneck):
            raise TypeError(f"expected a bottleneck, got {type(found).__name__}")
        return found

    def gain(self, point: int) -> Tensor:
        """What features are multiplied with before they are rounded, (dim,)."""
        return torch.ones(self.config.dim) if self.log_gain is None else torch.exp(self.log_gain[point])

    def analysis(
        self,
        hierarchy: Hierarchy,
        scale: npt.NDArray[np.float64],
        block: npt.NDArray[np.int64],
        point: int,
        centre: npt.NDArray[np.float64] | None = None,
    ) -> Tensor:
        """Features of the latents, (m, dim), before gain and rounding.

        Args:
            hierarchy: the cloud.
            scale: (m,) of the latents; places are told in it.
            block: (m,) number of the block of each latent (for `norm: patch`).
            point: number of the operating point.
            centre: (m, 3) what places are told from, None for the latents themselves.
        """
        owner = hierarchy.owner
        latent = hierarchy.latents.xyz if centre is None else centre
        place = (hierarchy.xyz - latent[owner[0]]) / scale[owner[0]][:, None]
        x = self.first(_float(place), _long(block[owner[0]]))
        for number, (layer, stage) in enumerate(zip(self.encoder, hierarchy.stages, strict=True)):
            parts = []
            for start in range(0, len(stage.xyz), self._rows(len(stage.xyz))):
                part = slice(start, start + self._rows(len(stage.xyz)))
                mine = owner[number + 1][part]
                near = stage.near[part]
                relative = hierarchy.level(number)[near] - stage.xyz[part, None]
                kept_scale = self.stage_scale(point, self.config.stages - 1 - number)
                relative /= (scale[mine] * kept_scale)[:, None, None]
                parts.append(
                    layer(
                        x,
                        _long(stage.rows[part]),
                        _long(near),
                        torch.from_numpy(stage.mask[part]),
                        _float(relative),
                        _float(stage.counts[part]),
                        _long(block[mine]),
                    )
                )
            x = torch.cat(parts)
        out: Tensor = x
        return out

    def stage_scale(self, point: int, stage: int) -> float:
        """Spacing of the points that go into a stage of the decoder, over that of the latents.

        Surfaces that are thinned by a ratio grow wider by its root: told in this unit, a stage sees the same at all
        operating points.  Roots and products only, the same everywhere.  Patches (as published) have one scale.
        """
        scale = 1.0
        if self.config.coordinates == "octree":
            for _ in range(stage):
                scale /= math.sqrt(self.config.points[point].ratio)
        return scale

    def _rows(self, rows: int) -> int:
        """Rows that are worked on at a time: all in training, and where blocks are normalised as a whole."""
        return max(rows, 1) if self.training or self.config.norm == "patch" else _ROWS

    def synthesis(
        self, y: Tensor, xyz: Tensor, neighbourhood: tuple[Tensor, Tensor, Tensor], point: int
    ) -> list[Grown]:
        """Grow the cloud: `start`, and `advance` through all stages; the cloud is the last.

        Args:
            y: (m, dim) features of the latents, the gain undone.
            xyz: (m, 3) float64 places of the latents.
            neighbourhood: rows, relative places and scales (float64) of `Latents.neighbourhood`.
            point: number of the operating point.
        """
        state = self.start(y, xyz, neighbourhood, point)
        stages = []
        for _ in self.decoder:
            made, state = self.advance(state)
            stages.append(made)
        return stages

    def start(self, y: Tensor, xyz: Tensor, neighbourhood: tuple[Tensor, Tensor, Tensor], point: int) -> State:
        """What the first stage grows from; arguments as of `synthesis`."""
        near, relative, scale = neighbourhood
        x = y if self.context is None else self.context(y, near, relative, point)
        return State(0, x, xyz, torch.arange(len(y)), scale, point)

    def counts(self, state: State) -> Tensor:
        """How many children each point should have in the next stage, real numbers."""
        bias = None if self.count_bias is None else self.count_bias[state.point, state.stage]
        return self._layer(state).counts(state.x, bias)

    def advance(self, state: State, shift: float = 0.0, most: int | None = None) -> tuple[Grown, State]:
        """One stage.

        Args:
            state: where it starts.
            shift: added to the numbers of children before they are rounded, to meet a number of points.
            most: points that may come out.

        Raises:
            TooManyError: there would be more than `most`; nothing was allocated for them.
        """
        layer = self._layer(state)
        counts = self.counts(state)
        whole = children_of(counts.detach(), shift, layer.max_children)
        if most is not None and int(whole.sum()) > most:
            raise TooManyError(f"stage {state.stage + 1} grows {int(whole.sum())} points, expected at most {most}")
        parent, sibling = family(whole)
        xyz, x = self.offspring(state, parent, sibling)
        latent = state.latent[parent]
        return Grown(xyz, counts, parent, latent), replace(state, stage=state.stage + 1, x=x, xyz=xyz, latent=latent)

    def offspring(self, state: State, parent: Tensor, sibling: Tensor) -> tuple[Tensor, Tensor]:
        """Places (m, 3), float64, and features (m, dim) of children in the next stage.

        Args:
            state: of the parents.
            parent: (m,) row of the parent of each child.
            sibling: (m,) which child of its parent it is.
        """
        # In training the ranges of all layers are observed, of those that nobody asks for, too.
        last = state.stage == len(self.decoder) - 1 and not self.training
        moved, x = self._grow(self._layer(state), state.x, parent, sibling, last=last)
        scale = state.scale[state.latent[parent]] * self.stage_scale(state.point, state.stage)
        return state.xyz[parent] + moved.double() * scale[:, None], x

    def _layer(self, state: State) -> Upsample:
        layer = self.decoder[state.stage]
        if not isinstance(layer, Upsample):
            raise TypeError(f"expected a stage of the decoder, got {type(layer).__name__}")
        return layer

    def _grow(
        self, layer: Upsample, x: Tensor, parent: Tensor, sibling: Tensor, *, last: bool
    ) -> tuple[Tensor, Tensor]:
        if self.training or len(parent) <= _ROWS:
            return layer.grow(x, parent, sibling, last=last)
        parts = [
            layer.grow(x, *part, last=last) for part in zip(parent.split(_ROWS), sibling.split(_ROWS), strict=True)
        ]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _usual_counts(config: ModelConfig) -> Tensor:
    """Logits of the children that each point had on average when the cloud was thinned, (points, stages)."""
    shares = [min(max((point.ratio - 1) / (config.max_children - 1), 0.05), 0.95) for point in config.points]
    return torch.tensor([[math.log(share / (1 - share))] * config.stages for share in shares])


def children_of(counts: Tensor, shift: float, most: int) -> Tensor:
    """Whole numbers of children, 1 to `most`: real ones, shifted and rounded, halves up."""
    return torch.floor(counts + (0.5 + shift)).clamp(1, most).long()


def neighbourhood_tensors(latents: Latents, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """`Latents.neighbourhood` for `PointModel.synthesis`."""
    near, relative, scale = latents.neighbourhood(max(k, 1))
    return _long(near), _float(relative), torch.from_numpy(scale)


def _float(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _long(values: npt.NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.int64))
