"""Page: the self-contained HTML report, filled from tables, plots and provenance."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from .bd import MEAN, MEAN_CURVE
from .frame import (
    Section,
    base_title,
    clouds_of,
    codec_flags,
    codecs_of,
    command_again,
    fingerprint,
    ok,
    records,
    title_of,
)
from .plain import mapping
from .plots import Plot
from .svg import inline_svg
from .table import Table
from .tables import BLAME, WHICH_MEAN, clouds_table, codecs_table, count_failures, count_ok, failures_table
from .text import MISSING, few, integer, is_missing, listed, number, plural, significant

_TEMPLATES = Path(__file__).parent / "templates"

GLOSSARY = (
    (
        "rate",
        "8 x the bytes given to the decoder / points of the input cloud, after points that repeat another were "
        "merged. The decoder is a process of its own that never saw the cloud and was given nothing but these bytes.",
    ),
    (
        "D1, D2",
        "MPEG's point-to-point and point-to-plane distortion between the input and what the decoder returned: the "
        "larger of the two directions' mean squared errors.",
    ),
    (
        "PSNR",
        "10 log10(3 peak² / mse), with the peak of the passport. A cloud decoded without any error has none and is "
        "called lossless.",
    ),
    (
        "chamfer",
        "sum of both directions' means of the distance to the nearest point of the other cloud (mean d), or of its "
        "square (mean d²). Hausdorff is the larger direction's largest squared distance.",
    ),
    (
        "BD-rate, BD-PSNR",
        "mean difference of log rate at equal PSNR, and of PSNR at equal log rate, against the anchor, by "
        "Bjøntegaard's method with the interpolation named. Lossless points have no PSNR and cannot enter. Each of "
        "the two is judged by the same tests along its own axis and has a verdict of its own.",
    ),
    ("anchor, test", "the codec compared with, and the one compared; the reasons of verdicts speak of them so."),
    (
        "points, curve",
        "points are measured; a curve is what the interpolation draws through them. Of the points, those that a "
        "cheaper and better one dominates are dropped, so that the ones left rise. The curve drawn through rising "
        "points may still fall between them; the reason then says so.",
    ),
    (
        "OK",
        "enough measured points of both codecs lie inside a sizeable common interval, few points had to be dropped, "
        "the curves drawn through those left rise, and the interpolations agree.",
    ),
    ("WEAK", "one of these does not hold; the reason stands beside the figure. Do not quote it without."),
    (
        "REFUSED",
        "there is no figure: the curves share no quality (BD-rate) or no rate (BD-PSNR), one has less than two "
        "points or is untrained, or the drawn curves leave what the measured points allow.",
    ),
    (
        "time",
        "wall clock around encode or decode alone, after a warm-up; the median where a call was repeated.",
    ),
    ("memory", "peak resident memory of the codec's worker and its children during the call."),
    ("mean", "over the clouds that every compared codec finished at all its rates, never over survivors."),
)


@dataclass(frozen=True)
class Part:
    """What the page shows of the rows of one passport."""

    section: Section
    summaries: Sequence[Table]
    matrices: Sequence[Table]
    certificates: Sequence[Table]
    rates: Sequence[Table]
    distances: Sequence[Table]
    curves: Sequence[Plot]
    costs: Sequence[Plot]
    bd: pd.DataFrame = field(repr=False)
    undrawn: Sequence[str] = ()

    @property
    def tables(self) -> list[Table]:
        """All tables, in the order of the page."""
        return [*self.summaries, *self.matrices, *self.certificates, *self.rates, *self.distances]

    @property
    def plots(self) -> list[Plot]:
        """All plots, in the order of the page."""
        return [*self.curves, *self.costs]


def render_page(
    frame: pd.DataFrame,
    parts: Sequence[Part],
    provenance: Mapping[str, Any],
    anchors: Sequence[str],
    *,
    unavailable: Mapping[str, str],
    not_applicable: Table | None = None,
) -> str:
    """The page as HTML text; it needs nothing but itself.

    Args:
        frame: prepared rows of the jobs that were there to do.
        parts: what is shown of each metric passport.
        provenance: what run.json says of the run, as plain values.
        anchors: codecs that the others are compared with.
        unavailable: codec -> why it could not run here.
        not_applicable: which codecs do not code which clouds.
    """
    import jinja2
    from markupsafe import Markup, escape

    def flags(text: str) -> Markup:
        """A codec's flags, set apart from its name."""
        marked = escape(text)
        for flag in ("untrained", "contaminated"):
            marked = marked.replace(f"[{flag}]", Markup('<span class="flag">[{}]</span>').format(flag))
        return marked

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["flags"] = flags
    return environment.get_template("report.html").render(
        css=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        js=(_TEMPLATES / "report.js").read_text(encoding="utf-8"),
        page={**_page(frame, parts, provenance, anchors, unavailable), "not_applicable": not_applicable},
    )


