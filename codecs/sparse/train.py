"""Train: the whole way from a configuration to the files that the codec loads."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..._version import __version__
from ..deepcompress.files import RECORD, file_sha256
from .config import ConfigError, TrainingConfig
from .experience import ExperienceTrainer
from .files import weights_path
from .samples import read_blocks, training_hashes
from .surface import SurfaceModel
from .training import Report, Trainer
from .weights import save

#: Given the name of a stage, something that is told of its progress.
Reporter = Callable[[str], Report]


def train(config_path: Path, command: str, reporter: Reporter | None = None) -> Path:
    """Train what a configuration asks for, from where an earlier process stopped.

    Args:
        config_path: YAML file.
        command: how the training was started, for the record.
        reporter: called with `occupancy` and `surface`, to show progress.

    Returns:
        Folder of the exported weights, which `SparseCodec(weights=...)` takes.

    Raises:
        PccbenchError: the configuration, its data or a checkpoint cannot be used; one clear line.
    """
    config = TrainingConfig.read(config_path)
    folder = config.data.blocks_path
    blocks = read_blocks(folder)
    hashes = training_hashes(folder) or tuple(file_sha256(path) for path in sorted(folder.glob("train-*.npz")))
    _expect_apart(config, hashes)
    contexts = ExperienceTrainer(config, blocks, hashes)
    contexts.resume()
    contexts.run(reporter("occupancy") if reporter else None)
    surfaces = Trainer(config, hashes, blocks)
    surfaces.resume()
    surfaces.run(reporter("surface") if reporter else None)
    return export(config, contexts, surfaces, hashes, command)


def export(
    config: TrainingConfig, contexts: ExperienceTrainer, surfaces: Trainer, hashes: tuple[str, ...], command: str
) -> Path:
    """Write weights and record as training stands."""
    from .occupancy import Experience

    out = config.training.checkpoint_dir / "weights"
    models = [network.averaged for network in surfaces.networks]
    save(out, Experience.of(contexts.model), models)
    manifest = config.data.blocks_path / "manifest.json"
    record: dict[str, Any] = {
        "command": command,
        "config": config.model_dump(mode="json"),
        "seed": config.training.seed,
        "training_files_sha256": list(hashes),
        "training_blocks": len(surfaces.sampler.blocks.counts),
        "data_manifest_sha256": file_sha256(manifest) if manifest.exists() else None,
        "versions": {"pccbench": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "occupancy": {"clouds": contexts.step, "trained_s": round(contexts.trained_s)},
        "surface": {
            "steps": surfaces.step,
            "planned_steps": config.training.steps,
            "trained_s": round(surfaces.trained_s),
            "last": _last(config.training.checkpoint_dir / "ledger.csv"),
        },
        "parameters": sum(p.numel() for model in models for p in model.parameters()) + contexts.model.hidden.size,
        "macs_per_point": _macs_per_point(models),
        "trained": True,
        "files_sha256": {weights_path(out).name: file_sha256(weights_path(out))},
    }
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return out


def _expect_apart(config: TrainingConfig, hashes: tuple[str, ...]) -> None:
    """No file that is evaluated may be trained on."""
    folder = config.data.evaluated_path
    if folder is None:
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and file_sha256(path) in hashes:
            raise ConfigError(f"data.evaluated_path: {path} is also a training file; it must not be trained on")


def _macs_per_point(models: list[SurfaceModel]) -> float:
    """Of encoder and decoder together, at the most costly factor, on a surface: factor**2 points a coarse voxel."""
    costs = [model.config.macs_per_voxel(f) / f**2 for model in models for f in model.config.factors]
    return round(2 * max(costs), 1)


def _last(path: Path) -> dict[str, dict[str, float]]:
    """The last value of each column of a ledger, by factor."""
    found: dict[str, dict[str, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            values = {key: float(row[key]) for key in row if row[key] and key.endswith("nats_per_point")}
            found.setdefault(f"x{row['factor']}", {}).update(values)
    return found
