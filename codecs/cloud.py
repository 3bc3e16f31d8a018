"""PointCloud: the geometry that every codec and metric works on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from .errors import CloudError

#: The widest voxel grid that is supported, in bits a coordinate (three of them fit in 63 bits).
MAX_BIT_DEPTH = 21
_AXIS_MASK = (1 << MAX_BIT_DEPTH) - 1


@dataclass(frozen=True, eq=False)
class PointCloud:
    """An unordered set (or bag) of points with optional attributes.

    Attributes:
        points: (n, 3) coordinates, C-contiguous. int32 for voxelised clouds, all in [0, 2**bit_depth);
            float32 or float64 for the others (in the unit of the source, metres for LiDAR).
        bit_depth: bits a coordinate of the voxel grid; None for clouds of real coordinates.
        normals: (n, 3) float32 as the source gives them, or None: of any length, zero or NaN where there is none
            (`metrics.normals` says which count, and makes unit vectors of them).  Other real numbers are converted.
        colors: (n, 3) uint8 red, green, blue, or None.  Other integers from 0 to 255 are converted.
        attributes: further per-point columns by name, (n,) each.
        declared_peak: peak of the PSNR that the data set states, or None for the rule of `peak`.
        repeats_dropped: points that `merged` removed on the way here, because they repeated another.
    """

    points: npt.NDArray[np.generic]
    bit_depth: int | None = None
    normals: npt.NDArray[np.float32] | None = None
    colors: npt.NDArray[np.uint8] | None = None
    attributes: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    declared_peak: float | None = None
    repeats_dropped: int = 0

    def __post_init__(self) -> None:
        points = _numbers(self.points, "points")
        if points.ndim != 2 or points.shape[1] != 3:
            raise CloudError(f"points must have shape (n, 3), got {points.shape}")
        if self.bit_depth is not None:
            bit_depth = _checked_depth(self.bit_depth)
            object.__setattr__(self, "bit_depth", bit_depth)
            points = self._checked_grid(points, bit_depth)
        elif points.dtype.kind in "iu":
            raise CloudError(
                f"points are {points.dtype} without a bit depth: give bit_depth for voxels (10 for a grid of 1024), "
                "or float32 or float64 points"
            )
        elif points.dtype not in (np.float32, np.float64):
            raise CloudError(f"a cloud without bit depth needs float32 or float64 points, got {points.dtype}")
        elif not np.isfinite(points).all():
            bad = int((~np.isfinite(points)).any(axis=1).sum())
            raise CloudError(f"{bad} of {len(points)} points have a coordinate that is NaN or infinite")
        object.__setattr__(self, "points", np.ascontiguousarray(points))
        if self.normals is not None:
            object.__setattr__(self, "normals", _checked_normals(self.normals, len(points)))
        if self.colors is not None:
            object.__setattr__(self, "colors", _checked_colors(self.colors, len(points)))
        object.__setattr__(self, "attributes", _checked_attributes(self.attributes, len(points)))
        object.__setattr__(self, "declared_peak", _checked_peak(self.declared_peak))

    @staticmethod
    def _checked_grid(points: npt.NDArray[np.generic], bit_depth: int) -> npt.NDArray[np.int32]:
        if points.dtype.kind not in "iu":
            raise CloudError(f"a voxelised cloud needs integer points, got {points.dtype}")
        if len(points) and (int(points.min()) < 0 or int(points.max()) >= 1 << bit_depth):
            low, high = int(points.min()), int(points.max())
            raise CloudError(f"coordinates {low}..{high} do not fit the grid 0..{(1 << bit_depth) - 1}")
        return points.astype(np.int32, copy=False)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def is_voxelised(self) -> bool:
        """Whether the points lie on an integer grid of known depth."""
        return self.bit_depth is not None

    @property
    def peak(self) -> float | None:
        """Peak of the PSNR: the declared one, else 2**bit_depth - 1, else None (real-valued clouds)."""
        if self.declared_peak is not None:
            return self.declared_peak
        return None if self.bit_depth is None else float((1 << self.bit_depth) - 1)

    @property
    def bounds(self) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
        """Smallest and largest coordinate of each axis, (3,) each.

        Raises:
            CloudError: the cloud is empty.
        """
        if not len(self):
            raise CloudError("an empty cloud has no bounds")
        return self.points.min(axis=0), self.points.max(axis=0)

    def geometry_sha256(self) -> str:
        """Hash of the bag of points: independent of their order and of integer or float storage."""
        if self.is_voxelised:
            # Sorting packed keys (z, y, x from the top) gives the order of the lexsort below, faster.
            keys = np.sort(self._keys())
            points = np.empty((len(keys), 3))
            for axis in range(3):
                points[:, axis] = (keys >> (MAX_BIT_DEPTH * axis)) & _AXIS_MASK
        else:
            points = np.ascontiguousarray(self.points, dtype=np.float64) + 0.0  # -0.0 becomes 0.0
            points = points[np.lexsort(points.T)]
        return hashlib.sha256(np.ascontiguousarray(points).tobytes()).hexdigest()

    def merged(self) -> PointCloud:
        """The cloud without repeated points: the first of each stays, with its attributes, in input order."""
        if self.is_voxelised:
            _, first = np.unique(self._keys(), return_index=True)
        else:
            points = np.asarray(self.points, dtype=np.float64) + 0.0  # -0.0 and 0.0 are the same place
            _, first = np.unique(points, axis=0, return_index=True)
        if len(first) == len(self):
            return self
        kept = self.take(np.sort(first))
        return replace(kept, repeats_dropped=self.repeats_dropped + len(self) - len(first))

    def _keys(self) -> npt.NDArray[np.int64]:
        """One integer a point of a voxelised cloud, z in the highest bits, (n,)."""
        x, y, z = self.points.astype(np.int64).T
        return x | y << MAX_BIT_DEPTH | z << 2 * MAX_BIT_DEPTH

    def take(self, index: npt.NDArray[np.generic]) -> PointCloud:
        """The cloud of the points chosen by `index` (integers or a mask)."""
        return replace(
            self,
            points=self.points[index],
            normals=None if self.normals is None else self.normals[index],
            colors=None if self.colors is None else self.colors[index],
            attributes={name: column[index] for name, column in self.attributes.items()},
        )


def _numbers(values: object, what: str) -> npt.NDArray[np.generic]:
    """An array of plain numbers in the order of bytes of this machine.

    Raises:
        CloudError: it is none, or some of it is masked.
    """
    if isinstance(values, np.ma.MaskedArray):
        if values.mask.any():
            raise CloudError(f"{what} has {int(values.mask.sum())} masked values: fill them, or leave the points out")
        values = values.data
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise CloudError(f"{what} is no array: {' '.join(str(error).split())}") from None
    if array.dtype.kind not in "iuf":
        raise CloudError(f"{what} must be numbers, got {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _checked_depth(bit_depth: object) -> int:
    if isinstance(bit_depth, bool | np.bool_) or not isinstance(bit_depth, int | np.integer):
        raise CloudError(f"bit depth must be an integer of 1 to {MAX_BIT_DEPTH}, got {_shown(bit_depth)}")
    if not 1 <= bit_depth <= MAX_BIT_DEPTH:
        raise CloudError(f"bit depth must be 1 to {MAX_BIT_DEPTH}, got {bit_depth}")
    return int(bit_depth)


def _checked_normals(normals: object, count: int) -> npt.NDArray[np.float32]:
    vectors = _rows_of_three(normals, "normals", count)
    with np.errstate(over="ignore"):  # what is too long becomes infinite, hence missing
        return np.ascontiguousarray(vectors, np.float32)


def _checked_colors(colors: object, count: int) -> npt.NDArray[np.uint8]:
    values = _rows_of_three(colors, "colors", count)
    if values.dtype.kind == "f" or (values.size and (int(values.min()) < 0 or int(values.max()) > 255)):
        raise CloudError(f"colors must be integers from 0 to 255, got {values.dtype}: {_shown(values[:1].tolist())}")
    return np.ascontiguousarray(values, np.uint8)


def _rows_of_three(values: object, what: str, count: int) -> npt.NDArray[np.generic]:
    array = _numbers(values, what)
    if array.ndim and len(array) != count:
        raise CloudError(f"{what} has {len(array)} rows, but there are {count} points")
    if array.shape != (count, 3):
        raise CloudError(f"{what} must have shape ({count}, 3), got {array.shape}")
    return array


def _checked_attributes(attributes: object, count: int) -> dict[str, npt.NDArray[np.generic]]:
    if not isinstance(attributes, Mapping):
        raise CloudError(f"attributes must be columns by name, got {type(attributes).__name__}")
    columns = {}
    for name, column in attributes.items():
        if isinstance(column, np.ma.MaskedArray) and column.mask.any():
            raise CloudError(f"{name} has {int(column.mask.sum())} masked values: fill them, or leave the points out")
        try:
            array = np.asarray(column)
        except ValueError as error:
            raise CloudError(f"{name} is no array: {' '.join(str(error).split())}") from None
        if array.ndim and len(array) != count:
            raise CloudError(f"{name} has {len(array)} rows, but there are {count} points")
        if not isinstance(name, str) or array.ndim != 1 or array.dtype.kind == "O":
            raise CloudError(
                f"an attribute must be a name and ({count},) plain values, got {_shown(name)} with {array.shape} "
                f"{array.dtype}"
            )
        columns[name] = array
    return columns


def _checked_peak(peak: object) -> float | None:
    if peak is None:
        return None
    if (
        isinstance(peak, bool | np.bool_)
        or not isinstance(peak, int | float | np.integer | np.floating)
        or not 0 < float(peak) < np.inf
    ):
        raise CloudError(f"the declared peak must be a finite number above 0, got {_shown(peak)}")
    return float(peak)


def _shown(value: object) -> str:
    """A value in a message: on one line, not too long."""
    return " ".join(repr(value).split())[:60]
