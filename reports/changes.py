"""Changes: what changed from one run to another, job by job and curve by curve."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .bd import METRICS
from .certificate import Certify
from .comparison import (
    DEFAULT_LIMITS,
    BDChange,
    Comparison,
    CurveChange,
    JobChange,
    Limits,
    TimeChange,
    TimeVerdict,
)
from .frame import IDENTITY, is_lossless, prepare, records
from .text import listed, number

_Row = Mapping[str, Any]
_PHASES = ("encode", "decode")
#: Load for each core from which on a machine is called busy.
BUSY_LOAD = 0.5
_NO_REPEATS = "not enough repeats to judge"


def compare(
    old_rows: pd.DataFrame,
    new_rows: pd.DataFrame,
    old_provenance: Mapping[str, Any] | None = None,
    new_provenance: Mapping[str, Any] | None = None,
    *,
    certify: Certify,
    limits: Limits = DEFAULT_LIMITS,
) -> Comparison:
    """What changed from an old run to a new one in bytes, quality, BD-rate, time, memory and failures.

    Jobs are paired by codec, rate, data set and cloud.  A pair is refused, with the reason, where its figures cannot
    be compared: another cloud under the same name, another metric passport, other parameters of the rate.  Times are
    compared only between runs of one machine, by a one-sided Mann-Whitney rank test over the repeats of each job: a
    difference is claimed when the test and the ratio of the medians both say so.

    Args:
        old_rows: rows of the old run.
        new_rows: rows of the new run.
        old_provenance: its run.json; None where it is not known.
        new_provenance: that of the new run.
        certify: computes BD figures, `pccbench.metrics.bjontegaard.certified_bd`.
        limits: what counts as a regression.

    Raises:
        ReportError: one of the runs has no rows, or lacks a column.
    """
    old, new = _by_identity(prepare(old_rows)), _by_identity(prepare(new_rows))
    untimed = _other_machine(old_provenance or {}, new_provenance or {})
    shared = [key for key in old if key in new]
    jobs = tuple(_job(old[key], new[key], untimed, limits) for key in shared)
    pairs = {key: (old[key], new[key]) for key, job in zip(shared, jobs, strict=True) if _comparable(job)}
    return Comparison(
        limits=limits,
        jobs=jobs,
        curves=tuple(_curves(pairs, jobs, certify, limits)),
        only_old=tuple(_name(key) for key in old if key not in new),
        only_new=tuple(_name(key) for key in new if key not in old),
        conditions=tuple(_conditions(old_provenance or {}, new_provenance or {}, untimed)),
    )


def _by_identity(frame: pd.DataFrame) -> dict[tuple[str, ...], _Row]:
    return {tuple(str(row[name]) for name in IDENTITY): row for row in records(frame)}


def _name(key: Sequence[str]) -> str:
    codec, rate, _, cloud = key
    return f"{codec} {rate} on {cloud}"


def _comparable(job: JobChange) -> bool:
    return not job.refused and job.old_status == job.new_status == "ok"


# --- conditions ---------------------------------------------------------------------------------------------------


def _machines(provenance: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    """Machines of all sessions that wrote to a run."""
    sessions = provenance.get("sessions") or [provenance]
    return {(session.get("cpu"), session.get("usable_cores")) for session in sessions if session.get("cpu")}


def _other_machine(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why times and memory are not compared; empty when they are."""
    before, after = _machines(old), _machines(new)
    if before == after and len(before) < 2:
        return ""
    texts = [
        listed([f"{cpu} ({cores} cores)" for cpu, cores in sorted(m, key=str)]) or "not known"
        for m in (before, after)
    ]
    return f"the machines differ: {texts[0]}, then {texts[1]}"


def _conditions(old: Mapping[str, Any], new: Mapping[str, Any], untimed: str) -> list[str]:
    lines = [f"{untimed}; times and memory are not compared"] if untimed else []
    for key in ("pccbench", "git_commit", "python", "system"):
        if old.get(key) != new.get(key) and (old or new):
            lines.append(f"{key.replace('_', ' ')}: {old.get(key)}, then {new.get(key)}")
    before, after = old.get("packages") or {}, new.get("packages") or {}
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            lines.append(f"{name}: {before.get(name)}, then {after.get(name)}")
    lines += [line for which, p in (("old", old), ("new", new)) if (line := _busy(which, p))]
    lines += [
        f"the {which} run's tree had changes"
        for which, p in (("old", old), ("new", new))
        if p.get("git_clean") is False
    ]
    return lines


