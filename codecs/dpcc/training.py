"""Training: one model for all operating points, resumable at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...metrics.distortion import distortion, psnr_db
from ..blocks import HELD_OUT, Blocks
from ..entropy.exact import Grid
from ..octree.occupancy import encode_keys, keys_of
from ..training import checkpoint
from ..training.checkpoint import Identity
from ..training.divergence import diverging
from ..training.interruption import Interruption, TrainingInterrupted
from ..training.ledger import Ledger, Means
from ..training.precision import Mixed
from ..training.schedule import learning_rate_share, rate_share
from . import losses
from .bottleneck import QuantileBottleneck
from .coding import analyse
from .config import ConfigError, OperatingPoint, TrainingConfig, expansion
from .dataset import Batch, Dataset
from .hierarchy import Floats, Hierarchy, build, spacing, voxel_grid
from .model import Grown, PointModel, neighbourhood_tensors
from .weights import Quantised

_OBSERVE_EVERY = 8
#: Share of steps' grids around the operating point's own, so that the network bears with any.
_GRID_SPREAD = 0.25
#: Blocks that the scale of patches is measured on.
_PATCHES = 8
#: Held-out blocks that validation codes, and the peak of its D1: that of the clouds of 10 bits they are cut from.
_VALIDATION_BLOCKS = 4
_PEAK = 1023

Report = Callable[[int, int, dict[str, float]], None]


def columns(points: int) -> tuple[str, ...]:
    """Columns of the ledger."""
    each = ("last_chamfer", "features_bpp", "point_ratio", "validation_bpp", "validation_d1_psnr_db")
    return (
        *("step", "epoch", "trained_s", "learning_rate", "rate_share", "loss"),
        *("chamfer_loss", "density_loss", "point_count_loss", "latent_coordinates_loss", "rate_loss"),
        *("auxiliary_loss", "noise_bpp", "validation_bpp", "validation_d1_psnr_db"),
        *(f"r{number:02d}_{name}" for number in range(1, points + 1) for name in each),
    )


def identity_of(config: TrainingConfig, dataset: Dataset) -> Identity:
    """What determines a run, so that a checkpoint is resumed by its own run alone.

    Lengths and file places are left out: a run may be prolonged, and its data may move.
    """
    record = config.model_dump(mode="json")
    for key in ("epochs", "checkpoint_dir", "checkpoint_s", "validate_every", "threads"):
        del record["training"][key]
    for key in ("path", "evaluation_path"):
        del record["data"][key]
    del record["occupancy"]
    record["training files"] = dataset.files_sha256
    return Identity(record)


@dataclass(frozen=True, eq=False)
class Frame:
    """What places are told in: each latent's own neighbourhood, or the middle and half side of its block.

    Attributes:
        neighbourhood: for the decoder.
        scale: (m,) of latents.
        unit: (m,) of distances in the loss.
        block: (m,) number of each latent's block.
        centre: (m, 3) of the blocks, None for the latents.
    """

    neighbourhood: tuple[Tensor, Tensor, Tensor]
    scale: Floats
    unit: Floats
    block: np.ndarray
    centre: Floats | None


class Trainer:
    """A training run.

    Args:
        config: its configuration.
        dataset: its data.
    """

    def __init__(self, config: TrainingConfig, dataset: Dataset) -> None:
        self.config, self.dataset = config, dataset
        training = config.training
        torch.manual_seed(training.seed)
        self.model = PointModel(config.model)
        bottlenecks = [module for module in self.model.modules() if isinstance(module, QuantileBottleneck)]
        quantiles = [module.quantiles for module in bottlenecks]
        entropy = [parameter for module in bottlenecks for parameter in module.distribution()]
        apart = {id(parameter) for parameter in [*quantiles, *entropy]}
        network: list[Tensor] = [parameter for parameter in self.model.parameters() if id(parameter) not in apart]
        self.optimiser = torch.optim.Adam(
            [
                {"params": network, "peak": training.learning_rate},
                {"params": entropy, "peak": training.entropy_learning_rate},
            ],
            lr=training.learning_rate,
            fused=True,
        )
        self.auxiliary = torch.optim.Adam(quantiles, lr=training.auxiliary_learning_rate, fused=True)
        self._grids = [module for module in self.model.modules() if isinstance(module, Grid)]
        self.step, self.trained_s = 0, 0.0
        self.identity = identity_of(config, dataset)
        self.folder = training.checkpoint_dir
        self.held_out = Blocks.of_folder(config.data.path, HELD_OUT)
        self.steps_an_epoch = len(dataset) // training.batch_size
        if self.steps_an_epoch == 0:
            raise ConfigError(
                f"training.batch_size: {training.batch_size} blocks a step, but there are {len(dataset)} blocks"
            )
        self.steps = max(1, round(training.epochs * self.steps_an_epoch))
        self.patch = patch_of(dataset, config)

    @property
    def path(self) -> Path:
        """Where the checkpoint lies."""
        return self.folder / "model.pt"

    def resume(self) -> bool:
        """Take up the checkpoint of an earlier process, if there is one."""
        state = checkpoint.load(self.path, self.identity)
        if state is None:
            return False
        with checkpoint.taking_up(self.path):
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.auxiliary.load_state_dict(state["auxiliary"])
            self.step, self.trained_s = state["step"], state["trained_s"]
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(
            self.path,
            self.identity,
            {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "auxiliary": self.auxiliary.state_dict(),
                "step": self.step,
                "trained_s": self.trained_s,
            },
        )

    def run(self, report: Report | None = None, *, until_step: int | None = None) -> None:
        """Train to the end of the configuration, from where the run stands.

        Args:
            report: told of the progress.
            until_step: stop there, with a checkpoint, as a killed process would have left one.

        Raises:
            TrainingInterrupted: it was asked to stop; the checkpoint is written.
            DivergedError: loss or gradient is not finite; the last checkpoint stays.
            OSError: a file cannot be written.
        """
        torch.set_num_threads(self.config.training.threads)
        self.folder.mkdir(parents=True, exist_ok=True)
        end = self.steps if until_step is None else min(until_step, self.steps)
        names = columns(len(self.config.model.points))
        ledger = Ledger(self.folder / "ledger.csv", names, from_step=self.step, last=end)
        with Interruption() as stop:
            self._run(ledger, end, report, stop)
        if self.step == self.steps:
            panels = ("loss", "chamfer_loss", "noise_bpp", "validation_bpp", "validation_d1_psnr_db", "learning_rate")
            ledger.plot(self.folder / "ledger.png", panels)

    def _run(self, ledger: Ledger, end: int, report: Report | None, stop: Interruption) -> None:
        training = self.config.training
        sums = Means()
        started = saved = time.monotonic()
        for batch in self._batches(end):
            with diverging("model", self.step, self.model.parameters()):
                sums.add(self.train_step(batch))
            now = time.monotonic()
            self.trained_s, started = self.trained_s + now - started, now
            if ledger.is_due(self.step):
                means = sums.take()
                ledger.add({**self._place(), **means})
                if report is not None:
                    report(self.step, self.steps, {key: means[key] for key in ("loss", "noise_bpp")})
            if self.step % training.validate_every == 0 or self.step == self.steps:
                figures = self.validate()
                if figures:
                    ledger.add({**self._place(), **figures})
                started = time.monotonic()
            if now - saved > training.checkpoint_s or self.step == end or stop.asked:
                self.save()
                saved = time.monotonic()
            if stop.asked and self.step < end:
                raise TrainingInterrupted(f"model: interrupted at step {self.step} of {self.steps}")

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Rate and distortion of held-out blocks, coded as the codec does, at each operating point and their means.

        Bits are those predicted for rounded features, and those of the octree coder for the latents' places, which
        are fewer in a stream (`LatentTrainer`); D1 is that of the mean error over the blocks.  Nothing where no
        blocks are held out.
        """
        if self.held_out is None:
            return {}
        quantised = Quantised.of(self.model.eval(), self.patch)
        rows = np.flatnonzero(self.held_out.counts >= self.config.data.min_points)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _VALIDATION_BLOCKS)).astype(np.int64)]
        blocks = [self.held_out.block(int(row)).astype(np.float64) for row in rows]
        found: dict[str, list[float]] = {}
        for number in range(len(self.config.model.points) if blocks else 0):
            bpp, mse = np.mean([_coded(quantised, xyz, number) for xyz in blocks], axis=0)
            figures = {"validation_bpp": float(bpp), "validation_d1_psnr_db": psnr_db(float(mse), _PEAK)}
            for name, value in figures.items():
                found.setdefault(name, []).append(value)
                found[f"r{number + 1:02d}_{name}"] = [value]
        return {name: float(np.mean(values)) for name, values in found.items()}

    def _place(self) -> dict[str, float | int]:
        return {
            "step": self.step,
            "epoch": self.step / self.steps_an_epoch,
            "trained_s": round(self.trained_s, 1),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
        }

    def _batches(self, end: int) -> Iterator[Batch]:
        training = self.config.training
        while self.step < end:
            epoch, skip = divmod(self.step, self.steps_an_epoch)
            for number in range(skip, self.steps_an_epoch):
                if self.step >= end:
                    return
                yield self.dataset.batch_of(training.batch_size, training.seed, epoch, number, self._most_points())

    def _draw(self) -> tuple[int, torch.Generator]:
        """Operating point of the next step, and the generator of all else that it draws: one of its own for each."""
        generator = torch.Generator().manual_seed(self.config.training.seed * 1_000_003 + self.step)
        return int(torch.randint(len(self.config.model.points), (), generator=generator)), generator

    def _most_points(self) -> int | None:
        """Points that the blocks of the next step may have."""
        most = self.config.data.max_latents
        if most is None:
            return None
        return round(most * expansion(self.config.model, self.config.model.points[self._draw()[0]]))

    def _learning_rate_share(self) -> float:
        training = self.config.training
        if training.schedule == "cosine":
            return learning_rate_share(self.step, self.steps, training.decay_from)
        return training.decay ** int(self.step / self.steps_an_epoch / training.decay_epochs)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimisers; its figures."""
        training = self.config.training
        number, generator = self._draw()
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * self._learning_rate_share()
        share = rate_share(self.step, self.steps, training.rate_warm_up)
        self.model.train()
        for grid in self._grids:  # their ranges move slowly: looking now and then is enough
            grid.training = self.step % _OBSERVE_EVERY == 0
        parts, figures = self.losses_of(batch, number, share, generator)
        parameters = [one for group in self.optimiser.param_groups for one in group["params"]]
        Mixed.plain().descend("model", self.step, parts.total, self.optimiser, parameters)
        auxiliary = self._auxiliary_step(number)
        self.step += 1
        return {**parts.figures(), **figures, "auxiliary_loss": auxiliary, "rate_share": share}

    def _auxiliary_step(self, number: int) -> float:
        bottlenecks = [self.model.bottleneck(number)]
        if self.model.coordinates is not None:
            bottlenecks.append(self.model.coordinates.bottleneck)
        loss = torch.stack([bottleneck.auxiliary_loss() for bottleneck in bottlenecks]).sum()
        self.auxiliary.zero_grad(set_to_none=True)
        loss.backward()
        self.auxiliary.step()
        return float(loss.detach())

    def losses_of(
        self, batch: Batch, number: int, share: float, generator: torch.Generator
    ) -> tuple[losses.Parts, dict[str, float]]:
        """The loss in its parts at an operating point, and figures for the ledger.

        Args:
            batch: blocks.
            number: of the operating point.
            share: of the rate's weight.
            generator: of the noise.
        """
        model = self.config.model
        point = model.points[number]
        hierarchy = hierarchy_of(batch, point, model.stages, model.neighbours, generator)
        frame = self._frame(batch, hierarchy, point)
        y = self.model.analysis(hierarchy, frame.scale, frame.block, number, frame.centre)
        gain = self.model.gain(number)
        scaled = y * gain
        noisy = scaled + torch.rand(scaled.shape, generator=generator) - 0.5
        bottleneck = self.model.bottleneck(number)
        bits = bottleneck.bits(bottleneck.likelihood(noisy))
        y_hat = noisy
        if len(model.points) > 1:
            # Half of the latents decode noise, half decode rounded features: both see what the other cannot teach.
            rounded = (torch.rand(len(y), generator=generator) < 0.5)[:, None]
            y_hat = torch.where(rounded, scaled + (scaled.round() - scaled).detach(), noisy)
        coordinate_bits, coordinate_loss = self._coordinates(hierarchy, frame)
        # From the places that streams hold.  Grown from learned ones, as published, the decoder learns to make up for
        # their errors, which no stream has: after 237 steps D1 was eight times as large as in training.
        places = torch.from_numpy(hierarchy.latents.xyz)
        stages = self.model.synthesis(y_hat / gain, places, frame.neighbourhood, number)
        return self._compare(
            hierarchy,
            frame,
            stages,
            number,
            (bits + coordinate_bits, bits, share * point.rate_weight),
            coordinate_loss,
        )

    def _coordinates(self, hierarchy: Hierarchy, frame: Frame) -> tuple[Tensor, Tensor]:
        """Bits of the learned codec of places, and its loss; it is trained beside all else, as a measure."""
        if self.model.coordinates is None or frame.centre is None:
            return torch.zeros(()), torch.zeros(())
        places = torch.from_numpy(hierarchy.latents.xyz)
        centre, scale = torch.from_numpy(frame.centre), torch.from_numpy(frame.scale)[:, None]
        truth = ((places - centre) / scale).float()
        coded, likelihood = self.model.coordinates(truth, torch.from_numpy(frame.block))
        bits = self.model.coordinates.bottleneck.bits(likelihood)
        return bits, losses.latent_coordinate_loss(truth, coded)

    def _frame(self, batch: Batch, hierarchy: Hierarchy, point: OperatingPoint) -> Frame:
        model = self.config.model
        last = hierarchy.stages[-1]
        # The block of a latent: that of the first point which descends to it.
        block = np.zeros(len(last.xyz), np.int64)
        block[hierarchy.owner[0]] = batch.block
        near, relative, scale = neighbourhood_tensors(hierarchy.latents, model.context_neighbours)
        patch = np.full(len(block), batch.side / 2)
        in_patch = model.coordinates == "learned"
        own = patch if in_patch else scale.numpy()
        unit = patch if self.config.loss.unit == "patch" else scale.numpy() / np.sqrt(expansion(model, point))
        return Frame(
            (near, relative, torch.from_numpy(own)), own, unit, block, batch.centre[block] if in_patch else None
        )

    def _compare(
        self,
        hierarchy: Hierarchy,
        frame: Frame,
        stages: list[Grown],
        number: int,
        rate: tuple[Tensor, Tensor, float],
        coordinate_loss: Tensor,
    ) -> tuple[losses.Parts, dict[str, float]]:
        weights = self.config.loss
        count = len(stages)
        unit = torch.from_numpy(frame.unit)
        distances, matches, made_distances, true_counts, true_distances = [], [], [], [], []
        parents = torch.from_numpy(hierarchy.latents.xyz)
        parent_latent = torch.arange(len(parents))
        for index, stage in enumerate(stages):
            level = count - 1 - index
            truth = torch.from_numpy(hierarchy.level(level))
            owner = torch.from_numpy(hierarchy.owner[level])
            distance, match = losses.chamfer(truth, stage.xyz, unit[owner], unit[stage.latent])
            distances.append(distance)
            matches.append(match)
            made = losses.mean_distance(parents, stage.xyz, stage.counts, self.config.model.neighbours)
            made_distances.append(made / unit[parent_latent])
            encoder = hierarchy.stages[level]
            true_counts.append(torch.from_numpy(encoder.counts))
            true_distances.append(
                torch.from_numpy(encoder.mean_distance) / unit[torch.from_numpy(hierarchy.owner[level + 1])]
            )
            parents, parent_latent = stage.xyz.detach(), stage.latent
        counts = [stage.counts.double() for stage in stages]
        points = len(hierarchy.xyz)
        bits, feature_bits, rate_weight = rate
        parts = losses.Parts(
            chamfer=losses.multi_stage_chamfer(distances, weights.stage_chamfer),
            density=weights.density
            * losses.density_loss(
                counts, true_counts, made_distances, true_distances, matches, weights.mean_distance
            ),
            point_count=weights.point_count
            * losses.point_count_loss(counts, [len(hierarchy.level(count - 1 - i)) for i in range(count)]),
            latent_coordinates=weights.latent_coordinates * coordinate_loss.double(),
            rate=rate_weight * losses.rate_loss(bits, points).double(),
        )
        name = f"r{number + 1:02d}"
        figures = {
            "noise_bpp": float(bits.detach()) / points,
            f"{name}_last_chamfer": float(distances[-1].detach()),
            f"{name}_features_bpp": float(feature_bits.detach()) / points,
            f"{name}_point_ratio": len(stages[-1].xyz) / points,
        }
        return parts, figures


def patch_of(dataset: Dataset, config: TrainingConfig) -> float | None:
    """Half the side of a training block over the median scale of its latents: what the codec takes for a patch.

    None where places are told in the latents' own neighbourhoods.
    """
    if config.model.coordinates != "learned":
        return None
    shares = []
    for row in np.linspace(0, len(dataset) - 1, min(len(dataset), _PATCHES)).astype(np.int64):
        batch = dataset.batch(np.array([row]), np.random.default_rng([config.training.seed, int(row)]))
        hierarchy = hierarchy_of(batch, config.model.points[0], config.model.stages, config.model.neighbours)
        shares.append(batch.side / 2 / float(np.median(hierarchy.latents.neighbourhood(1)[2])))
    return float(np.median(shares))


def _coded(quantised: Quantised, xyz: Floats, number: int) -> tuple[float, float]:
    """Bits a point and D1's error of a block of voxels, coded at an operating point."""
    share = quantised.config.points[number].grid_share
    coded, made = analyse(
        quantised, xyz, number, lambda latents: voxel_grid(latents, share), lambda x: len(_merged(x))
    )
    bottleneck = quantised.model.bottleneck(number)
    features = bottleneck.bits(bottleneck.likelihood(torch.from_numpy(coded.symbols) + quantised.median[number]))
    _, place_bits = encode_keys(keys_of(coded.latents.cells))
    error = distortion(xyz, _merged(made), peak=_PEAK, threads=1).d1_mse
    return (float(features) + place_bits) / len(xyz), float(error or 0.0)


def _merged(points: Floats) -> Floats:
    """The voxels that points fall in, each once."""
    return np.unique(np.floor(points + 0.5), axis=0)


def hierarchy_of(
    batch: Batch, point: OperatingPoint, stages: int, k: int, generator: torch.Generator | None = None
) -> Hierarchy:
    """The hierarchy of a batch, with a grid of latents near the operating point's own."""
    share = point.grid_share
    if generator is not None:
        share *= 1.0 + _GRID_SPREAD * (2.0 * float(torch.rand((), generator=generator)) - 1.0)

    def grid(latents: Floats) -> tuple[Floats, float]:
        if batch.voxelised:
            return voxel_grid(latents, share)
        return latents.min(axis=0), share * spacing(latents)

    return build(batch.xyz, batch.offsets, (point.ratio,) * stages, grid, k=k)
