"""Experience: occupancy contexts trained by coding other clouds, on many grids; resumable at any cloud."""

from __future__ import annotations

import hashlib
import json
import time

import numpy as np
import torch

from ..blocks import Blocks
from ..octree.occupancy import keys_of
from ..training import checkpoint
from ..training.ledger import Ledger
from .config import TrainingConfig
from .kernel import Model, new_model
from .occupancy import TRAINED, Experience, learn
from .training import Report

COLUMNS = ("step", "trained_s", "grid_step", "voxels", "bits_per_voxel")
_TABLE_BITS = 18
_HALF = np.uint32(1 << 31)
_CHECKPOINT_EVERY = 10


class ExperienceTrainer:
    """A training run of the contexts.

    Args:
        config: its configuration.
        blocks: training blocks; those of one source make a cloud again.
        files_sha256: hashes of the files that they come from.
    """

    def __init__(self, config: TrainingConfig, blocks: Blocks, files_sha256: tuple[str, ...] = ()) -> None:
        self.config, self.blocks = config, blocks
        self.model: Model = new_model(_TABLE_BITS, config.occupancy.units)
        record = config.occupancy.model_dump(mode="json", exclude={"clouds"})
        record.update(seed=config.training.seed, files=files_sha256)
        self.identity = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
        self.step, self.trained_s = 0, 0.0
        self.path = config.training.checkpoint_dir / "experience.pt"

    def resume(self) -> bool:
        """Take up the checkpoint of an earlier process, if there is one."""
        state = checkpoint.load(self.path, self.identity)
        if state is None:
            return False
        for name, value in state["arrays"].items():
            getattr(self.model, name)[...] = value.numpy()
        self.step, self.trained_s = state["step"], state["trained_s"]
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        arrays = {name: torch.from_numpy(getattr(self.model, name).copy()) for name in (*TRAINED, "decisions")}
        record = {"identity": self.identity, "arrays": arrays, "step": self.step, "trained_s": self.trained_s}
        checkpoint.save(self.path, record)

    def run(self, report: Report | None = None) -> Experience:
        """Train to the end of the configuration, from where the run stands."""
        clouds = self.config.occupancy.clouds
        self.path.parent.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(self.path.with_name("experience.csv"), COLUMNS, from_step=self.step)
        started = time.monotonic()
        while self.step < clouds:
            grid_step, voxels, bits = self.train_step()
            now = time.monotonic()
            self.trained_s, started = self.trained_s + now - started, now
            figures = {"grid_step": grid_step, "voxels": voxels, "bits_per_voxel": bits / voxels}
            ledger.add({"step": self.step, "trained_s": round(self.trained_s, 1), **figures})
            if report is not None:
                report(self.step, clouds, figures)
            if self.step % _CHECKPOINT_EVERY == 0 or self.step == clouds:
                self.save()
        return Experience.of(self.model)

    def train_step(self) -> tuple[int, int, float]:
        """Code one cloud on one grid: step of the grid, voxels, bits."""
        occupancy = self.config.occupancy
        rng = np.random.default_rng([self.config.training.seed, self.step])
        sources = np.unique(self.blocks.sources)
        source = int(sources[rng.permutation(len(sources))[0]])
        rows = np.flatnonzero(self.blocks.sources == source)
        parts = [self.blocks.block(int(row)).astype(np.int32) + self.blocks.origins[row] for row in rows]
        shares = np.array(occupancy.shares) / sum(occupancy.shares)
        grid_step = int(rng.choice(occupancy.grid_steps, p=shares))
        points = (np.concatenate(parts) + rng.integers(0, grid_step, 3).astype(np.int32)) // grid_step
        leaves = np.unique(keys_of(points[:, rng.permutation(3)]))
        # A cloud's own statistics are not shipped: each starts with empty tables.
        self.model.tables[:] = _HALF
        bits = learn(leaves, self.model)
        self.step += 1
        return grid_step, len(leaves), bits
