"""BD tables: every codec against an anchor, per cloud, as the mean of clouds, and of the mean curve."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import pandas as pd

from .certificate import Certificate, Certify
from .errors import ReportError
from .frame import (
    IDENTITY,
    clouds_of,
    codec_flags,
    codecs_of,
    compared_codecs,
    finished_clouds,
    ok,
    one_peak,
    rates_of,
    require_one_passport,
)
from .plain import line
from .text import listed, number

#: Distortions that BD figures are made of.
METRICS = ("d1", "d2")
#: Values of the column `cloud` that stand for a whole data set.
MEAN, MEAN_CURVE = "mean", "mean curve"
#: Anchors in the order in which one is looked for.
DEFAULT_ANCHORS = ("gpcc-octree", "octree")
#: The anchor that reviewers ask for beside octree, which is weak in D1 at low rates.
SECOND_ANCHOR = "gpcc-trisoup"
#: Interpolations that get a column of their own.
METHODS = ("akima", "pchip", "cubic")

_METRIC_COLUMNS = [f"{metric}_{column}" for metric in METRICS for column in ("mse", "psnr_db")]

COLUMNS = (
    "anchor",
    "codec",
    "dataset",
    "cloud",
    "metric",
    "bd_rate_pct",
    "bd_psnr_db",
    "overlap",
    "verdict",
    "reason",
    "psnr_verdict",
    "psnr_reason",
    "method",
    "spread_pct",
    "spread_db",
    *(f"bd_rate_{method}_pct" for method in METHODS),
    *(f"bd_psnr_{method}_db" for method in METHODS),
    "quality_low_db",
    "quality_high_db",
    "overlap_of_anchor",
    "overlap_of_test",
    "anchor_points_inside",
    "test_points_inside",
    "rate_low_bpp",
    "rate_high_bpp",
    "rate_overlap",
    "anchor_points",
    "test_points",
    "anchor_monotone",
    "test_monotone",
    "anchor_drawn_rises",
    "test_drawn_rises",
    "dropped",
    "n_clouds",
    "clouds",
    "sd_pct",
    "min_pct",
    "max_pct",
    "psnr_n_clouds",
    "psnr_clouds",
    "sd_db",
    "n_finished",
    "flags",
    "n_ok",
    "n_total",
)


def default_anchors(frame: pd.DataFrame, anchor: str | None) -> list[str]:
    """The anchors of a report: the chosen or default one, then G-PCC trisoup where it ran.

    Raises:
        ReportError: the chosen anchor is unknown, or has no job that succeeded.
    """
    with_rows = [codec for codec in codecs_of(frame) if (ok(frame)["codec"] == codec).any()]
    if anchor is not None and anchor not in with_rows:
        if anchor in set(frame["codec"]):
            raise ReportError(f"the anchor {anchor} has no job that succeeded; these have: {', '.join(with_rows)}")
        near = get_close_matches(anchor, with_rows, n=3) or with_rows
        raise ReportError(f"no codec {anchor!r} in these rows to be the anchor; did you mean {', '.join(near)}?")
    first = anchor or next((name for name in DEFAULT_ANCHORS if name in with_rows), None)
    anchors = [] if first is None else [first]
    if SECOND_ANCHOR in with_rows and SECOND_ANCHOR != first:
        anchors.append(SECOND_ANCHOR)
    return anchors


#: Clouds that a codec does not code, at some rate or at all: (codec, data set, cloud).
Skipped = Collection[tuple[str, str, str]]


def bd_table(frame: pd.DataFrame, anchors: Sequence[str], certify: Certify, skipped: Skipped = ()) -> pd.DataFrame:
    """BD-rate and BD-PSNR of every codec against each anchor, one row a figure, with the certificate in columns.

    Of each data set there is, beside its clouds, a row `mean` (mean of the clouds' figures, over the clouds that
    every compared codec finished and whose figure is not refused; the spread in `sd_pct`, `min_pct`, `max_pct`) and,
    from two clouds on, a row `mean curve` (the figure of the rates and qualities averaged over those clouds).

    Args:
        frame: prepared rows of one passport.
        anchors: codecs to compare with.
        certify: computes one figure; where it fails, that figure is REFUSED with the reason.
        skipped: where a codec does not code the cloud and has no figure (`frame.not_applicable`).

    Raises:
        MixedPassportsError: the rows are of several passports.
    """
    require_one_passport(frame)
    # A row has some sixty columns; these are all that the figures need.
    columns = [*IDENTITY, "status", "rate_bpp", "passport", "trained", "contaminated", *_METRIC_COLUMNS]
    frame = frame[[*columns, *({"skipped"} & set(frame.columns))]]
    records: list[dict[str, Any]] = []
    for anchor in anchors:
        for dataset in dict.fromkeys(dataset for dataset, _ in clouds_of(frame)):
            rows = frame[frame["dataset"] == dataset]
            if anchor in set(ok(rows)["codec"]):
                records += _of_dataset(rows, dataset, anchor, certify, skipped)
    return pd.DataFrame(records, columns=list(COLUMNS))


@dataclass(frozen=True)
class _Pair:
    """What is compared with what, in which distortion."""

    anchor: str
    codec: str
    metric: str


@dataclass(frozen=True)
class _Ran:
    """What a codec did on one cloud."""

    rates_bpp: list[float | None]
    psnr_db: Mapping[str, list[float | None]]
    n_ok: int
    n_total: int
    flags: list[str]


_NOT_RUN = _Ran([], {metric: [] for metric in METRICS}, 0, 0, [])


def _of_dataset(
    rows: pd.DataFrame, dataset: str, anchor: str, certify: Certify, skipped: Skipped
) -> Iterator[dict[str, Any]]:
    compared = compared_codecs(rows, dataset)
    common = finished_clouds(rows, dataset, compared)
    ran = {(codec, cloud): _ran(mine) for (codec, cloud), mine in rows.groupby(["codec", "cloud"], sort=False)}
    for metric in METRICS:
        if rows[f"{metric}_mse"].map(number).notna().sum() == 0:
            continue  # the metric was not made at all; the page says so once, not at every codec
        for codec in codecs_of(rows):
            if codec == anchor:
                continue
            pair = _Pair(anchor, codec, metric)
            mine = rows[rows["codec"] == codec]
            head: dict[str, Any] = {"anchor": anchor, "codec": codec, "dataset": dataset, "metric": metric}
            per_cloud = {}
            for _, cloud in clouds_of(rows):
                if any((name, dataset, cloud) in skipped and (name, cloud) not in ran for name in (anchor, codec)):
                    continue  # one of the two does not code this kind of cloud, which is said once and elsewhere
                base, test = (ran.get((name, cloud), _NOT_RUN) for name in (anchor, codec))
                per_cloud[cloud] = {**head, "cloud": cloud, **_of_cloud(base, test, pair, certify)}
                yield per_cloud[cloud]
            head |= {
                "n_finished": len(common),
                "n_ok": len(ok(mine)),
                "n_total": len(mine),
                "flags": ", ".join(codec_flags(rows, codec)),
            }
            unfinished = [name for name in (codec, anchor) if name not in compared]
            if unfinished:
                yield {**head, "cloud": MEAN, **_refusal(f"{unfinished[0]} finished no cloud of this data set")}
                continue
            yield {**head, "cloud": MEAN, **_mean(per_cloud, common)}
            if len(common) > 1:
                yield {**head, "cloud": MEAN_CURVE, **_of_mean_curve(rows, common, pair, certify)}


def _ran(rows: pd.DataFrame) -> _Ran:
    """Rates in bits a point and PSNR in dB of what succeeded; a lossless or missing PSNR is None."""
    done = ok(rows)
    return _Ran(
        rates_bpp=[number(value) for value in done["rate_bpp"]],
        psnr_db={metric: [number(value) for value in done[f"{metric}_psnr_db"]] for metric in METRICS},
        n_ok=len(done),
        n_total=len(rows),
        flags=codec_flags(rows, rows["codec"].iloc[0]),
    )


def _of_cloud(anchor: _Ran, test: _Ran, pair: _Pair, certify: Certify) -> dict[str, Any]:
    counts = {"n_ok": test.n_ok, "n_total": test.n_total, "flags": ", ".join(test.flags)}
    for name, ran in ((pair.anchor, anchor), (pair.codec, test)):
        if not ran.n_ok:
            why = "no job succeeded" if ran.n_total else "was not run"
            return {**counts, **_refusal(f"{name}: {why} on this cloud")}
    curves = (anchor.rates_bpp, anchor.psnr_db[pair.metric], test.rates_bpp, test.psnr_db[pair.metric])
    return _with_flags({**counts, **_certified(certify, curves)}, {pair.codec: test.flags, pair.anchor: anchor.flags})


def _certified(certify: Certify, curves: Sequence[list[float | None]]) -> dict[str, Any]:
    """One figure; an error in it is the verdict of this pair and ends no report."""
    try:
        return _record(certify(*curves))
    except Exception as error:
        return _refusal(f"it could not be computed: {line(_named(error))}")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _with_flags(record: dict[str, Any], flags: Mapping[str, list[str]]) -> dict[str, Any]:
    """A figure of untrained weights is none, and one of a cloud that was trained on deserves no OK."""
    for name, words in flags.items():
        if "untrained" in words:
            figures = dict.fromkeys([key for key in record if key.startswith(("bd_", "spread"))])
            return {**record, **figures, **_refusal(f"the weights of {name} are untrained")}
        if "contaminated" in words:
            why = f"{name} was trained on this cloud"
            for verdict, reason in _VERDICTS:
                if record[verdict] != "REFUSED":
                    reasons = "; ".join(filter(None, [record[reason], why]))
                    record = {**record, verdict: "WEAK", reason: reasons}
    return record


#: The columns of the verdict and the reason of each figure.
_VERDICTS = (("verdict", "reason"), ("psnr_verdict", "psnr_reason"))


def _refusal(reason: str) -> dict[str, Any]:
    verdicts = {verdict: "REFUSED" for verdict, _ in _VERDICTS} | {why: reason for _, why in _VERDICTS}
    return {"bd_rate_pct": None, "bd_psnr_db": None, **verdicts}


def _record(result: Certificate) -> dict[str, Any]:
    quality, rate = result.quality, result.rate
    record: dict[str, Any] = {
        "bd_rate_pct": result.bd_rate_pct,
        "bd_psnr_db": result.bd_psnr_db,
        "overlap": result.overlap,
        "verdict": result.verdict,
        "reason": result.reason,
        "psnr_verdict": result.psnr_verdict,
        "psnr_reason": result.psnr_reason,
        "method": result.method,
        "spread_pct": result.spread_pct,
        "spread_db": result.spread_db,
        "anchor_points": result.anchor_points,
        "test_points": result.test_points,
        "anchor_monotone": result.anchor_monotone,
        "test_monotone": result.test_monotone,
        "anchor_drawn_rises": result.anchor_drawn_rises,
        "test_drawn_rises": result.test_drawn_rises,
        "dropped": "; ".join(f"{point.curve} {point.index}: {point.reason}" for point in result.dropped),
        "n_clouds": 1,
    }
    record |= {f"bd_rate_{method}_pct": result.rate_by_method.get(method) for method in METHODS}
    record |= {f"bd_psnr_{method}_db": result.psnr_by_method.get(method) for method in METHODS}
    if quality is not None:
        record |= {
            "quality_low_db": quality.low,
            "quality_high_db": quality.high,
            "overlap_of_anchor": quality.of_anchor,
            "overlap_of_test": quality.of_test,
            "anchor_points_inside": quality.anchor_points,
            "test_points_inside": quality.test_points,
        }
    if rate is not None:
        record |= {"rate_low_bpp": rate.low, "rate_high_bpp": rate.high, "rate_overlap": rate.of_union}
    return record


def _mean(per_cloud: Mapping[str, Mapping[str, Any]], common: Sequence[str]) -> dict[str, Any]:
    """Mean of the clouds' figures, over those that have one; believed no more than the worst of them."""
    if not common:
        return _refusal("no cloud was finished by every compared codec")
    parts = {cloud: per_cloud[cloud] for cloud in common}
    rate = _mean_of(parts, "bd_rate_pct", *_VERDICTS[0])
    psnr = _mean_of(parts, "bd_psnr_db", *_VERDICTS[1])
    used = [part for cloud, part in parts.items() if cloud in rate.clouds]
    spreads = [spread for part in used if (spread := number(part.get("spread_pct"))) is not None]
    return {
        "n_finished": len(common),
        "bd_rate_pct": rate.value,
        "verdict": rate.verdict,
        "reason": rate.reason,
        "n_clouds": len(rate.clouds),
        "clouds": ", ".join(rate.clouds),
        "sd_pct": rate.deviation,
        "min_pct": min((part["bd_rate_pct"] for part in used), default=None),
        "max_pct": max((part["bd_rate_pct"] for part in used), default=None),
        "bd_psnr_db": psnr.value,
        "psnr_verdict": psnr.verdict,
        "psnr_reason": psnr.reason,
        "psnr_n_clouds": len(psnr.clouds),
        "psnr_clouds": ", ".join(psnr.clouds),
        "sd_db": psnr.deviation,
        "overlap": statistics.fmean(part["overlap"] for part in used) if used else None,
        "method": used[0]["method"] if used else None,
        "spread_pct": max(spreads, default=None),
    }


