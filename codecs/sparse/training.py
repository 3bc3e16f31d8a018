"""Training of the surface networks: all factors at once, resumable at any moment."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..blocks import HELD_OUT, Blocks
from ..deepcompress.losses import voxel_loss
from ..training import checkpoint
from ..training.ledger import Ledger
from ..training.schedule import learning_rate_share
from .config import TrainingConfig
from .samples import Sample, Sampler, read_blocks
from .surface import SurfaceModel

COLUMNS = ("step", "trained_s", "learning_rate", "factor", "nats_per_point", "validation_nats_per_point")
_LEDGER_EVERY = 50
_VALIDATION_SAMPLES = 3

Report = Callable[[int, int, dict[str, float]], None]


def identity_of(config: TrainingConfig, files_sha256: tuple[str, ...]) -> str:
    """Hash of what determines a run, so that a checkpoint is resumed by its own run alone.

    Lengths and file places are left out: a run may be prolonged, and its data may move.
    """
    record = config.model_dump(mode="json")
    for key in ("steps", "decay_from", "checkpoint_dir", "checkpoint_s", "validate_every", "threads"):
        del record["training"][key]
    for key in ("blocks_path", "evaluated_path"):
        del record["data"][key]
    del record["occupancy"]
    record["files"] = files_sha256
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


@dataclass(eq=False)
class _Network:
    """A network in training: what Adam moves, and the running average of it."""

    model: SurfaceModel
    averaged: SurfaceModel
    optimiser: torch.optim.Optimizer
    steps: int = 0

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = state["steps"]


class Trainer:
    """A training run.

    Args:
        config: its configuration.
        files_sha256: hashes of the files that the training blocks come from.
        blocks: the training blocks, if they are in memory already.
        held_out: blocks to validate on; None for those in the folder, if there are any.
    """

    def __init__(
        self,
        config: TrainingConfig,
        files_sha256: tuple[str, ...] = (),
        blocks: Blocks | None = None,
        held_out: Blocks | None = None,
    ) -> None:
        training = config.training
        torch.manual_seed(training.seed)
        self.config = config
        self.sampler = Sampler(
            read_blocks(config.data.blocks_path) if blocks is None else blocks, config.data.halve_share
        )
        self.held_out = Blocks.of_folder(config.data.blocks_path, HELD_OUT) if held_out is None else held_out
        self.networks = []
        for network in config.networks:
            model, averaged = SurfaceModel(network.surface()), SurfaceModel(network.surface())
            averaged.load_state_dict(model.state_dict())
            optimiser = torch.optim.Adam(model.parameters(), training.learning_rate, betas=(0.9, 0.99), fused=True)
            self.networks.append(_Network(model, averaged.requires_grad_(requires_grad=False), optimiser))
        self.factors = [factor for network in config.networks for factor in network.factors]
        shares = np.array([share for network in config.networks for share in network.shares])
        self.shares = shares / shares.sum()
        self.step, self.trained_s = 0, 0.0
        self.identity = identity_of(config, files_sha256)

    @property
    def path(self) -> Path:
        """Where the checkpoint lies."""
        return self.config.training.checkpoint_dir / "surface.pt"

    def resume(self) -> bool:
        """Take up the checkpoint of an earlier process, if there is one."""
        state = checkpoint.load(self.path, self.identity)
        if state is None:
            return False
        for network, saved in zip(self.networks, state["networks"], strict=True):
            network.load(saved)
        self.step, self.trained_s = state["step"], state["trained_s"]
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        networks = [network.state() for network in self.networks]
        record = {"identity": self.identity, "networks": networks, "step": self.step, "trained_s": self.trained_s}
        checkpoint.save(self.path, record)

    def run(self, report: Report | None = None) -> None:
        """Train to the end of the configuration, from where the run stands."""
        training = self.config.training
        torch.set_num_threads(training.threads)
        training.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(training.checkpoint_dir / "ledger.csv", COLUMNS, from_step=self.step)
        recent: dict[int, list[float]] = {}
        started = saved = time.monotonic()
        while self.step < training.steps:
            factor, nats = self.train_step()
            now = time.monotonic()
            self.trained_s, started = self.trained_s + now - started, now
            recent.setdefault(factor, []).append(nats)
            if self.step % _LEDGER_EVERY == 0:
                means = {one: float(np.mean(found)) for one, found in sorted(recent.items())}
                recent = {}
                for one, mean in means.items():
                    ledger.add({**self._place(), "factor": one, "nats_per_point": mean})
                if report is not None:
                    report(self.step, training.steps, {f"x{one}": mean for one, mean in means.items()})
            if self.step % training.validate_every == 0 or self.step == training.steps:
                for one, mean in self.validate().items():
                    ledger.add({**self._place(), "factor": one, "validation_nats_per_point": mean})
                started = time.monotonic()
            if now - saved > training.checkpoint_s or self.step == training.steps:
                self.save()
                saved = now

    def _place(self) -> dict[str, float | int]:
        rate = self.networks[0].optimiser.param_groups[0]["lr"]
        return {"step": self.step, "trained_s": round(self.trained_s, 1), "learning_rate": rate}

    def train_step(self) -> tuple[int, float]:
        """One step of one optimiser: its factor, and its loss in nats for each point."""
        training = self.config.training
        # Its own random numbers a step: a run resumed after a kill goes on as if it had never stopped.
        rng = np.random.default_rng([training.seed, self.step])
        factor = int(rng.choice(self.factors, p=self.shares))
        network = next(one for one in self.networks if factor in one.model.config.factors)
        share = learning_rate_share(self.step, training.steps, training.decay_from)
        for group in network.optimiser.param_groups:
            group["lr"] = training.learning_rate * share
        sample = self.sampler.draw(factor, rng)
        loss = self._loss(network.model, sample, factor, self._focal_share(factor))
        network.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.model.parameters(), 1.0)
        network.optimiser.step()
        network.steps += 1
        self.step += 1
        decay = min(training.average, (1 + network.steps) / (10 + network.steps))
        with torch.no_grad():
            for target, value in zip(network.averaged.parameters(), network.model.parameters(), strict=True):
                target.lerp_(value, 1 - decay)
        return factor, float(loss.detach())

    def _focal_share(self, factor: int) -> float:
        largest = max(self.factors)
        return self.config.training.focal_loss.share * (factor - 2) / max(largest - 2, 1)

    def _loss(self, model: SurfaceModel, sample: Sample, factor: int, focal_share: float) -> Tensor:
        focal = self.config.training.focal_loss
        logits = model(sample.windows, sample.neighbours, factor)
        # A margin that does not count has no weight, and costs no time.
        rows = sample.weight.nonzero()[:, 0]
        each = voxel_loss(
            logits[rows],
            sample.targets[rows],
            torch.full((len(rows),), focal_share),
            alpha=focal.alpha,
            gamma=focal.gamma,
            focal_scale=focal.scale,
        )
        return each.sum() / sample.points

    @torch.no_grad()
    def validate(self) -> dict[int, float]:
        """Cross-entropy of the averaged networks on the held-out blocks, nats a point, by factor."""
        if self.held_out is None:
            return {}
        sampler = Sampler(self.held_out, 0.0)
        found = {}
        for factor in self.factors:
            network = next(one for one in self.networks if factor in one.model.config.factors)
            samples = (sampler.draw(factor, np.random.default_rng([factor, i])) for i in range(_VALIDATION_SAMPLES))
            losses = [float(self._loss(network.averaged, sample, factor, 0.0)) for sample in samples]
            found[factor] = float(np.mean(losses))
        return found
