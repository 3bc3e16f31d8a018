"""Files of point clouds and meshes: PLY, PCD, headerless `.bin`, npy, npz; OFF and PLY meshes."""

from .files import READABLE, WRITABLE, read_cloud, read_mesh, write_cloud
from .mesh import Mesh
from .tree import CloudWarning, file_sha256, walk_files

__all__ = [
    "READABLE",
    "WRITABLE",
    "CloudWarning",
    "Mesh",
    "file_sha256",
    "read_cloud",
    "read_mesh",
    "walk_files",
    "write_cloud",
]
