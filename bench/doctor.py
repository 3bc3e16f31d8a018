"""Doctor: what of this machine a run needs, and what to do about what is missing."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..codecs import registry
from . import seal, system
from .datasets import list_datasets
from .provenance import cpu_model

#: Packages that nothing works without, and those that single codecs or functions need.
ESSENTIAL = ("numpy", "scipy", "numba", "pandas", "matplotlib", "joblib", "pydantic", "bjontegaard")
OPTIONAL = {
    "open3d": "without it scipy estimates normals, and rows say so (it needs Debian's libusb-1.0-0)",
    "DracoPy": "the draco codec",
    "torch": "the learned codecs",
    "distributed": "runs over several machines",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    text: str
    is_good: bool = True
    is_essential: bool = False

    @property
    def mark(self) -> str:
        """`ok`, `MISSING` where a run cannot do without, else `-`."""
        if self.is_good:
            return "ok"
        return "MISSING" if self.is_essential else "-"


def examine(data_root: Path | None, codec_modules: tuple[Path, ...], tmc3: Path | None) -> list[Finding]:
    """Look at packages, codecs and their tools, data sets, cores, memory and disk."""
    findings = [_package(name, "", is_essential=True) for name in ESSENTIAL]
    findings += [_package(name, why, is_essential=False) for name, why in OPTIONAL.items()]
    for spec in registry.find(("all",), modules=codec_modules, tmc3=tmc3):
        reason = registry.unavailable_reason(spec)
        findings.append(Finding(f"codec {spec.name}", reason or "available", not reason))
    for name, found, text in list_datasets(data_root):
        findings.append(Finding(f"data set {name}", text, found == "yes"))
    return findings + _machine()


def _package(name: str, why: str, *, is_essential: bool) -> Finding:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        text = f"{' '.join(str(error).split())}: pip install {name}" + (f"; {why}" if why else "")
        return Finding(f"package {name}", text, False, is_essential)
    return Finding(f"package {name}", str(getattr(module, "__version__", "installed")), True, is_essential)


def _machine() -> list[Finding]:
    usable, load = len(system.usable_cores()), system.load_1min()
    busy = load is not None and load > usable / 2
    load_text = "not known" if load is None else f"{load:.1f}"
    free_gb = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    memory_gb = system.free_memory_gb()
    memory_text = "not known on this system" if memory_gb is None else f"{memory_gb:.1f} GiB"
    findings = [
        Finding("cores", f"{usable} usable, {cpu_model()}"),
        Finding("load", load_text + (": other programs will disturb the timings" if busy else ""), not busy),
        Finding("seal", *seal.finding()),
        Finding("free memory", memory_text, memory_gb is None or memory_gb > 2),
        Finding("free disk", f"{free_gb:.1f} GiB in {tempfile.gettempdir()}", free_gb > 1),
    ]
    if not system.can_pin():
        text = "jobs cannot be kept to cores of their own here: times of --jobs N share cores, and rows say so"
        findings.append(Finding("pinning", text, False))
    return findings
