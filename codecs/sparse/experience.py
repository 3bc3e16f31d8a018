"""Experience: occupancy contexts trained by coding other clouds; resumable at any cloud."""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..blocks import Blocks
from ..octree.occupancy import distinct, keys_of
from ..training import checkpoint
from ..training.checkpoint import Identity
from ..training.interruption import Interruption, TrainingInterrupted
from ..training.ledger import Ledger
from .config import TrainingConfig
from .kernel import Model, new_model
from .occupancy import TRAINED, Experience, Keys, learn
from .training import Report

#: Contexts of a cloud that is trained on.
TABLE_BITS = 18
_HALF = np.uint32(1 << 31)
_CHECKPOINT_EVERY = 10


class ContextTrainer(abc.ABC):
    """A training run of contexts: each step codes a set of voxels that `draw` gives.

    Args:
        folder: of checkpoint and ledger.
        clouds: sets to code.
        units: hidden units of the network.
        seed: of all that is drawn.
        record: what else determines the run.
    """

    #: Columns of the ledger for what `draw` says of a set.
    columns: tuple[str, ...] = ()

    def __init__(self, folder: Path, clouds: int, units: int, seed: int, record: Mapping[str, Any]) -> None:
        self.clouds, self.seed = clouds, seed
        self.model: Model = new_model(TABLE_BITS, units)
        self.identity = Identity({**record, "occupancy.units": units, "training.seed": seed})
        self.step, self.trained_s = 0, 0.0
        self.path = folder / "experience.pt"

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[dict[str, float], Keys]:
        """What the ledger is told of a set of voxels, and their sorted keys."""

    def resume(self) -> bool:
        """Take up the checkpoint of an earlier process, if there is one."""
        state = checkpoint.load(self.path, self.identity)
        if state is None:
            return False
        with checkpoint.taking_up(self.path):
            for name, value in state["arrays"].items():
                getattr(self.model, name)[...] = value.numpy()
            self.step, self.trained_s = state["step"], state["trained_s"]
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        arrays = {name: torch.from_numpy(getattr(self.model, name).copy()) for name in (*TRAINED, "decisions")}
        state = {"arrays": arrays, "step": self.step, "trained_s": self.trained_s}
        checkpoint.save(self.path, self.identity, state)

    def run(self, report: Report | None = None) -> Experience:
        """Train to the end of the configuration, from where the run stands.

        Raises:
            TrainingInterrupted: it was asked to stop; the checkpoint is written.
            OSError: a file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        columns = ("step", "trained_s", *self.columns, "voxels", "bits_per_voxel")
        ledger = Ledger(self.path.with_name("experience.csv"), columns, from_step=self.step)
        with Interruption() as stop:
            self._run(ledger, report, stop)
        return Experience.of(self.model)

    def _run(self, ledger: Ledger, report: Report | None, stop: Interruption) -> None:
        started = time.monotonic()
        while self.step < self.clouds:
            figures = self.train_step()
            now = time.monotonic()
            self.trained_s, started = self.trained_s + now - started, now
            ledger.add({"step": self.step, "trained_s": round(self.trained_s, 1), **figures})
            if report is not None:
                report(self.step, self.clouds, figures)
            if self.step % _CHECKPOINT_EVERY == 0 or self.step == self.clouds or stop.asked:
                self.save()
            if stop.asked and self.step < self.clouds:
                raise TrainingInterrupted(f"occupancy: interrupted at cloud {self.step} of {self.clouds}")

    def train_step(self) -> dict[str, float]:
        """Code one set; its figures."""
        figures, leaves = self.draw(np.random.default_rng([self.seed, self.step]))
        # A cloud's own statistics are not shipped: each starts with empty tables.
        self.model.tables[:] = _HALF
        bits = learn(leaves, self.model)
        self.step += 1
        return {**figures, "voxels": len(leaves), "bits_per_voxel": bits / len(leaves)}


class ExperienceTrainer(ContextTrainer):
    """A training run of the contexts of coarse grids.

    Args:
        config: its configuration.
        blocks: training blocks; those of one source make a cloud again.
        files_sha256: hashes of the files that they come from.
    """

    columns = ("grid_step",)

    def __init__(self, config: TrainingConfig, blocks: Blocks, files_sha256: tuple[str, ...] = ()) -> None:
        self.config, self.blocks = config, blocks
        occupancy, training = config.occupancy, config.training
        record = occupancy.model_dump(mode="json", exclude={"clouds"}) | {"training files": files_sha256}
        super().__init__(training.checkpoint_dir, occupancy.clouds, occupancy.units, training.seed, record)

    def draw(self, rng: np.random.Generator) -> tuple[dict[str, float], Keys]:
        """A cloud on one grid, its axes in any order."""
        occupancy = self.config.occupancy
        points = cloud_of(self.blocks, rng)
        shares = np.array(occupancy.shares) / sum(occupancy.shares)
        grid_step = int(rng.choice(occupancy.grid_steps, p=shares))
        moved = (points + rng.integers(0, grid_step, 3).astype(np.int32)) // grid_step
        return {"grid_step": grid_step}, distinct(keys_of(moved[:, rng.permutation(3)]))


def cloud_of(blocks: Blocks, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """A cloud that the training blocks were cut from, (n, 3)."""
    sources = np.unique(blocks.sources)
    source = int(sources[rng.permutation(len(sources))[0]])
    rows = np.flatnonzero(blocks.sources == source)
    return np.concatenate([blocks.block(int(row)).astype(np.int32) + blocks.origins[row] for row in rows])
