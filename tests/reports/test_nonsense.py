"""A report of rows that hold anything: it is made, it can be read, and nothing in it runs or hides."""

import csv
import math
import os
import re

import pandas as pd
import pytest

from pccbench.reports import ReportError, write_report
from pccbench.reports.frame import command_again, prepare, records
from pccbench.reports.plain import CUT, ITEM_LIMIT, TEXT_LIMIT, csv_cell, line, name, plain, visible, words
from pccbench.reports.text import natural_key, number, slug

LONGDRESS, LOOT = "longdress_vox10_1300", "loot_vox10_1200"
ESC, OVERRIDE = "\x1b[31m", "\u202e"


@pytest.fixture(scope="module")
def few(make_rows):
    """One cloud, two codecs."""
    rows = make_rows(codecs=("gpcc-octree", "octree"), clouds={LOOT: 805_285})
    return rows[rows["rate"].isin(["r01", "r02", "r03", "r04", "r05"])].reset_index(drop=True)


def report(rows, tmp_path, certify, provenance=None):
    page = write_report(rows, provenance or {}, tmp_path / "out", certify=certify)
    return {path.name: path.read_text(encoding="utf-8") for path in page.parent.iterdir() if path.is_file()}


NONSENSE = [7, 7.5, math.nan, None, ["a", "b"], {"a": 1}, b"bytes", 10**400, object(), "\ud800", ESC, "x" * 3_000_000]


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: type(value).__name__)
def test_any_value_in_any_column_of_a_row(few, change, certify, tmp_path, value):
    """One of octree's rows is nonsense in every column but its status; G-PCC's figures stand."""
    columns = [column for column in few.columns if column != "status"]

    def is_bad(frame):
        return (frame["codec"] == "octree") & (frame["rate"] == "r02")

    identity = ("codec", "rate", "dataset", "cloud", "passport")
    rows = change(few, is_bad, **{column: value for column in columns if column not in identity})
    files = report(rows, tmp_path, certify)
    assert max(map(len, files.values())) < 400_000
    assert "9 of 10 jobs ok" in files["tables.md"] or "10 of 10 jobs ok" in files["tables.md"]
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(few)


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("column", ["codec", "rate", "dataset", "cloud"])
def test_any_value_for_a_name(few, change, column, value):
    rows = change(few, lambda frame: frame["rate"] == "r02", **{column: value})
    frame = prepare(rows)
    for text in frame[column]:
        assert isinstance(text, str)
        assert text
        assert len(text) <= TEXT_LIMIT + 4
        text.encode("utf-8")


def test_names_that_are_not_utf8_do_not_end_the_report(few, change, certify, tmp_path):
    given = os.fsdecode(b"scan\xff.ply")
    rows = change(few, lambda frame: frame["status"] == "ok", cloud=given)
    files = report(rows, tmp_path, certify, {"command": f"bench run --clouds {given}", "sessions": [{"cpu": given}]})
    for text in files.values():
        assert "scan\\xff.ply" in text or r"scan\\xff.ply" in text or r"scan\textbackslash{}xff.ply" in text
    (row, *_) = records(prepare(rows))
    assert "--clouds $'scan\\xff.ply' " in command_again(row, {})


def test_names_that_look_alike_afterwards_are_told_apart(few, change):
    rows = change(few, lambda frame: frame["rate"] == "r02", cloud="scan\\x1b")
    rows = change(rows, lambda frame: frame["rate"] == "r03", cloud="scan\x1b")
    long = "y" * 1000
    rows = change(rows, lambda frame: frame["rate"] == "r04", cloud=f"{long}a")
    rows = change(rows, lambda frame: frame["rate"] == "r05", cloud=f"{long}b")
    assert prepare(rows)["cloud"].nunique() == 5


