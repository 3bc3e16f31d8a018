"""Scratch: the folder for a run's temporary files, removed when it ends, or by the next run when it was killed.

A folder belongs to a live run while somebody holds one of the locks in it, which the kernel drops with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

#: A folder without a lock may be one that is just being made.
_NEW_S = 60.0
_LOCKS = ("lock", "*/lane-*")


def _prefix() -> str:
    return f"pccbench-run-{os.getuid()}-"


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder in a new folder of the system's temporary one; what dead runs left there goes first."""
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=_prefix()))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield Path(tempfile.mkdtemp(dir=folder))  # a new name, by which other processes know a new run
        finally:
            _remove(folder)


def sweep() -> None:
    """Remove the folders of this user's runs that have ended without doing so."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        with contextlib.suppress(OSError):
            if _is_ours(folder) and _is_abandoned(folder):
                _remove(folder)


def _is_ours(folder: Path) -> bool:
    facts = folder.lstat()
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()


def _is_abandoned(folder: Path) -> bool:
    locks = [path for pattern in _LOCKS for path in folder.glob(pattern)]
    if not locks:
        return time.time() - folder.stat().st_mtime > _NEW_S
    return all(not _is_held(path) for path in locks)


def _is_held(path: Path) -> bool:
    with path.open("r") as lock:
        return not _takes(lock)


def _takes(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(folder: Path, patience_s: float = 2.0) -> None:
    """Remove a folder in which processes that were just ended may still be writing."""
    until_s = time.monotonic() + patience_s
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > until_s:
            return
        time.sleep(0.01)
