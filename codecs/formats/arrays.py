"""Arrays: clouds in npy and npz files."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..errors import CloudError
from .table import Table

_TRIPLES = {"normals": ("nx", "ny", "nz"), "colors": ("red", "green", "blue")}
#: Deflate grows no stream by more than about 1032.
_MAX_GROWTH = 1100


def read_npy(data: bytes) -> Table:
    """A cloud from one array: (n, 3), (n, 4) with intensity, or a structured array with x, y, z.

    Raises:
        CloudError: not a npy file, or an array of another shape or type.
    """
    return Table(_columns(_read_array(io.BytesIO(data), len(data))))


def read_npz(data: bytes) -> Table:
    """A cloud from named arrays: `points` (or the only array), and `normals`, `colors`, `bit_depth`, others.

    Raises:
        CloudError: not a npz file, no points, or arrays of other shapes or types.
    """
    arrays = read_archive(data)
    points = arrays.pop("points", None)
    if points is None and len(arrays) == 1:
        points = arrays.popitem()[1]
    if points is None:
        raise CloudError(f"expected an array named points, got {', '.join(sorted(arrays)) or 'no arrays'}")
    columns = _columns(points)
    depth = arrays.pop("bit_depth", None)
    for name, array in arrays.items():
        if name in _TRIPLES and array.ndim == 2 and array.shape[1] == 3:
            columns.update({part: array[:, axis] for axis, part in enumerate(_TRIPLES[name])})
        elif array.ndim == 1 and name not in columns:
            columns[name] = array
        else:
            raise CloudError(f"the array {name} has shape {array.shape}, expected one row a point")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise CloudError(f"arrays of different lengths: {lengths}")
    return Table(columns, _depth(depth))


def read_archive(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a npz file, by name; nothing is allocated from a length that the file merely claims.

    Raises:
        CloudError: not a npz file, or damaged.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                if entry.file_size > _MAX_GROWTH * max(entry.compress_size, 1) + 1024:
                    raise CloudError(f"{entry.filename} claims {entry.file_size:,} bytes: damaged archive")
                with archive.open(entry) as stream:
                    arrays[entry.filename.removesuffix(".npy")] = _read_array(stream, entry.file_size)
    except CloudError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        # zipfile lets out all of these on damaged archives; NotImplementedError is a RuntimeError.
        raise CloudError(f"not a sound npz file: {_short(error)}") from None
    return arrays


def _depth(array: npt.NDArray[Any] | None) -> int | None:
    if array is None or array.size != 1 or array.dtype.kind not in "iu":
        return None
    depth = int(array.reshape(-1)[0])
    return depth if 1 <= depth <= 21 else None


def _columns(array: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    if array.dtype.names:
        columns = {name: array[name].reshape(-1) for name in array.dtype.names if array[name].ndim == array.ndim}
    elif array.ndim == 2 and array.shape[1] in (3, 4):
        columns = {name: array[:, axis] for axis, name in enumerate(("x", "y", "z", "intensity")[: array.shape[1]])}
    else:
        raise CloudError(
            f"expected an array (n, 3), (n, 4) with intensity, or fields x, y, z; got shape {array.shape}"
        )
    kinds = {name: column.dtype for name, column in columns.items() if column.dtype.kind not in "iuf"}
    if kinds:
        raise CloudError(f"expected real numbers, got {', '.join(f'{k}: {v}' for k, v in kinds.items())}")
    return columns


def _read_array(stream: IO[bytes], n_bytes: int) -> npt.NDArray[Any]:
    """One array of a npy stream of `n_bytes`; pickled objects are refused."""
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise CloudError(f"npy format version {version}, expected 1.0 or 2.0")
    except CloudError:
        raise
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        # numpy evaluates the header as a Python literal, and lets out what that raises.
        raise CloudError(f"not a sound npy file: {_short(error)}") from None
    if dtype.subdtype is not None:
        raise CloudError(f"expected real numbers, got {dtype}")
    if dtype.hasobject:
        raise CloudError("the array holds Python objects, expected numbers")
    expected = math.prod(shape) * dtype.itemsize
    if max(expected, *shape, 0) > n_bytes or min(shape, default=0) < 0:
        raise CloudError(f"truncated: the header promises an array {shape} ({expected:,} bytes), {n_bytes:,} came")
    body = stream.read(expected)
    if len(body) < expected:
        raise CloudError(f"truncated: the header promises {expected:,} bytes, {len(body):,} came")
    flat = np.frombuffer(body, dtype) if dtype.itemsize else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _short(error: BaseException) -> str:
    """First line of what a library says, without the bytes of the file that it may quote."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 100 else f"{line[:100]}..."


def format_npy(cloud: PointCloud) -> bytes:
    """A npy file of the points alone."""
    stream = io.BytesIO()
    np.save(stream, cloud.points, allow_pickle=False)
    return stream.getvalue()


def format_npz(cloud: PointCloud) -> bytes:
    """A compressed npz file of all that the cloud holds."""
    arrays: dict[str, npt.NDArray[Any]] = dict(cloud.attributes)
    arrays["points"] = cloud.points
    if cloud.normals is not None:
        arrays["normals"] = cloud.normals
    if cloud.colors is not None:
        arrays["colors"] = cloud.colors
    if cloud.bit_depth is not None:
        arrays["bit_depth"] = np.array(cloud.bit_depth)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
