"""Memory: the peak of this process while something runs."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")
_MEGABYTE = 1e6


class MemoryProfiler:
    """Context manager that measures the resident memory of the whole process, native libraries included.

        with MemoryProfiler() as memory:
            codec.encode(cloud, rate)
        memory.peak_mb, memory.added_mb

    A thread looks every few milliseconds: the kernel's own high-water mark would include what was before.

    Attributes:
        peak_mb: largest resident memory seen inside, in 10**6 bytes.
        added_mb: the same less what there was on entry.
    """

    def __init__(self, interval_s: float = 0.005) -> None:
        self.peak_mb = 0.0
        self.added_mb = 0.0
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._start_mb = 0.0

    def __enter__(self) -> MemoryProfiler:
        """Start to look."""
        self._stop.clear()
        self._start_mb = self.peak_mb = resident_mb()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and settle the figures."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._look()
        self.added_mb = self.peak_mb - self._start_mb

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._look()

    def _look(self) -> None:
        self.peak_mb = max(self.peak_mb, resident_mb())


def resident_mb() -> float:
    """Resident memory of this process now, in 10**6 bytes; where there is no /proc, its high-water mark."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / _MEGABYTE
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) / _MEGABYTE  # bytes on macOS, else KiB
