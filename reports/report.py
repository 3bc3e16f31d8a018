"""Report: everything that a run has to say, written to one folder from its rows and provenance alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from .bd import COLUMNS, Skipped, bd_table, default_anchors
from .certificate import Certify
from .frame import (
    UNAVAILABLE,
    Section,
    applicable,
    clouds_of,
    for_csv,
    not_applicable,
    ok,
    prepare,
    results,
    split_by_passport,
    unavailable_codecs,
)
from .page import Part, render_page
from .plain import LONG, TEXT_LIMIT, line, mapping, name, plain, words
from .plots import Plot, cost_plot, rd_plot, secondary_plot
from .table import Table, to_latex, to_markdown
from .tables import (
    bd_matrix,
    certificate_table,
    clouds_table,
    codecs_table,
    distance_table,
    failures_table,
    mean_table,
    metrics_of,
    not_applicable_table,
    rate_table,
    summary_table,
)
from .text import slug

#: Dots per inch of the PNG plots.
PNG_DPI = 200
#: Plots are mostly white; a little compression does nearly all that much of it would, in a third of the time.
_PNG = {"compress_level": 2}


def write_report(
    rows: pd.DataFrame,
    provenance: Mapping[str, Any],
    out: Path,
    *,
    certify: Certify,
    anchor: str | None = None,
) -> Path:
    """Write `report.html`, `results.csv`, `bd.csv`, `tables.md`, `tables.tex` and `plots/` to a folder.

    Whatever the rows hold, there is a report: text is cut at `plain.TEXT_LIMIT` characters and ends in `…` then, what
    cannot be seen is shown as an escape (`plain.visible`), values of the wrong type are missing ones, a BD figure or
    a plot that fails is told with its reason, and CSV cells of text that begin with `=`, `+`, `-`, `@`, tab or
    carriage return have an apostrophe in front (`plain.csv_cell`).

    Args:
        rows: one row a job, columns as `pccbench.bench.row.Row`.
        provenance: what run.json says of the run (versions, machine, command, unavailable codecs, missing clouds).
            Codecs that were unavailable are told in a notice of the page and nowhere else, and only where they have
            no row; rows of status `unavailable` are taken for the same.
        out: folder, made where it does not exist.
        certify: computes BD figures, `pccbench.metrics.bjontegaard.certified_bd`.
        anchor: codec that the others are compared with; `gpcc-octree` where it has a row that succeeded, else
            `octree`, unless given.

    Returns:
        The path of the page.

    Raises:
        ReportError: there are no rows, a column is missing, or the anchor is unknown or never succeeded.
        OSError: the folder cannot be written.
    """
    provenance = _plain_provenance(provenance)
    unavailable = unavailable_codecs(rows, provenance)
    everything = prepare(rows)
    everything = everything[everything["status"] != UNAVAILABLE].reset_index(drop=True)
    frame = applicable(everything)
    anchors = default_anchors(frame, anchor)
    skipped = not_applicable(everything)
    parts = [make_part(section, anchors, certify, skipped) for section in split_by_passport(frame)]
    out.mkdir(parents=True, exist_ok=True)
    results(everything).to_csv(out / "results.csv", index=False, lineterminator="\n")
    for_csv(bd_figures(parts)).to_csv(out / "bd.csv", index=False, lineterminator="\n")
    others = not_applicable_table(everything)
    tables = all_tables(frame, parts, others)
    (out / "tables.md").write_text(_markdown(tables), encoding="utf-8")
    (out / "tables.tex").write_text(_latex(tables), encoding="utf-8")
    page = out / "report.html"
    text = render_page(frame, parts, provenance, anchors, unavailable=unavailable, not_applicable=others)
    page.write_text(text, encoding="utf-8")
    write_plots([plot for part in parts for plot in part.plots], out / "plots")
    return page


def _plain_provenance(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance with text that can be shown; a command may be long, and has to be whole."""
    limit = LONG * TEXT_LIMIT
    sessions = provenance.get("sessions")
    absent = mapping(provenance.get("missing_clouds")).items()
    return {line(key): plain(value, limit) for key, value in provenance.items() if key != "sessions"} | {
        "sessions": [plain(session, limit) for session in sessions if isinstance(session, Mapping)]
        if isinstance(sessions, list)
        else [],
        "unavailable": mapping(provenance.get("unavailable")),
        "missing_clouds": {
            name(dataset): [name(cloud) for cloud in clouds]
            for dataset, clouds in absent
            if isinstance(clouds, list | tuple)
        },
    }


