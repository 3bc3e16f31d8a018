"""Changes: what changed from one run to another, job by job and curve by curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
)
from .frame import IDENTITY, prepare, records
from .lost import what_is_lost
from .text import listed, number
from .timing import PHASES, judge_all, timed
from .tradeoff import judge

_Row = Mapping[str, Any]
_Key = tuple[str, ...]
#: Load for each core from which on a machine is called busy.
BUSY_LOAD = 0.5
#: Statuses that are no evidence of anything, and those that are no failure.
_NO_EVIDENCE, _NO_FAILURE = ("disrupted",), ("ok", "not_applicable")


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

    Jobs are paired by codec, rate, data set and cloud.  Each is compared with itself in bytes, in every quality
    figure (`tradeoff`), in time (`timing`) and in memory, and each codec on each cloud by BD-rate.  A pair is
    refused, with the reason, where its figures cannot be compared: another cloud under the same name, another metric
    passport, other parameters of the rate.  Times and memory are compared only between runs of one machine.  Jobs
    that are ok in the old run and not in the new one at all are lost.  That is a regression, and so are refused
    pairs: what a comparison cannot see, it must not let pass.

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
    busy = tuple(bool(_busy("", provenance or {})) for provenance in (old_provenance, new_provenance))
    jobs = tuple(_jobs([(old[key], new[key]) for key in shared], old.values(), untimed, limits, (busy[0], busy[1])))
    pairs = {key: (old[key], new[key]) for key, job in zip(shared, jobs, strict=True) if _comparable(job)}
    lost = what_is_lost([key for key, row in old.items() if row["status"] == "ok"], new, new_provenance or {})
    return Comparison(
        limits=limits,
        jobs=jobs,
        curves=tuple(_curves(pairs, jobs, certify, limits)),
        only_old=tuple(_name(key) for key in old if key not in new),
        only_new=tuple(_name(key) for key in new if key not in old),
        lost=lost.lines,
        gone_unavailable=lost.unavailable,
        conditions=tuple(_conditions(old_provenance or {}, new_provenance or {}, untimed)),
    )


def _by_identity(frame: pd.DataFrame) -> dict[_Key, _Row]:
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


def _jobs(
    pairs: Sequence[tuple[_Row, _Row]],
    old_rows: Iterable[_Row],
    untimed: str,
    limits: Limits,
    was_busy: tuple[bool, bool],
) -> list[JobChange]:
    """Every job of both runs: times are judged all together."""
    curves: dict[tuple[str, ...], list[_Row]] = {}
    for row in old_rows:
        if row["status"] == "ok":
            curves.setdefault(_place(row), []).append(row)
    compared = [
        index
        for index, pair in enumerate(pairs)
        if not _refusal(*pair) and all(row["status"] == "ok" for row in pair)
    ]
    all_times = [timed(*pairs[index], phase, untimed) for index in compared for phase in PHASES]
    changes = iter(judge_all(all_times, limits, was_busy=was_busy))
    times = {index: tuple(next(changes) for _ in PHASES) for index in compared}
    return [
        _job(*pair, times.get(index, ()), curves.get(_place(pair[0]), []), untimed, limits)
        for index, pair in enumerate(pairs)
    ]


def _both_ok(old: _Row, new: _Row) -> bool:
    return bool(old["status"] == new["status"] == "ok")


def _place(row: _Row) -> tuple[str, ...]:
    return str(row["codec"]), str(row["dataset"]), str(row["cloud"])


def _job(
    old: _Row, new: _Row, times: tuple[TimeChange, ...], curve: Sequence[_Row], untimed: str, limits: Limits
) -> JobChange:
    base: dict[str, Any] = {name: str(new[name]) for name in IDENTITY}
    base |= {"old_status": old["status"], "new_status": new["status"]}
    refused = _refusal(old, new)
    if refused:
        return JobChange(**base, refused=refused)
    if not _both_ok(old, new):
        return JobChange(**base, **_status_change(old, new, limits))
    size_pct = _percent(number(old["size_bytes"]), number(new["size_bytes"]))
    found = judge(old, new, size_pct, curve, limits)
    for change in times:
        _time_line(change, found.worse, found.better, found.notes)
    memory = {phase: None if untimed else _difference(old, new, f"{phase}_peak_mb") for phase in PHASES}
    for phase, change_mb in memory.items():
        line = _memory_line(old, new, phase, change_mb, limits)
        if line and change_mb is not None:
            (found.worse if change_mb > 0 else found.better).append(line)
    changes = dict(found.changes)
    return JobChange(
        **base,
        same_stream=bool(old["stream_sha256"]) and old["stream_sha256"] == new["stream_sha256"],
        size_pct=size_pct,
        d1_db=changes.pop("d1_psnr_db", None),
        d2_db=changes.pop("d2_psnr_db", None),
        figures={column: value for column, value in changes.items() if value},
        times=times,
        encode_mb=memory["encode"],
        decode_mb=memory["decode"],
        regressions=tuple(found.worse),
        improvements=tuple(found.better),
        notes=tuple(found.notes),
    )


def _time_line(change: TimeChange, worse: list[str], better: list[str], notes: list[str]) -> None:
    if change.verdict in ("slower", "faster"):
        line = f"{change.phase} x{change.ratio:.2f} ({change.old_s:.4g} s to {change.new_s:.4g} s, "
        line += f"p = {change.p_value:.2g})"
        (worse if change.verdict == "slower" else better).append(line)
    elif change.verdict == "not judged" and change.p_value is not None:
        notes.append(f"{change.phase} not judged: {change.reason}")


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
    """What to say of a job that was, or is, not ok.  A failure of the moment is no evidence."""
    was, now = str(old["status"]), str(new["status"])
    before, after = was.replace("_", " "), now.replace("_", " ")
    after = f"{after}: {new['reason']}" if new["reason"] else after
    accepted = (now == "unavailable" and not limits.unavailable_fails) or (
        now == "unreadable" and not limits.lost_fails
    )
    if now in _NO_EVIDENCE or was in _NO_EVIDENCE:
        again = ", the next bench run tries again" if now in _NO_EVIDENCE else ""
        return {"notes": (f"was {before}, now {after}: not judged{again}",)}
    if now == "ok":
        return {"improvements": (f"succeeds now; was {before}: {old['reason']}",)}
    if was == now == "not_applicable":
        return {}
    if was not in _NO_FAILURE:
        return {"notes": (f"now {after}" if now in _NO_FAILURE else f"still fails: {after}",)}
    return {"notes" if accepted else "regressions": (f"was {before}, now {after}",)}


def _percent(old: float | None, new: float | None) -> float | None:
    return None if old is None or new is None or old == 0 else 100 * (new / old - 1)


def _difference(old: _Row, new: _Row, column: str) -> float | None:
    before, after = number(old[column]), number(new[column])
    return None if before is None or after is None else after - before


def _memory_line(old: _Row, new: _Row, phase: str, change_mb: float | None, limits: Limits) -> str:
    """What to say of memory beyond the limits; empty within."""
    before, after = number(old[f"{phase}_peak_mb"]), number(new[f"{phase}_peak_mb"])
    if change_mb is None or not before or not after or abs(change_mb) <= limits.memory_mb:
        return ""
    if limits.memory_ratio >= max(after / before, before / after):
        return ""
    return f"{phase}r memory {change_mb:+.0f} MB ({before:.0f} to {after:.0f})"


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
