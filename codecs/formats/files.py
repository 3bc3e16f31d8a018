"""Files: which reader reads what, and the two calls that everybody uses."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from ..cloud import PointCloud
from ..errors import CloudError
from .arrays import format_npy, format_npz, read_npy, read_npz
from .grid import BitDepth, named_bit_depth
from .mesh import Mesh
from .obj import is_obj, read_obj
from .off import is_off, read_off
from .pcd import format_pcd, read_pcd
from .ply import format_ply, read_ply, read_ply_mesh
from .ply_header import Encoding
from .sweep import format_kitti, read_sweep
from .table import Table
from .tree import CloudWarning, printable, read_bytes

_READERS: dict[str, Callable[[bytes], Table]] = {
    ".ply": read_ply,
    ".pcd": read_pcd,
    ".bin": read_sweep,
    ".npy": read_npy,
    ".npz": read_npz,
}
#: Extensions that `read_cloud` and `write_cloud` know.
READABLE = tuple(_READERS)
WRITABLE = (".ply", ".pcd", ".bin", ".npy", ".npz")
#: Characters of an error's text, without the path; a damaged file may put megabytes into it.
_MAX_TEXT = 400


def read_cloud(
    path: str | os.PathLike[str],
    *,
    bit_depth: BitDepth = "auto",
    declared_peak: float | None = None,
    columns: int | None = None,
) -> PointCloud:
    """Read a cloud from a PLY, PCD, npy or npz file, or from a headerless `.bin` of KITTI or nuScenes.

    The content decides where it starts with a known mark (so a PLY under another name is read), else the
    extension.  With "auto" the cloud is voxelised when all coordinates are integers in [0, 2**21); its depth
    is what the file or its name (`..._vox10_...`) states, or the smallest that holds them.

    Args:
        path: the file.
        bit_depth: depth that the cloud must have, None for a real-valued cloud, or "auto".
        declared_peak: peak of the PSNR that the data set states; see `PointCloud`.
        columns: float32 values of a row of a headerless `.bin`; None for what its name and values say (see `sweep`).

    What a file holds besides the cloud is named by a `CloudWarning`.

    Raises:
        CloudError: the file cannot be read or does not hold such a cloud; the text names the file and says
            what was expected and what came.
    """
    path = Path(path)
    try:
        data = read_bytes(path)
        reader = _reader(path, data)
        table = read_sweep(data, columns, path.name) if reader is read_sweep else reader(data)
        del data  # columns keep what they need of it
        cloud = table.cloud(bit_depth, named_bit_depth(path.name), declared_peak)
    except CloudError as error:
        raise _named(path, error) from None
    except MemoryError:
        raise CloudError(f"{path}: needs more memory than there is") from None
    if table.left_out:
        some = ", ".join(table.left_out[:8])
        warnings.warn(f"{path}: no part of the cloud, left out: {some[:_MAX_TEXT]}", CloudWarning, stacklevel=2)
    return cloud


def _named(path: Path, error: CloudError) -> CloudError:
    """The error with the file's name, in one line that a terminal and a table can take."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
    return CloudError(printable(f"{path}: {text}"))


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read a mesh from an OFF, PLY or OBJ file, polygons split into triangles.

    Raises:
        CloudError: the file cannot be read or holds no sound mesh; the text names the file.
    """
    path = Path(path)
    try:
        data = read_bytes(path)
        if is_off(data):
            return read_off(data)
        if data.startswith(b"ply"):
            return read_ply_mesh(data)
        if is_obj(data):
            return read_obj(data)
        raise CloudError(f"expected a mesh in OFF, PLY or OBJ, it starts with {data[:12]!r}")
    except CloudError as error:
        raise _named(path, error) from None
    except MemoryError:
        raise CloudError(f"{path}: needs more memory than there is") from None


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
