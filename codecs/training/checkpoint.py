"""Checkpoint: the state of a training run on disk, whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from ..errors import PccbenchError


class CheckpointError(PccbenchError):
    """A checkpoint cannot be used: damaged, or of another configuration."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `path`; a process killed at any moment leaves the old one or the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def load(path: Path, identity: str) -> dict[str, Any] | None:
    """The state saved at `path`, or None when there is none.

    Args:
        path: of the checkpoint.
        identity: what the run is (a hash of its configuration); the state must have been saved under the same.

    Raises:
        CheckpointError: the file is damaged, or belongs to another configuration.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: expected a checkpoint of a training run, found something else") from error
    if state.get("identity") != identity:
        raise CheckpointError(
            f"{path}: belongs to another configuration; choose another checkpoint_dir, or remove it to start anew"
        )
    return state
