"""Files: where the weights lie, and what can be said of them without loading torch."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from ..deepcompress.files import RECORD, file_sha256

#: Where the weights that ship with the package lie.
SHIPPED = Path(__file__).parent / "weights"


def weights_path(folder: Path) -> Path:
    """The one file of weights: surface networks and occupancy contexts."""
    return folder / "sparse.safetensors"


@functools.cache
def weights_sha256(folder: Path) -> str:
    """Hash of the weights."""
    return file_sha256(weights_path(folder))


def read_record(folder: Path) -> dict[str, Any]:
    """How the weights were made; empty when nobody wrote it down."""
    path = folder / RECORD
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return record
