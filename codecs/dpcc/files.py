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


def model_path(folder: Path) -> Path:
    """File of the model."""
    return folder / "model.safetensors"


@functools.cache
def weights_sha256(folder: Path) -> str:
    """Hash of the file of the model."""
    return hashlib.sha256(model_path(folder).read_bytes()).hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """How the weights were made; empty when nobody wrote it down."""
    path = folder / RECORD
    if not path.exists():
        return {}
    record: dict[str, Any] = json.loads(path.read_text())
    return record
