"""Untrained: random weights of a learned codec, the same every time, for runs that ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .record import versions, write_record

SEED = 0
#: Side of the block that ranges are observed on.
BLOCK = 64


def ball() -> npt.NDArray[np.int32]:
    """Voxels of a wavy ball, (n, 3), in a block: what untrained networks see, so that their ranges are known."""
    span = np.arange(BLOCK)
    x, y, z = np.meshgrid(span, span, span, indexing="ij")
    radius = np.sqrt((x - 31.0) ** 2 + (y - 32.0) ** 2 + (z - 33.0) ** 2)
    return np.argwhere(np.abs(radius - 22 - 3 * np.sin(x / 4) * np.cos(z / 6)) < 0.7).astype(np.int32)


def write_untrained_record(folder: Path, config: Any) -> None:
    """The record of random weights."""
    record = {
        "command": None,
        "config": config.model_dump(mode="json"),
        "seed": SEED,
        "training_files_sha256": [],
        "versions": versions(),
        "steps": 0,
        "trained": False,
        "remarks": "random weights, for tests of the machinery",
    }
    write_record(folder, record)
