"""Training of the upsampler, on finished transforms."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import torch

from ..training import checkpoint
from ..training.checkpoint import Identity
from ..training.interruption import Interruption, TrainingInterrupted
from ..training.ledger import Ledger, Means
from ..training.precision import Mixed
from ..training.schedule import learning_rate_share
from .cells import Cells, cells_of, neighbours_of, points_of
from .config import TrainingConfig
from .dataset import Batch, Blocks
from .losses import voxel_loss
from .model import VoxelModel, rate_index_of, rate_weight_of
from .training import Report, identity_of, steps_an_epoch
from .upsampler import Upsampler, at_positions, fine_positions, halved

_LEDGER_EVERY = 20
#: Between cross-entropy and focal loss: a surface is never known to the voxel here.
_FOCAL_SHARE = 0.5
#: Coarse clouds are only coded where rate is scarce.
_LEAST_RATE_WEIGHT = 2.0


class UpsamplerTrainer:
    """A training run of the upsampler; resumable like the others.

    Args:
        config: its configuration.
        blocks: its data.
        model: finished transforms, as they are stored.
    """

    def __init__(self, config: TrainingConfig, blocks: Blocks, model: VoxelModel) -> None:
        torch.manual_seed(config.training.seed)
        self.config, self.blocks, self.model = config, blocks, model
        self.upsampler = Upsampler(model.config)
        self.optimiser = torch.optim.Adam(
            self.upsampler.parameters(), config.training.learning_rates.reconstruction, betas=(0.9, 0.99), fused=True
        )
        self.step, self.trained_s = 0, 0.0
        weights = hashlib.sha256(b"".join(t.numpy().tobytes() for t in model.state_dict().values()))
        self.identity = Identity(
            {**identity_of(config, blocks).ingredients, "stage": "upsampler", "transforms": weights.hexdigest()}
        )
        self.folder = config.training.checkpoint_dir
        self.path = self.folder / "upsampler.pt"
        self.steps_an_epoch = steps_an_epoch(config, blocks)
        self.steps = max(1, round(config.training.upsampler_epochs * self.steps_an_epoch))

    def resume(self) -> bool:
        """Take up the checkpoint of an earlier process, if there is one."""
        state = checkpoint.load(self.path, self.identity)
        if state is None:
            return False
        with checkpoint.taking_up(self.path):
            self.upsampler.load_state_dict(state["upsampler"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.trained_s = state["step"], state["trained_s"]
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        state = {"upsampler": self.upsampler.state_dict(), "optimiser": self.optimiser.state_dict()}
        checkpoint.save(self.path, self.identity, {"step": self.step, "trained_s": self.trained_s, **state})

    def run(self, report: Report | None = None) -> None:
        """Train to the end of the configuration, from where the run stands.

        Raises:
            TrainingInterrupted, DivergedError, OSError: as that of the transforms.
        """
        torch.set_num_threads(self.config.training.threads)
        self.folder.mkdir(parents=True, exist_ok=True)
        with Interruption() as stop:
            self._run(report, stop)

    def _run(self, report: Report | None, stop: Interruption) -> None:
        training = self.config.training
        columns = ("step", "trained_s", "loss_nats_per_point")
        ledger = Ledger(
            self.folder / "upsampler.csv", columns, from_step=self.step, last=self.steps, every=_LEDGER_EVERY
        )
        losses = Means()
        started = saved = time.monotonic()
        while self.step < self.steps:
            epoch, skip = divmod(self.step, self.steps_an_epoch)
            batches = self.blocks.epoch(
                training.batch_size, training.seed + 2, epoch, augment=self.config.data.augment
            )
            for number, batch in enumerate(batches):
                if number < skip or self.step >= self.steps:
                    continue
                losses.add({"loss_nats_per_point": self.train_step(batch)})
                now = time.monotonic()
                self.trained_s, started = self.trained_s + now - started, now
                if ledger.is_due(self.step):
                    figures = losses.take()
                    ledger.add({"step": self.step, "trained_s": round(self.trained_s, 1), **figures})
                    if report is not None:
                        report(self.step, self.steps, figures)
                if now - saved > training.checkpoint_s or self.step == self.steps or stop.asked:
                    self.save()
                    saved = now
                if stop.asked and self.step < self.steps:
                    raise TrainingInterrupted(f"upsampler: interrupted at step {self.step} of {self.steps}")

    def train_step(self, batch: Batch) -> float:
        """One step of the optimiser; nats a point."""
        training = self.config.training
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + self.step)
        fine = Cells(batch.positions, np.packbits(batch.voxels.numpy().astype(np.bool_), axis=1))
        coarse = cells_of(points_of(fine.positions, fine.bits) >> 1)
        target = torch.from_numpy(np.unpackbits(at_positions(fine, fine_positions(coarse.positions)).bits, axis=1))
        voxels = halved(target.float())
        neighbours = torch.from_numpy(neighbours_of(coarse.positions).astype(np.int64))
        low, high = (rate_index_of(max(weight, _LEAST_RATE_WEIGHT)) for weight in training.rate_weights)
        rate = torch.randint(low, high + 1, (1,), generator=generator).numpy()
        with torch.no_grad():
            gain, inverse, bias, synthesis_bias = self.model.gains(torch.from_numpy(rate_weight_of(rate)))
            y = (self.model.analysis(voxels, neighbours, bias) * gain).round()
            mixed = self.model.synthesis.mixed(self.model.synthesis.features(y * inverse, neighbours, synthesis_bias))
        focal = training.focal_loss
        logits = self.upsampler(mixed)
        loss = (
            voxel_loss(
                logits,
                target,
                torch.full((len(logits),), _FOCAL_SHARE),
                alpha=focal.alpha,
                gamma=focal.gamma,
                focal_scale=focal.scale,
            ).sum()
            / target.sum()
        )
        for group in self.optimiser.param_groups:
            share = learning_rate_share(self.step, self.steps, training.decay_from)
            group["lr"] = training.learning_rates.reconstruction * share
        Mixed.plain().descend("upsampler", self.step, loss, self.optimiser, self.upsampler.parameters())
        self.step += 1
        return float(loss.detach())
