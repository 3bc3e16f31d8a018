"""One table, three renderings; and what the tables of a report say."""

import re

import pytest

from pccbench.reports import MixedPassportsError
from pccbench.reports.frame import prepare
from pccbench.reports.table import Cell, Column, Table, missing_cell, text_cell, to_latex, to_markdown, to_text
from pccbench.reports.tables import (
    bd_matrix,
    certificate_table,
    clouds_table,
    codecs_table,
    distance_table,
    failures_table,
    mean_table,
    rate_table,
    summary_table,
)

LONGDRESS, LOOT = "longdress_vox10_1300", "loot_vox10_1200"

TABLE = Table(
    "A | title",
    "10 % of a_b & c",
    [Column("name", numeric=False), Column("x", group="g"), Column("y", group="g")],
    [
        [text_cell("a_b"), Cell("\N{MINUS SIGN}1.5", sort=-1.5), missing_cell("not there")],
        [text_cell("c|d"), Cell("2", sort=2.0, badge="WEAK", note="few points"), missing_cell("not there")],
    ],
)


def test_footnotes_are_numbered_once_each():
    assert TABLE.footnotes == ["not there", "few points"]


def test_markdown():
    lines = to_markdown(TABLE).splitlines()
    assert lines[0] == r"### A \| title"
    assert lines[4] == "| name | g: x | g: y |"
    assert lines[5] == "| :--- | ---: | ---: |"
    assert lines[6] == "| a\\_b | -1.5 | \N{EN DASH} [1] |"
    assert lines[7] == "| c\\|d | 2 (WEAK) [2] | \N{EN DASH} [1] |"
    assert lines[9:] == ["[1] not there  ", "[2] few points"]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines[4:8]}) == 1


