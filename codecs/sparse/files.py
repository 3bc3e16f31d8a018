"""Files: where the weights lie, and what can be said of them without loading torch."""

from __future__ import annotations

import functools
from pathlib import Path

from ..errors import CodecUnavailableError
from ..weights import file_sha256, read_metadata

#: Where the weights that ship with the package lie.
SHIPPED = Path(__file__).parent / "weights"


def weights_path(folder: Path) -> Path:
    """The one file of weights: surface networks and occupancy contexts."""
    return folder / "sparse.safetensors"


@functools.cache
def weights_sha256(folder: Path) -> str:
    """Hash of the weights."""
    return file_sha256(weights_path(folder))


def factors(folder: Path) -> tuple[int, ...]:
    """All factors of the surface networks, rising.

    Raises:
        CodecUnavailableError: the file is damaged, or none of weights of this codec.
    """
    path = weights_path(folder)
    (surfaces,) = read_metadata(path, "surfaces")
    try:
        return tuple(sorted(int(factor) for surface in surfaces for factor in surface["factors"]))
    except (KeyError, TypeError, ValueError):
        raise CodecUnavailableError(f"{path}: expected weights of sparse, found others") from None


def operating_points(folder: Path) -> int:
    """Of the latents; 0 where there are none.

    Raises:
        CodecUnavailableError: the file is damaged, or none of weights of this codec.
    """
    path = weights_path(folder)
    (latents,) = read_metadata(path, "latents")
    if latents is None:
        return 0
    try:
        return len(latents["trade_offs"])
    except (KeyError, TypeError):
        raise CodecUnavailableError(f"{path}: expected weights of sparse, found others") from None
