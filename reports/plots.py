"""Plots: curves of each cloud over rate (distortion, local density and normals), and time and memory of each codec.

Figures are made without pyplot: no global state, no display.  Every measured point carries the anchor of its row, so
that in the page it leads to the job behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from .bd import METRICS
from .frame import codec_flags, codecs_of, is_lossless, of_cloud, ok, records, require_one_passport, title_of
from .plain import cut
from .published import PUBLISHED_MARK as _PUBLISHED_MARK
from .published import PublishedCurve, published_curves
from .style import GRID, INK, PUBLISHED, CodecStyle, codec_styles, published_marker
from .svg import to_svg
from .text import bpp, integer, number, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 11,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.fontsize": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a codec's name may hold a dollar
}
#: Characters of a title in a plot; the tables have all of it.
_TITLE_LIMIT = 40
_LABELS = {"d1": "D1 (point to point)", "d2": "D2 (point to plane)"}
#: Factor of the peak in the PSNR of every published curve.
PUBLISHED_FACTOR = 3
_LOSSLESS_LABEL = "lossless rate"


@dataclass(frozen=True)
class Plot:
    """A figure with what a page needs to say about it.

    Attributes:
        name: safe as a file name.
        title: heading.
        caption: what it shows, with the citations of published curves.
        figure: matplotlib's.
        tips: row anchor -> tooltip of the point.
        references: citations of the published curves in it.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    tips: Mapping[str, str]
    references: tuple[str, ...] = ()

    @cached_property
    def svg(self) -> str:
        """The figure as an SVG file, drawn once for the page and for the folder."""
        text = to_svg(self.figure)
        self.figure.set_layout_engine("none")  # what the first drawing laid out need not be laid out again
        return text


def rd_plot(rows: pd.DataFrame, dataset: str, cloud: str, name: str) -> Plot | None:
    """PSNR over rate of every codec on one cloud, D1 and D2 side by side; None when no job of it succeeded.

    Args:
        rows: prepared rows of one passport, of all clouds (so that a codec looks the same on each).
        dataset: data set of the cloud.
        cloud: the cloud.
        name: file name of the plot.

    Raises:
        MixedPassportsError: the rows are of several passports.
    """
    require_one_passport(rows)
    codecs = codecs_of(rows)
    mine = of_cloud(rows, dataset, cloud)
    jobs = records(ok(mine))
    metrics = [name for name in METRICS if any(number(row[f"{name}_mse"]) is not None for row in jobs)]
    if not metrics:
        return None
    titles = {codec: _short(title_of(mine, codec)) for codec in codecs}
    flagged = [codec for codec in codecs if codec_flags(mine, codec)]
    styles = codec_styles(codecs, flagged)
    published = [
        curve
        for curve in published_curves(cloud, frozenset(row["codec"] for row in jobs))
        if all(_same_scale(curve, row["passport"]) for row in jobs)
    ]
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6 * len(metrics), 4.9), layout="constrained")
        axes = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            _published(axis, published, metric)
            _measured(axis, jobs, titles, f"{metric}_psnr_db", styles)
            _finish_rd(axis, jobs, metric, styles)
        _legend(figure, axes)
    caption = f"{cloud}. Solid: measured here, rate from the bytes given to the decoder."
    if any(is_lossless(row, metric) for row in jobs for metric in metrics):
        caption += " Triangles on the upper edge: lossless rates, which have no PSNR."
    if published:
        caption += f" Dashed: published, not measured here: {'; '.join(curve.citation for curve in published)}."
    if flagged:
        caption += " Dotted: untrained, or trained on this cloud, as the legend says."
    tips = {row["row_id"]: _tip(row, titles[row["codec"]]) for row in jobs}
    return Plot(name, cloud, caption, figure, tips, tuple(curve.reference for curve in published))


