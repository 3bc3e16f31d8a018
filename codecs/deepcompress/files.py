"""Files: where weights lie, and what can be said of them without loading torch."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..weights import file_sha256

#: Where the weights that ship with the package lie.
SHIPPED = Path(__file__).parent / "weights"


def transform_path(folder: Path) -> Path:
    """File of the transforms."""
    return folder / "transform.safetensors"


def upsampler_path(folder: Path) -> Path:
    """File of the upsampler."""
    return folder / "upsampler.safetensors"


def prior_path(folder: Path, name: str) -> Path:
    """File of an entropy model."""
    return folder / f"{name}.safetensors"


@functools.cache
def weights_sha256(folder: Path, name: str) -> str:
    """Hash of the files that a codec uses."""
    parts = [file_sha256(path(folder)) for path in (transform_path, upsampler_path)]
    parts.append(file_sha256(prior_path(folder, name)))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def entropy_models(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of these entropy models that a folder has."""
    return [name for name in names if prior_path(folder, name).exists()]
