"""Untrained: random weights of the shipped architecture."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from ..blocks import cut
from ..sparse.experience import TABLE_BITS
from ..sparse.kernel import new_model
from ..sparse.occupancy import Experience
from ..training.untrained import BLOCK, SEED, ball, write_untrained_record
from .config import TrainingConfig
from .dataset import Dataset
from .files import model_path
from .training import Trainer
from .weights import finished, save_model


def write_untrained(folder: Path) -> None:
    """Write them to a folder that exists.

    Raises:
        OSError: a file cannot be written.
    """
    shipped = TrainingConfig.read(Path(str(files(__package__) / "configs" / "dpcc.yml")))
    seeded = shipped.training.model_copy(update={"seed": SEED})
    config = shipped.model_copy(update={"training": seeded})
    with torch.random.fork_rng(devices=[]):
        dataset = Dataset(cut(ball(), BLOCK), config.data, ())
        trainer = Trainer(config, dataset)
        batch = dataset.batch(np.array([0]), np.random.default_rng(SEED))
        trainer.model.train()
        with torch.no_grad():
            for number in range(len(config.model.points)):
                trainer.losses_of(batch, number, 1.0, torch.Generator().manual_seed(SEED))
        experience = Experience.of(new_model(TABLE_BITS, config.occupancy.units))
        save_model(finished(trainer.model, experience, trainer.patch), model_path(folder))
    write_untrained_record(folder, config)
