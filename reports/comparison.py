"""Comparison: what changed from one run to another, as records and as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .table import Cell, Column, Table, missing_cell, text_cell, to_markdown, to_text
from .text import listed, plural, signed, significant

TimeVerdict = Literal["slower", "faster", "no difference shown", "not judged"]


@dataclass(frozen=True)
class Limits:
    """What counts as a regression.  A change within its limit is reported and is none.

    Bytes and quality of deterministic codecs repeat exactly, so their limits are what nobody would mind; those of
    time and memory are above what equal code shows on a machine that does other work.

    Attributes:
        size_pct: bytes of one job, percent more.
        psnr_db: D1 or D2 PSNR of one job, dB less.
        chamfer_db: either chamfer distance of one job, dB more (of the squared distance).  It sums both directions,
            of which PSNR keeps the worse, and so may move a little more.
        hausdorff_db: either Hausdorff distance of one job, dB more (of the squared distance).  One point decides it:
            3 dB is a distance x1.41, one step of a grid.
        secondary_pct: local density and normals of one job, percent worse.
        trade_factor: where bytes and quality of one job both rose, or both fell: how much more a dB may cost, or how
            much less giving it up may save, than in the old run between its rates.  Where that has only one rate, the
            price is that of a surface on a grid: half the step takes four times the bytes and gives 6.02 dB.
        bd_rate_pct: BD-rate of one codec on one cloud, new against old, percent.
        time_ratio: seconds of one job, new / old: of the medians and of the fastest repeats ...
        time_floor_s: ... and seconds more, for a few milliseconds are the scheduler's ...
        time_p: ... and p of a one-sided t-test of the logarithms, corrected for the number of tests [Holm 1979].
        busy_load: cores' worth of other programs' work from which on a time says little by itself ...
        busy_ratio: ... and counts only when its CPU seconds rose this much more than those of other codecs, for cores
            that are shared take up to x1.5, or when the codec slept longer.
        memory_ratio: peak memory of one job, new / old ...
        memory_mb: ... and MiB more; both must be exceeded.
        unavailable_fails: a codec of the old run that cannot run now is a regression.
        lost_fails: so are jobs of the old run that the new one lacks, or that cannot be compared with it.
    """

    size_pct: float = 0.5
    psnr_db: float = 0.02
    chamfer_db: float = 0.05
    hausdorff_db: float = 3.0
    secondary_pct: float = 2.0
    trade_factor: float = 1.5
    bd_rate_pct: float = 0.5
    time_ratio: float = 1.10
    time_floor_s: float = 0.02
    time_p: float = 0.01
    busy_load: float = 0.2
    busy_ratio: float = 1.7
    memory_ratio: float = 1.15
    memory_mb: float = 32.0
    unavailable_fails: bool = True
    lost_fails: bool = True

    def describe(self) -> str:
        """The limits in one line."""
        return (
            f"regression beyond: bytes +{self.size_pct:g} %, PSNR -{self.psnr_db:g} dB, chamfer "
            f"+{self.chamfer_db:g} dB, Hausdorff +{self.hausdorff_db:g} dB, BD-rate +{self.bd_rate_pct:g} %, time "
            f"x{self.time_ratio:g} and +{1000 * self.time_floor_s:g} ms with p <= {self.time_p:g} (t-test over "
            f"repeats, corrected for all tests), memory x{self.memory_ratio:g} and +{self.memory_mb:g} MB, "
            + ("any new failure, any lost job" if self.lost_fails else "any new failure")
        )


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class TimeChange:
    """Time of one phase of one job.

    Attributes:
        phase: `encode` or `decode`.
        old_s, new_s: medians.
        ratio: new / old.
        p_value: of the one-sided t-test in the direction of the change, corrected for all tests of the comparison;
            None when it was not made.
        verdict: what may be said.
        reason: why it is not judged; empty otherwise.
    """

    phase: str
    old_s: float | None
    new_s: float | None
    ratio: float | None
    p_value: float | None
    verdict: TimeVerdict
    reason: str = ""


@dataclass(frozen=True)
class JobChange:
    """One job in both runs.

    Attributes:
        codec, rate, dataset, cloud: which.
        old_status, new_status: how it ended.
        refused: why the two cannot be compared (other cloud, other passport, other parameters); empty when they can.
        same_stream: the bitstreams are equal.
        size_pct: change of bytes.
        d1_db, d2_db: change of PSNR; None where either is lossless or missing.
        figures: further quality figures that changed, by column: dB better (squared distances), else percent better.
        times: of encode and decode.
        encode_mb, decode_mb: change of peak memory in MiB; None where not compared.
        regressions: what exceeds a limit, one line each.
        improvements: the same for the better.
        notes: what else must be said.
    """

    codec: str
    rate: str
    dataset: str
    cloud: str
    old_status: str
    new_status: str
    refused: str = ""
    same_stream: bool = False
    size_pct: float | None = None
    d1_db: float | None = None
    d2_db: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    times: tuple[TimeChange, ...] = ()
    encode_mb: float | None = None
    decode_mb: float | None = None
    regressions: tuple[str, ...] = ()
    improvements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`octree r03 on loot`."""
        return f"{self.codec} {self.rate} on {self.cloud}"


