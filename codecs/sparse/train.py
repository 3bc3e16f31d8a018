"""Train: the whole way from a configuration to the files that the codec loads."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..blocks import TRAINING
from ..training.checkpoint import exclusive
from ..training.record import is_trained, versions, write_record
from ..training.sources import MANIFEST, expect_apart, manifest_hashes
from ..weights import file_sha256
from .config import TrainingConfig
from .experience import ExperienceTrainer
from .files import weights_path
from .header import REFINED_STEP
from .latent_training import LatentTrainer
from .latents import LatentPair
from .samples import read_blocks
from .surface import SurfaceModel
from .training import Report, Run, Trainer
from .weights import save

#: Given the name of a stage, something that is told of its progress.
Reporter = Callable[[str], Report]


def train(
    config_path: Path, command: str, reporter: Reporter | None = None, changes: Mapping[str, Any] | None = None
) -> Path:
    """Train what a configuration asks for, from where an earlier process stopped.

    Args:
        config_path: YAML file.
        command: how the training was started, for the record.
        reporter: called with `occupancy`, `surface` and `latents`, to show progress.
        changes: keys of the section `training` that replace those of the file.

    Returns:
        Folder of the exported weights, which `SparseCodec(weights=...)` takes.

    Raises:
        PccbenchError: the configuration, its data or a checkpoint cannot be used, or the training diverged; one
            clear line.
        TrainingInterrupted: it was asked to stop.
    """
    config = TrainingConfig.read(config_path, changes)
    with exclusive(config.training.checkpoint_dir):
        return _train(config, command, reporter)


def _train(config: TrainingConfig, command: str, reporter: Reporter | None) -> Path:
    folder = config.data.blocks_path
    blocks = read_blocks(folder)
    hashes = manifest_hashes(folder) or tuple(file_sha256(path) for path in sorted(folder.glob(TRAINING)))
    expect_apart("data.evaluated_path", config.data.evaluated_path, hashes)
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
    manifest = config.data.blocks_path / MANIFEST
    record: dict[str, Any] = {
        "command": command,
        "config": config.model_dump(mode="json"),
        "seed": config.training.seed,
        "training_files_sha256": list(hashes),
        "training_blocks": len(surfaces.sampler.blocks.counts),
        "data_manifest_sha256": file_sha256(manifest) if manifest.exists() else None,
        "versions": versions(),
        "occupancy": {
            "clouds": contexts.step,
            "planned_clouds": contexts.clouds,
            "trained_s": round(contexts.trained_s),
        },
        **{run.name: _trained(run) for run in (surfaces, latents) if run is not None},
        "parameters": sum(p.numel() for model in (*models, pair) if model is not None for p in model.parameters())
        + contexts.model.hidden.size,
        "macs_per_point": _macs_per_point(models, pair),
        "trained": is_trained(*((run.step, run.steps) for run in (surfaces, latents) if run is not None)),
        "files_sha256": {weights_path(out).name: file_sha256(weights_path(out))},
    }
    write_record(out, record)
    return out


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
    return {
        "steps": run.step,
        "planned_steps": run.steps,
        "trained_s": round(run.trained_s),
        "computed": run.computed.choice.record(),
        "last": last,
    }