def _busy(which: str, provenance: Mapping[str, Any]) -> str:
    """A machine that had other work when the run began; its times say less."""
    load, cores = number(provenance.get("load_1min")), number(provenance.get("usable_cores"))
    if load is None or not cores or load <= BUSY_LOAD * cores:
        return ""
    return f"the machine was busy when the {which} run began (load {load:.1f} on {cores:.0f} cores)"


# --- one job ------------------------------------------------------------------------------------------------------


def _job(old: _Row, new: _Row, untimed: str, limits: Limits) -> JobChange:
    base: dict[str, Any] = {name: str(new[name]) for name in IDENTITY}
    base |= {"old_status": old["status"], "new_status": new["status"]}
    refused = _refusal(old, new)
    if refused:
        return JobChange(**base, refused=refused)
    if old["status"] != "ok" or new["status"] != "ok":
        return JobChange(**base, **_status_change(old, new, limits))
    size_pct = _percent(number(old["size_bytes"]), number(new["size_bytes"]))
    decibels = {metric: _difference(old, new, f"{metric}_psnr_db") for metric in METRICS}
    times = tuple(_time(old, new, phase, untimed, limits) for phase in _PHASES)
    memory = {phase: None if untimed else _difference(old, new, f"{phase}_peak_mb") for phase in _PHASES}
    worse, better, notes = _rate_quality(old, new, size_pct, decibels, limits)
    for change in times:
        if change.verdict in ("slower", "faster"):
            line = f"{change.phase} x{change.ratio:.2f} ({change.old_s:.4g} s to {change.new_s:.4g} s, "
            line += f"p = {change.p_value:.2g})"
            (worse if change.verdict == "slower" else better).append(line)
    for phase, change_mb in memory.items():
        line = _memory_line(old, new, phase, change_mb, limits)
        if line and change_mb is not None:
            (worse if change_mb > 0 else better).append(line)
    return JobChange(
        **base,
        same_stream=bool(old["stream_sha256"]) and old["stream_sha256"] == new["stream_sha256"],
        size_pct=size_pct,
        d1_db=decibels["d1"],
        d2_db=decibels["d2"],
        times=times,
        encode_mb=memory["encode"],
        decode_mb=memory["decode"],
        regressions=tuple(worse),
        improvements=tuple(better),
        notes=tuple(notes),
    )


def _refusal(old: _Row, new: _Row) -> str:
    """Why the figures of two rows cannot be compared; empty when they can."""
    if old["cloud_sha256"] and new["cloud_sha256"] and old["cloud_sha256"] != new["cloud_sha256"]:
        return f"another cloud under the same name ({old['cloud_sha256'][:12]}, then {new['cloud_sha256'][:12]})"
    if old["passport"] and new["passport"] and old["passport"] != new["passport"]:
        return f"another metric passport: {_differing(old['passport'], new['passport'])}"
    if old["parameters"] != new["parameters"]:
        return f"other parameters of the rate: {_differing(old['parameters'], new['parameters'])}"
    return ""


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key)!r}, then {new.get(key)!r}" for key in keys)


def _status_change(old: _Row, new: _Row, limits: Limits) -> dict[str, Any]:
    if new["status"] == "ok":
        return {"improvements": (f"succeeds now; was {old['status']}: {old['reason']}",)}
    line = f"{new['status']}: {new['reason']}"
    if old["status"] != "ok":
        return {"notes": (f"still fails: {line}",)}
    if new["status"] == "unavailable" and not limits.unavailable_fails:
        return {"notes": (f"was ok, now {line}",)}
    return {"regressions": (f"was ok, now {line}",)}


def _percent(old: float | None, new: float | None) -> float | None:
    return None if old is None or new is None or old == 0 else 100 * (new / old - 1)


def _difference(old: _Row, new: _Row, column: str) -> float | None:
    before, after = number(old[column]), number(new[column])
    return None if before is None or after is None else after - before


