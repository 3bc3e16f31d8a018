"""Table: the named columns that a file holds, before they become a cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..errors import CloudError
from .grid import BitDepth, on_grid

_COORDINATES = ("x", "y", "z")
_NORMALS = ("nx", "ny", "nz")
_COLORS = ("red", "green", "blue")


@dataclass(frozen=True)
class Table:
    """What a reader found.

    Attributes:
        columns: (n,) arrays by name; the reader names normals nx ny nz and colours red green blue.
        bit_depth: depth that the file itself states, or None.
        left_out: what the file holds besides and a cloud cannot, each in a few words.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    bit_depth: int | None = None
    left_out: tuple[str, ...] = ()

    def cloud(self, bit_depth: BitDepth, hint: int | None, declared_peak: float | None) -> PointCloud:
        """The cloud of the table; see `on_grid` for the depth.

        Raises:
            CloudError: no x, y or z, no points, a coordinate that is NaN, or not the depth asked for.
        """
        columns = dict(self.columns)
        missing = [name for name in _COORDINATES if name not in columns]
        if missing:
            known = [name[:40] for name in columns][:12]
            raise CloudError(f"no {', '.join(missing)} among its properties ({', '.join(known) or 'none'})")
        points = together([columns.pop(name) for name in _COORDINATES])
        if not len(points):
            raise CloudError("empty cloud: it holds no points")
        points, depth = on_grid(points, bit_depth, self.bit_depth or hint)
        normals = colors = None
        if all(name in columns for name in _NORMALS):
            normals = together([columns.pop(name) for name in _NORMALS], np.float32)
        if all(name in columns and _is_byte(columns[name]) for name in _COLORS):
            colors = together([columns.pop(name) for name in _COLORS], np.uint8)
        native = {name: _native(column) for name, column in columns.items()}
        return PointCloud(points, depth, normals, colors, native, declared_peak)


def together(columns: list[npt.NDArray[Any]], dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """(n, k) array of k columns, in their common type unless another is asked for, native byte order."""
    kind = np.result_type(*columns).newbyteorder("=") if dtype is None else np.dtype(dtype)
    out = np.empty((len(columns[0]), len(columns)), dtype=kind)
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and too large: for the caller to count
        for axis, column in enumerate(columns):
            out[:, axis] = np.ascontiguousarray(column)  # numpy copies from strides to strides ten times as slowly
    return out


def _native(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("="))


def _is_byte(column: npt.NDArray[Any]) -> bool:
    """Whether a colour column is 0..255 in integers; others (float, 16 bits) stay attributes as they are."""
    if column.dtype.kind not in "iu":
        return False
    return column.dtype == np.uint8 or not len(column) or bool(column.min() >= 0 and column.max() <= 255)