def test_latex_is_balanced_and_escaped():
    text = to_latex(TABLE)
    assert r"\caption{10 \% of a\_b \& c}" in text
    assert r"a\_b & $-$1.5 & --\textsuperscript{1} \\" in text
    assert r"\multicolumn{2}{c}{g}" in text
    assert r"\cmidrule(lr){2-3}" in text
    for name in ("table*", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    assert text.count("{") == text.count("}")
    assert text.isascii()


def test_text_is_aligned():
    lines = to_text(TABLE).splitlines()
    assert lines[0].split() == ["name", "g", "x", "g", "y"]
    assert lines[2].index("-1.5") + 4 == lines[3].index("2 WEAK [2]") + len("2 WEAK [2]")


def cell(table, row, column):
    titles = [f"{c.group} {c.title}".strip() for c in table.columns]
    (found,) = [cells for cells in table.rows if [c.text for c in cells[: len(row)]] == list(row)]
    return found[titles.index(column)]


def test_rate_table_shows_every_job_and_why_figures_are_missing(troubled_rows):
    table = rate_table(prepare(troubled_rows), "8ivfb", LOOT)
    assert len(table.rows) == (troubled_rows["cloud"] == LOOT).sum()
    timeout = cell(table, ["Draco", "q09"], "PSNR, dB D1")
    assert (timeout.text, timeout.note) == ("\N{EN DASH}", "timeout: decode took longer than 60 s")
    assert cell(table, ["Draco", "q09"], "bytes").text == "198,704"
    assert cell(table, ["Draco", "q09"], "status").badge == "timeout"
    assert cell(table, ["Octree", "lossless"], "PSNR, dB D1").text == "lossless"
    assert cell(table, ["G-PCC octree", "r01"], "rate").href.startswith("#job-")
    assert not any("inf" in c.text or "nan" in c.text for row in table.rows for c in row)


def test_metric_missing_with_its_reason(rows, change):
    frame = change(
        rows,
        lambda f: f["codec"] == "draco",
        d2_mse=None,
        d2_psnr_db=None,
        missing={"d2_mse": "the input cloud has no normals"},
    )
    table = rate_table(prepare(frame), "8ivfb", LOOT)
    assert cell(table, ["Draco", "q06"], "PSNR, dB D2").note == "the input cloud has no normals"


def test_every_table_says_how_many_jobs_succeeded(troubled_rows, troubled_bd):
    frame = prepare(troubled_rows)
    tables = [
        summary_table(frame, troubled_bd, ["gpcc-octree"], "8ivfb"),
        bd_matrix(frame, troubled_bd, "gpcc-octree", "8ivfb"),
        certificate_table(frame, troubled_bd, "gpcc-octree", "8ivfb", "d1"),
        rate_table(frame, "8ivfb", LOOT),
        failures_table(frame),
        codecs_table(frame),
        clouds_table(frame),
    ]
    for table in tables:
        assert re.search(r"\d+ of \d+ jobs ok", table.caption), table.title
        assert all(len(row) == len(table.columns) for row in table.rows), table.title
    assert "66 of 68 jobs ok" in tables[0].caption


def test_flags_stand_wherever_a_flagged_codec_does(troubled_rows, troubled_bd):
    frame = prepare(troubled_rows)
    for table in (
        summary_table(frame, troubled_bd, ["gpcc-octree"], "8ivfb"),
        bd_matrix(frame, troubled_bd, "gpcc-octree", "8ivfb"),
        certificate_table(frame, troubled_bd, "gpcc-octree", "8ivfb", "d2"),
        rate_table(frame, "8ivfb", LOOT),
        codecs_table(frame),
    ):
        firsts = [row[0].text for row in table.rows]
        for name, flag in (("untrained-net", "untrained"), ("Voxel net", "contaminated")):
            mine = [text for text in firsts if name in text]
            assert mine, table.title
            assert all(f"[{flag}]" in text for text in mine), table.title


def test_matrix_shows_verdicts_with_reasons(troubled_rows, troubled_bd):
    table = bd_matrix(prepare(troubled_rows), troubled_bd, "gpcc-octree", "8ivfb")
    assert "G-PCC octree" in table.title
    octree = cell(table, ["Octree"], f"{LONGDRESS} D1")
    assert (octree.badge, octree.note) == ("OK", "")
    draco = cell(table, ["Draco"], f"{LOOT} D1")
    assert (draco.badge, draco.note) == ("WEAK", "the test has 3 points, 4 are asked for")
    untrained = cell(table, ["untrained-net [untrained]"], f"{LOOT} D1")
    assert (untrained.text, untrained.badge) == ("", "REFUSED")
    assert cell(table, ["Draco"], "jobs ok").text == "9/10"
    assert not any("Raw" in row[0].text for row in table.rows)  # it has no curve


def test_each_bd_figure_wears_its_own_badge(rows, certify):
    from pccbench.reports.bd import bd_table

    few = rows[rows["codec"].isin(["gpcc-octree", "octree"])].copy()
    few.loc[(few["codec"] == "octree") & (few["rate"] != "lossless"), "rate_bpp"] *= 100
    frame = prepare(few)
    bd = bd_table(frame, ["gpcc-octree"], certify)
    rate = cell(bd_matrix(frame, bd, "gpcc-octree", "8ivfb"), ["Octree"], f"{LONGDRESS} D1")
    assert (rate.badge, rate.note) == ("OK", "")
    psnr = cell(bd_matrix(frame, bd, "gpcc-octree", "8ivfb", "bd_psnr_db"), ["Octree"], f"{LONGDRESS} D1")
    assert (psnr.text, psnr.badge) == ("", "REFUSED")
    assert psnr.note.startswith("the curves share no rate")
    certificate = certificate_table(frame, bd, "gpcc-octree", "8ivfb", "d1")
    row = certificate.rows[0]
    assert [row[2].badge, row[3].badge] == ["OK", "REFUSED"]


def test_points_and_drawn_curve_are_told_apart(rows, change, certify):
    """A dominated point is dropped and the verdict stays OK; the certificate says that the points did not rise."""
    from pccbench.reports.bd import bd_table

    few = rows[rows["codec"].isin(["gpcc-octree", "octree"])]
    few = change(few, lambda f: (f["codec"] == "octree") & (f["rate"] == "r05"), d1_psnr_db=60.0)
    frame = prepare(few)
    bd = bd_table(frame, ["gpcc-octree"], certify)
    table = certificate_table(frame, bd, "gpcc-octree", "8ivfb", "d1")
    row = table.rows[0]
    titles = [f"{column.group} {column.title}" for column in table.columns]
    assert row[2].badge == "OK"
    assert row[titles.index("rising points")].text == "codec not"
    assert "dominated: point 3 reaches 67.98" in row[titles.index("rising points")].tip
    assert row[titles.index("rising drawn")].text == "both"


def test_missing_distances_say_why(rows, change):
    frame = prepare(
        change(
            rows,
            lambda f: f["codec"] == "draco",
            hausdorff_d2_sq=None,
            hausdorff_d2_psnr_db=None,
            chamfer_mean_sum=None,
            missing={"hausdorff_d2_sq": "the input has no normals", "chamfer_mean_sum": "too few points"},
        )
    )
    table = distance_table(frame, "8ivfb", LOOT)
    notes = [c.note for c in next(row for row in table.rows if row[0].text == "Draco")]
    assert "the input has no normals" in notes
    assert "too few points" in notes
    assert (
        distance_table(prepare(rows[["job_key", "codec", "rate", "dataset", "cloud", "status"]]), "8ivfb", LOOT)
        is None
    )


def test_mean_table_needs_two_finished_clouds(rows, troubled_rows):
    assert mean_table(prepare(troubled_rows), "8ivfb") is None
    table = mean_table(prepare(rows), "8ivfb")
    mine = rows[(rows["codec"] == "draco") & (rows["rate"] == "q08")]
    assert cell(table, ["Draco", "q08"], "bpp").sort == pytest.approx(mine["rate_bpp"].mean())
    assert cell(table, ["Draco", "q08"], "PSNR, dB D1").sort == pytest.approx(mine["d1_psnr_db"].mean())
    assert cell(table, ["Draco", "q10"], "PSNR, dB D1").text == "lossless"


def test_decibels_of_different_peaks_are_not_averaged_in_the_mean_table(rows, change, passport):
    frame = prepare(change(rows, lambda f: f["cloud"] == LOOT, passport={**passport(LOOT), "peak": 2047.0}))
    table = mean_table(frame, "8ivfb")
    assert "different peaks" in cell(table, ["Draco", "q08"], "PSNR, dB D1").note
    assert cell(table, ["Draco", "q08"], "bpp").sort


def test_mixed_passports_are_refused_in_a_table(rows, change, passport, bd):
    def is_octree_on_loot(f):
        return (f["codec"] == "octree") & (f["cloud"] == LOOT)

    frame = prepare(change(rows, is_octree_on_loot, passport={**passport(LOOT), "ties": "first"}))
    for make in (
        lambda: rate_table(frame, "8ivfb", LOOT),
        lambda: mean_table(frame, "8ivfb"),
        lambda: summary_table(frame, bd, ["gpcc-octree"], "8ivfb"),
        lambda: bd_matrix(frame, bd, "gpcc-octree", "8ivfb"),
    ):
        with pytest.raises(MixedPassportsError, match="ties"):
            make()
    rate_table(frame, "8ivfb", LONGDRESS)


def test_failures_and_unavailable(troubled_rows):
    table = failures_table(prepare(troubled_rows))
    assert [row[0].text for row in table.rows] == ["G-PCC trisoup", "Draco"]
    assert cell(table, ["G-PCC trisoup"], "reason").text == "tmc3 was killed by signal 11 (SIGSEGV)"
    assert "segmentation fault" in cell(table, ["G-PCC trisoup"], "stderr").text
