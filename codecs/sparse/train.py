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
from .header import REFINED_STEP
from .latent_training import LatentTrainer
from .latents import LatentPair
from .samples import read_blocks, training_hashes
from .surface import SurfaceModel
from .training import Report, Run, Trainer
from .weights import save

#: Given the name of a stage, something that is told of its progress.
Reporter = Callable[[str], Report]


def train(config_path: Path, command: str, reporter: Reporter | None = None) -> Path:
    """Train what a configuration asks for, from where an earlier process stopped.

    Args:
        config_path: YAML file.
        command: how the training was started, for the record.
        reporter: called with `occupancy`, `surface` and `latents`, to show progress.

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
    latents = latent_trainer(config, surfaces)
    if latents is not None:
        latents.resume()
        latents.run(reporter("latents") if reporter else None)
    return export(config, contexts, surfaces, latents, hashes, command)


def latent_trainer(config: TrainingConfig, surfaces: Trainer) -> LatentTrainer | None:
    """The run that follows on that of the surface networks; None if the configuration asks for none."""
    if not config.latents.steps or REFINED_STEP not in surfaces.factors:
        return None
    surface = surfaces.network_of(REFINED_STEP).averaged
    return LatentTrainer(config, surface, surfaces.identity, surfaces.sampler, surfaces.held_out)


def export(
    config: TrainingConfig,
    contexts: ExperienceTrainer,
    surfaces: Trainer,
    latents: LatentTrainer | None,
    hashes: tuple[str, ...],
    command: str,
) -> Path:
    """Write weights and record as training stands."""
    from .occupancy import Experience

    out = config.training.checkpoint_dir / "weights"
    models = [network.averaged for network in surfaces.surfaces]
    pair = None if latents is None else latents.pair.averaged
    save(out, Experience.of(contexts.model), models, pair)
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
        **{run.name: _trained(run) for run in (surfaces, latents) if run is not None},
        "parameters": sum(p.numel() for model in (*models, pair) if model is not None for p in model.parameters())
        + contexts.model.hidden.size,
        "macs_per_point": _macs_per_point(models, pair),
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


def _macs_per_point(models: list[SurfaceModel], pair: LatentPair | None) -> float:
    """Of encoder and decoder together, at the most costly factor, on a surface: factor**2 points a coarse voxel."""
    costs: dict[int, float] = {
        f: 2 * model.config.macs_per_voxel(f) for model in models for f in model.config.factors
    }
    if pair is not None:
        # Both sides run the decoder's networks.
        costs[REFINED_STEP] += 2 * pair.decoder.macs_per_voxel() + pair.encoder.macs_per_voxel()
    return round(max(cost / f**2 for f, cost in costs.items()), 1)


def _trained(run: Run) -> dict[str, Any]:
    """How far a run went, and the last value of each column of its ledger, by what it was for."""
    last: dict[str, dict[str, float]] = {}
    with run.ledger_path.open(newline="") as file:
        for row in csv.DictReader(file):
            values = {key: float(row[key]) for key in row if row[key] and key.endswith("per_point")}
            last.setdefault(f"{run.kind} {row[run.kind]}", {}).update(values)
    return {"steps": run.step, "planned_steps": run.steps, "trained_s": round(run.trained_s), "last": last}
