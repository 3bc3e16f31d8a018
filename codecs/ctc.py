"""Operating points of MPEG's common test conditions (CTC) for octree geometry, as exact numbers."""

from __future__ import annotations

from fractions import Fraction

from .cloud import MAX_BIT_DEPTH
from .errors import CodecError

#: Octree rate points of the CTC, r01 (coarsest) to r06.
OCTREE_RATE_COUNT = 6


def octree_position_scale(rate_index: int, bit_depth: int) -> Fraction:
    """Scale (positionQuantizationScale) of the CTC's lossy octree rate on a grid of `bit_depth` bits.

    The scale is a power of two below one half, and 1 - 2**-n from there on: .125 .25 .5 .75 .875 .9375 for a
    10-bit grid.

    Args:
        rate_index: 1 (r01, coarsest) to 6 (r06).
        bit_depth: geometry precision of the source, bits a coordinate.

    Returns:
        The scale, in (0, 1), as an exact fraction with a power of two below the line.

    Raises:
        CodecError: the rate or the depth does not exist.

    Source: MPEGGroup/mpeg-pcc-tmc13 v23.0-rc2, cfg/octree-raht-ctc-lossy-geom-lossy-attrs.yaml.
    """
    if not 1 <= rate_index <= OCTREE_RATE_COUNT:
        raise CodecError(f"octree rate must be 1 to {OCTREE_RATE_COUNT}, got {rate_index}")
    if not 1 <= bit_depth <= MAX_BIT_DEPTH:
        raise CodecError(f"bit depth must be 1 to {MAX_BIT_DEPTH}, got {bit_depth}")
    coarsest = max(bit_depth - 9, 7)
    start = min(1, bit_depth - (coarsest + 6))
    step = max(Fraction(1), Fraction(min(bit_depth - 1, coarsest + 7) - coarsest, 5))
    # The step is a multiple of 1/5, so that no product lies half way and the rounding rule does not matter.
    exponent = start + round((OCTREE_RATE_COUNT - rate_index) * step)
    divisor = 1 << (abs(exponent) + 1)
    return Fraction(1 if exponent >= 0 else divisor - 1, divisor)
