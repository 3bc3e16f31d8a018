"""Tables: what a report says in figures, built from prepared rows and BD figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .bd import MEAN, MEAN_CURVE, METHODS, METRICS
from .frame import (
    NOT_APPLICABLE,
    clouds_of,
    codecs_of,
    compared_codecs,
    finished_clouds,
    is_lossless,
    of_cloud,
    ok,
    one_peak,
    rates_of,
    records,
    require_one_passport,
    title_of,
)
from .table import Cell, Column, Table, missing_cell, text_cell
from .text import (
    MISSING,
    bpp,
    deviation,
    few,
    figure,
    integer,
    is_missing,
    listed,
    number,
    percent,
    plural,
    significant,
)

#: From this many clouds on, the matrix of BD figures would be wider than a page.
MAX_MATRIX_CLOUDS = 5

_VERDICTS = "OK: trustworthy; WEAK: doubtful, see the note; REFUSED: no figure, see the note"
#: Which of two means to quote, and why; said once, next to the figures.
WHICH_MEAN = (
    "Quote the mean: BD-rate of each cloud, averaged over the clouds. Every cloud then counts alike, and each of its "
    "parts has a verdict of its own. The BD figure of the mean curve averages rates and decibels over the clouds "
    "first, so that clouds that are dear to code weigh most; it is in the certificates as a check, and differs where "
    "the clouds do."
)
#: What each BD column is called.
_BD_NAMES = {"bd_rate_pct": "BD-rate", "bd_psnr_db": "BD-PSNR"}
_LABELS = {"d1": "D1", "d2": "D2"}


def count_ok(rows: pd.DataFrame) -> str:
    """`54 of 60 jobs ok`."""
    return f"{len(ok(rows))} of {plural(len(rows), 'job')} ok"


def _words(titles: Mapping[str, str], codec: str) -> Cell:
    title = titles.get(codec, codec)
    return Cell(title, sort=title.lower(), tip=codec if codec != title else "")


def _lossless_only(rows: pd.DataFrame, codec: str) -> bool:
    """Whether only lossless rates of a codec were run, so that it has a point and no curve."""
    return bool(rows.loc[rows["codec"] == codec, "lossless"].all())


def _titles(rows: pd.DataFrame) -> dict[str, str]:
    return {codec: title_of(rows, codec) for codec in codecs_of(rows)}


def _figure(value: Any, write: Any, note: str = "") -> Cell:
    """A cell of a figure, or of its absence."""
    known = number(value)
    return missing_cell(note) if known is None else Cell(write(known), sort=known)


# --- BD -----------------------------------------------------------------------------------------------------------


#: Columns of the verdict, the reason, the deviation, the clouds of a mean, and the spread of each BD figure.
_BD_COLUMNS = {
    "bd_rate_pct": ("verdict", "reason", "sd_pct", "n_clouds", "spread_pct"),
    "bd_psnr_db": ("psnr_verdict", "psnr_reason", "sd_db", "psnr_n_clouds", "spread_db"),
}


def _bd_cell(record: Mapping[str, Any] | None, column: str = "bd_rate_pct") -> Cell:
    """A BD figure with its own verdict; the reason is its note."""
    if record is None:
        return missing_cell()
    verdict, reason, deviations, counts, _ = (record.get(name) for name in _BD_COLUMNS[column])
    value = number(record[column])
    if value is None:
        return Cell("", note=reason or "", badge="REFUSED")
    text = figure(value)
    sd = number(deviations)
    if sd is not None:
        text += f" ± {deviation(sd, value)}"
    over, of = number(counts), number(record.get("n_finished"))
    if over is not None and of is not None and over < of:
        text += f" ({over:.0f} of {of:.0f})"
    return Cell(text, sort=value, note=reason or "", badge=verdict or "", tip=_bd_tip(record, column))


def _bd_tip(record: Mapping[str, Any], column: str) -> str:
    """The certificate in one line."""
    parts = []
    of_rate = column == "bd_rate_pct"
    ends = ("quality_low_db", "quality_high_db") if of_rate else ("rate_low_bpp", "rate_high_bpp")
    low, high = (number(record.get(end)) for end in ends)
    if low is not None and high is not None:
        parts.append(f"{low:.2f} to {high:.2f} dB" if of_rate else f"{bpp(low)} to {bpp(high)} bpp")
    overlap = number(record.get("overlap" if of_rate else "rate_overlap"))
    if overlap is not None:
        parts.append(f"overlap {percent(overlap)}")
    spread = number(record.get(_BD_COLUMNS[column][-1]))
    if spread is not None:
        parts.append(f"{record['method']}, spread of methods {spread:.2f}")
    return ", ".join(parts)


def _records(bd: pd.DataFrame, anchor: str, dataset: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(codec, cloud, metric) -> figure."""
    mine = bd[(bd["anchor"] == anchor) & (bd["dataset"] == dataset)]
    return {(row["codec"], row["cloud"], row["metric"]): row for row in _dicts(mine)}