def secondary_plot(rows: pd.DataFrame, dataset: str, cloud: str, name: str) -> Plot | None:
    """Local density and normals over rate of every codec on one cloud; None where they were not measured.

    Args:
        rows: as for `rd_plot`.
        dataset: data set of the cloud.
        cloud: the cloud.
        name: file name of the plot.

    Raises:
        MixedPassportsError: the rows are of several passports.
    """
    require_one_passport(rows)
    mine = of_cloud(rows, dataset, cloud)
    measured = [row for row in records(ok(mine)) if number(row["density_count_ab"]) is not None]
    # Clouds without error have no place on a logarithmic axis.
    jobs = [row for row in measured if not is_lossless(row, "d1")]
    if not jobs:
        return None
    for row in jobs:
        row["density_count"] = (row["density_count_ab"] + row["density_count_ba"]) / 2
    codecs = codecs_of(rows)
    titles = {codec: _short(title_of(mine, codec)) for codec in codecs}
    styles = codec_styles(codecs, [codec for codec in codecs if codec_flags(mine, codec)])
    panels = [
        ("density_count", "Local density (lower is better)", "relative difference"),
        ("normals_f1", "Normals (higher is better)", "F1 score"),
    ]
    with _style():
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter

        figure = Figure(figsize=(11.2, 4.9), layout="constrained")
        axes = figure.subplots(1, len(panels))
        for axis, (column, title, label) in zip(axes, panels, strict=True):
            _measured(axis, jobs, titles, column, styles)
            _finish_rate(axis, title, label)
        axes[0].set_yscale("log")
        axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        _legend(figure, axes)
    passport = jobs[-1]["secondary_passport"]
    caption = (
        f"{cloud}. Local density: how much the number of points within {significant(passport['radius'])} of a point "
        f"differs from that around the nearest point of the other cloud, mean of both directions over "
        f"{integer(passport['centres'])} points. Normals: F1 of points within "
        f"{significant(passport['hit_distance'])} of an input point of nearly the same normal. Metrics of D-PCC "
        "(He et al., CVPR 2022), scaled to the cloud's "
        "spacing."
    )
    tips = {row["row_id"]: _tip(row, titles[row["codec"]]) for row in jobs}
    return Plot(name, f"{cloud}: density and normals", caption, figure, tips)


def _on_log_axis(value: Any) -> float | None:
    """A number that a logarithmic axis can hold beside others; what is smaller or larger was not measured."""
    known = number(value)
    return known if known is not None and 1e-12 < known < 1e12 else None


def _short(title: str) -> str:
    """A title for a legend; matplotlib leaves out what begins with an underscore."""
    text = cut(title, _TITLE_LIMIT)
    return f" {text}" if text.startswith("_") else text


def _style() -> Any:
    import matplotlib

    return matplotlib.rc_context(_RC)


def _same_scale(curve: PublishedCurve, passport: Mapping[str, Any]) -> bool:
    """Whether decibels of a published curve and of a row may stand on one axis."""
    peak, factor = number(passport.get("peak")), number(passport.get("psnr_factor"))
    return (peak is None or peak == curve.peak) and (factor is None or factor == PUBLISHED_FACTOR)


def _published(axis: Axes, curves: Sequence[PublishedCurve], metric: str) -> None:
    for curve in curves:
        points = [(x, y) for x, y in zip(curve.rate_bpp, curve.quality(metric), strict=True) if y is not None]
        if points:
            x, y = zip(*points, strict=True)
            axis.plot(
                x,
                y,
                linestyle=(0, (4, 2)),
                linewidth=0.9,
                color=PUBLISHED,
                marker=published_marker(curve.codec),
                markersize=4,
                markerfacecolor="none",
                markeredgewidth=0.8,
                label=curve.label,
                zorder=2,
            )


def _measured(
    axis: Axes,
    jobs: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
    column: str,
    styles: Mapping[str, CodecStyle],
) -> None:
    """A curve of a column over rate for each codec, in the order of the titles."""
    for codec, title in titles.items():
        points = []
        for row in jobs:
            rate, quality = _on_log_axis(row["rate_bpp"]), number(row[column])
            if row["codec"] == codec and rate and quality is not None:
                points.append((rate, quality, row["row_id"]))
        if not points:
            continue
        style = styles[codec]
        x, y, ids = zip(*sorted(points), strict=True)
        axis.plot(x, y, linestyle=style.dashes, linewidth=1.7, color=style.color, zorder=3)
        marks = axis.scatter(x, y, s=30, marker=style.marker, color=style.color, linewidths=1.2, zorder=4)
        marks.set_urls([f"#{row_id}" for row_id in ids])
        axis.plot([], [], linestyle=style.dashes, linewidth=1.7, color=style.color, marker=style.marker, label=title)


def _tip(row: Mapping[str, Any], title: str) -> str:
    """What a point says when it is pointed at."""
    qualities = [(metric.upper(), number(row[f"{metric}_psnr_db"])) for metric in METRICS]
    words = [f"{name} {value:.2f} dB" for name, value in qualities if value is not None]
    rate = number(row["rate_bpp"])
    return f"{title} {row['rate']}: {', '.join([f'{bpp(rate or 0)} bpp', *words])}"


