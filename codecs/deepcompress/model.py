"""Model: the transforms with the gains that make one set of weights serve all rates."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .structure import RATE_STEPS
from .transforms import CHUNK_CELLS, Analysis, Synthesis, TransformConfig
from .upsampler import Upsampler

#: Range of rate weights (nats of distortion a point that one bit a point may cost) of the gains.
MIN_RATE_WEIGHT, MAX_RATE_WEIGHT = 0.03, 64.0
_HIDDEN = 64
_KNOTS = 9


class RateGains(nn.Module):
    """What the rate weight changes: the step of each latent channel, and a bias of each transform."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.latent_channels = config.latent_channels
        self.filters = config.filters
        self.trunk = nn.Sequential(nn.Linear(_KNOTS, _HIDDEN), nn.ReLU())
        self.log_gain = nn.Linear(_HIDDEN, config.latent_channels)
        self.log_inverse = nn.Linear(_HIDDEN, config.latent_channels)
        self.analysis_bias = nn.Linear(_HIDDEN, config.filters)
        self.synthesis_bias = nn.Linear(_HIDDEN, config.filters)
        for head in (self.log_gain, self.log_inverse):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, rate_weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gain and inverse gain (n, latent_channels), biases of analysis and synthesis (n, filters), for (n,)."""
        place = rate_place(rate_weight)
        knots = torch.linspace(0, 1, _KNOTS, device=place.device)
        h = self.trunk(torch.relu(1 - (place[:, None] - knots).abs() * (_KNOTS - 1)))
        # Start with steps that grow with the rate weight, small enough at all rates for the latents to say something:
        # where noise drowns them from the beginning, they never come to life.
        start = 2.2 - 1.2 * (2 * place[:, None] - 1)
        gain = torch.exp(start + self.log_gain(h))
        inverse = torch.exp(-start + self.log_inverse(h))
        return gain, inverse, self.analysis_bias(h), self.synthesis_bias(h)


def rate_place(rate_weight: Tensor) -> Tensor:
    """Where a rate weight stands in the range, on a log scale: 0 at the smallest, 1 at the largest."""
    low, high = math.log(MIN_RATE_WEIGHT), math.log(MAX_RATE_WEIGHT)
    return ((rate_weight.log() - low) / (high - low)).clamp(0, 1)


def rate_index_of(rate_weight: float) -> int:
    """The nearest of the rates that a stream can name, 0 .. RATE_STEPS."""
    return round(float(rate_place(torch.tensor([rate_weight], dtype=torch.float64))) * RATE_STEPS)


def rate_weight_of(rate_index: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Rate weights of the rates that a stream names."""
    share = np.asarray(rate_index, np.float64) / RATE_STEPS
    return (MIN_RATE_WEIGHT * (MAX_RATE_WEIGHT / MIN_RATE_WEIGHT) ** share).astype(np.float32)


class VoxelModel(nn.Module):
    """Analysis, gains and synthesis; the entropy model stands apart, since the six share these weights."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        self.gains = RateGains(config)

    @torch.no_grad()
    def latents(
        self, voxels: npt.NDArray[np.uint8], neighbours: Tensor, rate_index: npt.NDArray[np.integer]
    ) -> Tensor:
        """Integer latents (n, latent_channels) as float32.

        Args:
            voxels: (n, 64) packed occupancy of the cells.
            neighbours: (n, 27) rows, n for none.
            rate_index: (n,), or (1,) for one rate for all.
        """
        gain, _, bias, _ = self.gains(torch.from_numpy(rate_weight_of(rate_index)))
        return (self.analysis.packed(voxels, neighbours, bias) * gain).round()

    @torch.no_grad()
    def logits(
        self, latents: Tensor, neighbours: Tensor, rate_index: int, upsampler: Upsampler | None = None
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Logits of the voxels, a piece of the cells at a time: (which cells, (k, 512) float32).

        With an upsampler the cells are those of the grid of twice the resolution, in the order of `fine_positions`.
        """
        _, inverse, _, bias = self.gains(torch.from_numpy(rate_weight_of(np.array([rate_index]))))
        features = self.synthesis.features(latents * inverse, neighbours, bias)
        finer, head = (1, self.synthesis.logits) if upsampler is None else (8, upsampler.of(self.synthesis))
        step = CHUNK_CELLS // finer
        for start in range(0, len(features), step):
            part = head(features[start : start + step]).numpy()
            yield slice(start * finer, start * finer + len(part)), part
