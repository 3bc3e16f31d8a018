"""Grid: whether coordinates lie on a voxel grid, and of which depth."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..cloud import MAX_BIT_DEPTH
from ..errors import CloudError

BitDepth = int | Literal["auto"] | None

_NAMED_DEPTH = re.compile(r"_vox(\d{1,2})(?=[_.\-]|$)", re.IGNORECASE)


def named_bit_depth(name: str) -> int | None:
    """Depth that a file name states (`loot_vox10_1200.ply` says 10), or None.

    >>> named_bit_depth("loot_vox10_1200.ply")
    10
    """
    found = _NAMED_DEPTH.search(name)
    depth = int(found.group(1)) if found else 0
    return depth if 1 <= depth <= MAX_BIT_DEPTH else None


def on_grid(points: npt.NDArray[Any], bit_depth: BitDepth, hint: int | None) -> tuple[npt.NDArray[Any], int | None]:
    """Points as int32 with their depth where they are voxelised, else as float with None.

    With "auto", a cloud is voxelised when all its coordinates are integers in [0, 2**21); its depth is the
    hint or, where the coordinates need more or there is no hint, the smallest that holds them.  Negative
    integers make a real-valued cloud: shifting them would change the cloud behind the user's back.

    Args:
        points: (n, 3) coordinates of any real type, at least one row.
        bit_depth: depth that the points must have, None for a real-valued cloud, or "auto".
        hint: depth that the file or its name states, used by "auto" alone.

    Raises:
        CloudError: a coordinate is NaN or infinite, or the depth asked for does not fit (says why).
    """
    if points.dtype.kind == "f":
        finite = np.isfinite(points)
        if not finite.all():
            bad = int((~finite.all(axis=1)).sum())
            raise CloudError(f"{bad:,} of {len(points):,} points have a coordinate that is NaN or infinite")
    if bit_depth is None:
        return _as_float(points), None
    low, high = points.min().item(), points.max().item()
    if bit_depth == "auto":
        if low < 0 or high >= 1 << MAX_BIT_DEPTH or not _all_integers(points):
            return _as_float(points), None
        return points.astype(np.int32), max(hint or 1, int(high).bit_length())
    if not 1 <= bit_depth <= MAX_BIT_DEPTH:
        raise CloudError(f"bit depth must be 1 to {MAX_BIT_DEPTH}, got {bit_depth}")
    if low < 0 or high >= 1 << bit_depth:
        raise CloudError(
            f"expected a voxelised cloud of {bit_depth} bits (0..{(1 << bit_depth) - 1}), "
            f"got coordinates {low:.10g}..{high:.10g}"
        )
    if not _all_integers(points):
        row = int(np.flatnonzero((np.rint(points) != points).any(axis=1))[0])
        raise CloudError(
            f"expected a voxelised cloud of {bit_depth} bits, but not all coordinates are integers: "
            f"point {row} is ({', '.join(f'{value:.10g}' for value in points[row])})"
        )
    return points.astype(np.int32), bit_depth


def _all_integers(points: npt.NDArray[Any]) -> bool:
    return points.dtype.kind != "f" or bool((np.rint(points) == points).all())


def _as_float(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """float32 stays; everything else fits float64 (integers of 64 bits only up to 2**53)."""
    exact = points.dtype.kind == "f" and points.dtype.itemsize <= 4
    return points.astype(np.float32 if exact else np.float64, copy=False)
