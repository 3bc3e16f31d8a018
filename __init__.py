"""pccbench: a benchmark for point cloud geometry codecs.

    import pccbench
    frame = pccbench.run(codecs=["octree", "draco"], datasets=["synthetic"], out="runs/mine")

Imports nothing heavy until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .bench.api import load_run, run
    from .codecs.base import Codec
    from .codecs.cloud import PointCloud
    from .codecs.registry import register_codec

__all__ = ["Codec", "PointCloud", "__version__", "load_run", "register_codec", "run"]

_HOMES = {
    "Codec": ".codecs.base",
    "PointCloud": ".codecs.cloud",
    "register_codec": ".codecs.registry",
    "run": ".bench.api",
    "load_run": ".bench.api",
}


def __getattr__(name: str) -> Any:
    """Import a name of the front door when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name], __name__), name)
