"""Files: which reader reads what, and the two calls that everybody uses."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..cloud import PointCloud
from ..errors import CloudError
from .arrays import format_npy, format_npz, read_npy, read_npz
from .grid import BitDepth, named_bit_depth
from .kitti import format_kitti, read_kitti
from .mesh import Mesh
from .obj import is_obj, read_obj
from .off import is_off, read_off
from .pcd import format_pcd, read_pcd
from .ply import Encoding, format_ply, read_ply, read_ply_mesh
from .table import Table

_READERS: dict[str, Callable[[bytes], Table]] = {
    ".ply": read_ply,
    ".pcd": read_pcd,
    ".bin": read_kitti,
    ".npy": read_npy,
    ".npz": read_npz,
}
#: Extensions that `read_cloud` and `write_cloud` know.
READABLE = tuple(_READERS)
WRITABLE = (".ply", ".pcd", ".bin", ".npy", ".npz")


def read_cloud(
    path: str | os.PathLike[str], *, bit_depth: BitDepth = "auto", declared_peak: float | None = None
) -> PointCloud:
    """Read a cloud from a PLY, PCD, KITTI `.bin`, npy or npz file.

    The content decides where it starts with a known mark (so a PLY under another name is read), else the
    extension.  With "auto" the cloud is voxelised when all coordinates are integers in [0, 2**21); its depth
    is what the file or its name (`..._vox10_...`) states, or the smallest that holds them.

    Args:
        path: the file.
        bit_depth: depth that the cloud must have, None for a real-valued cloud, or "auto".
        declared_peak: peak of the PSNR that the data set states; see `PointCloud`.

    Raises:
        CloudError: the file cannot be read or does not hold such a cloud; the text names the file and says
            what was expected and what came.
    """
    path = Path(path)
    try:
        data = _read_bytes(path)
        return _reader(path, data)(data).cloud(bit_depth, named_bit_depth(path.name), declared_peak)
    except CloudError as error:
        raise CloudError(f"{path}: {error}") from None


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read a mesh from an OFF, PLY or OBJ file, polygons split into triangles.

    Raises:
        CloudError: the file cannot be read or holds no sound mesh; the text names the file.
    """
    path = Path(path)
    try:
        data = _read_bytes(path)
        if is_off(data):
            return read_off(data)
        if data.startswith(b"ply"):
            return read_ply_mesh(data)
        if is_obj(data):
            return read_obj(data)
        raise CloudError(f"expected a mesh in OFF, PLY or OBJ, it starts with {data[:12]!r}")
    except CloudError as error:
        raise CloudError(f"{path}: {error}") from None


def write_cloud(
    cloud: PointCloud, path: str | os.PathLike[str], *, encoding: Encoding = "binary_little_endian"
) -> None:
    """Write a cloud in the format that the extension names; the file appears whole or not at all.

    Args:
        cloud: what to write.
        path: the file, which is replaced if there is one.
        encoding: of a PLY file; without effect on the others.

    Raises:
        CloudError: an unknown extension, a cloud that the format cannot hold, a file that cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[[PointCloud], bytes]] = {
        ".ply": lambda cloud: format_ply(cloud, encoding),
        ".pcd": format_pcd,
        ".bin": format_kitti,
        ".npy": format_npy,
        ".npz": format_npz,
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise CloudError(f"{path}: unsupported extension {path.suffix!r}, clouds are written as {' '.join(WRITABLE)}")
    try:
        _write_bytes(path, writer(cloud))
    except CloudError as error:
        raise CloudError(f"{path}: {error}") from error.__cause__


def _reader(path: Path, data: bytes) -> Callable[[bytes], Table]:
    if not data:
        raise CloudError("the file is empty")
    if data.startswith((b"ply\n", b"ply\r", b"ply ")):
        return read_ply
    if data.startswith(b"# .PCD"):
        return read_pcd
    if data.startswith(b"\x93NUMPY"):
        return read_npy
    suffix = path.suffix.lower()
    if suffix in _READERS:
        return _READERS[suffix]
    if data.startswith(b"PK\x03\x04"):
        return read_npz
    if is_off(data):
        raise CloudError("a mesh, expected a cloud: sample it first (the data set modelnet40 does)")
    raise CloudError(f"unsupported extension {suffix!r}, clouds are read from {' '.join(READABLE)}")


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise CloudError("a folder, expected a file")
        if path.exists() and not path.is_file():
            raise CloudError("a device or pipe, expected a file")  # may never end
        return path.read_bytes()
    except FileNotFoundError:
        raise CloudError("no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, CloudError):
            raise
        raise CloudError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _write_bytes(path: Path, data: bytes) -> None:
    partial: str | None = None
    try:
        if path.is_dir():
            raise CloudError("a folder, expected a file")
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(partial, 0o666 & ~mask)  # noqa: PTH101
        os.replace(partial, path)  # noqa: PTH105
        partial = None
    except OSError as error:
        raise CloudError(f"cannot be written: {error.strerror or error}") from error
    finally:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