def _dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Records with None for what is missing."""
    return [{key: None if is_missing(v) else v for key, v in record.items()} for record in records(frame)]


def metrics_of(bd: pd.DataFrame) -> list[str]:
    """Distortions that there are figures of."""
    return [metric for metric in METRICS if (bd["metric"] == metric).any()]


def bd_matrix(rows: pd.DataFrame, bd: pd.DataFrame, anchor: str, dataset: str, column: str = "bd_rate_pct") -> Table:
    """BD-rate or BD-PSNR of every codec (rows) on every cloud and in the mean (columns)."""
    rows = rows[rows["dataset"] == dataset]
    require_one_passport(rows)
    titles, figures_of, metrics = _titles(rows), _records(bd, anchor, dataset), metrics_of(bd)
    clouds = [cloud for _, cloud in clouds_of(rows)]
    if len(clouds) > MAX_MATRIX_CLOUDS:
        clouds = []
    spans = [*clouds, MEAN]
    common = finished_clouds(rows, dataset, compared_codecs(rows, dataset))
    heading = {MEAN: f"mean of {plural(len(common), 'cloud')}"}
    columns = [Column("codec", numeric=False)]
    columns += [Column(_LABELS[metric], group=heading.get(span, span)) for span in spans for metric in metrics]
    columns.append(Column("jobs ok"))
    cells = []
    for codec in codecs_of(rows):
        if codec == anchor or _lossless_only(rows, codec):
            continue
        mine = rows[rows["codec"] == codec]
        figures = [_bd_cell(figures_of.get((codec, span, metric)), column) for span in spans for metric in metrics]
        done = Cell(f"{len(ok(mine))}/{len(mine)}", sort=len(ok(mine)) / len(mine))
        cells.append([_words(titles, codec), *figures, done])
    name = _BD_NAMES[column]
    unit = "percent; negative is cheaper" if column == "bd_rate_pct" else "dB; positive is better"
    caption = (
        f"{name} against {titles[anchor]} on {dataset} in {unit}; {_method(bd)} interpolation. {_over(common)} "
        f"{_VERDICTS}. {count_ok(rows)}."
    )
    title = f"{name} against {titles[anchor]}, {dataset}"
    return Table(title, caption, columns, cells, name=f"{column}-{anchor}-{dataset}")


def _method(bd: pd.DataFrame) -> str:
    methods = [method for method in dict.fromkeys(bd["method"]) if isinstance(method, str)]
    return listed(methods) or "no"


def _over(common: Sequence[str], *, of_bd: bool = True) -> str:
    if not common:
        return "No cloud was finished by every compared codec, so there is no mean."
    text = f"Means are over what every compared codec finished: {few(list(common))}"
    some = of_bd and len(common) > 1
    return f"{text}; where a figure is refused on some of these, over the others." if some else f"{text}."


def certificate_table(rows: pd.DataFrame, bd: pd.DataFrame, anchor: str, dataset: str, metric: str) -> Table:
    """What each BD figure of one distortion rests on, one row a figure."""
    rows = rows[rows["dataset"] == dataset]
    titles = _titles(rows)
    mine = bd[(bd["anchor"] == anchor) & (bd["dataset"] == dataset) & (bd["metric"] == metric)]
    method = next((name for name in mine["method"] if isinstance(name, str)), METHODS[0])
    others = [name for name in METHODS if name != method]
    columns = [
        Column("codec", numeric=False),
        Column("cloud", numeric=False),
        Column("BD-rate, %", note=f"by {method}, with its verdict"),
        Column("BD-PSNR, dB", note=f"by {method}, with its verdict"),
        Column("interval, dB", note="qualities that both curves reach; nothing is extrapolated"),
        Column("both", group="overlap of", note="interval as a fraction of the union of both ranges"),
        Column("anchor", group="overlap of", note="as a fraction of the anchor's range"),
        Column("codec", group="overlap of", note="as a fraction of the codec's range"),
        Column("anchor", group="points inside", note="measured points inside the interval, of those on the curve"),
        Column("codec", group="points inside", note="measured points inside the interval, of those on the curve"),
        Column(
            "points",
            group="rising",
            numeric=False,
            note="whether the measured points rise; those that a cheaper and better one dominates were dropped",
        ),
        Column(
            "drawn",
            group="rising",
            numeric=False,
            note=f"whether the {method} curves drawn through the points left rise over the interval",
        ),
        *(Column(name, group="BD-rate by", note="percent") for name in others),
        Column("spread", note="largest minus smallest BD-rate of the interpolations, points of percent"),
    ]
    cells: list[list[Cell]] = []
    emphasis = set()
    for record in _dicts(mine):
        if _lossless_only(rows, record["codec"]):
            continue
        if record["cloud"] in (MEAN, MEAN_CURVE):
            emphasis.add(len(cells))
        cells.append(_certificate_row(record, titles, others))
    name = _LABELS[metric]
    caption = (
        f"Certificates of the {name} figures against {titles[anchor]} on {dataset}; {method} interpolation. BD-rate "
        "and BD-PSNR are judged by the same tests, each along its own axis. Interval, overlap, points inside and "
        f"spread are those of BD-rate; those of BD-PSNR are in bd.csv. {count_ok(rows)}."
    )
    title = f"{name} certificates against {titles[anchor]}, {dataset}"
    return Table(
        title, caption, columns, cells, frozenset(emphasis), name=f"certificates-{anchor}-{dataset}-{metric}"
    )


def _certificate_row(record: Mapping[str, Any], titles: Mapping[str, str], methods: Sequence[str]) -> list[Cell]:
    low, high = number(record["quality_low_db"]), number(record["quality_high_db"])
    empty = low is None or high is None or high <= low
    monotone = [record["anchor_monotone"], record["test_monotone"]]
    known = None not in monotone and record["anchor_points"] is not None
    drawn = [record["anchor_drawn_rises"], record["test_drawn_rises"]]
    cloud = record["cloud"]
    if cloud == MEAN and number(record["n_finished"]):
        cloud = f"mean of {plural(int(record['n_finished']), 'cloud')}"
    elif cloud == MEAN_CURVE:
        cloud = "mean curve"
    return [
        _words(titles, record["codec"]),
        text_cell(cloud),
        _bd_cell(record),
        _bd_cell(record, "bd_psnr_db"),
        missing_cell() if empty else Cell(f"{low:.2f}\N{EN DASH}{high:.2f}", sort=low),
        *(_figure(record[column], percent) for column in ("overlap", "overlap_of_anchor", "overlap_of_test")),
        *(_points_cell(record, side) for side in ("anchor", "test")),
        text_cell(_rising(*monotone), tip=record["dropped"] or "") if known else missing_cell(),
        missing_cell() if None in drawn else text_cell(_rising(*drawn)),
        *(_figure(record[f"bd_rate_{method}_pct"], figure) for method in methods),
        _figure(record["spread_pct"], lambda value: f"{value:.2f}"),
    ]


def _points_cell(record: Mapping[str, Any], side: str) -> Cell:
    inside, used = number(record[f"{side}_points_inside"]), number(record[f"{side}_points"])
    return missing_cell() if inside is None or used is None else Cell(f"{inside:.0f}/{used:.0f}", sort=inside)


def _rising(anchor: bool, test: bool) -> str:
    if anchor and test:
        return "both"
    return f"{listed([name for name, rises in (('anchor', anchor), ('codec', test)) if not rises])} not"


# --- summary ------------------------------------------------------------------------------------------------------


def summary_table(rows: pd.DataFrame, bd: pd.DataFrame, anchors: Sequence[str], dataset: str) -> Table:
    """One line a codec: BD-rate against each anchor, lossless rate, speed, memory, jobs that succeeded."""
    rows = rows[rows["dataset"] == dataset]
    require_one_passport(rows)
    titles, metrics = _titles(rows), metrics_of(bd)
    figures_of = {anchor: _records(bd, anchor, dataset) for anchor in anchors}
    columns = [Column("codec", numeric=False)]
    for anchor in anchors:
        columns += [Column(f"{_LABELS[m]}, %", group=f"BD-rate vs {titles.get(anchor, anchor)}") for m in metrics]
    columns += [
        Column("lossless, bpp", note="mean over the clouds on which the lossless rate succeeded"),
        Column("encode", group="s per million points", note="median over the jobs that succeeded"),
        Column("decode", group="s per million points", note="median over the jobs that succeeded"),
        Column("peak MB", note="largest of encoder and decoder over all jobs that succeeded"),
        Column("jobs ok"),
    ]
    cells = []
    for codec in codecs_of(rows):
        mine, done = rows[rows["codec"] == codec], ok(rows[rows["codec"] == codec])
        figures = []
        for anchor in anchors:
            for metric in metrics:
                record = figures_of[anchor].get((codec, MEAN, metric))
                if codec == anchor:
                    figures.append(Cell("anchor"))
                elif _lossless_only(rows, codec):
                    figures.append(missing_cell("only lossless rates of it were run, so it has no curve"))
                else:
                    figures.append(_bd_cell(record))
        cells.append(
            [
                _words(titles, codec),
                *figures,
                _lossless_cell(mine),
                *(_figure(_speed(done, phase), significant) for phase in ("encode_s", "decode_s")),
                _figure(_peak(done), integer),
                Cell(f"{len(done)}/{len(mine)}", sort=len(done) / len(mine)),
            ]
        )
    common = finished_clouds(rows, dataset, compared_codecs(rows, dataset))
    caption = (
        f"Summary of {dataset}. BD-rate is the mean of the clouds' BD-rates ± their standard deviation, in percent "
        f"of rate at equal quality; negative is cheaper. {_over(common)} {_VERDICTS}. {count_ok(rows)}."
    )
    return Table(f"Summary, {dataset}", caption, columns, cells, name=f"summary-{dataset}")


def _lossless_cell(rows: pd.DataFrame) -> Cell:
    claims = rows[rows["lossless"]]
    if not len(claims):
        return missing_cell("no lossless rate of it was run")
    values = [value for value in map(number, ok(claims)["rate_bpp"]) if value is not None]
    if not values:
        return missing_cell("no lossless job succeeded")
    return Cell(bpp(statistics.fmean(values)), sort=statistics.fmean(values))


def _speed(rows: pd.DataFrame, column: str) -> float | None:
    """Median of seconds per million input points."""
    values = [
        1e6 * seconds / points
        for seconds, points in zip(map(number, rows[column]), map(number, rows["points_in"]), strict=True)
        if seconds is not None and points
    ]
    return statistics.median(values) if values else None


def _peak(rows: pd.DataFrame) -> float | None:
    values = [number(value) for column in ("encode_peak_mb", "decode_peak_mb") for value in rows[column]]
    return max((value for value in values if value is not None), default=None)


# --- rate, quality, time ------------------------------------------------------------------------------------------

_RD_COLUMNS = (
    Column("codec", numeric=False),
    Column("rate", numeric=False),
    Column("points out"),
    Column("bytes", note="bytes given to the decoder"),
    Column("bpp", note="8 bytes / points of the input"),
    Column("D1", group="PSNR, dB"),
    Column("D2", group="PSNR, dB"),
    Column("encode", group="seconds", note="median of the repeats, wall clock around the call alone"),
    Column("decode", group="seconds", note="median of the repeats, wall clock around the call alone"),
    Column("encode", group="peak MB", note="peak resident memory of the worker and its children"),
    Column("decode", group="peak MB", note="peak resident memory of the worker and its children"),
    Column("status", numeric=False),
)


def rate_table(rows: pd.DataFrame, dataset: str, cloud: str) -> Table:
    """Rate, quality, time and memory of every job of one cloud."""
    rows = of_cloud(rows, dataset, cloud)
    require_one_passport(rows)
    titles = _titles(rows)
    cells = [_rate_row(row, titles) for row in records(rows)]
    points = next((value for value in map(number, rows["points_in"]) if value), None)
    size = f", {integer(points)} points" if points else ""
    caption = f"Rate, quality, time and memory on {cloud} ({dataset}{size}). {count_ok(rows)}."
    return Table(f"{cloud}", caption, _RD_COLUMNS, cells, name=f"rates-{dataset}-{cloud}")


def _rate_row(row: Mapping[str, Any], titles: Mapping[str, str]) -> list[Cell]:
    why = _why(row)
    rate = text_cell(row["rate"], href=f"#{row['row_id']}")
    return [
        _words(titles, row["codec"]),
        rate,
        _figure(row["points_out"], integer, why),
        _figure(row["size_bytes"], integer, why),
        _figure(row["rate_bpp"], bpp, why),
        *(psnr_cell(row, metric, why) for metric in METRICS),
        *(_figure(row[f"{phase}_s"], significant, why) for phase in ("encode", "decode")),
        *(_figure(row[f"{phase}_peak_mb"], integer, why) for phase in ("encode", "decode")),
        _status_cell(row),
    ]


_DISTANCE_COLUMNS = (
    Column("codec", numeric=False),
    Column("rate", numeric=False),
    Column("bpp", note="8 bytes / points of the input"),
    Column("mean d, A\N{RIGHTWARDS ARROW}B + B\N{RIGHTWARDS ARROW}A", group="chamfer", note="chamfer_mean_sum"),
    Column("mean d², A\N{RIGHTWARDS ARROW}B + B\N{RIGHTWARDS ARROW}A", group="chamfer", note="chamfer_sq_mean_sum"),
    Column("D1, max d²", group="Hausdorff, larger direction", note="hausdorff_d1_sq"),
    Column("D1, dB", group="Hausdorff, larger direction", note="hausdorff_d1_psnr_db"),
    Column("D2, max d²", group="Hausdorff, larger direction", note="hausdorff_d2_sq"),
    Column("D2, dB", group="Hausdorff, larger direction", note="hausdorff_d2_psnr_db"),
    Column("D1", group="mean squared error", note="d1_mse, larger direction"),
    Column("D2", group="mean squared error", note="d2_mse, larger direction"),
)
_DISTANCES = (
    *("chamfer_mean_sum", "chamfer_sq_mean_sum"),
    *("hausdorff_d1_sq", "hausdorff_d1_psnr_db", "hausdorff_d2_sq", "hausdorff_d2_psnr_db"),
    *("d1_mse", "d2_mse"),
)


def distance_table(rows: pd.DataFrame, dataset: str, cloud: str) -> Table | None:
    """Chamfer, Hausdorff and mean squared error of every job of one cloud; None where none was measured."""
    rows = of_cloud(rows, dataset, cloud)
    require_one_passport(rows)
    titles = _titles(rows)
    if not any(number(value) is not None for name in _DISTANCES for value in rows[name]):
        return None
    cells = [
        [
            _words(titles, row["codec"]),
            text_cell(row["rate"], href=f"#{row['row_id']}"),
            _figure(row["rate_bpp"], bpp, _why(row)),
            *(_distance_cell(row, name) for name in _DISTANCES),
        ]
        for row in records(rows)
    ]
    caption = (
        f"Chamfer, Hausdorff and mean squared error on {cloud} ({dataset}), A the input and B the decoded cloud, d "
        "the distance to the nearest point of the other cloud in units of the input's coordinates. Chamfer is the "
        "sum of both directions' means, once of distances and once of their squares; papers use either. Hausdorff is "
        f"the larger direction's largest squared distance, along the normal for D2. {count_ok(rows)}."
    )
    return Table(f"{cloud}: distances", caption, _DISTANCE_COLUMNS, cells, name=f"distances-{dataset}-{cloud}")


def _why(row: Mapping[str, Any]) -> str:
    return "" if row["status"] == "ok" else f"{row['status']}: {row['reason']}"


def _distance_cell(row: Mapping[str, Any], column: str) -> Cell:
    """A distance, zero told from missing; decibels of a zero are called lossless."""
    value = number(row[column])
    if value is not None:
        decibels = column.endswith("_db")
        return Cell(f"{value:.2f}" if decibels else significant(value), sort=value)
    square = f"{column.removesuffix('_psnr_db')}_sq"
    if column.endswith("_psnr_db") and number(row.get(square)) == 0:
        return Cell("lossless", sort=1e9)
    missing = row["missing"]
    return missing_cell(str(_why(row) or missing.get(column) or missing.get(square) or "not measured"))


def _status_cell(row: Mapping[str, Any]) -> Cell:
    """What succeeded is said quietly; only what did not is marked."""
    if row["status"] == "ok":
        return text_cell("ok")
    return Cell("", sort=row["status"], badge=row["status"], tip=row["reason"])


def psnr_cell(row: Mapping[str, Any], metric: str, why: str = "") -> Cell:
    """PSNR in dB; `lossless` where the distortion is zero; missing with the row's reason."""
    value = number(row[f"{metric}_psnr_db"])
    if value is not None:
        return Cell(f"{value:.2f}", sort=value)
    if is_lossless(row, metric):
        return Cell("lossless", sort=1e9)
    missing = row["missing"]
    reason = why or missing.get(f"{metric}_psnr_db") or missing.get(f"{metric}_mse") or "not measured"
    return missing_cell(str(reason))


