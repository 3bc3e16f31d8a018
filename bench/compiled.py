"""Compiled: numba's compiled functions, kept between the sealed processes of one codec.

A sealed process writes nothing but its own folder, so numba gets a cache of its own there.  The harness fills it
before the process starts, and keeps what the process compiled until it was warm: at that time it has seen no cloud
and no stream, so nothing of either can reach another process this way.  Each codec has a cache that no other codec
reads, for what numba loads is code.  What a codec compiles after its warm-up is compiled again by the next process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .._cache import pccbench_cache
from ..codecs.registry import CodecSpec

#: More than this is not kept, in bytes and files.
LARGEST_BYTES, MOST_FILES = 1 << 28, 5000


class CompiledCache:
    """The cache of one codec; every method does nothing where it cannot be read or written."""

    def __init__(self, spec: CodecSpec) -> None:
        chosen = os.environ.get("NUMBA_CACHE_DIR")
        home = Path(chosen) if chosen else pccbench_cache()
        package = Path(__file__).resolve().parent.parent
        identity = "\n".join([spec.name, spec.module_file or "", str(package), sys.executable])
        self._folder = Path(home, "compiled", hashlib.sha256(identity.encode()).hexdigest()[:24])

    def fill(self, target: Path) -> None:
        """Copy what is kept into a new folder."""
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(self._folder, target)
        target.mkdir(parents=True, exist_ok=True)

    def keep(self, source: Path) -> None:
        """Keep the files of a folder in place of those kept so far, unless they are the same.

        A whole folder comes from one process: numba's indexes and files of different ones do not fit together.
        """
        with contextlib.suppress(OSError):
            files = dict(_files(source))
            if not files or {path: facts for path, (facts, _) in files.items()} == dict(_facts(self._folder)):
                return
            if len(files) > MOST_FILES or sum(size for (size, _), _ in files.values()) > LARGEST_BYTES:
                return
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            with (self._folder.parent / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._replace(files)

    def _replace(self, files: dict[Path, tuple[tuple[int, int], bytes]]) -> None:
        made = Path(tempfile.mkdtemp(prefix=".", dir=self._folder.parent))
        try:
            for path, ((_, changed_ns), data) in files.items():
                target = made / "new" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                os.utime(target, ns=(changed_ns, changed_ns))
            with contextlib.suppress(FileNotFoundError):
                self._folder.rename(made / "old")
            (made / "new").rename(self._folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _files(folder: Path) -> Iterator[tuple[Path, tuple[tuple[int, int], bytes]]]:
    """Size, time and content of each file below; links, through which other files would be read, are left out."""
    for base, _, names, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in names:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
            with open(handle, "rb") as file:  # noqa: PTH123  # it is open already
                facts = os.fstat(handle)
                if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                    data = file.read(LARGEST_BYTES)
                    yield Path(base, name).relative_to(folder), ((len(data), facts.st_mtime_ns), data)


def _facts(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    for path in folder.rglob("*"):
        if path.is_file():
            facts = path.stat()
            yield path.relative_to(folder), (facts.st_size, facts.st_mtime_ns)
