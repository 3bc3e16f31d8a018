"""Training of the transforms: one model for all rates, resumable at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..formats import read_cloud
from ..training import checkpoint
from ..training.checkpoint import Identity
from ..training.divergence import diverging
from ..training.interruption import Interruption, TrainingInterrupted
from ..training.ledger import Ledger, Means
from ..training.precision import Mixed, device_of, measured
from ..training.schedule import learning_rate_share, rate_share
from ..training.sources import expect_apart
from .cells import Cells, cells_of, neighbours_of
from .config import ConfigError, TrainingConfig
from .dataset import Batch, Blocks, cloud_files, read_blocks
from .decision import blocks_of, choose, d1_mse, levels_of, measure
from .losses import voxel_loss
from .model import VoxelModel, rate_place
from .proxy import ProxyPrior

COLUMNS = (
    "step",
    "epoch",
    "trained_s",
    "learning_rate",
    "rate_share",
    "loss",
    "distortion_nats_per_point",
    "noise_bits_per_point",
    "rate_weight",
    "round_bits_per_point",
    "d1_psnr_db",
    "d1_rms",
)
_VALIDATION_RATE_WEIGHTS = (0.5, 2.0, 8.0, 24.0)
_VALIDATION_CELLS = 4000
_PEAK = 1023.0

Report = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True, eq=False)
class _Clouds:
    """Validation clouds, cut to a size that is quick to code."""

    names: tuple[str, ...]
    cells: tuple[Cells, ...]


def identity_of(config: TrainingConfig, blocks: Blocks) -> Identity:
    """What determines a run, so that a checkpoint is resumed by its own run alone.

    Lengths and file places are left out: a run may be prolonged, and its data may move.
    """
    record = config.model_dump(mode="json")
    for key in (
        "epochs",
        "entropy_epochs",
        "upsampler_epochs",
        "checkpoint_dir",
        "checkpoint_s",
        "validate_every",
        "threads",
        "device",
    ):
        del record["training"][key]
    for key in ("entropy_model", "transform_weights"):
        del record["model"][key]
    for key in ("modelnet40_path", "ivfb_path", "validation_path"):
        del record["data"][key]
    record["training files"] = blocks.files_sha256
    return Identity(record)


def steps_an_epoch(config: TrainingConfig, blocks: Blocks) -> int:
    """Steps of a pass over the blocks.

    Raises:
        ConfigError: there are not enough for one.
    """
    size = config.training.batch_size
    if len(blocks) < size:
        raise ConfigError(f"training.batch_size: {size} blocks a step, but there are {len(blocks)} blocks")
    return len(blocks) // size


def read_data(config: TrainingConfig) -> Blocks:
    """The training blocks, none of which may come from a file that is evaluated.

    Raises:
        ConfigError: a file of `ivfb_path` or `validation_path` is among the training files.
        CloudError: there are no usable clouds.
    """
    data = config.data
    blocks = read_blocks(data.modelnet40_path, data.resolution, data.min_points)
    for key in ("ivfb_path", "validation_path"):
        expect_apart(f"data.{key}", getattr(data, key), blocks.files_sha256)
    return blocks


def _validation(config: TrainingConfig) -> _Clouds:
    """The clouds to validate on; none where there are none, which `read_data` has said."""
    folder = config.data.validation_path
    files = [] if folder is None else cloud_files(folder, empty=True)
    return _Clouds(tuple(path.stem for path in files), tuple(_middle(path) for path in files))


def _middle(path: Path) -> Cells:
    """A slice of a cloud across its longest axis, from the middle up, of a few thousand cells."""
    cells = cells_of(np.asarray(read_cloud(path).points))
    axis = int(np.argmax(np.ptp(cells.positions, axis=0)))
    order = np.argsort(cells.positions[:, axis], kind="stable")
    rows = np.sort(order[len(order) // 2 : len(order) // 2 + _VALIDATION_CELLS])
    return Cells(cells.positions[rows], cells.bits[rows])


def focal_share(config: TrainingConfig, rate_weight: Tensor) -> Tensor:
    """Share of the focal loss at a rate weight: it rises with the logarithm between the two that the config names."""
    focal = config.training.focal_loss
    low, high = math.log(focal.from_rate_weight), math.log(focal.to_rate_weight)
    return ((rate_weight.log() - low) / max(high - low, 1e-6)).clamp(0, 1)


@dataclass(eq=False)
class TransformTrainer:
    """A training run of the transforms.

    Attributes:
        config: its configuration.
        blocks: its data.
        model: what is trained.
        proxy: the prior that is trained with it.
        step: steps done.
        trained_s: seconds of training so far, over all resumptions.
    """

    config: TrainingConfig
    blocks: Blocks

    def __post_init__(self) -> None:
        training = self.config.training
        torch.manual_seed(training.seed)
        self.model = VoxelModel(self.config.model.transform())
        self.proxy = ProxyPrior(self.config.model.latent_channels)
        rates = training.learning_rates
        self.optimiser = torch.optim.Adam(
            [
                {"params": list(self.model.parameters()), "peak": rates.reconstruction},
                {"params": list(self.proxy.parameters()), "peak": rates.entropy},
            ],
            lr=rates.reconstruction,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.step = 0
        self.trained_s = 0.0
        #: How steps are computed; until `run` has measured, in float32.
        self.mixed: Mixed | None = None
        self.identity = identity_of(self.config, self.blocks)
        self.folder = training.checkpoint_dir
        self.steps_an_epoch = steps_an_epoch(self.config, self.blocks)
        self.steps = max(1, round(training.epochs * self.steps_an_epoch))

    @property
    def path(self) -> Path:
        """Where the checkpoint lies."""
        return self.folder / "transform.pt"

    def resume(self) -> bool:
        """Take up the checkpoint of an earlier process, if there is one."""
        state = checkpoint.load(self.path, self.identity)
        if state is None:
            return False
        with checkpoint.taking_up(self.path):
            self.mixed = Mixed.of_state(state["mixed"])
            self._move(self.mixed.choice.device)
            self.model.load_state_dict(state["model"])
            self.proxy.load_state_dict(state["proxy"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.trained_s = state["step"], state["trained_s"]
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(
            self.path,
            self.identity,
            {
                "config": self.config.model.transform().to_dict(),
                "model": self.model.state_dict(),
                "proxy": self.proxy.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "steps": self.steps,
                "trained_s": self.trained_s,
                "mixed": (self.mixed or Mixed.plain()).state(),
            },
        )

    def _move(self, device: str) -> None:
        self.model.to(device)
        self.proxy.to(device)

    def run(self, report: Report | None = None) -> None:
        """Train to the end of the configuration, from where the run stands.

        Raises:
            TrainingInterrupted: it was asked to stop; the checkpoint is written.
            DivergedError: loss or gradient is not finite; the last checkpoint stays.
            OSError: a file cannot be written.
        """
        training = self.config.training
        torch.set_num_threads(training.threads)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.step < self.steps:
            self._prepare()
        with Interruption() as stop:
            ledger = self._run(report, stop)
        self._move("cpu")
        panels = ("loss", "distortion_nats_per_point", "noise_bits_per_point", "learning_rate")
        ledger.plot(self.folder / "ledger.png", panels)

    def _prepare(self) -> None:
        """Choose device and precision, where no earlier process has."""
        if self.mixed is not None:
            return
        device = device_of(self.config.training.device)
        self._move(device)
        batch = next(self._batches())
        wish = self.config.training.mixed_precision
        self.mixed = measured("transform", wish, device, self.model, lambda mixed: self._losses(batch, mixed)[0])
        self.proxy.zero_grad(set_to_none=True)

    def _run(self, report: Report | None, stop: Interruption) -> Ledger:
        training = self.config.training
        ledger = Ledger(self.folder / "ledger.csv", COLUMNS, from_step=self.step, last=self.steps)
        validation = _validation(self.config)
        sums = Means()
        started = saved = time.monotonic()
        for batch in self._batches():
            with diverging("transform", self.step, self.model.parameters()):
                sums.add(self.train_step(batch))
            now = time.monotonic()
            self.trained_s, started = self.trained_s + now - started, now
            if ledger.is_due(self.step):
                means = sums.take()
                ledger.add({**self._place(), **means})
                if report is not None:
                    report(self.step, self.steps, means)
            if self.step % training.validate_every == 0 or self.step == self.steps:
                for row in self.validate(validation):
                    ledger.add({**self._place(), **row})
                started = time.monotonic()
            if time.monotonic() - saved > training.checkpoint_s or self.step == self.steps or stop.asked:
                self.save()
                saved = time.monotonic()
            if stop.asked and self.step < self.steps:
                raise TrainingInterrupted(f"transform: interrupted at step {self.step} of {self.steps}")
        return ledger

    def _place(self) -> dict[str, float | int]:
        return {
            "step": self.step,
            "epoch": self.step / self.steps_an_epoch,
            "trained_s": round(self.trained_s, 1),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
        }

    def _batches(self) -> Iterator[Batch]:
        training = self.config.training
        while self.step < self.steps:
            epoch, skip = divmod(self.step, self.steps_an_epoch)
            batches = self.blocks.epoch(training.batch_size, training.seed, epoch, augment=self.config.data.augment)
            for number, batch in enumerate(batches):
                if number >= skip and self.step < self.steps:
                    yield batch

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser; its figures."""
        mixed = self.mixed or Mixed.plain()
        share = learning_rate_share(self.step, self.steps, self.config.training.decay_from)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * share
        loss, figures = self._losses(batch, mixed)
        parameters = [one for group in self.optimiser.param_groups for one in group["params"]]
        mixed.descend("transform", self.step, loss, self.optimiser, parameters)
        self.step += 1
        return figures

    def _losses(self, batch: Batch, mixed: Mixed) -> tuple[Tensor, dict[str, float]]:
        """The loss of the next step, and its figures."""
        training, device = self.config.training, mixed.choice.device
        # Its own generator a step: a run resumed after a kill goes on as if it had never stopped.
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + self.step)
        low, high = (math.log(value) for value in training.rate_weights)
        drawn = torch.rand(batch.blocks, generator=generator)
        rate_weight = torch.exp(low + (high - low) * drawn)[batch.block].to(device)
        voxels, neighbours = batch.voxels.to(device), batch.neighbours.to(device)
        with mixed.autocast():
            gain, inverse, analysis_bias, synthesis_bias = self.model.gains(rate_weight)
            y = (self.model.analysis(voxels, neighbours, analysis_bias) * gain).float()
        # All that is random is drawn on the CPU, the same for every device.
        noisy = y + torch.rand(y.shape, generator=generator).to(device) - 0.5
        # Half of the blocks decode noise, half decode rounded latents: both see what the other cannot teach.
        rounded = (torch.rand(batch.blocks, generator=generator) < 0.5)[batch.block][:, None].to(device)
        y_hat = torch.where(rounded, y + (y.round() - y).detach(), noisy)
        odd = torch.from_numpy(batch.positions.sum(axis=1) % 2 == 1).to(device)
        bits = self.proxy.bits(noisy, neighbours, rate_place(rate_weight), odd).sum(1)
        with mixed.autocast():
            logits = self.model.synthesis(y_hat * inverse, neighbours, synthesis_bias)
        focal = training.focal_loss
        distortion = voxel_loss(
            logits.float(),
            voxels,
            focal_share(self.config, rate_weight),
            alpha=focal.alpha,
            gamma=focal.gamma,
            focal_scale=focal.scale,
        )
        warm_up = rate_share(self.step, self.steps, training.rate_warm_up)
        points = voxels.sum()
        # Divided by the root of the rate weight, blocks of all rates pull with about the same force.
        loss = ((distortion + warm_up * rate_weight * bits) / torch.sqrt(rate_weight + 0.3)).sum() / points
        return loss, {
            "loss": float(loss.detach()),
            "distortion_nats_per_point": float(distortion.detach().sum() / points),
            "noise_bits_per_point": float(bits.detach().sum() / points),
            "rate_share": warm_up,
        }

    @torch.no_grad()
    def validate(self, clouds: _Clouds) -> list[dict[str, Any]]:
        """Rate and distortion of the validation clouds at a few rate weights, means over the clouds.

        Bits are those that the proxy predicts for rounded latents, without the occupancy of cells; D1 is that of the
        thresholds that the codec would choose.
        """
        rows = []
        for rate_weight in _VALIDATION_RATE_WEIGHTS:
            figures = [self._code(cells, rate_weight) for cells in clouds.cells]
            if figures:
                bits, mse = np.mean(figures, axis=0)
                rows.append(
                    {
                        "rate_weight": rate_weight,
                        "round_bits_per_point": float(bits),
                        "d1_psnr_db": 10 * math.log10(3 * _PEAK**2 / float(mse)),
                        "d1_rms": math.sqrt(mse) * self.config.data.block_size / self.config.data.resolution,
                    }
                )
        return rows

    def _code(self, cells: Cells, rate_weight: float) -> tuple[float, float]:
        device = (self.mixed or Mixed.plain()).choice.device
        table = neighbours_of(cells.positions)
        neighbours = torch.from_numpy(table.astype(np.int64)).to(device)
        voxels = torch.from_numpy(np.unpackbits(cells.bits, axis=1)).float().to(device)
        weight = torch.tensor([rate_weight]).to(device)
        gain, inverse, analysis_bias, synthesis_bias = self.model.gains(weight)
        y = (self.model.analysis(voxels, neighbours, analysis_bias) * gain).round()
        odd = torch.from_numpy(cells.positions.sum(axis=1) % 2 == 1).to(device)
        bits = self.proxy.bits(y, neighbours, rate_place(weight).expand(len(y)), odd).sum()
        logits = self.model.synthesis(y * inverse, neighbours, synthesis_bias).cpu().numpy()
        block, blocks = blocks_of(cells.positions)
        costs = measure(cells, table, levels_of(logits), block, blocks)
        picked = choose(costs, float(bits))
        return float(bits) / costs.points, d1_mse(costs, picked)
