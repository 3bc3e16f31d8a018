"""Untrained: random weights of the shipped architecture."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch

from ..training.untrained import SEED, write_untrained_record
from .config import TrainingConfig
from .experience import TABLE_BITS
from .header import REFINED_STEP
from .kernel import new_model
from .latents import LatentPair
from .occupancy import Experience
from .surface import SurfaceModel
from .weights import save


def write_untrained(folder: Path) -> None:
    """Write them to a folder that exists.

    Raises:
        OSError: a file cannot be written.
    """
    config = TrainingConfig.read(Path(str(files(__package__) / "configs" / "sparse.yml")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        models = [SurfaceModel(network.surface()) for network in config.networks]
        refined = next(model for model in models if REFINED_STEP in model.config.factors)
        pair = LatentPair(config.latents.shape(), refined.config.channels)
        save(folder, Experience.of(new_model(TABLE_BITS, config.occupancy.units)), models, pair)
    write_untrained_record(folder, config)