def make_part(section: Section, anchors: Sequence[str], certify: Certify, skipped: Skipped = ()) -> Part:
    """Tables and plots of the rows of one passport."""
    rows = section.rows
    datasets = list(dict.fromkeys(dataset for dataset, _ in clouds_of(rows)))
    here = [anchor for anchor in anchors if anchor in set(ok(rows)["codec"])]
    bd = bd_table(rows, here, certify, skipped)
    against = [
        (anchor, dataset)
        for anchor in here
        for dataset in datasets
        if ((bd["anchor"] == anchor) & (bd["dataset"] == dataset)).any()
    ]
    suffix = f"-{section.label.lower()}" if section.index else ""
    apart = _Apart()
    undrawn: list[str] = []
    curves = [
        _drawn(undrawn, cloud, draw, rows, dataset, cloud, apart.name(slug(f"{kind}-{dataset}-{cloud}{suffix}")))
        for dataset, cloud in clouds_of(rows)
        for kind, draw in (("rd", rd_plot), ("secondary", secondary_plot))
    ]
    cost = _drawn(undrawn, "time and memory", cost_plot, rows, apart.name(f"cost{suffix}"))
    rates: list[Table] = []
    for dataset in datasets:
        mean = mean_table(rows, dataset)
        rates += [mean] if mean else []
        rates += [rate_table(rows, dataset, cloud) for owner, cloud in clouds_of(rows) if owner == dataset]
    distances = [distance_table(rows, dataset, cloud) for dataset, cloud in clouds_of(rows)]
    return Part(
        section=section,
        summaries=apart.tables(summary_table(rows, bd, here, dataset) for dataset in datasets),
        matrices=apart.tables(
            bd_matrix(rows, bd, anchor, dataset, figure)
            for anchor, dataset in against
            for figure in ("bd_rate_pct", "bd_psnr_db")
        ),
        certificates=apart.tables(
            certificate_table(rows, bd, anchor, dataset, metric)
            for anchor, dataset in against
            for metric in metrics_of(bd)
        ),
        rates=apart.tables(rates),
        distances=apart.tables(table for table in distances if table),
        curves=[plot for plot in curves if plot],
        costs=[cost] if cost else [],
        bd=bd,
        undrawn=undrawn,
    )


def _drawn(undrawn: list[str], what: str, draw: Callable[..., Plot | None], *arguments: Any) -> Plot | None:
    """A plot that is known to draw; one that cannot be drawn costs no report and is told with its reason."""
    try:
        plot = draw(*arguments)
        if plot:
            _ = plot.svg
    except Exception as error:
        undrawn.append(f"{what}: {line(f'{type(error).__name__}: {error}')}")
        return None
    return plot


class _Apart:
    """Names of tables and plots as file names and ids: two that came out alike are numbered."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, wanted: str) -> str:
        """The name, with a number where another one has it."""
        count, free = 1, wanted
        while free.lower() in self._taken:
            count += 1
            free = f"{wanted}-{count}"
        self._taken.add(free.lower())
        return free

    def tables(self, tables: Iterable[Table]) -> list[Table]:
        """The tables with names of their own."""
        return [replace(table, name=self.name(table.slug)) for table in tables]


def bd_figures(parts: Sequence[Part]) -> pd.DataFrame:
    """The BD figures of all parts, with the label of their passport in the page, and the rules that it stands for."""
    frames = [
        part.bd.assign(passport=part.section.label, passport_rules=words(part.section.passport))
        for part in parts
        if len(part.bd)
    ]
    if not frames:
        return pd.DataFrame(columns=[*COLUMNS, "passport", "passport_rules"])
    return pd.concat(frames, ignore_index=True)


def all_tables(frame: pd.DataFrame, parts: Sequence[Part], others: Table | None = None) -> list[tuple[str, Table]]:
    """(heading, table) in the order of the page; the heading names the passport where there are several."""
    tables = []
    for part in parts:
        heading = f"Metric passport {part.section.label}" if len(parts) > 1 else ""
        tables += [(heading, table) for table in part.tables]
    if len(ok(frame)) < len(frame):
        tables.append(("", failures_table(frame)))
    if others:
        tables.append(("", others))
    tables += [("", clouds_table(frame)), ("", codecs_table(frame))]
    return tables


def _markdown(tables: Sequence[tuple[str, Table]]) -> str:
    lines = ["# pccbench tables", ""]
    last = ""
    for heading, table in tables:
        if heading and heading != last:
            lines += [f"## {heading}", ""]
        last = heading or last
        lines.append(to_markdown(table))
    return "\n".join(lines)


def _latex(tables: Sequence[tuple[str, Table]]) -> str:
    lines = [r"% Needs \usepackage{booktabs} and \usepackage{textcomp}.", ""]
    for heading, table in tables:
        if heading:
            lines.append(f"% {heading}")
        lines.append(to_latex(table))
    return "\n".join(lines)


def write_plots(plots: Sequence[Plot], folder: Path) -> None:
    """Every plot as SVG, PNG and PDF; the same rows give the same files."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        (folder / f"{plot.name}.svg").write_text(plot.svg, encoding="utf-8")
        plot.figure.savefig(folder / f"{plot.name}.png", dpi=PNG_DPI, facecolor="white", pil_kwargs=_PNG)
        with matplotlib.rc_context({"pdf.fonttype": 42}):
            plot.figure.savefig(folder / f"{plot.name}.pdf", metadata={"CreationDate": None})
