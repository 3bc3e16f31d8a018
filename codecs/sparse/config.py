"""Config: the file that says how the networks are trained; an unknown key is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ..training.config import ConfigError, ConfigFile, Count, Positive, Real, Section, Seed, Share, Threads, Whole
from ..training.precision import DeviceWish, PrecisionWish
from .latents import LatentConfig
from .surface import SurfaceConfig


class DataConfig(Section):
    """Where the training blocks are.

    Attributes:
        blocks_path: folder that `bench prepare` wrote, of blocks of 128 or, better, 256 voxels.
        evaluated_path: folder of the clouds that are evaluated; a file there that is among the training files is an
            error.  None for no such check.
        halve_share: share of the pieces for factors up to 4 that are halved in resolution first, which makes the
            network serve clouds of other densities.
    """

    blocks_path: Path
    evaluated_path: Path | None = None
    halve_share: Share = 0.25


class NetworkConfig(Section):
    """One network; the keys of `SurfaceConfig`.

    Attributes:
        factors: by which it refines a grid.
        shares: how often each factor is trained, relative to all others of all networks.
        channels: features of a voxel.
        blocks: residual blocks.
        hidden: features between trunk and logits.
    """

    factors: tuple[Annotated[Whole, Field(ge=2, le=8)], ...]
    shares: tuple[Positive, ...]
    channels: Count = 64
    blocks: Annotated[Whole, Field(ge=0)] = 3
    hidden: Count = 128

    @model_validator(mode="after")
    def _check(self) -> NetworkConfig:
        if not self.factors or len(self.shares) != len(self.factors):
            raise ValueError(f"expected one share for each factor, got {self.shares} for {self.factors}")
        return self

    def surface(self) -> SurfaceConfig:
        """The config of the network itself."""
        return SurfaceConfig(**self.model_dump(exclude={"shares"}))


class OccupancyConfig(Section):
    """Training of the contexts of the coarse grid.

    Attributes:
        clouds: how many clouds are coded, each on one grid.
        units: hidden units of the small network.
        grid_steps: steps of the grids, in voxels.
        shares: how often each is drawn.
    """

    clouds: Count = 200
    units: Annotated[Whole, Field(ge=8, le=256)] = 32
    grid_steps: tuple[Annotated[Whole, Field(ge=1, le=64)], ...] = (1, 2, 3, 4, 5, 6, 8, 12)
    shares: tuple[Positive, ...] = (0.02, 0.04, 0.1, 0.2, 0.16, 0.2, 0.18, 0.1)

    @model_validator(mode="after")
    def _check(self) -> OccupancyConfig:
        if not self.grid_steps or len(self.shares) != len(self.grid_steps):
            raise ValueError(f"expected one share for each step, got {self.shares} for {self.grid_steps}")
        return self


class LatentSection(Section):
    """Training of the latents that correct what the network of the smallest factor cannot know.

    Attributes:
        trade_offs: wrong children that a bit is worth, one for each operating point.
        steps: of the optimiser; 0 for none.
        learning_rate: peak, of Adam.
        decay_from: share of the training after which the learning rate falls along a cosine.
        rate_warm_up: share of the training in which the weight of the rate rises to its full value.
        cross_entropy: weight of a bit of cross-entropy beside a wrong child.
        channels: integers of a group of eight coarse voxels.
        features: of such a group.
        blocks: residual blocks over groups.
        hidden: features between those of a group and what is made of them.
        encoder: features of a coarse voxel in the encoder.
    """

    trade_offs: tuple[Positive, ...] = (0.8, 0.42, 0.22)
    steps: Annotated[Whole, Field(ge=0)] = 12_000
    learning_rate: Positive = 2e-3
    decay_from: Share = 0.4
    rate_warm_up: Share = 0.25
    cross_entropy: Annotated[Real, Field(ge=0)] = 0.2
    channels: Annotated[Whole, Field(ge=1, le=16)] = 6
    features: Count = 48
    blocks: Annotated[Whole, Field(ge=0)] = 2
    hidden: Count = 96
    encoder: Count = 32

    def shape(self) -> LatentConfig:
        """The config of the networks themselves."""
        keys = {"trade_offs", "channels", "features", "blocks", "hidden", "encoder"}
        return LatentConfig(**self.model_dump(include=keys))


class FocalLoss(Section):
    """Focal loss (Lin et al. 2017), mixed with the cross-entropy the more, the larger the factor.

    Attributes:
        alpha: weight of occupied voxels.
        gamma: focus on the hard ones.
        scale: what it is multiplied with beside the cross-entropy.
        share: its share at the largest factor; at factor 2 it has none.
    """

    alpha: Annotated[Real, Field(gt=0, lt=1)] = 0.75
    gamma: Annotated[Real, Field(ge=0)] = 2.0
    scale: Positive = 6.0
    share: Share = 0.6


class TrainingSection(Section):
    """How long and how fast.

    Attributes:
        steps: of the optimiser, each on one batch for one factor.
        learning_rate: peak, of Adam.
        decay_from: share of the training after which the learning rate falls along a cosine.
        average: decay of the running average of the weights, which is what is exported.
        focal_loss: its parameters.
        checkpoint_dir: folder of checkpoint, ledger and exported weights.
        checkpoint_s: seconds between checkpoints.
        validate_every: steps between validations on the held-out blocks.
        threads: of torch.
        device: where the surface networks are trained; `auto` is cuda where there is one.  All else is trained on the
            CPU.
        mixed_precision: floats of the surface networks: `auto` measures at the start which are fastest, or `float32`
            (as false), `bfloat16`, `float16` (on cuda, with loss scaling); true is the half precision of the device.
        seed: of everything random.
    """

    steps: Count = 20_000
    learning_rate: Positive = 2e-3
    decay_from: Share = 0.5
    average: Share = 0.998
    focal_loss: FocalLoss = FocalLoss()
    checkpoint_dir: Path
    checkpoint_s: Positive = 60.0
    validate_every: Count = 500
    threads: Threads = 1
    device: DeviceWish = "auto"
    mixed_precision: PrecisionWish = "auto"
    seed: Seed = 0


class TrainingConfig(ConfigFile):
    """The whole file."""

    data: DataConfig
    networks: tuple[NetworkConfig, ...]
    occupancy: OccupancyConfig = OccupancyConfig()
    latents: LatentSection = LatentSection()
    training: TrainingSection

    @model_validator(mode="after")
    def _check_factors(self) -> TrainingConfig:
        factors = [factor for network in self.networks for factor in network.factors]
        if not factors or len(set(factors)) != len(factors):
            raise ValueError(f"each factor belongs to one network, and there must be one, got {factors}")
        return self


__all__ = ["ConfigError", "TrainingConfig", "TrainingSection"]
