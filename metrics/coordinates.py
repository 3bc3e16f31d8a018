"""Coordinates: the points of a cloud as given, checked, and in the number type that a comparison needs.

pc_error rounds coordinates to float32.  Where float32 holds them all exactly, its arithmetic is right to seven digits
wherever the cloud lies, and ours is the same.  Elsewhere (metres of a map projection or of the Earth's centre, in
float64) that rounding would move points by centimetres, and distances are computed in float64 from the numbers as
given, which no offset spoils; integers too large for float64 are first reduced by the input's first point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import MetricError

#: Relative rounding of float64.
DOUBLE_STEP = 2.0**-52
#: Integers up to this are float64 numbers, and up to that float32 numbers.
_DOUBLE_INTEGERS, _SINGLE_INTEGERS = 1 << 53, 1 << 24
#: Differences of larger float32 numbers can leave float32.
_LARGEST_SINGLE = 2.0**126
#: Scales of G-PCC, (2^k - 1) / 2^k, give coordinates in multiples of 1 / (2^k - 1), up to rounding.
_DENOMINATORS = (3, 7, 15, 31)
_GRID_TOLERANCE = 1e-6
#: Rows looked at together: few enough to stay in the cache, and a test that fails ends soon.
_CHUNK_ROWS = 8192
#: Differences of this size have squares, and sums of many, that float64 holds with all its digits.
LEAST_EXTENT, MOST_EXTENT = 1e-140, 1e140


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The checked points of a cloud.

    Attributes:
        given: (n, 3) integers, float32 or float64, n >= 1, all finite.
        name: what to call the cloud in an error.
        largest: largest magnitude of a coordinate.
        integer: all coordinates are integers.
        is_single: float32 holds all coordinates, and the differences of any two.
    """

    given: npt.NDArray[Any]
    name: str
    largest: float
    integer: bool
    is_single: bool

    @classmethod
    def of(cls, points: npt.ArrayLike, name: str) -> Coordinates:
        """Check points.

        Raises:
            MetricError: no numbers, no points, another shape than (n, 3), or a coordinate that is not finite.
        """
        given = _numbers(points, name)
        if given.ndim != 2 or given.shape[1] != 3:
            raise MetricError(f"points of the {name} must have shape (n, 3), got {given.shape}")
        if not len(given):
            raise MetricError(f"the {name} has no points, so there are no distances")
        low, high = given.min(), given.max()
        if given.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
            bad = int((~np.isfinite(given)).any(axis=1).sum())
            raise MetricError(f"{bad} of {len(given)} points of the {name} have a coordinate that is NaN or infinite")
        largest = float(max(abs(int(low)), abs(int(high))) if given.dtype.kind != "f" else max(-low, high))
        if largest > _LARGEST_SINGLE:
            single = False
        elif given.dtype == np.float32 or (given.dtype.kind != "f" and largest <= _SINGLE_INTEGERS):
            single = True
        else:
            single = largest <= _DOUBLE_INTEGERS or given.dtype.kind == "f"
            single = single and all(
                (rows.astype(np.float32) == rows.astype(np.float64)).all() for rows in _chunks(given)
            )
        integer = given.dtype.kind != "f" or all((rows == np.floor(rows)).all() for rows in _chunks(given))
        return cls(given, name, largest, integer, single)

    def __len__(self) -> int:
        return len(self.given)

    @cached_property
    def single(self) -> npt.NDArray[np.float32]:
        """(n, 3) float32, rounded where it does not hold them; -0.0 becomes 0.0."""
        rounded: npt.NDArray[np.float32] = np.array(self.given, dtype=np.float32, order="C")
        if self.given.dtype.kind == "f":
            rounded += np.float32(0.0)
        return rounded

    @property
    def is_voxels(self) -> bool:
        """Whether the points are voxels of a grid that float32 holds."""
        return self.integer and self.largest <= _SINGLE_INTEGERS

    @cached_property
    def is_coarser_grid(self) -> bool:
        """Whether the points lie on a grid that G-PCC's scales of 3/4, 7/8, ... make of integers."""
        if self.largest > _SINGLE_INTEGERS:
            return False
        fitting = list(_DENOMINATORS)
        for rows in _chunks(self.given):
            fitting = [denominator for denominator in fitting if _are_integers(rows * denominator)]
            if not fitting:
                return False
        return True

    @property
    def origin(self) -> tuple[int, int, int] | None:
        """What to take away before integers become float64; None where they fit as they are."""
        if self.given.dtype.kind == "f" or self.largest <= _DOUBLE_INTEGERS:
            return None
        x, y, z = (int(value) for value in self.given[0])
        return x, y, z

    def double(self, origin: tuple[int, int, int] | None) -> npt.NDArray[np.float64]:
        """(n, 3) float64, from an origin; -0.0 becomes 0.0."""
        if origin is None:
            return np.array(self.given, dtype=np.float64, order="C") + 0.0
        if self.given.dtype.kind == "f":
            return self.given.astype(np.float64) - np.array(origin, dtype=np.float64)
        return (self.given.astype(object) - np.array(origin, dtype=object)).astype(np.float64)

    def rounding_sq(self) -> float:
        """Mean square of how far float32 would move the points."""
        total = 0.0
        for given, single in zip(_chunks(self.given), _chunks(self.single), strict=True):
            moved = given.astype(np.float64, copy=False) - single
            total += float(np.einsum("ij,ij->", moved, moved))
        return total / len(self)


def _chunks(points: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (points[i : i + _CHUNK_ROWS] for i in range(0, len(points), _CHUNK_ROWS))


def _are_integers(points: npt.NDArray[Any]) -> bool:
    return bool((np.abs(points - np.rint(points)) <= _GRID_TOLERANCE).all())


def _numbers(points: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    try:
        given = np.asarray(points)
    except ValueError:  # rows of different lengths
        raise MetricError(f"points of the {name} must have shape (n, 3), got rows of different lengths") from None
    if given.dtype.kind not in "iuf":
        if given.size == 0:
            return given.astype(np.float64)
        raise MetricError(f"points of the {name} must be integers or real numbers, got {given.dtype}")
    if given.dtype.kind != "f" or given.dtype in (np.float32, np.float64):
        return given if given.dtype.isnative else given.astype(given.dtype.newbyteorder("="))
    if given.dtype.itemsize < 4:
        return given.astype(np.float32)
    with np.errstate(over="ignore"):  # what float64 cannot hold is infinite, and refused
        return given.astype(np.float64)


def check_extent(one: npt.NDArray[np.floating[Any]], two: npt.NDArray[np.floating[Any]]) -> None:
    """Refuse clouds so wide or so narrow that squared distances leave float64.

    Raises:
        MetricError: says how wide they are.
    """
    with np.errstate(over="ignore"):
        extent = float(
            (np.maximum(one.max(axis=0), two.max(axis=0)) - np.minimum(one.min(axis=0), two.min(axis=0))).max()
        )
    if extent > MOST_EXTENT or 0.0 < extent < LEAST_EXTENT:
        raise MetricError(
            f"the points are spread over {extent:.3g}, and squared distances are computed for spreads of "
            f"{LEAST_EXTENT:g} to {MOST_EXTENT:g}: scale both clouds"
        )
