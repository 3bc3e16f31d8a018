"""Config: what a model is and how it is trained; an unknown key is an error, and every key has an effect."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..training.config import (
    ConfigError,
    ConfigFile,
    Count,
    NotNegative,
    Positive,
    Real,
    Section,
    Seed,
    Share,
    Threads,
    Whole,
)

_MAX_POINTS = 64


class OperatingPoint(Section):
    """A rate of the codec: how far a cloud is thinned, and what a bit costs.

    Attributes:
        ratio: points before a thinning to points after; the same at each stage.
        rate_weight: weight of the bits of features, per point of the cloud, in the loss.
        grid_share: step of the latents' grid over the spacing of the latents.
    """

    ratio: Annotated[Real, Field(gt=1, le=8)] = 3.0
    rate_weight: Positive = 1e-4
    grid_share: Annotated[Real, Field(gt=0, le=2)] = 0.6


class ModelConfig(Section):
    """Architecture.  The defaults are those of the published code for ShapeNet: 87,662 parameters.

    Attributes:
        dim: features of a point in the encoder, and of a latent.
        hidden_dim: hidden features of the encoder.
        neighbours: k of the encoder's attention.
        stages: how often a cloud is thinned.
        max_children: of a point, in one stage of the decoder.
        decoder_dim: features of a point in the decoder, a multiple of `max_children`.
        decoder_hidden_dim: hidden features of the decoder.
        context_neighbours: neighbours that the decoder looks at around each latent, 0 for none (as published): their
            places and features tell much of the surface between, at no bits.
        norm: normalise over a block and all features (`patch`, as published: one group), or over the features of a
            point alone (`point`), which does not depend on how a cloud is cut.
        coordinates: `octree`: places are told in each latent's own neighbourhood.  `learned`: in patches, as
            published, and the published bottleneck of latents' places is trained beside the rest.  Streams hold the
            places without loss, on a grid, in trained contexts, either way.
        points: operating points, low rate to high; more than one get gains and a bias each.
    """

    dim: Count = 8
    hidden_dim: Count = 64
    neighbours: Count = 16
    stages: Annotated[Whole, Field(ge=1, le=4)] = 3
    max_children: Annotated[Whole, Field(ge=2, le=16)] = 8
    decoder_dim: Count = 8
    decoder_hidden_dim: Count = 64
    context_neighbours: Annotated[Whole, Field(ge=0, le=32)] = 0
    norm: Literal["patch", "point"] = "patch"
    coordinates: Literal["learned", "octree"] = "learned"
    points: Annotated[tuple[OperatingPoint, ...], Field(min_length=1, max_length=_MAX_POINTS)] = (OperatingPoint(),)

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.decoder_dim % self.max_children:
            raise ValueError(f"decoder_dim {self.decoder_dim} is no multiple of max_children {self.max_children}")
        if not self.context_neighbours and self.decoder_dim != self.dim:
            raise ValueError(
                "without context_neighbours the decoder starts from the latents: decoder_dim must be dim"
            )
        if self.coordinates == "learned" and len(self.points) > 1:
            raise ValueError("learned coordinates have one operating point")
        return self


class DataConfig(Section):
    """Where the training blocks are.

    Attributes:
        path: folder of the blocks of `bench prepare` (npz; their training split).
        evaluation_path: folder of clouds that are evaluated; none may be a training file.
        min_points: blocks with fewer are left out.
        max_points: larger blocks are cut to part of their points.
        max_latents: blocks that would leave more latents are cut, too: what is learned grows with the latents, what
            it takes with the points.
        augment: turn and mirror blocks (48 symmetries of the cube).
        scanned: share of steps that see a block as a laser scanner would, with a density that falls with the distance
            and real coordinates.
    """

    path: Path
    evaluation_path: Path | None = None
    min_points: Annotated[Whole, Field(ge=64)] = 1000
    max_points: Annotated[Whole, Field(ge=64)] = 6000
    max_latents: Count | None = None
    augment: bool = True
    scanned: Annotated[Real, Field(ge=0, le=1)] = 0.0


class OccupancyConfig(Section):
    """Training of the contexts in which the latents' places are coded.

    Attributes:
        clouds: how many clouds' latents are coded.
        units: hidden units of the small network.
    """

    clouds: Count = 1200
    units: Annotated[Whole, Field(ge=8, le=256)] = 24


class LossConfig(Section):
    """Weights of the parts of the loss.

    Attributes:
        unit: what distances are measured in: half the side of a `patch` (as published), or the `spacing` of points.
        stage_chamfer: weight of the chamfer distance of all stages but the last, which has 1.
        density: weight of the density loss.
        mean_distance: weight of the mean distances within the density loss.
        point_count: weight of the point counts.
        latent_coordinates: weight of the error of learned coordinates.
    """

    unit: Literal["patch", "spacing"] = "patch"
    stage_chamfer: NotNegative = 0.1
    density: NotNegative = 1e-4
    mean_distance: NotNegative = 50.0
    point_count: NotNegative = 5e-7
    latent_coordinates: NotNegative = 1e-2


class TrainingSection(Section):
    """How long and how fast.  The defaults are the published schedule.

    Attributes:
        schedule: Adam with a learning rate that falls in steps (`published`), or along a cosine (`cosine`).
        epochs: passes over the blocks.
        batch_size: blocks a step.
        learning_rate: of the network.
        entropy_learning_rate: of the bottlenecks.
        auxiliary_learning_rate: of their quantiles.
        decay_epochs: of `published`, epochs after which the learning rate falls.
        decay: of `published`, what it is multiplied with then.
        decay_from: of `cosine`, share of the training after which it falls.
        rate_warm_up: share of the training in which the rate's weight rises to its full value.
        checkpoint_dir: folder of checkpoint, ledger and exported weights.
        checkpoint_s: seconds between checkpoints.
        validate_every: steps between validations on a few held-out blocks, where there are any.
        threads: of torch.
        seed: of everything random.
    """

    schedule: Literal["published", "cosine"] = "published"
    epochs: Positive = 50.0
    batch_size: Count = 1
    learning_rate: Positive = 1e-3
    entropy_learning_rate: Positive = 1e-3
    auxiliary_learning_rate: Positive = 1e-3
    decay_epochs: Count = 15
    decay: Annotated[Real, Field(gt=0, le=1)] = 0.5
    decay_from: Share = 0.4
    rate_warm_up: Share = 0.0
    checkpoint_dir: Path
    checkpoint_s: Positive = 60.0
    validate_every: Count = 1000
    threads: Threads = 1
    seed: Seed = 0


class TrainingConfig(ConfigFile):
    """The whole file."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    occupancy: OccupancyConfig = OccupancyConfig()
    training: TrainingSection


def expansion(model: ModelConfig, point: OperatingPoint) -> float:
    """Points of a cloud for each latent."""
    return math.pow(point.ratio, model.stages)


__all__ = ["ConfigError", "DataConfig", "ModelConfig", "OperatingPoint", "TrainingConfig", "expansion"]
