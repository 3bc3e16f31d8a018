"""Training of entropy models: all on the same finished transforms, the same blocks and the same symbols."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..entropy.exact import set_mode
from ..training import checkpoint
from ..training.checkpoint import Identity
from ..training.divergence import diverging
from ..training.interruption import Interruption, TrainingInterrupted
from ..training.ledger import Ledger, Means
from ..training.precision import Mixed
from ..training.schedule import learning_rate_share
from .coding import make_conditional
from .config import TrainingConfig
from .dataset import Batch, Blocks
from .model import VoxelModel, rate_index_of, rate_weight_of
from .priors import PRIORS, HyperPrior
from .structure import structure_of
from .training import Report, identity_of, steps_an_epoch

#: Share of the training after which the networks are quantised, with straight-through gradients.
_EXACT_FROM = 0.6


@dataclass(eq=False)
class PriorTrainer:
    """A training run of entropy models.

    Attributes:
        config: its configuration.
        blocks: its data.
        model: finished transforms, as they are stored.
        names: entropy models to train.
        file: name of the checkpoint in `checkpoint_dir`.
    """

    config: TrainingConfig
    blocks: Blocks
    model: VoxelModel
    names: Sequence[str]

    def __post_init__(self) -> None:
        training = self.config.training
        torch.manual_seed(training.seed)
        channels = self.model.config.latent_channels
        self.priors = nn.ModuleDict({name: PRIORS[name](channels) for name in self.names})
        self.conditional = make_conditional()
        self.optimisers = {
            name: torch.optim.Adam(prior.parameters(), training.learning_rates.entropy, betas=(0.9, 0.99), fused=True)
            for name, prior in self.priors.items()
        }
        self.step = 0
        self.trained_s = 0.0
        weights = hashlib.sha256(b"".join(t.numpy().tobytes() for t in self.model.state_dict().values()))
        before = {"entropy models": ",".join(self.names), "transforms": weights.hexdigest()}
        self.identity = Identity({**identity_of(self.config, self.blocks).ingredients, **before})
        self.steps_an_epoch = steps_an_epoch(self.config, self.blocks)
        self.steps = max(1, round(training.entropy_epochs * self.steps_an_epoch))
        self.folder = training.checkpoint_dir
        self._is_exact = False

    @property
    def path(self) -> Path:
        """Where the checkpoint lies."""
        return self.folder / "priors.pt"

    def resume(self) -> bool:
        """Take up the checkpoint of an earlier process, if there is one."""
        state = checkpoint.load(self.path, self.identity)
        if state is None:
            return False
        with checkpoint.taking_up(self.path):
            self.step, self.trained_s = state["step"], state["trained_s"]
            self.set_precision()
            self.priors.load_state_dict(state["priors"])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][name])
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(
            self.path,
            self.identity,
            {
                "priors": self.priors.state_dict(),
                "optimisers": {name: one.state_dict() for name, one in self.optimisers.items()},
                "step": self.step,
                "trained_s": self.trained_s,
            },
        )

    def run(self, report: Report | None = None) -> None:
        """Train to the end of the configuration, from where the run stands.

        Raises:
            TrainingInterrupted, DivergedError, OSError: as that of the transforms.
        """
        torch.set_num_threads(self.config.training.threads)
        self.folder.mkdir(parents=True, exist_ok=True)
        columns = ("step", "trained_s", *(f"{name}_bits_per_point" for name in self.names))
        ledger = Ledger(self.folder / "priors.csv", columns, from_step=self.step, last=self.steps)
        with Interruption() as stop:
            self._run(ledger, report, stop)
        ledger.plot(self.folder / "priors.png", columns[2:])

    def _run(self, ledger: Ledger, report: Report | None, stop: Interruption) -> None:
        training = self.config.training
        sums = Means()
        started = saved = time.monotonic()
        self.priors.train()
        for batch in self._batches():
            self.set_precision()
            with diverging("entropy", self.step, self.priors.parameters()):
                sums.add(self.train_step(batch))
            now = time.monotonic()
            self.trained_s, started = self.trained_s + now - started, now
            if ledger.is_due(self.step):
                means = sums.take()
                ledger.add({"step": self.step, "trained_s": round(self.trained_s, 1), **means})
                if report is not None:
                    report(self.step, self.steps, means)
            if now - saved > training.checkpoint_s or self.step == self.steps or stop.asked:
                self.save()
                saved = now
            if stop.asked and self.step < self.steps:
                raise TrainingInterrupted(f"entropy: interrupted at step {self.step} of {self.steps}")

    def set_precision(self) -> None:
        """Quantise the networks from a share of the training on."""
        if not self._is_exact and self.step >= _EXACT_FROM * self.steps:
            set_mode(self.priors, "exact")
            self._is_exact = True

    def _batches(self) -> Iterator[Batch]:
        training = self.config.training
        while self.step < self.steps:
            epoch, skip = divmod(self.step, self.steps_an_epoch)
            # Other orders than those the transforms were trained in.
            batches = self.blocks.epoch(
                training.batch_size, training.seed + 1, epoch, augment=self.config.data.augment
            )
            for number, batch in enumerate(batches):
                if number >= skip and self.step < self.steps:
                    yield batch

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step of each model's optimiser on the same symbols; bits a point of each."""
        training = self.config.training
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + self.step)
        low, high = (rate_index_of(weight) for weight in training.rate_weights)
        drawn = torch.randint(low, high + 1, (batch.blocks,), generator=generator)[batch.block].numpy()
        with torch.no_grad():
            gain, _, bias, _ = self.model.gains(torch.from_numpy(rate_weight_of(drawn)))
            y = (self.model.analysis(batch.voxels, batch.neighbours, bias) * gain).round()
        structure = structure_of(batch.positions, drawn, batch.neighbours.numpy().astype(np.int32))
        # Low rates have few bits; by the root of the rate weight, all rates pull with about the same force.
        weight = torch.from_numpy(rate_weight_of(drawn)).sqrt()
        points = batch.voxels.sum()
        figures = {}
        for name, prior in self.priors.items():
            optimiser = self.optimisers[name]
            share = learning_rate_share(self.step, self.steps, training.decay_from)
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rates.entropy * share
            bits, loss = self._bits(prior, y, structure, weight, generator)
            Mixed.plain().descend(f"entropy ({name})", self.step, loss / points, optimiser, prior.parameters())
            figures[f"{name}_bits_per_point"] = float(bits.detach() / points)
        self.step += 1
        return figures

    def _bits(
        self, prior: Any, y: Tensor, structure: Any, weight: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """All bits, and bits weighted by rate."""
        hyper = None
        total = weighted = torch.zeros(())
        if isinstance(prior, HyperPrior):
            z = prior.analysis(y, structure)
            _, likelihoods = prior.bottleneck(z, generator)
            z_bits = -torch.log2(likelihoods).sum(1)
            median = prior.bottleneck.median
            hyper = z - median + (torch.round(z - median) - (z - median)).detach()
            total = z_bits.sum()
            # All cells of a cube are of one block, and have its weight.
            share = torch.zeros(structure.parents).index_copy(0, structure.parent, weight)
            weighted = (z_bits * share).sum()
        found = prior.all_parameters(structure, prior.features(structure, hyper), y)
        scales = self.conditional.scale_of(found.log_index)
        y_bits = -torch.log2(self.conditional.likelihood(y, scales, found.mean)).sum(1)
        return total + y_bits.sum(), weighted + (y_bits * weight).sum()