def _page(
    frame: pd.DataFrame,
    parts: Sequence[Part],
    provenance: Mapping[str, Any],
    anchors: Sequence[str],
    unavailable: Mapping[str, str],
) -> dict[str, Any]:
    missing = [f"{cloud} ({dataset})" for dataset, clouds in _missing(provenance).items() for cloud in clouds]
    datasets = list(dict.fromkeys(frame["dataset"]))
    statuses = set(frame["status"])
    return {
        "title": f"{plural(len(codecs_of(frame)), 'point cloud codec')} on {few(datasets)}"
        if len(frame)
        else "Point cloud codecs, none of which applies to a cloud of this run",
        "lead": _lead(frame, provenance) if len(frame) else "There was no job to do.",
        "facts": _facts(frame, provenance, anchors),
        "notices": _notices(frame, parts, provenance, unavailable),
        "which_mean": WHICH_MEAN if any((part.bd["cloud"] == MEAN_CURVE).any() for part in parts) else "",
        "blame": [(status, text) for status, text in BLAME.items() if status in statuses],
        "findings": [finding for part in parts for finding in findings(part.section.rows, part.bd, anchors)],
        "parts": [_part(part) for part in parts],
        "references": sorted({line for part in parts for plot in part.plots for line in plot.references}),
        "failures": failures_table(frame) if len(ok(frame)) < len(frame) else None,
        "missing_clouds": listed(missing),
        "clouds": clouds_table(frame),
        "codecs": codecs_table(frame),
        "glossary": (*GLOSSARY, *_conditions(frame)),
        "provenance": _provenance(frame, provenance),
        "ledger_caption": f"{plural(len(frame), 'job')} of the run. {count_ok(frame)}.",
        "jobs": _jobs(frame, provenance),
        "footer": f"Made by pccbench {provenance.get('pccbench', '')} from rows {fingerprint(frame)[:16]}.",
    }


def _part(part: Part) -> dict[str, Any]:
    section = part.section
    prefix = f"p{section.label.lower()}-"

    def drawn(plots: Sequence[Plot]) -> list[dict[str, str]]:
        return [
            {
                "name": plot.name,
                "title": plot.title,
                "caption": plot.caption,
                "svg": inline_svg(plot.svg, plot.name, plot.tips, plot.title),
            }
            for plot in plots
        ]

    return {
        "id": prefix,
        "label": section.label,
        "summaries": part.summaries,
        "matrices": part.matrices,
        "certificates": part.certificates,
        "rates": part.rates,
        "distances": part.distances,
        "curves": drawn(part.curves),
        "costs": drawn(part.costs),
        "passport": _passport(section),
    }


def _passport(section: Section) -> list[tuple[str, str]]:
    """The rules, then what belongs to the clouds: said once where all agree."""
    pairs = [(name.replace("_", " "), _plain(value)) for name, value in section.passport.items()]
    entries: dict[str, dict[str, list[str]]] = {}
    for (_, cloud), own in section.peaks.items():
        for name, value in own.items():
            entries.setdefault(name, {}).setdefault(_plain(value), []).append(cloud)
    for name, values in entries.items():
        texts = [value if len(values) == 1 else f"{value} ({listed(clouds)})" for value, clouds in values.items()]
        pairs.append((name.replace("_", " "), "; ".join(texts)))
    return pairs