@dataclass(frozen=True)
class _Mean:
    """A mean of the clouds' figures; `clouds` are those that it is over."""

    value: float | None
    verdict: str
    reason: str
    clouds: Sequence[str]
    deviation: float | None = None


def _mean_of(parts: Mapping[str, Mapping[str, Any]], figure: str, verdict: str, reason: str) -> _Mean:
    def of(word: str) -> list[tuple[str, str]]:
        return [(cloud, part[reason]) for cloud, part in parts.items() if part[verdict] == word]

    refused, weak = of("REFUSED"), of("WEAK")
    used = {cloud: part[figure] for cloud, part in parts.items() if part[verdict] != "REFUSED"}
    if not used:
        return _Mean(None, "REFUSED", _reasons(refused, len(parts)), ())
    values = list(used.values())
    reasons = [_reasons(weak, len(used))] if weak else []
    if refused:
        over = f"mean of {len(used)} of {len(parts)} clouds ({', '.join(used)})"
        reasons = [f"{over}; refused {_reasons(refused, 0)}", *reasons]
    return _Mean(
        statistics.fmean(values),
        "WEAK" if reasons else "OK",
        "; ".join(reasons),
        tuple(used),
        statistics.stdev(values) if len(values) > 1 else None,
    )


def _reasons(parts: Sequence[tuple[str, str]], n_clouds: int) -> str:
    """`on A and B: why; on C: why`, each reason once; the reason alone where it holds on all clouds."""
    by_reason: dict[str, list[str]] = {}
    for cloud, reason in parts:
        by_reason.setdefault(reason, []).append(cloud)
    return "; ".join(
        reason if len(clouds) == n_clouds else f"on {listed(clouds)}: {reason}"
        for reason, clouds in by_reason.items()
    )