def test_clouds_with_one_file_name_do_not_overwrite_each_other(few, change, certify, tmp_path):
    rows = change(few, lambda frame: frame["rate"] == "r02", cloud="a b")
    rows = change(rows, lambda frame: frame["rate"] == "r03", cloud="a-b")
    rows = change(rows, lambda frame: frame["rate"] == "r04", cloud="z" * 390)
    files = report(rows, tmp_path, certify)
    plots = [path.name for path in (tmp_path / "out" / "plots").glob("rd-*.svg")]
    assert len(plots) == 4
    ids = re.findall(r'\bid="([^"]+)"', files["report.html"])
    assert len(ids) == len(set(ids))


def test_nothing_hidden_reaches_a_file(few, change, certify, tmp_path):
    evil = f"{ESC}red{OVERRIDE}gnp.exe\u200b\r\n\x00"
    rows = change(
        few,
        lambda frame: frame["codec"] == "octree",
        codec_title=evil,
        codec_version=evil,
        notes={evil: evil},
        parameters={evil: evil},
        sections={evil: 5},
        seal=evil,
    )
    rows = change(rows, lambda f: f["rate"] == "r05", status="timeout", reason=evil, stderr_tail=f"one\n{evil}\ntwo")
    files = report(rows, tmp_path, certify, {"command": evil, "unavailable": {evil: evil}, "cpu": evil})
    svg = "".join(path.read_text() for path in (tmp_path / "out" / "plots").glob("*.svg"))
    for text in (*files.values(), svg):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b\u202e\ud800-\udfff]", text)
    assert r"\x1b[31mred\u202egnp.exe\u200b" in files["report.html"]


def test_markup_is_text(few, change, certify, tmp_path):
    evil = "<script>alert(1)</script> $\\frac{$ _x_ ![](//x) \\input{/etc/passwd} %"
    rows = change(few, lambda frame: frame["codec"] == "octree", codec_title=evil, codec_version=evil)
    files = report(rows, tmp_path, certify, {"command": evil})
    assert "<script>alert" not in files["report.html"]
    assert "\\input{" not in files["tables.tex"]
    assert "![](" not in files["tables.md"]
    assert (tmp_path / "out" / "plots" / f"rd-8ivfb-{LOOT}.pdf").exists()


@pytest.mark.parametrize("begin", ["=", "+", "-", "@"])
def test_spreadsheets_run_no_cell(few, change, certify, tmp_path, begin):
    evil = f"{begin}cmd|' /C calc'!A0"
    rows = change(
        few.assign(**{evil: "x"}),
        lambda frame: (frame["codec"] == "octree") & (frame["rate"] == "r05"),
        status="encode_failed",
        reason=evil,
        cloud=evil,
        codec_title=evil,
        notes={evil: evil},
    )
    report(rows, tmp_path, certify)
    for file in ("results.csv", "bd.csv"):
        with (tmp_path / "out" / file).open(newline="") as lines:
            cells = [cell for row in csv.reader(lines) for cell in row]
        for cell in cells:
            if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
                float(cell)  # a negative number is one
    with (tmp_path / "out" / "results.csv").open(newline="") as lines:
        reasons = {row["reason"] for row in csv.DictReader(lines)}
    assert f"'{evil}" in reasons


def test_notes_of_megabytes_are_cut(few, change, certify, tmp_path):
    huge = {f"note {i}": "n" * 1_000_000 for i in range(30)}
    rows = change(few, lambda f: f["rate"] == "r02", notes=huge, parameters=huge, sections=huge, reason="r" * 10**7)
    rows = change(rows, lambda f: f["rate"] == "r03", stderr_tail="line\n" * 10**6, missing={"d1_mse": "m" * 10**7})
    files = report(rows, tmp_path, certify, {"command": "c" * 10**7})
    assert sum(map(len, files.values())) < 1_000_000
    assert CUT in files["report.html"]


def test_provenance_of_any_kind(few, certify, tmp_path):
    for value in (None, 3, "text", [1], {"a": [None]}, math.nan, b"x", object()):
        keys = ("packages", "spec", "sessions", "unavailable", "missing_clouds", "git_clean", "command", "started_at")
        report(few, tmp_path, certify, dict.fromkeys(keys, value) | {"cpu": value, "memory_gb": value})


