"""Report: everything that a run has to say, written to one folder from its rows and provenance alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .bd import COLUMNS, bd_table, default_anchors
from .certificate import Certify
from .frame import Section, clouds_of, ok, prepare, results, split_by_passport
from .page import Part, render_page
from .plots import Plot, cost_plot, rd_plot, secondary_plot
from .table import Table, to_latex, to_markdown
from .tables import (
    bd_matrix,
    certificate_table,
    clouds_table,
    codecs_table,
    failures_table,
    mean_table,
    metrics_of,
    rate_table,
    summary_table,
    unavailable_table,
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

    Args:
        rows: one row a job, columns as `pccbench.bench.row.Row`.
        provenance: what run.json says of the run (versions, machine, command, unavailable codecs, missing clouds).
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
    frame = prepare(rows)
    anchors = default_anchors(frame, anchor)
    parts = [make_part(section, anchors, certify) for section in split_by_passport(frame)]
    out.mkdir(parents=True, exist_ok=True)
    results(frame).to_csv(out / "results.csv", index=False, lineterminator="\n")
    bd_figures(parts).to_csv(out / "bd.csv", index=False, lineterminator="\n")
    tables = all_tables(frame, parts, provenance)
    (out / "tables.md").write_text(_markdown(tables), encoding="utf-8")
    (out / "tables.tex").write_text(_latex(tables), encoding="utf-8")
    page = out / "report.html"
    page.write_text(render_page(frame, parts, provenance, anchors), encoding="utf-8")
    write_plots([plot for part in parts for plot in part.plots], out / "plots")
    return page


def make_part(section: Section, anchors: Sequence[str], certify: Certify) -> Part:
    """Tables and plots of the rows of one passport."""
    rows = section.rows
    datasets = list(dict.fromkeys(dataset for dataset, _ in clouds_of(rows)))
    here = [anchor for anchor in anchors if anchor in set(ok(rows)["codec"])]
    bd = bd_table(rows, here, certify)
    against = [
        (anchor, dataset)
        for anchor in here
        for dataset in datasets
        if ((bd["anchor"] == anchor) & (bd["dataset"] == dataset)).any()
    ]
    suffix = f"-{section.label.lower()}" if section.index else ""
    curves = [
        draw(rows, dataset, cloud, slug(f"{kind}-{dataset}-{cloud}{suffix}"))
        for dataset, cloud in clouds_of(rows)
        for kind, draw in (("rd", rd_plot), ("secondary", secondary_plot))
    ]
    cost = cost_plot(rows, f"cost{suffix}")
    rates: list[Table] = []
    for dataset in datasets:
        mean = mean_table(rows, dataset)
        rates += [mean] if mean else []
        rates += [rate_table(rows, dataset, cloud) for name, cloud in clouds_of(rows) if name == dataset]
    return Part(
        section=section,
        summaries=[summary_table(rows, bd, here, dataset) for dataset in datasets],
        matrices=[
            bd_matrix(rows, bd, anchor, dataset, figure)
            for anchor, dataset in against
            for figure in ("bd_rate_pct", "bd_psnr_db")
        ],
        certificates=[
            certificate_table(rows, bd, anchor, dataset, metric)
            for anchor, dataset in against
            for metric in metrics_of(bd)
        ],
        rates=rates,
        curves=[plot for plot in curves if plot],
        costs=[cost] if cost else [],
        bd=bd,
    )


def bd_figures(parts: Sequence[Part]) -> pd.DataFrame:
    """The BD figures of all parts, with the label of their passport."""
    frames = [part.bd.assign(passport=part.section.label) for part in parts if len(part.bd)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*COLUMNS, "passport"])


def all_tables(frame: pd.DataFrame, parts: Sequence[Part], provenance: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """(heading, table) in the order of the page; the heading names the passport where there are several."""
    tables = []
    for part in parts:
        heading = f"Metric passport {part.section.label}" if len(parts) > 1 else ""
        tables += [(heading, table) for table in part.tables]
    if len(ok(frame)) < len(frame):
        tables.append(("", failures_table(frame)))
    unavailable = provenance.get("unavailable") or {}
    if unavailable:
        tables.append(("", unavailable_table(unavailable)))
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
