"""Repeats: what one figure stands for the seconds of a call that was timed several times.

Every repeat gets its input anew, but it is the same input in the same process: a codec may remember what it answered,
or compile in its first call what it needs.  No clock can tell these from real work done faster, so samples of which
only the first took its time are told by the first, and the row's notes say so; else the median stands.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

#: A first call of so many seconds, with all later ones below this fraction of it, was not repeated in earnest.
REMEMBERED_S, REMEMBERED = 0.05, 0.25


def is_remembered(samples_s: Sequence[float]) -> bool:
    """Whether the later calls took so little that they cannot have been the same work."""
    first, *later = samples_s
    return bool(later) and first >= REMEMBERED_S and max(later) < REMEMBERED * first


def typical_s(samples_s: Sequence[float]) -> float:
    """Median of one or more samples; the first where the later ones were remembered."""
    return samples_s[0] if is_remembered(samples_s) else statistics.median(samples_s)


def notes(phase: str, samples_s: Sequence[float]) -> dict[str, str]:
    """What a reader of a row's seconds has to know: nothing, as a rule."""
    if not is_remembered(samples_s):
        return {}
    share = max(samples_s[1:]) / samples_s[0]
    return {
        f"{phase}_s_is": f"the first call; later ones took at most {share:.0%} of it: remembered, or compiled once"
    }