def _rate_quality(
    old: _Row, new: _Row, size_pct: float | None, decibels: Mapping[str, float | None], limits: Limits
) -> tuple[list[str], list[str], list[str]]:
    """Regressions, improvements and notes of bytes and quality together: one bought with the other is neither."""
    worse: list[str] = []
    better: list[str] = []
    for metric in METRICS:
        _exactness(old, new, metric, worse, better)
    size = 0.0 if size_pct is None else size_pct
    size_line = f"bytes {size:+.2f} % ({number(old['size_bytes']):,.0f} to {number(new['size_bytes']):,.0f})"
    changes = {metric: value for metric, value in decibels.items() if value is not None}
    rises = [metric for metric, value in changes.items() if value > limits.psnr_db]
    falls = [metric for metric, value in changes.items() if value < -limits.psnr_db]
    larger, smaller = size > limits.size_pct, size < -limits.size_pct
    if (larger and rises and not falls) or (smaller and falls and not rises):
        quality = ", ".join(f"{metric.upper()} {changes[metric]:+.3f} dB" for metric in rises + falls)
        return worse, better, [f"bytes traded for quality ({size_line}, {quality}); BD-rate judges"]
    if larger:
        worse.append(size_line)
    elif smaller:
        better.append(size_line)
    worse += [f"{metric.upper()} {changes[metric]:+.3f} dB" for metric in falls]
    better += [f"{metric.upper()} {changes[metric]:+.3f} dB" for metric in rises]
    return worse, better, []


def _exactness(old: _Row, new: _Row, metric: str, worse: list[str], better: list[str]) -> None:
    """Gain and loss of exactness, and of the metric itself."""
    was, now = is_lossless(old, metric), is_lossless(new, metric)
    name = metric.upper()
    if was and not now:
        mse = number(new[f"{metric}_mse"])
        worse.append(f"{name} no longer lossless" + ("" if mse is None else f" (mse {mse:.4g})"))
    elif now and not was:
        better.append(f"{name} now lossless")
    elif number(old[f"{metric}_mse"]) is not None and number(new[f"{metric}_mse"]) is None:
        worse.append(f"{name} is missing: {new['missing'].get(f'{metric}_mse', 'no reason given')}")


def _memory_line(old: _Row, new: _Row, phase: str, change_mb: float | None, limits: Limits) -> str:
    """What to say of memory beyond the limits; empty within."""
    before, after = number(old[f"{phase}_peak_mb"]), number(new[f"{phase}_peak_mb"])
    if change_mb is None or not before or not after or abs(change_mb) <= limits.memory_mb:
        return ""
    if limits.memory_ratio >= max(after / before, before / after):
        return ""
    return f"{phase}r memory {change_mb:+.0f} MB ({before:.0f} to {after:.0f})"


# --- time ---------------------------------------------------------------------------------------------------------


def _time(old: _Row, new: _Row, phase: str, untimed: str, limits: Limits) -> TimeChange:
    before, after = number(old[f"{phase}_s"]), number(new[f"{phase}_s"])
    if before is None or after is None:
        return TimeChange(phase, before, after, None, None, "not judged", "a time is missing")
    reason = untimed or _other_conditions(old, new)
    if reason:
        return TimeChange(phase, before, after, None, None, "not judged", reason)
    ratio = after / before if before > 0 else None
    p_value, verdict, reason = judge_times(_samples(old, phase), _samples(new, phase), limits)
    return TimeChange(phase, before, after, ratio, p_value, verdict, reason)


def _other_conditions(old: _Row, new: _Row) -> str:
    if old["threads"] != new["threads"]:
        return f"threads differ ({old['threads']}, then {new['threads']})"
    if old["shares_cores"] or new["shares_cores"]:
        return "it shared cores while it was timed"
    return ""


def _samples(row: _Row, phase: str) -> list[float]:
    return [value for value in map(number, row[f"{phase}_s_samples"]) if value is not None]


def judge_times(
    old: Sequence[float], new: Sequence[float], limits: Limits = DEFAULT_LIMITS
) -> tuple[float | None, TimeVerdict, str]:
    """Whether repeats of one job got slower or faster: rank test and ratio of medians must agree.

    Args:
        old: seconds of each repeat.
        new: the same in the new run.
        limits: `time_p` and `time_ratio`.

    Returns:
        p of the one-sided test in the direction of the change (None when it was not made), the verdict, and why it is
        not judged (empty when it is).
    """
    from scipy.stats import mannwhitneyu

    needed = _repeats_needed(limits.time_p)
    if min(len(old), len(new)) == 0 or 1 / math.comb(len(old) + len(new), len(old)) > limits.time_p:
        return None, "not judged", f"{_NO_REPEATS} ({len(old)} and {len(new)}, {needed} each are needed)"
    medians = statistics.median(old), statistics.median(new)
    if len({*old, *new}) == 1:
        return 1.0, "no difference shown", ""
    slower = medians[1] >= medians[0]
    p_value = float(mannwhitneyu(new, old, alternative="greater" if slower else "less").pvalue)
    ratio = medians[1] / medians[0] if medians[0] > 0 else math.inf
    if p_value > limits.time_p or limits.time_ratio >= max(ratio, 1 / ratio if ratio > 0 else math.inf):
        return p_value, "no difference shown", ""
    return p_value, "slower" if slower else "faster", ""


