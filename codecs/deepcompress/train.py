"""Train: the whole way from a configuration to the files that the codec loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..training.checkpoint import exclusive
from ..training.record import is_trained, last_figures, versions, write_record
from ..weights import file_sha256, read_record, write_whole
from .config import ConfigError, TrainingConfig
from .dataset import Blocks
from .files import SHIPPED, prior_path, transform_path, upsampler_path
from .macs import prior_macs_per_cell
from .model import VoxelModel
from .prior_training import PriorTrainer
from .priors import PRIORS
from .training import Report, TransformTrainer, read_data
from .upsampler_training import UpsamplerTrainer
from .weights import finished, load_transform, save_prior, save_transform, save_upsampler

#: Given the name of a stage, something that is told of its progress.
Reporter = Callable[[str], Report]


def train(
    config_path: Path, command: str, reporter: Reporter | None = None, changes: Mapping[str, Any] | None = None
) -> Path:
    """Train what a configuration asks for, from where an earlier process stopped.

    Args:
        config_path: YAML file.
        command: how the training was started, for the record.
        reporter: called with `transform`, `upsampler` and `entropy`, to show progress.
        changes: keys of the section `training` that replace those of the file.

    Returns:
        Folder of the exported weights, which `DeepCompressCodec(weights=...)` takes.

    Raises:
        PccbenchError: the configuration, its data or a checkpoint cannot be used, or the training diverged; one
            clear line.
        TrainingInterrupted: it was asked to stop.
    """
    config = TrainingConfig.read(config_path, changes)
    with exclusive(config.training.checkpoint_dir):
        return _train(config, command, reporter)


def _train(config: TrainingConfig, command: str, reporter: Reporter | None) -> Path:
    blocks = read_data(config)
    out = config.training.checkpoint_dir / "weights"
    out.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "command": command,
        "config": config.model_dump(mode="json"),
        "seed": config.training.seed,
        "training_files_sha256": list(blocks.files_sha256),
        "training_blocks": len(blocks),
        "versions": versions(),
    }
    model = _transform(config, blocks, out, record, reporter)
    _upsampler(config, blocks, model, out, record, reporter)
    _priors(config, blocks, model, out, record, reporter)
    points_per_cell = _points_per_cell(blocks)
    record["macs_per_point"] = round(_macs_per_cell(model) / points_per_cell, 1)
    record["entropy_macs_per_point"] = {
        name: round(prior_macs_per_cell(PRIORS[name](model.config.latent_channels)) / points_per_cell, 1)
        for name in config.model.entropy_models()
    }
    entropy = record["entropy"]
    transform_trained = record["transform"].get("trained", False)
    record["trained"] = transform_trained and is_trained((entropy["steps"], entropy["planned_steps"]))
    record["files_sha256"] = {path.name: file_sha256(path) for path in sorted(out.glob("*.safetensors"))}
    write_record(out, record)
    return out


def _transform(
    config: TrainingConfig, blocks: Blocks, out: Path, record: dict[str, Any], reporter: Reporter | None
) -> VoxelModel:
    """The transforms: given ones, or trained now."""
    given = config.model.transform_weights
    path = transform_path(out)
    if given is not None:
        folder = SHIPPED if given == "shipped" else given
        _copy(transform_path(folder), path)
        earlier = read_record(folder)
        transform = earlier.get("transform", {"weights_sha256": file_sha256(path)})
        record["transform"] = {"trained": bool(earlier.get("trained", False)), **transform}
        return load_transform(path)
    trainer = TransformTrainer(config, blocks)
    trainer.resume()
    trainer.run(reporter("transform") if reporter else None)
    save_transform(trainer.model, path)
    record["transform"] = {
        "steps": trainer.step,
        "planned_steps": trainer.steps,
        "trained": is_trained((trainer.step, trainer.steps)),
        "trained_s": round(trainer.trained_s),
        "computed": trainer.mixed.choice.record() if trainer.mixed is not None else None,
        "last": last_figures(config.training.checkpoint_dir / "ledger.csv"),
    }
    return load_transform(path)


def _copy(source: Path, target: Path) -> None:
    """Take over a file of given weights.

    Raises:
        ConfigError: there is none.
    """
    if not source.is_file():
        raise ConfigError(f"model.transform_weights: {source}: expected weights, found nothing there")
    write_whole(target, source.read_bytes())


def _upsampler(  # the parts of one training
    config: TrainingConfig,
    blocks: Blocks,
    model: VoxelModel,
    out: Path,
    record: dict[str, Any],
    reporter: Reporter | None,
) -> None:
    """The upsampler: that of the given transforms, or trained now."""
    given = config.model.transform_weights
    path = upsampler_path(out)
    if given is not None:
        folder = SHIPPED if given == "shipped" else given
        _copy(upsampler_path(folder), path)
        record["upsampler"] = read_record(folder).get("upsampler", {"weights_sha256": file_sha256(path)})
        return
    trainer = UpsamplerTrainer(config, blocks, model)
    trainer.resume()
    trainer.run(reporter("upsampler") if reporter else None)
    save_upsampler(trainer.upsampler, path)
    record["upsampler"] = {
        "steps": trainer.step,
        "planned_steps": trainer.steps,
        "trained_s": round(trainer.trained_s),
        "last": last_figures(config.training.checkpoint_dir / "upsampler.csv"),
    }


def _priors(  # the parts of one training
    config: TrainingConfig,
    blocks: Blocks,
    model: VoxelModel,
    out: Path,
    record: dict[str, Any],
    reporter: Reporter | None,
) -> None:
    trainer = PriorTrainer(config, blocks, model, config.model.entropy_models())
    trainer.resume()
    trainer.run(reporter("entropy") if reporter else None)
    for name, prior in trainer.priors.items():
        save_prior(name, finished(prior), prior_path(out, name))
    record["entropy"] = {
        "steps": trainer.step,
        "planned_steps": trainer.steps,
        "trained_s": round(trainer.trained_s),
        "last": last_figures(config.training.checkpoint_dir / "priors.csv"),
    }


def _macs_per_cell(model: VoxelModel) -> float:
    """Multiply-accumulates of analysis and synthesis for a cell with all its neighbours: one for each weight used."""
    config = model.config
    total = 0.0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and not name.startswith("gains"):
            total += module.in_features * module.out_features * _uses(name, config.strides)
    return total


def _uses(name: str, strides: tuple[int, ...]) -> int:
    """How often a layer is applied in one cell: those between two strides once for each of their cubes."""
    parts = name.split(".")
    if parts[:2] == ["analysis", "folds"]:
        done = strides[: int(parts[2]) + 1]
    elif parts[:2] == ["synthesis", "unfolds"]:
        done = strides[: len(strides) - int(parts[2]) - 1]
    else:
        return 1
    cubes = 8**3
    for stride in done:
        cubes //= stride**3
    return max(cubes, 1)


def _points_per_cell(blocks: Blocks) -> float:
    import numpy as np

    points = sum(int(np.unpackbits(cells.bits).sum()) for cells in blocks.cells)
    return points / sum(len(cells) for cells in blocks.cells)


__all__ = ["Reporter", "train"]
