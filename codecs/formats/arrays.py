"""Arrays: clouds in npy and npz files."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..errors import CloudError
from .bounds import refuse_columns, refuse_growth
from .table import Table

#: What programs call the points of an archive, its normals and its colours.
POINT_NAMES = (
    "points", "xyz", "pts", "positions", "position", "pos", "coords", "coordinates", "coord", "vertices", "verts",
    "point_cloud", "pointcloud", "pointclouds", "cloud", "pcd", "pc", "data", "arr_0",
)  # fmt: skip
_TRIPLES = {
    **dict.fromkeys(("normals", "normal"), ("nx", "ny", "nz")),
    **dict.fromkeys(("colors", "colours", "color", "colour", "rgb"), ("red", "green", "blue")),
}
_STORED_OR_DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: What zipfile lets out on damaged archives; NotImplementedError is a RuntimeError.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, OSError, LookupError,
    OverflowError, MemoryError,
)  # fmt: skip


def read_npy(data: bytes) -> Table:
    """A cloud from one array: (n, 3), (n, 4) with intensity, or a structured array with x, y, z.

    Raises:
        CloudError: not a npy file, or an array of another shape or type.
    """
    stream = io.BytesIO(data)
    return Table(_columns(_read_values(stream, _read_shape(stream), len(data))))


def read_npz(data: bytes) -> Table:
    """A cloud from the arrays of an archive.

    The points are the array with one of `POINT_NAMES`, or the only array there is; arrays named as normals and
    colours are these, further arrays of one number a point are attributes.  What is neither is left out and named:
    a scale, a category, features of many values a point, objects of Python.

    Raises:
        CloudError: not a npz file, no points or two arrays that may be, or normals or colours of another number.
    """
    with _opened(data) as archive:
        shapes = archive.shapes()
        name = _points_name(shapes)
        n_points = shapes[name].n_rows
        chosen, left_out = [name], []
        for other, shape in shapes.items():
            if other == name:
                continue
            if other in _TRIPLES and len(shape.shape) == 2 and shape.shape[1] == 3:
                if shape.shape[0] != n_points:
                    raise CloudError(f"arrays of different lengths: {shape.shape[0]:,} {other}, {n_points:,} {name}")
                chosen.append(other)
            elif shape.is_numeric and shape.shape in ((n_points,), (n_points, 1)):
                chosen.append(other)
            elif other != "bit_depth":
                left_out.append(f"{other[:40]} {shape}")
        depth = shapes.get("bit_depth")
        arrays = archive.read(chosen if depth is None or not depth.is_single else [*chosen, "bit_depth"])
    columns = _columns(arrays.pop(name))
    stated = _depth(arrays.pop("bit_depth", None))
    for other, array in arrays.items():
        if other in _TRIPLES and array.ndim == 2 and array.shape[1] == 3:
            columns.update({part: array[:, axis] for axis, part in enumerate(_TRIPLES[other])})
        else:
            columns.setdefault(other, array.reshape(-1))
    return Table(columns, stated, tuple(left_out))


def _points_name(shapes: Mapping[str, _Shape]) -> str:
    """The array that holds the points."""
    named = [name for name in shapes if name.lower() in POINT_NAMES and shapes[name].may_be_points]
    if len(named) == 1:
        return named[0]
    if named:
        raise CloudError(
            f"several arrays may be the points: {', '.join(f'{name} {shapes[name]}' for name in named)}; "
            "expected one, named points"
        )
    if len(shapes) == 1 and not (shapes.keys() & _TRIPLES.keys()):
        return next(iter(shapes))
    listed = ", ".join(f"{name[:40]} {shape}" for name, shape in list(sorted(shapes.items()))[:8])
    raise CloudError(f"expected an array named points of 3 numbers a row, got {listed or 'no arrays'}")


@dataclass(frozen=True)
class _Shape:
    """What the header of an array says."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return str(self.shape) + (" of Python objects" if self.dtype.hasobject else "")

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def n_rows(self) -> int:
        return math.prod(self.shape) if self.dtype.names else (*self.shape, 0)[0]

    @property
    def is_numeric(self) -> bool:
        return self.dtype.kind in "iuf"

    @property
    def is_single(self) -> bool:
        return math.prod(self.shape) == 1 and self.dtype.kind in "iu"

    @property
    def may_be_points(self) -> bool:
        return bool(self.dtype.names) or (len(self.shape) == 2 and self.shape[1] >= 3)


class _Archive:
    """The arrays of a npz file, of which only those that are wanted are unpacked."""

    def __init__(self, archive: zipfile.ZipFile, n_bytes: int) -> None:
        self._archive, self._n_bytes = archive, n_bytes
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename:
                continue
            if name in self._entries:
                raise CloudError(f"two arrays are named {name[:40]!r}")
            if entry.compress_type not in _STORED_OR_DEFLATED:
                raise CloudError(f"{name[:40]!r} is compressed by method {entry.compress_type}, expected deflate")
            self._entries[name] = entry
        refuse_columns(len(self._entries))

    def shapes(self) -> dict[str, _Shape]:
        """What the arrays' headers say."""
        found = {}
        for name, entry in self._entries.items():
            with self._archive.open(entry) as stream:
                found[name] = _read_shape(stream)
        return found

    def read(self, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
        """The arrays of these names."""
        wanted = {name: self._entries[name] for name in names}
        refuse_growth(sum(entry.file_size for entry in wanted.values()), self._n_bytes)
        arrays = {}
        for name, entry in wanted.items():
            with self._archive.open(entry) as stream:
                arrays[name] = _read_values(stream, _read_shape(stream), entry.file_size)
        return arrays

    def names(self) -> list[str]:
        """Of all arrays."""
        return list(self._entries)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[_Archive]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield _Archive(archive, len(data))
    except CloudError:
        raise
    except _DAMAGE as error:
        raise CloudError(f"not a sound npz file: {_short(error)}") from None


def read_archive(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a npz file, by name; nothing is allocated from a length that the file merely claims.

    Raises:
        CloudError: not a npz file, or damaged.
    """
    with _opened(data) as archive:
        return archive.read(archive.names())


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


def _read_shape(stream: IO[bytes]) -> _Shape:
    """The header of a npy stream."""
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise CloudError(f"npy format version {version}, expected 1.0 or 2.0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the file was made by Python 2
            return _Shape(*readers[version](stream))
    except CloudError:
        raise
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        # numpy evaluates the header as a Python literal, and lets out what that raises.
        raise CloudError(f"not a sound npy file: {_short(error)}") from None


def _read_values(stream: IO[bytes], header: _Shape, n_bytes: int) -> npt.NDArray[Any]:
    """The array behind its header, in a stream of `n_bytes`; pickled objects are refused."""
    shape, dtype, expected = header.shape, header.dtype, header.n_bytes
    if dtype.subdtype is not None:
        raise CloudError(f"expected real numbers, got {dtype}")
    if dtype.hasobject:
        raise CloudError("the array holds Python objects, expected numbers")
    if max(expected, *shape, 0) > n_bytes or min(shape, default=0) < 0:
        raise CloudError(f"truncated: the header promises an array {header} ({expected:,} bytes), {n_bytes:,} came")
    body = stream.read(expected)
    if len(body) < expected:
        raise CloudError(f"truncated: the header promises {expected:,} bytes, {len(body):,} came")
    flat = np.frombuffer(body, dtype) if dtype.itemsize else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if header.is_fortran else "C")


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