def _of_mean_curve(rows: pd.DataFrame, common: Sequence[str], pair: _Pair, certify: Certify) -> dict[str, Any]:
    base = {"n_clouds": len(common), "n_finished": len(common), "clouds": ", ".join(common)}
    chosen = ok(rows[rows["cloud"].isin(list(common)) & rows["codec"].isin([pair.anchor, pair.codec])])
    if not one_peak(chosen):
        return {**base, **_refusal("the clouds have different peaks, whose decibels are not averaged")}
    anchor, test = (
        _mean_curve(chosen[chosen["codec"] == name], len(common), pair.metric) for name in (pair.anchor, pair.codec)
    )
    flags = {name: codec_flags(chosen, name) for name in (pair.codec, pair.anchor)}
    return _with_flags({**_certified(certify, (*anchor, *test)), **base}, flags)


def _mean_curve(rows: pd.DataFrame, n_clouds: int, metric: str) -> tuple[list[float | None], list[float | None]]:
    """Rate and quality of each rate averaged over the clouds; a rate without quality on one of them has none."""
    rates: list[float | None] = []
    qualities: list[float | None] = []
    for name in rates_of(rows, rows["codec"].iloc[0]):
        of_rate = rows[rows["rate"] == name]
        costs = [value for value in map(number, of_rate["rate_bpp"]) if value is not None]
        values = [value for value in map(number, of_rate[f"{metric}_psnr_db"]) if value is not None]
        rates.append(statistics.fmean(costs) if len(costs) == n_clouds else None)
        qualities.append(statistics.fmean(values) if len(values) == n_clouds else None)
    return rates, qualities