def test_a_certificate_that_fails_costs_its_figure_alone(few, certify, tmp_path):
    def fails(*curves):
        raise OverflowError(34, "Numerical result out of range")

    report(few, tmp_path, fails)
    frame = pd.read_csv(tmp_path / "out" / "bd.csv")
    assert set(frame["verdict"]) == set(frame["psnr_verdict"]) == {"REFUSED"}
    assert frame["reason"].str.contains("could not be computed: OverflowError").all()


def test_a_plot_that_fails_is_told(few, certify, tmp_path, monkeypatch):
    from pccbench.reports import report as module

    def fails(*_):
        raise ValueError("no <room>")

    monkeypatch.setattr(module, "rd_plot", fails)
    files = report(few, tmp_path, certify)
    assert f"Could not be drawn: {LOOT}: ValueError: no &lt;room&gt;." in files["report.html"]


def test_extreme_figures(few, change, certify, tmp_path):
    rows = change(
        few, lambda f: f["rate"] == "r02", rate_bpp=1e308, size_bytes=2**62, encode_s=1e-300, d1_psnr_db=1e300
    )
    rows = change(
        rows, lambda f: f["rate"] == "r03", rate_bpp=5e-324, d1_psnr_db=-1e90, encode_peak_mb=-3, decode_s=1e99
    )
    rows = change(rows, lambda f: f["rate"] == "r04", rate_bpp=-1.0, points_in=0, points_out=-5)
    files = report(rows, tmp_path, certify)
    assert "Could not be drawn" not in files["report.html"]


def test_only_rows_that_are_no_jobs(few, certify, tmp_path):
    with pytest.raises(ReportError, match="no rows"):
        write_report(few.iloc[:0], {}, tmp_path, certify=certify)
    files = report(few.assign(status="not_applicable", reason="real-valued"), tmp_path, certify)
    assert "none of which applies" in files["report.html"]


def test_plain_values():
    assert plain({"a": [1, (2.5, math.inf)], "b": b"x", 3: {"c": None}}) == {
        "a": [1, [2.5, None]],
        "b": "bytes",
        "3": {"c": None},
    }
    assert len(plain(list(range(1000)))) == ITEM_LIMIT + 1
    nested = value = []
    for _ in range(5000):
        value.append([])
        value = value[0]
    assert len(str(plain(nested))) < 100
    assert words({"a": {"b": 1, "c": [0.5, "x"]}, "d": True}) == "a.b=1; a.c=0.5 x; d=True"
    assert line(" a\r\n\tb ") == "a b"
    assert line(None) == line(math.nan) == ""
    assert (len(line("x" * 10**7)), line("x" * 10**7)[-1]) == (TEXT_LIMIT, CUT)
    assert name("") == name(None) == "unnamed"
    assert name("a\tb") == "a\\x09b"
    assert visible("é 点 \U0001f600") == "é 点 \U0001f600"


def test_cells_of_csv():
    assert csv_cell("=1+1") == "'=1+1"
    assert csv_cell("\tx") == "'\tx"
    assert csv_cell(-3.5) == -3.5
    assert csv_cell("a-b") == "a-b"
    assert csv_cell({"-a": 1}) == "'-a=1"


def test_helpers_take_any_text():
    assert sorted(["r10", "r2", "r²", "r" + "9" * 5000], key=natural_key)[:2] == ["r2", "r10"]
    assert [number(value) for value in ([], {}, "1", 10**400, 1e300, b"1")] == [None] * 6
    assert len(slug("x" * 5000)) <= 120
    assert slug("x" * 5000) != slug("x" * 5001)


def test_findings_without_figures(rows, change):
    from pccbench.reports.bd import COLUMNS
    from pccbench.reports.page import findings

    odd = change(rows, lambda f: f["lossless"] & (f["codec"] == "octree"), rate_bpp=None)
    odd = change(odd, lambda f: f["lossless"] & (f["codec"] == "draco"), rate_bpp=0.0, encode_s="soon", points_in=0)
    sentences = findings(prepare(odd), pd.DataFrame(columns=COLUMNS), [])
    assert not any(sentence.startswith("Lossless") for sentence in sentences)
