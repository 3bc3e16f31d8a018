"""Training of the surface networks: all factors at once, resumable at any moment."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..blocks import HELD_OUT, Blocks
from ..deepcompress.losses import voxel_loss
from ..training import checkpoint
from ..training.checkpoint import Identity
from ..training.divergence import diverging
from ..training.interruption import Interruption, TrainingInterrupted
from ..training.ledger import Ledger
from ..training.precision import Mixed, device_of, measured
from ..training.schedule import learning_rate_share
from .config import TrainingConfig, TrainingSection
from .samples import Sample, Sampler, read_blocks
from .surface import SurfaceModel

VALIDATION_SAMPLES = 3

Model = TypeVar("Model", bound=nn.Module)
Report = Callable[[int, int, dict[str, float]], None]


def identity_of(config: TrainingConfig, files_sha256: tuple[str, ...]) -> Identity:
    """What determines a run, so that a checkpoint is resumed by its own run alone.

    Lengths and file places are left out: a run may be prolonged, and its data may move.
    """
    record = config.model_dump(mode="json")
    for key in ("steps", "decay_from", "checkpoint_dir", "checkpoint_s", "validate_every", "threads", "device"):
        del record["training"][key]
    for key in ("blocks_path", "evaluated_path"):
        del record["data"][key]
    del record["occupancy"], record["latents"]
    record["training files"] = files_sha256
    return Identity(record)


@dataclass(eq=False)
class Network(Generic[Model]):
    """A network in training: what Adam moves, and the running average of it."""

    model: Model
    averaged: Model
    optimiser: torch.optim.Optimizer
    steps: int = 0

    @classmethod
    def of(cls, make: Callable[[], Model], learning_rate: float) -> Network[Model]:
        """A new one."""
        model, averaged = make(), make()
        averaged.load_state_dict(model.state_dict())
        optimiser = torch.optim.Adam(model.parameters(), learning_rate, betas=(0.9, 0.99), fused=True)
        return cls(model, averaged.requires_grad_(requires_grad=False), optimiser)

    def descend(self, run: Run, loss: Tensor, learning_rate: float) -> None:
        """One step of a run down the gradient.

        Raises:
            DivergedError: loss or gradient is not finite.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        run.computed.descend(run.name, run.step, loss, self.optimiser, self.model.parameters())
        self.steps += 1
        decay = min(run.training.average, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for target, value in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                target.lerp_(value, 1 - decay)

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


class Run(abc.ABC):
    """A training run of networks on samples.

    Args:
        training: how it is done.
        steps: of the optimisers.
        identity: what determines the run.
        sampler: of the training blocks.
        held_out: blocks to validate on, if any.
        networks: what is trained.
    """

    #: Of its checkpoint, without suffix, and of its ledger.
    name: str
    ledger_name: str
    #: Column of the ledger for what a step is for.
    kind: str
    #: Columns for the figures of a step, and after `validation_` for those of a validation.
    figures: tuple[str, ...]

    def __init__(
        self,
        training: TrainingSection,
        steps: int,
        identity: Identity,
        sampler: Sampler,
        held_out: Blocks | None,
        networks: Sequence[Network[Any]],
    ) -> None:
        self.training, self.steps, self.identity = training, steps, identity
        self.sampler, self.held_out, self.networks = sampler, held_out, networks
        self.step, self.trained_s = 0, 0.0
        #: How steps are computed; until `run` has measured, in float32.
        self.mixed: Mixed | None = None
        self._ahead: tuple[int, Future[tuple[int, Sample]]] | None = None
        self._drawer = ThreadPoolExecutor(1)

    @property
    def path(self) -> Path:
        """Where the checkpoint lies."""
        return self.training.checkpoint_dir / f"{self.name}.pt"

    @property
    def ledger_path(self) -> Path:
        """Where the ledger lies."""
        return self.training.checkpoint_dir / self.ledger_name

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[int, Sample]:
        """What a step is for, and a sample for it."""

    @abc.abstractmethod
    def learn(self, kind: int, sample: Sample, rng: np.random.Generator) -> tuple[float, ...]:
        """One step of one optimiser: its figures."""

    @abc.abstractmethod
    def validate(self) -> dict[int, tuple[float, ...]]:
        """Figures of the averaged networks on the held-out blocks, by kind."""

    def resume(self) -> bool:
        """Take up the checkpoint of an earlier process, if there is one."""
        state = checkpoint.load(self.path, self.identity)
        if state is None:
            return False
        with checkpoint.taking_up(self.path):
            self.mixed = Mixed.of_state(state["mixed"])
            self._move(self.mixed.choice.device)
            for network, saved in zip(self.networks, state["networks"], strict=True):
                network.load(saved)
            self.step, self.trained_s = state["step"], state["trained_s"]
        return True

    @property
    def computed(self) -> Mixed:
        """How steps are computed."""
        if self.mixed is None:
            self.mixed = Mixed.plain()
        return self.mixed

    def _move(self, device: str) -> None:
        for network in self.networks:
            network.model.to(device)
            network.averaged.to(device)

    def save(self) -> None:
        """Write the checkpoint."""
        networks = [network.state() for network in self.networks]
        state = {"networks": networks, "step": self.step, "trained_s": self.trained_s, "mixed": self.computed.state()}
        checkpoint.save(self.path, self.identity, state)

    def run(self, report: Report | None = None) -> None:
        """Train to the end of the configuration, from where the run stands.

        Raises:
            TrainingInterrupted: it was asked to stop; the checkpoint is written.
            DivergedError: loss or gradient is not finite; the last checkpoint stays.
            OSError: a file cannot be written.
        """
        torch.set_num_threads(self.training.threads)
        self.training.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        if self.mixed is None and self.step < self.steps:
            self.prepare()
        with Interruption() as stop:
            self._run(report, stop)
        self._move("cpu")

    def prepare(self) -> None:
        """Choose device and precision: float32 on the CPU, unless a run knows better."""
        self.mixed = Mixed.plain()

    def _run(self, report: Report | None, stop: Interruption) -> None:
        validated = tuple(f"validation_{name}" for name in self.figures)
        columns = ("step", "trained_s", "learning_rate", self.kind, *self.figures, *validated)
        ledger = Ledger(self.ledger_path, columns, from_step=self.step, last=self.steps)
        recent: dict[int, list[tuple[float, ...]]] = {}
        started = saved = time.monotonic()
        while self.step < self.steps:
            with diverging(self.name, self.step, (p for one in self.networks for p in one.model.parameters())):
                kind, figures = self.train_step()
            now = time.monotonic()
            self.trained_s, started = self.trained_s + now - started, now
            recent.setdefault(kind, []).append(figures)
            if ledger.is_due(self.step):
                means = {one: np.mean(found, axis=0).tolist() for one, found in sorted(recent.items())}
                recent = {}
                for one, mean in means.items():
                    ledger.add({**self._place(one), **dict(zip(self.figures, mean, strict=True))})
                if report is not None:
                    report(self.step, self.steps, {f"{self.kind} {one}": mean[0] for one, mean in means.items()})
            if self.step % self.training.validate_every == 0 or self.step == self.steps:
                for one, found in self.validate().items():
                    ledger.add({**self._place(one), **dict(zip(validated, found, strict=True))})
                started = time.monotonic()
            if now - saved > self.training.checkpoint_s or self.step == self.steps or stop.asked:
                self.save()
                saved = now
            if stop.asked and self.step < self.steps:
                raise TrainingInterrupted(f"{self.name}: interrupted at step {self.step} of {self.steps}")

    def _place(self, kind: int) -> dict[str, float | int]:
        rate = self.networks[0].optimiser.param_groups[0]["lr"]
        return {"step": self.step, "trained_s": round(self.trained_s, 1), "learning_rate": rate, self.kind: kind}

    def train_step(self) -> tuple[int, tuple[float, ...]]:
        """One step of one optimiser: what it was for, and its figures."""
        # The next sample is drawn beside this step.
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead[0] != self.step:
            ahead = self.step, self._drawer.submit(self._drawn, self.step)
        if self.step + 1 < self.steps:
            self._ahead = self.step + 1, self._drawer.submit(self._drawn, self.step + 1)
        kind, sample = ahead[1].result()
        figures = self.learn(kind, sample, np.random.default_rng([self.training.seed, self.step, 1]))
        self.step += 1
        return kind, figures

    def _drawn(self, step: int) -> tuple[int, Sample]:
        # Its own random numbers a step: a run resumed after a kill goes on as if it had never stopped.
        return self.draw(np.random.default_rng([self.training.seed, step]))

    def share(self, decay_from: float) -> float:
        """Share of the peak learning rate at this step."""
        return learning_rate_share(self.step, self.steps, decay_from)


class Trainer(Run):
    """A training run of the surface networks.

    Args:
        config: its configuration.
        files_sha256: hashes of the files that the training blocks come from.
        blocks: the training blocks, if they are in memory already.
        held_out: blocks to validate on; None for those in the folder, if there are any.
    """

    name, ledger_name, kind = "surface", "ledger.csv", "factor"
    figures = ("nats_per_point",)

    def __init__(
        self,
        config: TrainingConfig,
        files_sha256: tuple[str, ...] = (),
        blocks: Blocks | None = None,
        held_out: Blocks | None = None,
    ) -> None:
        training, folder = config.training, config.data.blocks_path
        torch.manual_seed(training.seed)
        self.config = config
        surfaces: list[Network[SurfaceModel]] = [
            Network.of(partial(SurfaceModel, network.surface()), training.learning_rate)
            for network in config.networks
        ]
        self.surfaces = surfaces
        super().__init__(
            training,
            training.steps,
            identity_of(config, files_sha256),
            Sampler(read_blocks(folder) if blocks is None else blocks, config.data.halve_share),
            Blocks.of_folder(folder, HELD_OUT) if held_out is None else held_out,
            surfaces,
        )
        self.factors = [factor for network in config.networks for factor in network.factors]
        shares = np.array([share for network in config.networks for share in network.shares])
        self.shares = shares / shares.sum()

    def prepare(self) -> None:
        """Choose device and precision, by measuring the costliest network where the configuration leaves it open."""
        device = device_of(self.training.device)
        self._move(device)
        rng = np.random.default_rng([self.training.seed, 0, 2])
        factor = max(self.factors)
        sample, model = self.sampler.draw(factor, rng), self.network_of(factor).model
        share = self._focal_share(factor)
        self.mixed = measured(
            self.name,
            self.training.mixed_precision,
            device,
            model,
            lambda mixed: self._loss(model, sample, factor, share, mixed),
        )

    def network_of(self, factor: int) -> Network[SurfaceModel]:
        """The network of a factor."""
        return next(one for one in self.surfaces if factor in one.model.config.factors)

    def draw(self, rng: np.random.Generator) -> tuple[int, Sample]:
        """A factor, and a sample for it."""
        factor = int(rng.choice(self.factors, p=self.shares))
        return factor, self.sampler.draw(factor, rng)

    def learn(self, kind: int, sample: Sample, rng: np.random.Generator) -> tuple[float, ...]:
        """One step of the network of the factor `kind`: its loss in nats for each point."""
        del rng  # nothing is random here
        network, training = self.network_of(kind), self.training
        loss = self._loss(network.model, sample, kind, self._focal_share(kind))
        network.descend(self, loss, training.learning_rate * self.share(training.decay_from))
        return (loss.item(),)

    def _focal_share(self, factor: int) -> float:
        largest = max(self.factors)
        return self.config.training.focal_loss.share * (factor - 2) / max(largest - 2, 1)

    def _loss(
        self, model: SurfaceModel, sample: Sample, factor: int, focal_share: float, mixed: Mixed | None = None
    ) -> Tensor:
        mixed = self.computed if mixed is None else mixed
        device = mixed.choice.device
        focal = self.config.training.focal_loss
        with mixed.autocast():
            logits = model(sample.windows.to(device), sample.neighbours.to(device), factor).float()
        # A margin that does not count has no weight, and costs no time.
        rows = sample.weight.nonzero()[:, 0].to(device)
        each = voxel_loss(
            logits[rows],
            sample.targets.to(device)[rows],
            torch.full((len(rows),), focal_share, device=device),
            alpha=focal.alpha,
            gamma=focal.gamma,
            focal_scale=focal.scale,
        )
        return each.sum() / sample.points

    @torch.no_grad()
    def validate(self) -> dict[int, tuple[float, ...]]:
        """Cross-entropy of the averaged networks on the held-out blocks, nats a point, by factor."""
        if self.held_out is None:
            return {}
        sampler = Sampler(self.held_out, 0.0)
        found: dict[int, tuple[float, ...]] = {}
        for factor in self.factors:
            model = self.network_of(factor).averaged
            samples = (sampler.draw(factor, np.random.default_rng([factor, i])) for i in range(VALIDATION_SAMPLES))
            found[factor] = (float(np.mean([self._loss(model, sample, factor, 0.0).item() for sample in samples])),)
        return found
