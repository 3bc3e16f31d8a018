"""Train: the whole way from a configuration to the files that the codec loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..sparse.samples import read_blocks
from ..training.checkpoint import exclusive
from ..training.record import is_trained, last_figures, versions, write_record
from ..weights import file_sha256
from .config import ModelConfig, TrainingConfig
from .dataset import read_dataset
from .files import model_path
from .latents import LatentTrainer
from .training import Report, Trainer
from .weights import finished, save_model

#: Given the name of a stage, something that is told of its progress.
Reporter = Callable[[str], Report]


def train(
    config_path: Path, command: str, reporter: Reporter | None = None, changes: Mapping[str, Any] | None = None
) -> Path:
    """Train what a configuration asks for, from where an earlier process stopped.

    Args:
        config_path: YAML file.
        command: how the training was started, for the record.
        reporter: called with `occupancy` and `model`, to show progress.
        changes: keys of the section `training` that replace those of the file.

    Returns:
        Folder of the exported weights, which `DpccCodec(weights=...)` takes.

    Raises:
        PccbenchError: the configuration, its data or a checkpoint cannot be used, or the training diverged; one
            clear line.
        TrainingInterrupted: it was asked to stop.
    """
    config = TrainingConfig.read(config_path, changes)
    with exclusive(config.training.checkpoint_dir):
        return _train(config, command, reporter)


def _train(config: TrainingConfig, command: str, reporter: Reporter | None) -> Path:
    blocks = read_blocks(config.data.path)
    dataset = read_dataset(config.data, blocks)
    latents = LatentTrainer(config, blocks, dataset.files_sha256)
    latents.resume()
    experience = latents.run(reporter("occupancy") if reporter else None)
    trainer = Trainer(config, dataset)
    trainer.resume()
    trainer.run(reporter("model") if reporter else None)
    out = config.training.checkpoint_dir / "weights"
    out.mkdir(parents=True, exist_ok=True)
    save_model(finished(trainer.model, experience, trainer.patch), model_path(out))
    record = {
        "command": command,
        "config": config.model_dump(mode="json"),
        "seed": config.training.seed,
        "training_files_sha256": list(dataset.files_sha256),
        "training_blocks": len(dataset),
        "versions": versions(),
        "steps": trainer.step,
        "planned_steps": trainer.steps,
        "trained_s": round(trainer.trained_s),
        "occupancy": {
            "clouds": latents.step,
            "planned_clouds": latents.clouds,
            "trained_s": round(latents.trained_s),
        },
        "last": last_figures(config.training.checkpoint_dir / "ledger.csv"),
        "parameters": trainer.model.parameter_count() + experience.arrays["hidden"].size,
        "network_parameters": trainer.model.parameter_count(),
        "macs_per_point": round(macs_per_point(config.model), 1),
        "computed": {"device": "cpu", "precision": "float32", "reason": "the only precision of this codec"},
        "trained": is_trained((trainer.step, trainer.steps)),
        "weights_sha256": file_sha256(model_path(out)),
    }
    write_record(out, record)
    return out


def macs_per_point(config: ModelConfig) -> float:
    """Multiply-accumulates of encoder and decoder per point of the cloud, at the highest operating point.

    One for each weight that is used; linear layers alone.
    """
    hidden, dim, k = config.hidden_dim, config.dim, config.neighbours
    wide, deep = config.decoder_hidden_dim, config.decoder_dim
    ratio = config.points[-1].ratio
    attention = 3 * hidden + hidden * hidden + 2 * hidden * hidden
    embedding = 4 * hidden + hidden * dim + 2 * dim * hidden
    kept = k * (attention + embedding) + hidden + 4 * dim * hidden + 3 * dim * dim
    part = deep // config.max_children
    directions = 43 + 1 + deep
    child = 3 * part * wide + wide * directions + 3 * deep * wide + wide * directions
    parent = deep * wide + wide
    total: float = 3 * hidden + hidden * dim
    for stage in range(config.stages):
        before = ratio**-stage
        total += before * (dim * dim + 2 * dim * hidden) + before / ratio * kept
        total += before * child + before / ratio * parent
    if config.context_neighbours:
        context = config.context_neighbours * ((dim + 4) * wide + wide * wide)
        total += ratio**-config.stages * (context + (wide + dim) * wide + wide * deep)
    return total


__all__ = ["Reporter", "macs_per_point", "train"]