def mean_table(rows: pd.DataFrame, dataset: str) -> Table | None:
    """The same averaged over the clouds that every compared codec finished; None below two such clouds."""
    rows = rows[rows["dataset"] == dataset]
    require_one_passport(rows)
    compared = compared_codecs(rows, dataset)
    common = finished_clouds(rows, dataset, compared)
    if len(common) < 2:
        return None
    titles = _titles(rows)
    chosen = ok(rows[rows["cloud"].isin(common)])
    same_peak = one_peak(chosen)
    cells = []
    for codec in compared:
        mine = chosen[chosen["codec"] == codec]
        for rate in rates_of(mine, codec):
            cells.append(
                [_words(titles, codec), text_cell(rate), *_mean_cells(mine[mine["rate"] == rate], same_peak)]
            )
    columns = [_RD_COLUMNS[0], _RD_COLUMNS[1], *_RD_COLUMNS[3:-1]]
    caption = (
        f"Mean over {plural(len(common), 'cloud')} of {dataset}: rate is the mean of bits per point, PSNR the mean "
        f"of decibels. {_over(common, of_bd=False)} {count_ok(rows)}."
    )
    return Table(f"Mean of {dataset}", caption, columns, cells, name=f"rates-{dataset}-mean")


def _mean_cells(rows: pd.DataFrame, same_peak: bool) -> list[Cell]:
    def mean(column: str, write: Any) -> Cell:
        values = [value for value in map(number, rows[column]) if value is not None]
        if len(values) < len(rows):
            return missing_cell("missing on some of the clouds")
        return Cell(write(statistics.fmean(values)), sort=statistics.fmean(values))

    def psnr(metric: str) -> Cell:
        if all(is_lossless(row, metric) for row in records(rows)):
            return Cell("lossless", sort=1e9)
        if not same_peak:
            return missing_cell("the clouds have different peaks, whose decibels are not averaged")
        return mean(f"{metric}_psnr_db", lambda value: f"{value:.2f}")

    return [
        mean("size_bytes", integer),
        mean("rate_bpp", bpp),
        *(psnr(metric) for metric in METRICS),
        mean("encode_s", significant),
        mean("decode_s", significant),
        mean("encode_peak_mb", integer),
        mean("decode_peak_mb", integer),
    ]


