"""Timing: whether code got slower or faster from one run to another, or only the machine had other work.

A difference is claimed when five things agree: a t-test of the logarithms of the repeats, corrected for the number
of tests of the comparison [Holm 1979]; the ratio of the medians; that of the fastest repeats, which load only makes
longer; seconds beyond what the scheduler's slices make; and, where other programs used the cores meanwhile, what
these cannot make longer: CPU seconds (by little), or seconds asleep.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .comparison import DEFAULT_LIMITS, Limits, TimeChange, TimeVerdict
from .text import number

_Row = Mapping[str, Any]
PHASES = ("encode", "decode")
#: Repeats in each run from which on their spread is known well enough.
REPEATS = 3
#: Repeats never agree better than this share, whatever few of them say.
_LEAST_SPREAD = 0.01
#: Seconds of sleep that a thread's short wait for others, which wait for a core, does not make.
_LEAST_SLEEP_S = 0.05
#: Share of a difference that sleep must make; load stretched the rest.
_LEAST_SHARE = 0.25


@dataclass(frozen=True)
class Timed:
    """One phase of one job in both runs, before anything is said of it.

    Attributes:
        codec, phase: of what.
        samples: seconds of the repeats, old and new.
        medians: of them.
        cpu_s: CPU seconds, old and new; None where not known.
        asleep_s: seconds in which the codec slept, old and new; None where not known.
        loads: cores' worth of work of others meanwhile, old and new; None where not known.
        reason: why it is not judged; empty when it can be.
        p_value: of the one-sided test, not corrected.
    """

    codec: str
    phase: str
    samples: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    medians: tuple[float | None, float | None] = (None, None)
    cpu_s: tuple[float | None, float | None] = (None, None)
    asleep_s: tuple[float | None, float | None] = (None, None)
    loads: tuple[float | None, float | None] = (None, None)
    reason: str = ""
    p_value: float | None = None

    @property
    def ratio(self) -> float | None:
        """Median seconds, new / old."""
        return _ratio(self.medians)

    @property
    def cpu_ratio(self) -> float | None:
        """CPU seconds, new / old."""
        return _ratio(self.cpu_s)


def timed(old: _Row, new: _Row, phase: str, untimed: str) -> Timed:
    """Collect the times of one phase of one job.

    Args:
        old: its row in the old run, ok.
        new: its row in the new run, ok.
        phase: `encode` or `decode`.
        untimed: why times of the two runs are not compared; empty when they are.
    """
    rows = (old, new)
    before, after = (number(row.get(f"{phase}_s")) for row in rows)
    facts: dict[str, Any] = {"codec": str(new["codec"]), "phase": phase, "medians": (before, after)}
    if before is None or after is None:
        return Timed(**facts, reason="a time is missing")
    samples = _seconds(old[f"{phase}_s_samples"]), _seconds(new[f"{phase}_s_samples"])
    facts["cpu_s"] = tuple(number(row.get(f"{phase}_cpu_s")) for row in rows)
    facts["asleep_s"] = tuple(number(row.get(f"{phase}_asleep_s")) for row in rows)
    facts["loads"] = tuple(number(row.get(f"{phase}_load")) for row in rows)
    reason = untimed or _other_conditions(old, new)
    if not reason and min(map(len, samples)) < REPEATS:
        counts = " and ".join(str(len(some)) for some in samples)
        reason = f"not enough repeats to judge ({counts}, {REPEATS} each are needed)"
    p_value = None if reason else one_sided_p(*samples)
    return Timed(**facts, samples=samples, reason=reason, p_value=p_value)


def _seconds(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(value for value in map(number, values) if value is not None and value > 0)


def _other_conditions(old: _Row, new: _Row) -> str:
    if old["threads"] != new["threads"]:
        return f"threads differ ({old['threads']}, then {new['threads']})"
    if old["shares_cores"] or new["shares_cores"]:
        return "it shared cores while it was timed"
    return ""


def one_sided_p(old: Sequence[float], new: Sequence[float]) -> float:
    """The p of the difference of the mean logarithms in its own direction, by Welch's t-test."""
    from scipy.stats import t

    logs = [[math.log(value) for value in samples] for samples in (old, new)]
    variances = [max(statistics.variance(some), _LEAST_SPREAD**2) / len(some) for some in logs]
    statistic = abs(statistics.fmean(logs[1]) - statistics.fmean(logs[0])) / math.sqrt(sum(variances))
    freedom = sum(variances) ** 2 / sum(v**2 / (len(some) - 1) for v, some in zip(variances, logs, strict=True))
    return float(t.sf(statistic, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for their number: the chance of one false claim among all stays below the limit."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def judge_all(
    times: Sequence[Timed], limits: Limits = DEFAULT_LIMITS, *, was_busy: tuple[bool, bool] = (False, False)
) -> list[TimeChange]:
    """What may be said of each time of a comparison, all together.

    Args:
        times: every phase of every job.
        limits: the `time_` and `busy_` ones.
        was_busy: whether the machine had other work when the old and the new run began, for rows that do not say how
            much there was.
    """
    tested = [index for index, one in enumerate(times) if one.p_value is not None]
    corrected = dict(zip(tested, holm([times[index].p_value or 0.0 for index in tested]), strict=True))
    changes = []
    for index, one in enumerate(times):
        p_value = corrected.get(index)
        verdict: TimeVerdict = "not judged"
        reason = one.reason
        if p_value is not None:
            verdict, reason = _verdict(one, p_value, times, limits, was_busy)
        changes.append(TimeChange(one.phase, *one.medians, one.ratio, p_value, verdict, reason))
    return changes


def _verdict(
    one: Timed, p_value: float, times: Sequence[Timed], limits: Limits, was_busy: tuple[bool, bool]
) -> tuple[TimeVerdict, str]:
    before, after = (statistics.median(samples) for samples in one.samples)
    is_slower = after >= before
    pairs = ((before, after), (min(one.samples[0]), min(one.samples[1])))
    certain = p_value <= limits.time_p and abs(after - before) > limits.time_floor_s
    if not certain or any(_growth(pair, is_slower) <= limits.time_ratio for pair in pairs):
        return "no difference shown", ""
    doubt = "" if _is_quiet(one, limits, was_busy) else _doubt(one, times, is_slower, limits)
    if doubt:
        return "not judged", doubt
    return ("slower" if is_slower else "faster"), ""


def _ratio(pair: tuple[float | None, float | None]) -> float | None:
    before, after = pair
    return after / before if before and after is not None else None


def _growth(pair: tuple[float, float], is_slower: bool) -> float:
    """The change as a factor in the direction of the claim."""
    before, after = pair if is_slower else pair[::-1]
    return after / before if before > 0 else math.inf


def _is_quiet(one: Timed, limits: Limits, was_busy: tuple[bool, bool]) -> bool:
    """Whether nobody else used the cores in either run, as far as it is known."""
    known = [(was_busy[side] if load is None else load > limits.busy_load) for side, load in enumerate(one.loads)]
    return not any(known)


def _doubt(one: Timed, times: Sequence[Timed], is_slower: bool, limits: Limits) -> str:
    """Why a difference may be the load's; empty when it is not."""
    others = [other for other in times if other.codec != one.codec and other.p_value is not None]
    others = [other for other in others if max(value or 0 for value in other.medians) > limits.time_floor_s]
    cpu = _directed(one.cpu_ratio, is_slower)
    if cpu is not None:
        common = [value for other in others if (value := _directed(other.cpu_ratio, is_slower)) is not None]
        if cpu >= limits.busy_ratio * max(1.0, statistics.median(common) if common else 1.0):
            return ""
    if _slept_longer(one, is_slower, limits):
        return ""
    loads = " and ".join("an unknown number of" if load is None else f"{load:.1f}" for load in one.loads)
    said = "" if cpu is None else f"; its CPU seconds changed x{one.cpu_ratio:.2f}"
    return f"x{one.ratio or 0:.2f}, but other programs kept {loads} cores busy{said}"


def _slept_longer(one: Timed, is_slower: bool, limits: Limits) -> bool:
    """Whether sleep alone makes a good part of the difference, and one beyond the limits."""
    asleep, medians = (pair if is_slower else pair[::-1] for pair in (one.asleep_s, one.medians))
    if None in (*asleep, *medians):
        return False
    longer_s, (shorter, longer) = (asleep[1] or 0) - (asleep[0] or 0), (medians[0] or 0, medians[1] or 0)
    return longer_s > max(_LEAST_SLEEP_S, (limits.time_ratio - 1) * shorter, _LEAST_SHARE * (longer - shorter))


def _directed(ratio: float | None, is_slower: bool) -> float | None:
    return None if not ratio else ratio if is_slower else 1 / ratio
