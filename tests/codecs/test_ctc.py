"""The CTC's octree scales, against the published values."""

import itertools
from fractions import Fraction

import pytest

from pccbench.codecs.ctc import octree_position_scale
from pccbench.codecs.errors import CodecError

PUBLISHED = {
    10: (0.125, 0.25, 0.5, 0.75, 0.875, 0.9375),
    11: (0.0625, 0.125, 0.25, 0.5, 0.75, 0.875),
    12: (0.03125, 0.0625, 0.125, 0.25, 0.5, 0.75),
    # Beyond 13 bits the steps widen: exponents 1 + round(1.4 n).
    20: tuple(2.0**-e for e in (9, 8, 6, 5, 3, 2)),
}


@pytest.mark.parametrize("bit_depth", PUBLISHED)
def test_scales_are_those_of_the_ctc(bit_depth):
    scales = [octree_position_scale(rate, bit_depth) for rate in range(1, 7)]
    assert [float(scale) for scale in scales] == list(PUBLISHED[bit_depth])


@pytest.mark.parametrize("bit_depth", range(1, 22))
def test_scales_rise_and_are_dyadic(bit_depth):
    scales = [octree_position_scale(rate, bit_depth) for rate in range(1, 7)]
    assert all(0 < low < high < 1 for low, high in itertools.pairwise(scales))
    assert all(Fraction(scale).denominator.bit_count() == 1 for scale in scales)


@pytest.mark.parametrize(("rate", "depth"), [(0, 10), (7, 10), (1, 0), (1, 22)])
def test_unknown_points_are_refused(rate, depth):
    with pytest.raises(CodecError, match="must be 1 to"):
        octree_position_scale(rate, depth)
