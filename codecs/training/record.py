"""Record: what is written beside weights of how they were made, and when that was a training."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..._version import __version__
from ..weights import RECORD, write_whole

#: Weights of fewer steps are as good as random: they are exported, and called untrained.
LEAST_STEPS = 1000


def is_trained(*stages: tuple[int, int]) -> bool:
    """Whether stages, each of steps done and steps planned, went to their ends and were long enough to say so."""
    return all(done >= planned and done >= LEAST_STEPS for done, planned in stages)


def versions() -> dict[str, str]:
    """Of what computed the weights."""
    return {"pccbench": __version__, "torch": torch.__version__, "python": platform.python_version()}


def last_figures(path: Path) -> dict[str, float]:
    """The last value of each column of a ledger."""
    found: dict[str, float] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            found.update({key: float(value) for key, value in row.items() if value})
    return found


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a folder of weights, after them: it is the sign that all are there."""
    write_whole(folder / RECORD, json.dumps(record, indent=1) + "\n")