# --- what failed, what was run ------------------------------------------------------------------------------------


def failures_table(rows: pd.DataFrame) -> Table:
    """Every job that did not succeed, with the reason and the last words of the worker."""
    failed = rows[rows["status"] != "ok"]
    titles = _titles(rows)
    columns = [
        Column(name, numeric=False) for name in ("codec", "rate", "cloud", "status", "phase", "reason", "stderr")
    ]
    cells = [
        [
            _words(titles, row["codec"]),
            text_cell(row["rate"], href=f"#{row['row_id']}"),
            text_cell(row["cloud"]),
            Cell("", sort=row["status"], badge=row["status"]),
            text_cell(row["phase"]),
            text_cell(row["reason"]),
            text_cell(row["stderr_tail"].strip()),
        ]
        for row in records(failed)
    ]
    caption = (
        f"{plural(len(failed), 'job')} did not succeed: {count_failures(rows)}. No figure of theirs enters a curve "
        f"or a mean. {count_ok(rows)}."
    )
    return Table("Failures", caption, columns, cells, name="failures")


#: What the statuses mean that do not say themselves whose fault it was.
BLAME = {
    "unreadable": "the cloud could not be read, which is no fault of the codec",
    "disrupted": "something from outside ended the job (a killed worker, a full disk, a file that was gone); the "
    "next `bench run` tries it again",
    "mismatch": "the decoder gave other points, or the codec other figures, than it had promised",
    "metric_failed": "the codec did its part, the distortion could not be measured",
}