def _missing(provenance: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    return provenance.get("missing_clouds") or {}


def _lead(frame: pd.DataFrame, provenance: Mapping[str, Any]) -> str:
    clouds = [cloud for _, cloud in clouds_of(frame)]
    titles = [title_of(frame, codec) for codec in codecs_of(frame)]
    alone = "sealed processes that had" if _is_sealed(frame) else "processes that were given"
    text = f"{few(titles, 12)} on {few(clouds, 6)}: real bitstreams, decoded by {alone} nothing else."
    missing = sum(map(len, _missing(provenance).values()))
    if missing:
        text += (
            f" {plural(missing, 'cloud')} that was asked for is not here."
            if missing == 1
            else (f" {missing} clouds that were asked for are not here.")
        )
    return text


def _facts(frame: pd.DataFrame, provenance: Mapping[str, Any], anchors: Sequence[str]) -> list[tuple[str, str, str]]:
    threads = sorted({int(value) for value in map(number, frame["threads"]) if value is not None})
    repeats = max((len(samples) for samples in frame["encode_s_samples"]), default=0)
    commit = provenance.get("git_commit")
    clean = {"True": "clean tree", "False": "tree had changes"}.get(str(provenance.get("git_clean")), "")
    started = str(provenance.get("started_at") or MISSING)
    machine = [
        plural(int(cores), "core") if (cores := number(provenance.get("usable_cores"))) else "",
        f"{memory:.0f} GB" if (memory := number(provenance.get("memory_gb"))) else "",
    ]
    each = f"{listed([str(count) for count in threads])} thread{'' if threads == [1] else 's'}" if threads else ""
    timing = [each, f"{plural(repeats, 'repeat')} a job"]
    version = f"pccbench {provenance.get('pccbench', MISSING)}"
    cpu = re.sub(r"\((R|TM)\)|\bProcessor\b|\bCPU\b", "", str(provenance.get("cpu") or MISSING))
    return [
        ("jobs ok", f"{len(ok(frame))} of {len(frame)}", ""),
        ("clouds", str(len(clouds_of(frame))), few(list(frame["dataset"]))),
        ("BD anchor", title_of(frame, anchors[0]) if anchors else "none", _second(frame, anchors)),
        ("machine", ", ".join(filter(None, machine)) or MISSING, " ".join(cpu.split())),
        ("timing", timing[0] or MISSING, timing[1]),
        (
            "code",
            str(commit)[:10] if commit else version,
            ", ".join(filter(None, [version if commit else "", clean])),
        ),
        ("started", started[:10], started[11:19] + " UTC" if len(started) > 18 else ""),
    ]


def _second(frame: pd.DataFrame, anchors: Sequence[str]) -> str:
    return f"and {listed([title_of(frame, name) for name in anchors[1:]])}" if len(anchors) > 1 else ""


def _decoded(frame: pd.DataFrame) -> pd.DataFrame:
    """The jobs whose decoder gave points."""
    return frame[frame["decode_s"].map(number).notna() | frame["points_out"].map(number).notna()]


def _is_sealed(frame: pd.DataFrame) -> bool:
    seals = set(_decoded(frame)["seal"])
    return bool(seals) and not seals & {"", "none"}


def _conditions(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """What the rows say of how they were measured: the decoder's seal, the points that were merged."""
    counts = Counter(seal or "not recorded" for seal in _decoded(frame)["seal"])
    seals = [f"{seal} ({plural(count, 'job')})" for seal, count in counts.most_common()]
    merged = {}
    for dataset, cloud, repeats in zip(frame["dataset"], frame["cloud"], frame["repeats_dropped"], strict=True):
        if (count := number(repeats)) is not None:
            merged[dataset, cloud] = count
    some = [f"{plural(int(count), 'point')} of {cloud}" for (_, cloud), count in merged.items() if count]
    if some:
        repeats = f"{few(some)}, merged with the point at their place before coding; the rate counts the points left."
    else:
        repeats = "no cloud had any." if merged else "not recorded."
    return [
        ("seal", f"what kept the decoder from all but its bytes: {few(seals) or 'nothing was decoded'}."),
        ("repeated points", repeats),
    ]


def _notices(
    frame: pd.DataFrame, parts: Sequence[Part], provenance: Mapping[str, Any], unavailable: Mapping[str, str]
) -> list[str]:
    """What a reader must know before believing a figure."""
    notices = [notice for codec in codecs_of(frame) for notice in _flag_notices(frame, codec)]
    failed = len(frame) - len(ok(frame))
    by_reason: dict[str, list[str]] = {}
    for codec, reason in unavailable.items():
        by_reason.setdefault(reason, []).append(codec)
    absent = [f"{listed(codecs)} ({why})" if why else listed(codecs) for why, codecs in by_reason.items()]
    unsealed = int((_decoded(frame)["seal"] == "none").sum())
    undrawn = [text for part in parts for text in part.undrawn]
    conditional = [
        (failed, f"{plural(failed, 'job')} did not succeed ({count_failures(frame)}); see Failures."),
        (absent, f"Could not run on this machine: {'; '.join(absent)}."),
        (
            unsealed,
            f"{plural(unsealed, 'job')} had no seal around the decoder, as this system has none: that it read "
            "nothing but its bytes rests on trust.",
        ),
        (undrawn, f"Could not be drawn: {'; '.join(undrawn)}."),
        *((clouds, f"Not there, of {name}: {few(list(clouds))}.") for name, clouds in _missing(provenance).items()),
        (
            frame["shares_cores"].any(),
            "Some jobs shared cores with others while they were timed; their times are upper bounds.",
        ),
        (len(parts) > 1, f"The rows have {len(parts)} metric passports; each has tables and plots of its own."),
        (provenance.get("git_clean") is False, "The source tree had changes that were not committed."),
    ]
    return [*notices, *(text for holds, text in conditional if holds)]


def _flag_notices(frame: pd.DataFrame, codec: str) -> list[str]:
    flags = codec_flags(frame, codec)
    title = base_title(frame, codec)
    notices = []
    if "untrained" in flags:
        notices.append(f"{title} ran with untrained weights; its figures say nothing about the method.")
    if "contaminated" in flags:
        mine = frame[(frame["codec"] == codec) & frame["contaminated"]]
        notices.append(f"{title} was trained on {listed(list(dict.fromkeys(mine['cloud'])))}, which it is tested on.")
    return notices


def findings(rows: pd.DataFrame, bd: pd.DataFrame, anchors: Sequence[str]) -> list[str]:
    """The run in a few sentences, from figures that deserve it: flagged codecs and refused figures have no part."""
    clean = [codec for codec in codecs_of(rows) if not codec_flags(rows, codec)]
    sentences = []
    means = bd[
        (bd["cloud"] == MEAN) & (bd["metric"] == "d1") & (bd["verdict"] != "REFUSED") & bd["codec"].isin(clean)
    ]
    for anchor in anchors:
        mine = means[means["anchor"] == anchor].sort_values("bd_rate_pct")
        words = [_saving(rows, record) for record in records(mine)]
        if words:
            over = max(int(n) for n in mine["n_finished"])
            sentences.append(
                f"Bits at equal D1 PSNR against {title_of(rows, anchor)}, mean of {plural(over, 'cloud')}: "
                f"{'; '.join(words)}."
            )
    lossless = _lossless(rows, clean)
    if lossless:
        sentences.append(lossless)
    speed = _fastest(rows, [codec for codec in clean if codec != "raw"])
    if speed:
        sentences.append(speed)
    return sentences


def _saving(rows: pd.DataFrame, record: Mapping[str, Any]) -> str:
    value = float(record["bd_rate_pct"])
    if value <= 100:
        text = f"{abs(value):.1f} % {'fewer' if value < 0 else 'more'}"
    else:
        text = f"{1 + value / 100:.1f} times as many"
    part = f"on {int(record['n_clouds'])} of {int(record['n_finished'])} clouds"
    doubts = [part] if record["n_clouds"] < record["n_finished"] else []
    doubts += ["weak"] if record["verdict"] == "WEAK" else []
    weak = f" ({', '.join(doubts)})" if doubts else ""
    return f"{title_of(rows, record['codec'])} {text}{weak}"


def _lossless(rows: pd.DataFrame, codecs: Sequence[str]) -> str:
    """Who is smallest without loss, over the clouds that all of them coded without loss."""
    done = ok(rows)
    done = done[done["lossless"]]
    best = {}
    for codec in codecs:
        mine = done[done["codec"] == codec]
        rates = {
            (dataset, cloud): rate
            for dataset, cloud, value in zip(mine["dataset"], mine["cloud"], mine["rate_bpp"], strict=True)
            if (rate := number(value)) is not None and rate > 0
        }
        if rates and codec != "raw":
            best[codec] = rates
    common = set.intersection(*map(set, best.values())) if best else set()
    if len(best) < 2 or not common:
        return ""
    means = sorted((sum(values[cloud] for cloud in common) / len(common), codec) for codec, values in best.items())
    smallest = means[0][0]
    words = [
        f"{title_of(rows, codec)} {value:.4f} bpp"
        + (f" (+{100 * (value / smallest - 1):.1f} %)" if value > smallest else "")
        for value, codec in means
    ]
    return f"Lossless, mean of {plural(len(common), 'cloud')}: {', '.join(words)}."


def _fastest(rows: pd.DataFrame, codecs: Sequence[str]) -> str:
    words = []
    for phase in ("encode", "decode"):
        speeds = []
        for codec in codecs:
            mine = ok(rows[rows["codec"] == codec])
            values = [
                1e6 * seconds / points
                for seconds, points in zip(
                    map(number, mine[f"{phase}_s"]), map(number, mine["points_in"]), strict=True
                )
                if seconds is not None and points
            ]
            if values:
                speeds.append((float(pd.Series(values).median()), codec))
        if len(speeds) > 1:
            value, codec = min(speeds)
            words.append(f"fastest {phase}r: {title_of(rows, codec)}, {significant(value)} s")
    return f"Per million points, median over jobs: {'; '.join(words)}." if words else ""


def _provenance(frame: pd.DataFrame, provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    skip = {"unavailable", "missing_clouds", "sessions", "packages", "spec"}
    pairs = [(name.replace("_", " "), _plain(value)) for name, value in provenance.items() if name not in skip]
    packages = mapping(provenance.get("packages"))
    if packages:
        pairs.append(
            ("packages", ", ".join(f"{name} {version or 'not there'}" for name, version in packages.items()))
        )
    spec = mapping(provenance.get("spec"))
    if spec:
        pairs.append(("run", ", ".join(f"{name} {_plain(value)}" for name, value in spec.items())))
    sessions = provenance.get("sessions") or []
    if len(sessions) > 1:
        machines = list(dict.fromkeys(str(session.get("cpu")) for session in sessions))
        text = f"{len(sessions)}, the last one is described here"
        if len(machines) > 1:
            text += f"; on different machines: {listed(machines)}"
        pairs.append(("sessions", text))
    pairs.append(("rows sha256", fingerprint(frame)))
    return pairs


def _plain(value: Any) -> str:
    if is_missing(value):
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items()) or MISSING
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or MISSING
    return str(value)


def _jobs(frame: pd.DataFrame, provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = mapping(provenance.get("spec"))
    titles = {codec: base_title(frame, codec) for codec in codecs_of(frame)}
    jobs = []
    for row in records(frame):
        size = number(row["size_bytes"])
        jobs.append(
            {
                "id": row["row_id"],
                "codec": titles[row["codec"]],
                "flags": " ".join(
                    flag
                    for flag, on in (("untrained", not row["trained"]), ("contaminated", row["contaminated"]))
                    if on
                ),
                "rate": row["rate"],
                "cloud": row["cloud"],
                "status": row["status"],
                "bytes": size,
                "size": MISSING if size is None else integer(size),
                "command": command_again(row, spec),
                "identities": _identities(row),
            }
        )
    return jobs


def _identities(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [("job", row["job_key"])]
    if row["stream_sha256"]:
        pairs.append(("stream", row["stream_sha256"]))
    details = []
    if row["sections"]:
        details.append("bytes: " + ", ".join(f"{name} {_bytes(size)}" for name, size in row["sections"].items()))
    estimated = number(row.get("estimated_bits"))
    if estimated is not None:
        details.append(f"estimated {integer(estimated / 8)} bytes")
    if row["parameters"]:
        details.append("rate: " + ", ".join(f"{name} {_plain(value)}" for name, value in row["parameters"].items()))
    for phase in ("encode", "decode"):
        samples = [value for value in map(number, row[f"{phase}_s_samples"]) if value is not None]
        if len(samples) > 1:
            details.append(f"{phase}: {' '.join(map(significant, samples))} s")
    if row["missing"]:
        reasons: dict[str, list[str]] = {}
        for column, reason in row["missing"].items():
            reasons.setdefault(str(reason), []).append(column)
        details += [f"no {listed(columns)}: {reason}" for reason, columns in reasons.items()]
    if details:
        pairs.append(("", "; ".join(details)))
    return pairs


def _bytes(size: Any) -> str:
    known = number(size)
    return _plain(size) if known is None else integer(known)
