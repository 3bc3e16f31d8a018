"""Files: where weights lie, and what can be said of them without loading torch."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

#: Where the weights that ship with the package lie.
SHIPPED = Path(__file__).parent / "weights"
RECORD = "record.json"


def transform_path(folder: Path) -> Path:
    """File of the transforms."""
    return folder / "transform.safetensors"


def upsampler_path(folder: Path) -> Path:
    """File of the upsampler."""
    return folder / "upsampler.safetensors"


def prior_path(folder: Path, name: str) -> Path:
    """File of an entropy model."""
    return folder / f"{name}.safetensors"


def file_sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def weights_sha256(folder: Path, name: str) -> str:
    """Hash of the files that a codec uses."""
    parts = [file_sha256(path(folder)) for path in (transform_path, upsampler_path)]
    parts.append(file_sha256(prior_path(folder, name)))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """How the weights were made; empty when nobody wrote it down."""
    path = folder / RECORD
    if not path.exists():
        return {}
    record: dict[str, Any] = json.loads(path.read_text())
    return record
