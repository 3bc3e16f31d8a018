"""Ties: which neighbours count as equally near.

pc_error asks its tree for the 10 nearest points, and for 5 more while all of them are at one distance, up to 30.  It
takes as equidistant the run of neighbours, nearest first, in which each squared distance exceeds the one before by
less than 1e-8, whatever the unit.  For voxels that is rounding; for a small object in metres it would make neighbours
of points at clearly different distances.  So we ask in addition that the excess is a millionth of the least squared
distance: the same from a distance of 0.1 on, and independent of the unit below.
"""

from __future__ import annotations

#: Neighbours that pc_error asks for at first, and adds while all are at one distance.
FIRST_NEIGHBOURS = 10
MORE_NEIGHBOURS = 5
#: Neighbours at one distance that pc_error takes at most.
MOST_TIES = 30
#: Squared distances of successive neighbours that differ by less are taken as equal.
TIE_TOLERANCE_SQ = 1e-8
#: As a share of the least squared distance.
RELATIVE_TIE_TOLERANCE = 1e-6
