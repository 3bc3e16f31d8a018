"""Files of point clouds and meshes: PLY, PCD, KITTI `.bin`, npy, npz; OFF and PLY meshes."""

from .files import READABLE, WRITABLE, read_cloud, read_mesh, write_cloud
from .mesh import Mesh

__all__ = ["READABLE", "WRITABLE", "Mesh", "read_cloud", "read_mesh", "write_cloud"]
