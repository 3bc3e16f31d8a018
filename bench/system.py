"""System: what pccbench asks of the operating system, on Linux and macOS, where the two differ or may lack it.

Linux has everything.  macOS pins no process to cores, has no /proc and does not tell free memory.  Windows is
refused, for workers need sessions, signals, file locks and inherited pipes as POSIX has them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from .errors import UsageError


def require_supported() -> None:
    """Refuse a system that pccbench does not run on.

    Raises:
        UsageError: it is Windows.
    """
    if sys.platform in ("win32", "cygwin"):
        raise UsageError("pccbench runs on Linux and macOS; on Windows use WSL (wsl --install)")


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may use; all where the system does not say (macOS)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity is not None else list(range(os.cpu_count() or 1))


def can_pin() -> bool:
    """Whether a process can be kept to cores of its own."""
    return hasattr(os, "sched_setaffinity")


def pin(pid: int, cores: Iterable[int]) -> None:
    """Keep a process to some cores, where the system can (see `can_pin`)."""
    if can_pin():
        os.sched_setaffinity(pid, cores)


def lock_alone(file: IO[bytes] | IO[str]) -> bool:
    """Lock an open file until it is closed; False when another process holds the lock.

    Raises:
        OSError: the file system has no locks.
    """
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def total_memory_gb() -> float | None:
    """Memory of the machine in GiB; None where the system does not say."""
    return _pages_gb("SC_PHYS_PAGES")


def free_memory_gb() -> float | None:
    """Memory that nobody uses now in GiB; None where the system does not say (macOS)."""
    return _pages_gb("SC_AVPHYS_PAGES")


def _pages_gb(name: str) -> float | None:
    """A count of memory pages that `sysconf` knows, in GiB."""
    try:
        pages, size = os.sysconf(name), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no sysconf, or it has no such name
        return None
    return pages * size / 2**30 if pages > 0 and size > 0 else None


def load_1min() -> float | None:
    """Processes that ran or waited to run over the last minute; None where the system does not say."""
    with contextlib.suppress(AttributeError, OSError):
        return os.getloadavg()[0]
    return None


def busy_s(cores: Iterable[int] | None) -> float | None:
    """Seconds that some cores (None for those of this process) have worked since the machine started, for anybody.

    Time that a virtual machine's host took away counts.  None where there is no /proc.
    """
    wanted = {f"cpu{number}" for number in (usable_cores() if cores is None else cores)}
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    total = 0
    for line in lines:
        name, *values = line.split()
        if name in wanted:
            user, nice, kernel, _idle, _io, irq, soft_irq, steal = map(int, values[:8])
            total += user + nice + kernel + irq + soft_irq + steal
    return total / ticks


class ThreadClock:
    """Tells how long the thread that makes it was asleep: neither running nor waiting for a core.

    That is time of sleeping, of input and output, and of waiting for other threads and processes.  It does not grow
    when other programs take the cores.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        with contextlib.suppress(OSError):  # the file is opened here and now: a sealed process opens no more
            self._file = Path("/proc/thread-self/schedstat").open("rb", buffering=0)  # noqa: SIM115  # for life

    def awake_s(self) -> float | None:
        """Seconds since its start that the thread ran or waited for a core; None where the system does not say."""
        if self._file is None:
            return None
        try:
            waited_ns = int(os.pread(self._file.fileno(), 200, 0).split()[1])
        except (OSError, IndexError, ValueError):
            return None
        return time.thread_time() + waited_ns / 1e9


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of the children that it has waited for; 0 where it has ended or none are told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0
