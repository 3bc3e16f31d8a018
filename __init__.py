"""pccbench: a benchmark for point cloud geometry codecs."""

from ._version import __version__

__all__ = ["__version__"]
