"""Checkpoint: the state of a training run on disk, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import PccbenchError
from ..weights import write_whole

#: Longer values are not spelt out in messages.
_LONGEST = 60


class CheckpointError(PccbenchError):
    """A checkpoint cannot be used: damaged, or of another configuration."""


@dataclass(frozen=True)
class Identity:
    """What determines a run, so that a checkpoint is resumed by its own run alone.

    Attributes:
        ingredients: plain values, by name, nested or not.
    """

    ingredients: Mapping[str, Any]

    @property
    def text(self) -> str:
        """All of it, the same for equal runs."""
        return json.dumps(self.ingredients, sort_keys=True)

    @property
    def sha256(self) -> str:
        """Hash of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def save(path: Path, identity: Identity, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint at `path`; a process killed at any moment leaves the old one or the new one."""
    stream = io.BytesIO()
    torch.save({**state, "identity": identity.text}, stream)
    write_whole(path, stream.getbuffer())


def load(path: Path, identity: Identity) -> dict[str, Any] | None:
    """The state saved at `path`, or None when there is none.

    Args:
        path: of the checkpoint.
        identity: what the run is; the state must have been saved under the same.

    Raises:
        CheckpointError: the file is damaged, or belongs to another configuration, with what differs.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, OSError) as error:
        raise CheckpointError(_damaged(path)) from error
    if not isinstance(state, dict) or not isinstance(state.get("identity"), str):
        raise CheckpointError(_damaged(path))
    if state["identity"] != identity.text:
        what = "; ".join(_changes(state["identity"], identity)) or "one of another version"
        raise CheckpointError(
            f"{path}: belongs to another configuration ({what}); choose another checkpoint_dir, or remove this "
            "file to start anew"
        )
    return state


@contextmanager
def taking_up(path: Path) -> Iterator[None]:
    """Around what puts a state back: a state that does not fit is damaged.

    Raises:
        CheckpointError: it was.
    """
    try:
        yield
    except PccbenchError:
        raise
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(_damaged(path)) from error


def _damaged(path: Path) -> str:
    return f"{path}: expected a checkpoint of a training run, found something else; remove it to start anew"


def _changes(before: str, identity: Identity) -> list[str]:
    try:
        old = json.loads(before)
    except (ValueError, RecursionError):
        return []
    return list(_differences(old, json.loads(identity.text)))


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(name), new.get(name), f"{prefix}.{name}" if prefix else name)
    elif old != new:
        if max(len(str(old)), len(str(new))) > _LONGEST:
            yield f"{prefix} has changed"
        else:
            yield f"{prefix} was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other trainings out of it.

    Raises:
        CheckpointError: another process trains there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+b")
    except OSError as error:
        raise CheckpointError(f"{folder}: expected a folder to train in: {error.strerror}") from error
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ModuleNotFoundError:  # not on this system: the user keeps them apart
            pass
        except BlockingIOError:
            raise CheckpointError(f"{folder}: another training is running there") from None
        yield