def count_failures(rows: pd.DataFrame) -> str:
    """`3 timeout, 1 encode_failed`, the most frequent first; the counts sum to the jobs that are not ok."""
    counts = Counter(status or "no status" for status in rows["status"] if status != "ok")
    return ", ".join(f"{count} {status}" for status, count in counts.most_common())


def not_applicable_table(everything: pd.DataFrame) -> Table | None:
    """Which codec does not code which clouds, and why; None where each codes all.

    Args:
        everything: prepared rows, those of status not_applicable among them.
    """
    mine = everything[everything["status"] == NOT_APPLICABLE]
    if not len(mine):
        return None
    titles = _titles(everything)
    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for codec, dataset, cloud in dict.fromkeys(zip(mine["codec"], mine["dataset"], mine["cloud"], strict=True)):
        rows = of_cloud(everything[everything["codec"] == codec], dataset, cloud)
        skipped = rows[rows["status"] == NOT_APPLICABLE]
        rates = tuple(skipped["rate"]) if len(skipped) < len(rows) else ()
        groups.setdefault((codec, skipped["reason"].iloc[-1], rates), []).append(cloud)
    columns = [Column(title, numeric=False) for title in ("codec", "rates", "clouds", "reason")]
    cells = [
        [_words(titles, codec), text_cell(listed(list(rates)) or "all"), text_cell(few(clouds)), text_cell(reason)]
        for (codec, reason, rates), clouds in groups.items()
    ]
    caption = (
        f"{plural(len(mine), 'job')} of codecs that do not code this kind of cloud. These are no failures, and count "
        "nowhere."
    )
    return Table("Not applicable", caption, columns, cells, name="not-applicable")