def _repeats_needed(p_value: float) -> int:
    """Repeats in each run from which on the strictest rank order reaches `p_value`."""
    count = 1
    while 1 / math.comb(2 * count, count) > p_value:
        count += 1
    return count


# --- one curve ----------------------------------------------------------------------------------------------------


def _curves(
    pairs: Mapping[tuple[str, ...], tuple[_Row, _Row]], jobs: Sequence[JobChange], certify: Certify, limits: Limits
) -> list[CurveChange]:
    groups: dict[tuple[str, str, str], list[tuple[_Row, _Row]]] = {}
    for (codec, _, dataset, cloud), pair in pairs.items():
        groups.setdefault((codec, dataset, cloud), []).append(pair)
    by_curve: dict[tuple[str, str, str], list[JobChange]] = {}
    for job in jobs:
        if _comparable(job):
            by_curve.setdefault((job.codec, job.dataset, job.cloud), []).append(job)
    return [_curve(key, group, by_curve[key], certify, limits) for key, group in groups.items()]


def _curve(
    key: tuple[str, str, str],
    pairs: Sequence[tuple[_Row, _Row]],
    jobs: Sequence[JobChange],
    certify: Certify,
    limits: Limits,
) -> CurveChange:
    codec, dataset, cloud = key
    bd = tuple(filter(None, (_bd(pairs, metric, certify) for metric in METRICS)))
    worse = [
        _bd_line(change)
        for change in bd
        if change.bd_rate_pct is not None and change.bd_rate_pct > limits.bd_rate_pct
    ]
    better = [
        _bd_line(change)
        for change in bd
        if change.bd_rate_pct is not None and change.bd_rate_pct < -limits.bd_rate_pct
    ]
    memory = [value for job in jobs for value in (job.encode_mb, job.decode_mb) if value is not None]
    return CurveChange(
        codec=codec,
        dataset=dataset,
        cloud=cloud,
        n_jobs=len(jobs),
        n_same_stream=sum(job.same_stream for job in jobs),
        size_pct=_percent(*(_total(pairs, side, "size_bytes") for side in (0, 1))),
        bd=bd,
        encode_ratio=_time_ratio(jobs, "encode"),
        decode_ratio=_time_ratio(jobs, "decode"),
        memory_mb=max(memory, key=abs, default=None),
        regressions=tuple(worse),
        improvements=tuple(better),
    )


def _total(pairs: Sequence[tuple[_Row, _Row]], side: int, column: str) -> float | None:
    values = [number(pair[side][column]) for pair in pairs]
    return None if None in values else sum(value for value in values if value is not None)


def _time_ratio(jobs: Sequence[JobChange], phase: str) -> float | None:
    """Sum of medians, new / old, over the jobs whose times may be compared."""
    changes = [change for job in jobs for change in job.times if change.phase == phase and change.ratio is not None]
    before = sum(change.old_s or 0 for change in changes)
    after = sum(change.new_s or 0 for change in changes)
    return after / before if before > 0 else None


def _bd(pairs: Sequence[tuple[_Row, _Row]], metric: str, certify: Certify) -> BDChange | None:
    """BD of new against old; None where the codec has no lossy point, so that bytes say it all."""
    curves = [
        (
            [number(pair[side]["rate_bpp"]) for pair in pairs],
            [number(pair[side][f"{metric}_psnr_db"]) for pair in pairs],
        )
        for side in (0, 1)
    ]
    if all(value is None for _, qualities in curves for value in qualities):
        return None
    if curves[0] == curves[1]:
        return BDChange(metric, 0.0, 0.0, "OK")
    result = certify(*curves[0], *curves[1])
    return BDChange(metric, result.bd_rate_pct, result.bd_psnr_db, result.verdict, result.reason)


def _bd_line(change: BDChange) -> str:
    weak = f" ({change.verdict}: {change.reason})" if change.reason else ""
    return f"{change.metric.upper()} BD-rate {change.bd_rate_pct or 0:+.2f} %{weak}"
