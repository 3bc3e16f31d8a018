"""Files: where weights lie, and what can be said of them without loading torch."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ..errors import CodecUnavailableError
from ..weights import file_sha256, read_metadata

#: Where the weights that ship with the package lie.
SHIPPED = Path(__file__).parent / "weights"


def model_path(folder: Path) -> Path:
    """File of the model."""
    return folder / "model.safetensors"


@functools.cache
def weights_sha256(folder: Path) -> str:
    """Hash of the file of the model."""
    return file_sha256(model_path(folder))


def operating_points(folder: Path) -> list[dict[str, Any]]:
    """Keys of `config.OperatingPoint` of each operating point of the model, low rate to high.

    Raises:
        CodecUnavailableError: the file is damaged, or no model of this codec.
    """
    path = model_path(folder)
    (config,) = read_metadata(path, "config")
    try:
        return [{"grid_share": float(point["grid_share"]), **point} for point in config["points"]]
    except (KeyError, TypeError, ValueError):
        raise CodecUnavailableError(f"{path}: expected a model of dpcc, found other weights") from None
