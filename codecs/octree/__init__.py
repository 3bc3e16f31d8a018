"""Octree: our own lossless and lossy octree occupancy codec, with context mixing.

`OctreeCodec` is the codec; `pccbench.codecs.octree.occupancy` is the plain coder of voxel sets that other codecs use
as their base layer.
"""

from .codec import OctreeCodec

__all__ = ["OctreeCodec"]
