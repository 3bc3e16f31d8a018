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
from dataclasses import dataclass
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


def limit_data_memory(size_bytes: int) -> None:
    """Refuse this process more memory for its data, where the system can (macOS does not); never more than before."""
    import resource

    with contextlib.suppress(ValueError, OSError):
        highest = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = size_bytes if highest == resource.RLIM_INFINITY else min(size_bytes, highest)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


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


@dataclass(frozen=True)
class Usage:
    """What a process and its cores have done until now; None where the system does not say.

    Attributes:
        at_s: the time, monotonic.
        busy_s: seconds that its cores have worked since the machine started, for anybody.
        cpu_s: CPU seconds of the process, of the processes that it started and of those that it has waited for.
        ran_s, waited_s: seconds that its first thread ran, and waited for a core.
    """

    at_s: float
    busy_s: float | None
    cpu_s: float
    ran_s: float | None
    waited_s: float | None

    @classmethod
    def of(cls, pid: int, children: Iterable[int], cores: Iterable[int] | None) -> Usage:
        """The usage of a process with living children on some cores, None for those of this process."""
        own = _cpu_s(pid) + sum(map(_cpu_s, children))
        ran_s, waited_s = _scheduled_s(pid)
        return cls(time.monotonic(), _busy_s(cores), own, ran_s, waited_s)

    def others_load(self, before: Usage) -> float | None:
        """Cores' worth of work that others did on its cores since `before`."""
        if self.busy_s is None or before.busy_s is None or self.at_s <= before.at_s:
            return None
        theirs = self.busy_s - before.busy_s - (self.cpu_s - before.cpu_s)
        return round(max(0.0, theirs) / (self.at_s - before.at_s), 2)

    def asleep_s(self, before: Usage) -> float | None:
        """Seconds since `before` in which it neither ran nor waited for a core, but slept or waited for files.

        Other programs do not make that longer.  None where its other threads or processes worked, too: it may have
        slept while these waited for a core.
        """
        if self.ran_s is None or before.ran_s is None or self.waited_s is None or before.waited_s is None:
            return None
        past_s, ran_s = self.at_s - before.at_s, self.ran_s - before.ran_s
        if self.cpu_s - before.cpu_s - ran_s > max(_OTHER_THREADS_SHARE * past_s, _TICK_S):
            return None
        return max(0.0, past_s - ran_s - (self.waited_s - before.waited_s))


#: A process worked in one thread when the others worked less than this share of the time.
_OTHER_THREADS_SHARE = 0.01
#: CPU seconds are counted in ticks of 10 ms, those of user and kernel apart.
_TICK_S = 0.02


def _busy_s(cores: Iterable[int] | None) -> float | None:
    """Seconds that cores have worked; time that a virtual machine's host took away counts."""
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


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and of the children that it has waited for; 0 where it has ended or none are told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0


def _scheduled_s(pid: int) -> tuple[float, float] | tuple[None, None]:
    """Seconds that the first thread of a process ran and waited for a core."""
    try:
        ran_ns, waited_ns = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[:2]
        return int(ran_ns) / 1e9, int(waited_ns) / 1e9
    except (OSError, ValueError):
        return None, None