@dataclass(frozen=True)
class BDChange:
    """BD-rate of the new run against the old, one codec, cloud and distortion.

    Attributes:
        metric: `d1` or `d2`.
        bd_rate_pct, bd_psnr_db: the figures; exactly 0 when the curves are equal.
        verdict, reason: the certificate's.
    """

    metric: str
    bd_rate_pct: float | None
    bd_psnr_db: float | None
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class CurveChange:
    """One codec on one cloud over its rates.

    Attributes:
        codec, dataset, cloud: which.
        n_jobs: jobs that were compared.
        n_same_stream: of which the bitstreams are equal.
        size_pct: change of the sum of bytes.
        bd: BD figures, D1 and D2.
        encode_ratio, decode_ratio: sum of the median seconds, new / old; None where times are not compared.
        memory_mb: largest change of peak memory.
        regressions: of BD-rate.
        improvements: the same for the better.
    """

    codec: str
    dataset: str
    cloud: str
    n_jobs: int
    n_same_stream: int
    size_pct: float | None
    bd: tuple[BDChange, ...]
    encode_ratio: float | None
    decode_ratio: float | None
    memory_mb: float | None
    regressions: tuple[str, ...] = ()
    improvements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What changed from an old run to a new one.

    Attributes:
        limits: what counts as a regression.
        jobs: jobs of both runs.
        curves: codecs and clouds with a job that was compared.
        only_old, only_new: jobs of one run alone, as `codec rate on cloud`.
        lost: what the old run has and the new one lacks, in few lines: whole codecs, clouds and rates first.
        gone_unavailable: the same of codecs that cannot run now.
        conditions: differences of machine, code and packages, and whether times are compared.
    """

    limits: Limits
    jobs: tuple[JobChange, ...] = ()
    curves: tuple[CurveChange, ...] = ()
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    gone_unavailable: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()

    @property
    def regressions(self) -> list[str]:
        """Every regression, one line each."""
        lines = list(self.lost if self.limits.lost_fails else ())
        lines += self.gone_unavailable if self.limits.unavailable_fails else ()
        lines += [f"cannot be compared: {line}" for line in (self.refusals if self.limits.lost_fails else ())]
        return lines + self._lines("regressions")

    @property
    def improvements(self) -> list[str]:
        """Every improvement, one line each."""
        return self._lines("improvements")

    @property
    def refusals(self) -> list[str]:
        """Pairs that could not be compared, with the reason."""
        return [f"{job.name}: {job.refused}" for job in self.jobs if job.refused]

    @property
    def has_regression(self) -> bool:
        """Whether anything is worse beyond its limit."""
        return bool(self.regressions)

    def _lines(self, kind: str) -> list[str]:
        lines = [f"{curve.codec} on {curve.cloud}: {line}" for curve in self.curves for line in getattr(curve, kind)]
        return lines + [f"{job.name}: {line}" for job in self.jobs for line in getattr(job, kind)]

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        compared = sum(not job.refused for job in self.jobs)
        parts = [f"{plural(compared, 'job')} in both runs"]
        equal = sum(job.same_stream for job in self.jobs)
        parts.append(f"{equal} with equal bitstreams")
        if self.refusals:
            parts.append(f"{len(self.refusals)} not comparable")
        if self.only_old:
            parts.append(f"{len(self.only_old)} only in the old")
        if self.only_new:
            parts.append(f"{len(self.only_new)} only in the new")
        outcome = plural(len(self.regressions), "regression") if self.has_regression else "no regression"
        return f"{outcome}: {', '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        outcome = {
            "has_regression": self.has_regression,
            "regressions": self.regressions,
            "improvements": self.improvements,
        }
        return outcome | asdict(self)

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_text(self) -> str:
        """For a terminal."""
        blocks = [self.headline]
        if self.curves:
            blocks.append(to_text(self.table()))
        for title, lines in self._lists():
            blocks.append("\n".join([f"{title}:", *(f"  {line}" for line in lines)]))
        blocks.append(self.limits.describe())
        return "\n\n".join(blocks)

    def to_markdown(self) -> str:
        """For a pull request."""
        blocks = [f"## {self.headline[0].upper()}{self.headline[1:]}"]
        if self.curves:
            blocks.append(to_markdown(self.table()).rstrip())
        for title, lines in self._lists():
            blocks.append("\n".join([f"**{title}**", "", *(f"- {line}" for line in lines)]))
        blocks.append(f"Limits: {self.limits.describe()}.")
        return "\n\n".join(blocks) + "\n"

    def _lists(self) -> list[tuple[str, Sequence[str]]]:
        notes = [f"{job.name}: {note}" for job in self.jobs for note in job.notes]
        lists: list[tuple[str, Sequence[str]]] = [
            ("regressions", self.regressions),
            ("improvements", self.improvements),
            ("notes", notes),
            ("not comparable", () if self.limits.lost_fails else self.refusals),
            ("only in the old run", () if self.limits.lost_fails else self.lost),
            ("unavailable now", () if self.limits.unavailable_fails else self.gone_unavailable),
            ("only in the new run", self.only_new),
            ("conditions", self.conditions),
        ]
        return [(title, lines) for title, lines in lists if lines]

    def table(self) -> Table:
        """One line for each codec and cloud."""
        columns = [
            Column("codec", numeric=False),
            Column("cloud", numeric=False),
            Column("jobs"),
            Column("bytes, %"),
            Column("D1 BD-rate, %"),
            Column("D2 BD-rate, %"),
            Column("encode"),
            Column("decode"),
            Column("memory, MB"),
            Column("outcome", numeric=False),
        ]
        rows = [self._row(curve) for curve in self.curves]
        caption = (
            "New against old: change of bytes over all rates, BD-rate with the old run as anchor, ratio of times."
        )
        return Table("What changed", caption, columns, rows, name="comparison")

    def _row(self, curve: CurveChange) -> list[Cell]:
        mine = [job for job in self.jobs if (job.codec, job.dataset, job.cloud) == _key(curve)]
        bd = {change.metric: change for change in curve.bd}
        return [
            text_cell(curve.codec),
            text_cell(curve.cloud),
            Cell(str(curve.n_jobs), sort=curve.n_jobs),
            _size_cell(curve),
            *(_bd_cell(bd.get(metric)) for metric in ("d1", "d2")),
            *(_time_cell(ratio, mine, phase) for phase, ratio in _ratios(curve)),
            missing_cell() if curve.memory_mb is None else Cell(signed(curve.memory_mb, 0), sort=curve.memory_mb),
            text_cell(_outcome(curve, mine)),
        ]


def _key(curve: CurveChange) -> tuple[str, str, str]:
    return curve.codec, curve.dataset, curve.cloud


def _ratios(curve: CurveChange) -> list[tuple[str, float | None]]:
    return [("encode", curve.encode_ratio), ("decode", curve.decode_ratio)]


def _size_cell(curve: CurveChange) -> Cell:
    if curve.n_jobs and curve.n_same_stream == curve.n_jobs:
        return Cell("equal", sort=0)
    return missing_cell() if curve.size_pct is None else Cell(signed(curve.size_pct), sort=curve.size_pct)


def _bd_cell(change: BDChange | None) -> Cell:
    if change is None:
        return missing_cell()
    if change.bd_rate_pct is None:
        return missing_cell(f"BD-rate refused: {change.reason}")
    badge = change.verdict if change.verdict != "OK" else ""
    return Cell(signed(change.bd_rate_pct), sort=change.bd_rate_pct, badge=badge, note=change.reason)


def _time_cell(ratio: float | None, jobs: Sequence[JobChange], phase: str) -> Cell:
    """The ratio, with what the tests of the jobs allow to say."""
    changes = [change for job in jobs for change in job.times if change.phase == phase]
    if ratio is None or not changes:
        reasons = list(dict.fromkeys(change.reason for change in changes if change.reason))
        return missing_cell(listed(reasons))
    counts = {verdict: sum(change.verdict == verdict for change in changes) for verdict in ("slower", "faster")}
    words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    reasons = list(dict.fromkeys(change.reason for change in changes if change.reason))
    text = f"x{significant(ratio)}" + (f" ({words})" if words else "")
    return Cell(text, sort=ratio, note=listed(reasons))


def _outcome(curve: CurveChange, jobs: Sequence[JobChange]) -> str:
    worse = len(curve.regressions) + sum(len(job.regressions) for job in jobs)
    better = len(curve.improvements) + sum(len(job.improvements) for job in jobs)
    if worse:
        return plural(worse, "regression")
    return plural(better, "improvement") if better else "as before"
