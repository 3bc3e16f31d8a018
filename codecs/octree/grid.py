"""Grid: between a cloud's coordinates and the voxels that the octree codes.  Integers and exact fractions only."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..cloud import MAX_BIT_DEPTH
from ..container import get_varint, put_varint
from ..errors import BitstreamError, NotApplicableError

_REAL_FLAG, _SCALED_FLAG = 0x20, 0x40
_DOUBLE_FLAG, _WIDE_ORIGIN_FLAG = 0x40, 0x80
_DEPTH_MASK = 0x1F
_MAX_DENOMINATOR_BITS = 32
#: Scales of longer periods are none of the test conditions' and are rounded.
_LONGEST_PERIOD = 1 << 12


@dataclass(frozen=True)
class VoxelGrid:
    """The grid of a voxelised cloud, and the scale between it and the coded voxels.

    Attributes:
        bit_depth: bits a coordinate of the cloud.
        scale: coded units per voxel of the cloud, at most 1; a power of two below the line.
    """

    bit_depth: int
    scale: Fraction = Fraction(1)

    def quantised(self, points: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Coded coordinates: points times scale, halves rounded up, as the G-PCC test model does."""
        top, bottom = self.scale.numerator, self.scale.denominator
        return (2 * top * points.astype(np.int64) + bottom) // (2 * bottom)

    @cached_property
    def keeps_fractions(self) -> bool:
        """Whether coded coordinates over scale are nearer to the points they stand for than the nearest voxels are.

        Compared by the mean square over one period of the quantiser, in integers.  At 3/4 fractions are better, as
        the G-PCC test model writes them; at 15/16 most voxels are hit exactly, and rounding is.
        """
        top, bottom = self.scale.numerator, self.scale.denominator
        if top == 1 or bottom > _LONGEST_PERIOD:
            return False
        points = np.arange(bottom, dtype=np.int32)
        coded = self.quantised(points)
        rounded = self._rounded(coded)
        return bool(
            ((coded * bottom - points.astype(np.int64) * top) ** 2).sum() < ((rounded - points) ** 2).sum() * top**2
        )

    def _rounded(self, coded: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        top, bottom = self.scale.numerator, self.scale.denominator
        return (2 * bottom * coded + top) // (2 * top)

    def restored(self, voxels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32] | npt.NDArray[np.float64]:
        """Coded coordinates over scale: on the cloud's grid, halves up, or between if it `keeps_fractions`."""
        if self.scale == 1:
            return voxels
        last = (1 << self.bit_depth) - 1
        if self.keeps_fractions:
            return np.minimum(voxels * np.float64(self.scale.denominator) / np.float64(self.scale.numerator), last)
        return np.minimum(self._rounded(voxels.astype(np.int64)), last).astype(np.int32)

    def to_bytes(self) -> bytes:
        """The stream's header: 1 byte, or a few with a scale."""
        if self.scale == 1:
            return bytes([self.bit_depth])
        exponent = self.scale.denominator.bit_length() - 1
        return bytes([self.bit_depth | _SCALED_FLAG, exponent]) + put_varint(self.scale.numerator)


@dataclass(frozen=True)
class RealGrid:
    """A cubic grid laid over a cloud of real coordinates.

    Attributes:
        origin: centre of the voxel 0, 0, 0, in the cloud's unit.
        step: width of a voxel, a float32 value.
        double: the cloud has float64 coordinates, else float32.
    """

    origin: tuple[float, float, float]
    step: float
    double: bool

    @classmethod
    def over(cls, points: npt.NDArray[np.floating], depth: int) -> RealGrid:
        """The grid with 2**depth voxels along the longest side of the cloud's bounding box.

        Raises:
            NotApplicableError: the cloud is wider than a step in single precision can tell.
        """
        double = points.dtype == np.float64
        if not len(points):
            return cls((0.0, 0.0, 0.0), 1.0, double)
        low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
        width = float((high - low).max()) / ((1 << depth) - 1)
        with np.errstate(over="ignore"):
            step = np.float32(width)
        if float(step) < width:
            step = np.nextafter(step, np.float32(np.inf))
        if not np.isfinite(step):
            raise NotApplicableError(f"cloud is {width * (1 << depth):g} wide, expected less than 2**128 steps")
        return cls((float(low[0]), float(low[1]), float(low[2])), float(step) if step > 0 else 1.0, double)

    def quantised(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """Coordinates of the nearest voxels."""
        return np.floor((points.astype(np.float64) - np.array(self.origin)) / self.step + 0.5).astype(np.int64)

    def restored(self, voxels: npt.NDArray[np.int32]) -> npt.NDArray[np.floating]:
        """Centres of voxels; one product and one sum in double precision, then the cloud's own precision.

        Raises:
            BitstreamError: a point is beyond the range of that precision.
        """
        with np.errstate(over="ignore"):
            points = (voxels.astype(np.float64) * self.step + np.array(self.origin)).astype(
                np.float64 if self.double else np.float32
            )
        if not np.isfinite(points).all():
            raise BitstreamError(f"grid with origin {self.origin} and step {self.step} has infinite points")
        return points

    def to_bytes(self) -> bytes:
        """The stream's header: 17 bytes, 29 where the origin has no exact single precision."""
        narrow = all(float(np.float32(x)) == x for x in self.origin)
        flags = _REAL_FLAG | (_DOUBLE_FLAG if self.double else 0) | (0 if narrow else _WIDE_ORIGIN_FLAG)
        return struct.pack("<B3ff" if narrow else "<B3df", flags, *self.origin, self.step)


def grid_of(data: bytes) -> VoxelGrid | RealGrid:
    """The grid of a stream's header.

    Raises:
        BitstreamError: no such header.
    """
    if not data:
        raise BitstreamError("header is empty, expected at least 1 byte")
    return _real_grid(data) if data[0] & _REAL_FLAG else _voxel_grid(data)


def _real_grid(data: bytes) -> RealGrid:
    layout = "<3df" if data[0] & _WIDE_ORIGIN_FLAG else "<3ff"
    if data[0] & _DEPTH_MASK or len(data) != 1 + struct.calcsize(layout):
        raise BitstreamError(f"header of a real grid has {len(data)} bytes, expected {1 + struct.calcsize(layout)}")
    *origin, step = struct.unpack(layout, data[1:])
    if not (0 < step < math.inf) or not all(math.isfinite(x) for x in origin):
        raise BitstreamError(f"grid with origin {origin} and step {step} is impossible")
    return RealGrid((origin[0], origin[1], origin[2]), step, bool(data[0] & _DOUBLE_FLAG))


def _voxel_grid(data: bytes) -> VoxelGrid:
    bit_depth = data[0] & _DEPTH_MASK
    if not 1 <= bit_depth <= MAX_BIT_DEPTH or data[0] & 0x80:
        raise BitstreamError(f"header declares bit depth {bit_depth}, expected 1 to {MAX_BIT_DEPTH}")
    if not data[0] & _SCALED_FLAG:
        if len(data) != 1:
            raise BitstreamError(f"header has {len(data)} bytes, expected 1")
        return VoxelGrid(bit_depth)
    if len(data) < 3 or data[1] > _MAX_DENOMINATOR_BITS:
        raise BitstreamError("header's scale is truncated or impossible")
    numerator, end = get_varint(data, 2)
    if end != len(data) or not 0 < numerator < 1 << data[1]:
        raise BitstreamError(f"header's scale {numerator} / 2**{data[1]} is not between 0 and 1")
    return VoxelGrid(bit_depth, Fraction(numerator, 1 << data[1]))