def clouds_table(rows: pd.DataFrame) -> Table:
    """What it was run on: points and identity of each cloud."""
    columns = [Column("data set", numeric=False), Column("cloud", numeric=False), Column("points")]
    columns += [
        Column("repeats merged", note="points of the file that repeated another and were merged before coding"),
        Column("sha256 of the geometry", numeric=False),
        Column("jobs ok"),
    ]
    cells = []
    for dataset, cloud in clouds_of(rows):
        mine = of_cloud(rows, dataset, cloud)
        points = next((value for value in map(number, mine["points_in"]) if value), None)
        hashes = list(dict.fromkeys(str(value) for value in mine["cloud_sha256"] if value))
        repeats = next((value for value in map(number, mine["repeats_dropped"]) if value is not None), None)
        cells.append(
            [
                text_cell(dataset),
                text_cell(cloud),
                _figure(points, integer, "" if points else "it could not be read"),
                _figure(repeats, integer, "not recorded"),
                text_cell(", ".join(hashes) or MISSING),
                Cell(f"{len(ok(mine))}/{len(mine)}", sort=len(ok(mine)) / len(mine)),
            ]
        )
    return Table("Clouds", f"Clouds of the run. {count_ok(rows)}.", columns, cells, name="clouds")


def codecs_table(rows: pd.DataFrame) -> Table:
    """What was run: versions, weights, flags."""
    titles = _titles(rows)
    columns = [Column("codec", numeric=False), Column("name", numeric=False), Column("version", numeric=False)]
    columns += [Column("weights sha256", numeric=False), Column("flags", numeric=False), Column("jobs ok")]
    cells = []
    for codec in codecs_of(rows):
        mine = rows[rows["codec"] == codec]
        versions = list(dict.fromkeys(str(value) for value in mine["codec_version"] if value))
        weights = list(dict.fromkeys(str(value) for value in mine["weights_sha256"] if not is_missing(value)))
        cells.append(
            [
                _words(titles, codec),
                text_cell(codec),
                text_cell(", ".join(versions) or MISSING),
                text_cell(", ".join(value[:12] for value in weights) or MISSING, tip=" ".join(weights)),
                text_cell(_flag_words(mine)),
                Cell(f"{len(ok(mine))}/{len(mine)}", sort=len(ok(mine)) / len(mine)),
            ]
        )
    caption = f"Codecs of the run. {count_ok(rows)}."
    return Table("Codecs", caption, columns, cells, name="codecs")


def _flag_words(rows: pd.DataFrame) -> str:
    words = []
    if not rows["trained"].all():
        words.append("weights are untrained")
    clouds = [cloud for cloud, flag in zip(rows["cloud"], rows["contaminated"], strict=True) if flag]
    if clouds:
        words.append(f"trained on {listed(list(dict.fromkeys(clouds)))}, which it is tested on")
    return "; ".join(words) or "none"
