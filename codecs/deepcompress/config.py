"""Config: the file that says how a model is trained; an unknown key is an error, and every key has an effect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..training.config import ConfigError, ConfigFile, Count, Positive, Real, Section, Seed, Threads, Whole
from ..training.precision import DeviceWish, PrecisionWish
from .model import MAX_RATE_WEIGHT, MIN_RATE_WEIGHT
from .transforms import TransformConfig

EntropyModelName = Literal["gaussian", "hyperprior", "channel", "context", "attention", "hybrid"]


class DataConfig(Section):
    """Where the training clouds are, and how they are cut.

    Attributes:
        modelnet40_path: folder of training blocks or clouds (PLY), of ModelNet40 or any other source.
        ivfb_path: folder of the clouds that are evaluated; never trained on: a file there that is among the training
            files is an error.
        validation_path: folder of clouds for the rate-distortion points during training; None for none.
        resolution: side of a training block in voxels, a multiple of 8.
        block_size: physical side of a block, to state distances in the ledger in the unit of the source.
        min_points: blocks with fewer points are left out.
        augment: turn and mirror blocks (the 48 symmetries of the cube).
    """

    modelnet40_path: Path
    ivfb_path: Path | None = None
    validation_path: Path | None = None
    resolution: Annotated[Whole, Field(ge=8, le=1024, multiple_of=8)] = 64
    block_size: Positive = 1.0
    min_points: Annotated[Whole, Field(ge=1)] = 100
    augment: bool = True


class ModelConfig(Section):
    """Architecture: the keys of `TransformConfig`, and which entropy models are trained on it.

    Attributes:
        entropy_model: one name, or several that share the transform.
        transform_weights: trained transform to put entropy models on, in place of training one; `shipped` is the
            one of this package.
    """

    filters: Count = 128
    kernel_size: tuple[int, int, int] = (3, 3, 3)
    strides: tuple[int, ...] = (4, 2)
    activation: Literal["relu", "gdn", "cenic_gdn"] = "relu"
    conv_type: Literal["standard", "separable"] = "standard"
    latent_channels: Count = 24
    bottleneck: Count = 32
    sub_filters: Count = 64
    analysis_blocks: Annotated[Whole, Field(ge=0)] = 2
    synthesis_blocks: Annotated[Whole, Field(ge=0)] = 3
    mixers: Annotated[Whole, Field(ge=0)] = 2
    mixer_filters: Count = 256
    entropy_model: EntropyModelName | tuple[EntropyModelName, ...] = "hyperprior"
    transform_weights: Path | Literal["shipped"] | None = None

    def transform(self) -> TransformConfig:
        """The config of the transforms."""
        return TransformConfig(**self.model_dump(exclude={"entropy_model", "transform_weights"}))

    def entropy_models(self) -> tuple[EntropyModelName, ...]:
        """Names of the entropy models to train."""
        return (self.entropy_model,) if isinstance(self.entropy_model, str) else self.entropy_model

    @model_validator(mode="after")
    def _check_transform(self) -> ModelConfig:
        self.transform()
        return self


class LearningRates(Section):
    """Peak learning rates of Adam.

    Attributes:
        reconstruction: of the transforms.
        entropy: of the entropy models.
    """

    reconstruction: Positive = 1e-3
    entropy: Positive = 1e-3


class FocalLoss(Section):
    """Focal loss (Lin et al. 2017).

    Attributes:
        alpha: weight of occupied voxels.
        gamma: focus on the hard ones.
        scale: what it is multiplied with beside the cross-entropy.
        from_rate_weight: rate weight up to which the cross-entropy is used alone.
        to_rate_weight: rate weight from which the focal loss is used alone.
    """

    alpha: Annotated[Real, Field(gt=0, lt=1)] = 0.75
    gamma: Annotated[Real, Field(ge=0)] = 2.0
    scale: Positive = 6.0
    from_rate_weight: Positive = 0.5
    to_rate_weight: Positive = 8.0


class TrainingSection(Section):
    """How long, how fast, how much rate.

    Attributes:
        batch_size: blocks a step.
        epochs: passes over the blocks for the transform.
        entropy_epochs: passes for each entropy model on the finished transform.
        upsampler_epochs: passes for the upsampler of the lowest rates, on the finished transform.
        learning_rates: peaks.
        focal_loss: its parameters.
        rate_weights: smallest and largest rate weight; each block draws one between them, log-uniformly.
        rate_warm_up: share of the training in which the rate's weight rises to its full value; without it the latents
            collapse to nothing.
        decay_from: share of the training after which the learning rate falls along a cosine.
        checkpoint_dir: folder of checkpoints, ledger and exported weights.
        checkpoint_s: seconds between checkpoints.
        validate_every: steps between validations.
        device: where the transforms are trained; `auto` is cuda where there is one.  All else is trained on the CPU.
        mixed_precision: floats of the transforms (entropy mathematics stays in float32): `auto` measures at the start
            which are fastest, or `float32` (as false), `bfloat16`, `float16` (on cuda, with loss scaling); true is
            the half precision of the device.
        threads: of torch.
        seed: of everything random.
    """

    batch_size: Count = 32
    epochs: Positive = 100.0
    entropy_epochs: Positive = 10.0
    upsampler_epochs: Positive = 3.0
    learning_rates: LearningRates = LearningRates()
    focal_loss: FocalLoss = FocalLoss()
    rate_weights: tuple[Positive, Positive] = (0.2, 50.0)
    rate_warm_up: Annotated[Real, Field(ge=0, lt=1)] = 0.2
    decay_from: Annotated[Real, Field(ge=0, lt=1)] = 0.4
    checkpoint_dir: Path
    checkpoint_s: Positive = 60.0
    validate_every: Count = 500
    device: DeviceWish = "auto"
    mixed_precision: PrecisionWish = "auto"
    threads: Threads = 1
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_rates(self) -> TrainingSection:
        low, high = self.rate_weights
        if not MIN_RATE_WEIGHT <= low < high <= MAX_RATE_WEIGHT:
            raise ValueError(
                f"rate_weights must rise within {MIN_RATE_WEIGHT} to {MAX_RATE_WEIGHT}, got {low} to {high}"
            )
        return self


class TrainingConfig(ConfigFile):
    """The whole file."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    training: TrainingSection


__all__ = ["ConfigError", "EntropyModelName", "TrainingConfig"]
