"""Provenance: the machine, versions and command line behind a run."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from .._version import __version__
from . import system

#: Packages whose version can change a figure or a time.
PACKAGES = ("numpy", "scipy", "numba", "pandas", "torch", "open3d", "constriction", "DracoPy", "bjontegaard")


def utc_now() -> str:
    """The time in UTC, ISO 8601, seconds."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def collect(argv: list[str] | None = None) -> dict[str, Any]:
    """What a reader needs to judge or repeat a run; plain values."""
    memory_gb = system.total_memory_gb()
    return {
        "pccbench": __version__,
        "started_at": utc_now(),
        "command": shlex.join(argv if argv is not None else [Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: _package_version(name) for name in PACKAGES},
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(system.usable_cores()),
        "memory_gb": None if memory_gb is None else round(memory_gb, 1),
        "load_1min": system.load_1min(),
        **git_state(Path(__file__).resolve().parent.parent),
    }


def _package_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """The processor's own name, else the architecture."""
    if sys.platform == "darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string")
        return name or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.machine()


def git_state(folder: Path) -> dict[str, Any]:
    """Commit of the source tree and whether it was clean; None where the package is no checkout."""
    if not (folder / ".git").exists():
        return {"git_commit": None, "git_clean": None}

    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    status = _output("git", "-C", str(folder), "status", "--porcelain")
    return {"git_commit": commit, "git_clean": None if status is None else status == ""}


def _output(*command: str) -> str | None:
    """What a program prints; None where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
