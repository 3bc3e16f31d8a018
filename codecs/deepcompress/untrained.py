"""Untrained: random weights of the shipped architecture."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from ..training.untrained import BLOCK, SEED, ball, write_untrained_record
from .cells import CELL_SIDE, cells_of
from .config import LearningRates, TrainingConfig
from .dataset import Blocks
from .files import prior_path, transform_path, upsampler_path
from .model import VoxelModel
from .prior_training import PriorTrainer
from .upsampler import Upsampler
from .weights import finished, load_transform, save_prior, save_transform, save_upsampler

#: Adam with this leaves weights as they are.
_NOTHING = 1e-30


def write_untrained(folder: Path) -> None:
    """Write them, those of all entropy models, to a folder that exists.

    Raises:
        OSError: a file cannot be written.
    """
    shipped = TrainingConfig.read(Path(str(files(__package__) / "configs" / "deepcompress.yml")))
    rates = LearningRates(reconstruction=_NOTHING, entropy=_NOTHING)
    changes = {"seed": SEED, "batch_size": 1, "learning_rates": rates}
    config = shipped.model_copy(update={"training": shipped.training.model_copy(update=changes)})
    blocks = Blocks([cells_of(ball())], BLOCK // CELL_SIDE, ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        save_transform(VoxelModel(config.model.transform()), transform_path(folder))
        model = load_transform(transform_path(folder))
        save_upsampler(Upsampler(model.config), upsampler_path(folder))
        trainer = PriorTrainer(config, blocks, model, config.model.entropy_models())
        trainer.priors.train()
        trainer.step = trainer.steps  # quantised, as in the last step of a training
        trainer.set_precision()
        trainer.train_step(blocks.batch(np.array([0]), np.array([0])))  # the ranges are observed
        for name, prior in trainer.priors.items():
            save_prior(name, finished(prior), prior_path(folder, name))
    write_untrained_record(folder, shipped)