def _finish_rd(axis: Axes, jobs: Sequence[Mapping[str, Any]], metric: str, styles: Mapping[str, CodecStyle]) -> None:
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    # Lossless rates have no PSNR; they are marked on the upper edge, where they fall near the curves.
    edge = axis.get_xaxis_transform()
    marked = False
    for row in jobs:
        rate, color = _on_log_axis(row["rate_bpp"]), styles[row["codec"]].color
        if rate and is_lossless(row, metric) and low <= rate <= 3 * high:
            axis.plot([rate], [1], marker="v", markersize=7, color=color, transform=edge, clip_on=False, zorder=5)
            marked = True
    if marked:
        axis.plot([], [], linestyle="none", marker="v", markersize=7, color=PUBLISHED, label=_LOSSLESS_LABEL)
    _finish_rate(axis, _LABELS[metric], f"{metric.upper()} PSNR, dB")


def _finish_rate(axis: Axes, title: str, label: str) -> None:
    """Logarithmic rate, grid and words of a panel."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    decades = math.log10(high) - math.log10(low)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 4 else (1,)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(visible=True, which="major")
    axis.set_axisbelow(True)
    axis.set_xlabel("rate, bits per input point")
    axis.set_ylabel(label)
    axis.set_title(title, loc="left", pad=10)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend under both panels: measured curves first, then the published."""
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    rank = {label: (_PUBLISHED_MARK in label) + 2 * (label == _LOSSLESS_LABEL) for label in entries}
    labels = sorted(entries, key=rank.__getitem__)
    if labels:
        # As many columns as the longest labels leave room for: a character is about 0.075 inch, a handle 0.6.
        widest = 0.075 * max(map(len, labels)) + 0.6
        columns = max(1, min(len(labels), 5, int(figure.get_figwidth() / widest)))
        # matplotlib fills columns first; reorder so that one reads along the rows.
        order = [i for column in range(columns) for i in range(column, len(labels), columns)]
        labels = [labels[i] for i in order]
        figure.legend(
            [entries[label] for label in labels],
            labels,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            handlelength=2.6,
            columnspacing=1.8,
        )


def cost_plot(rows: pd.DataFrame, name: str) -> Plot | None:
    """Time and memory of each codec over its jobs: a dot for each job, a bar at the median; None without times."""
    require_one_passport(rows)
    done = ok(rows)
    done = done[done["encode_s"].map(number).notna() & done["decode_s"].map(number).notna()]
    codecs = codecs_of(done) if len(done) else []
    if not codecs:
        return None
    styles = codec_styles(codecs_of(rows), [codec for codec in codecs if codec_flags(rows, codec)])
    titles = [_short(title_of(rows, codec)) for codec in codecs]
    tips: dict[str, str] = {}
    panels = [
        ("encode_s", "encode, s per million points"),
        ("decode_s", "decode, s per million points"),
        ("encode_peak_mb", "encoder peak, MB"),
        ("decode_peak_mb", "decoder peak, MB"),
    ]
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.2, 0.9 + 0.34 * len(codecs)), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, (column, label) in zip(axes, panels, strict=True):
            for position, codec in enumerate(codecs):
                _cost_row(axis, done[done["codec"] == codec], position, column, styles[codec])
            _finish_cost(axis, label)
        axes[0].set_yticks(range(len(codecs)), titles)
        axes[0].set_ylim(len(codecs) - 0.5, -0.5)
    caption = "Time and memory of each codec: a dot for each job that succeeded, a bar at their median."
    if done["shares_cores"].any():
        caption += " Some jobs shared cores with others while they were timed."
    return Plot(name, "Time and memory", caption, figure, tips)


def _cost_row(axis: Axes, rows: pd.DataFrame, position: int, column: str, style: CodecStyle) -> None:
    values = []
    for value, points in zip(map(number, rows[column]), map(number, rows["points_in"]), strict=True):
        if value is not None and points:
            shown = _on_log_axis(1e6 * value / points if column.endswith("_s") else value)
            values += [] if shown is None else [shown]
    if not values:
        return
    axis.scatter(values, [position] * len(values), s=16, color=style.color, alpha=0.45, linewidths=0, zorder=3)
    median = float(pd.Series(values).median())
    axis.scatter([median], [position], s=160, marker="|", color=style.color, linewidths=2.4, zorder=4)
    axis.annotate(
        significant(median, 2),
        (median, position),
        textcoords="offset points",
        xytext=(0, 8),
        ha="center",
        fontsize=8,
        color=INK,
    )


def _finish_cost(axis: Axes, label: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    # Never less than a decade and a half, else a small difference looks large and the axis has no tick.
    middle, reach = math.sqrt(low * high), max(math.sqrt(high / low) * 1.3, 10**0.75)
    axis.set_xlim(middle / reach, middle * reach)
    axis.xaxis.set_major_locator(LogLocator(subs=(1,) if reach > 10 else (1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(visible=True, which="major", axis="x")
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(label)
