"""The report as written to disk."""

import csv
import html.parser
import re

import pandas as pd
import pytest

from pccbench.reports import ReportError, write_report
from pccbench.reports.frame import prepare

LONGDRESS, LOOT = "longdress_vox10_1300", "loot_vox10_1200"


class Page(html.parser.HTMLParser):
    """What a test needs to know of a page; fails on tags that do not nest."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input", "col", "source"})

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.open, self.text = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag in ("a", "use") and "href" in attrs:
            self.links.append(attrs["href"])
        self.loads += [attrs[name] for name in ("src", "srcset", "data", "poster") if name in attrs]
        if tag == "link":
            self.loads.append(attrs.get("href"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="session")
def page_text(report):
    return (report / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def page(page_text):
    return Page(page_text)


def test_files(report):
    names = {path.name for path in report.iterdir()}
    assert names == {"report.html", "results.csv", "bd.csv", "tables.md", "tables.tex", "plots"}
    plots = {path.name for path in (report / "plots").iterdir()}
    stems = [f"rd-8ivfb-{LONGDRESS}", f"rd-8ivfb-{LOOT}", "cost"]
    assert plots == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg", "pdf")}
    assert all(path.stat().st_size > 1000 for path in (report / "plots").iterdir())


def test_page_is_well_formed_and_self_contained(page, page_text):
    assert not page.open
    assert not page.loads
    assert not re.search(r"https?://", page_text)
    assert "@import" not in page_text
    assert len(page.ids) == len(set(page.ids)), "ids repeat"
    targets = {link[1:] for link in page.links if link.startswith("#")}
    assert targets <= set(page.ids), targets - set(page.ids)
    assert all(link.startswith("#") for link in page.links)


def test_every_job_can_be_traced(page, page_text, troubled_rows):
    text = " ".join(page.text)
    for row in prepare(troubled_rows).to_dict("records"):
        assert row["row_id"] in page.ids
        assert row["job_key"] in text
        assert row["stream_sha256"] in text
        command = f"bench run --codecs {row['codec']} --dataset 8ivfb --clouds {row['cloud']} --rates {row['rate']}"
        assert command in text
    # a measured point of a plot leads to its job, with a tooltip
    row_id = prepare(troubled_rows)["row_id"][0]
    assert f'<a href="#{row_id}"><title>G-PCC octree r01: 0.0220 bpp, D1 52.78 dB' in page_text


def test_page_says_what_must_be_said(page):
    text = " ".join(" ".join(page.text).split())
    for words in (
        "66 of 68",
        "untrained-net ran with untrained weights",
        f"Voxel net was trained on {LOOT}",
        "Could not run on this machine: pcgcv2",
        "needs MinkowskiEngine; install it with pip install MinkowskiEngine",
        "redandblack_vox10_1550 and soldier_vox10_0690",
        "tmc3 was killed by signal 11 (SIGSEGV)",
        "decode took longer than 60 s",
        "Example CPU @ 2.7 GHz",
        "0123456789abcdef0123456789abcdef01234567",
        "bench run --codecs all --dataset 8ivfb --data-root data",
        "numpy 2.4.6",
        "neighbours at one distance averaged",
        "lossless",
        "PCGCv2, published (DCC 2021)",
        "Multiscale Point Cloud Geometry Compression",
    ):
        assert words in text, words


def test_no_figure_is_inf_or_nan(report, page):
    for name in ("tables.md", "tables.tex"):
        assert not re.search(r"\b(nan|inf|None|NaN)\b", (report / name).read_text(encoding="utf-8"))
    words = " ".join(page.text[: page.text.index("Provenance")] if "Provenance" in page.text else page.text)
    assert not re.search(r"(?<![\w-])(nan|NaN|inf|None)(?!\w)", words)


def test_results_csv(report, troubled_rows):
    with (report / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(troubled_rows)
    expected = (
        "codec rate dataset cloud status reason points_in points_out size_bytes rate_bpp d1_mse d1_psnr_db d2_mse "
        "d2_psnr_db hausdorff_d1_sq hausdorff_d1_psnr_db hausdorff_d2_sq hausdorff_d2_psnr_db chamfer_sq_mean_sum "
        "chamfer_mean_sum encode_s decode_s encode_peak_mb decode_peak_mb"
    ).split()
    assert list(lines[0])[: len(expected)] == expected
    (row,) = [line for line in lines if (line["codec"], line["rate"], line["cloud"]) == ("draco", "q09", LOOT)]
    assert row["status"] == "timeout"
    assert row["d1_psnr_db"] == ""
    assert row["size_bytes"] == "198704"
    assert row["parameters"] == "scale=2.1" or row["parameters"].startswith("scale=1.97")
    (row,) = [line for line in lines if (line["codec"], line["rate"], line["cloud"]) == ("raw", "lossless", LOOT)]
    assert (row["d1_psnr_db"], row["d1_mse"]) == ("", "0.0")
    frame = pd.read_csv(report / "results.csv")
    assert frame["rate_bpp"].dtype == float


def test_bd_csv(report):
    frame = pd.read_csv(report / "bd.csv", keep_default_na=False)
    assert list(frame.columns[:10]) == [
        *(
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
        )
    ]
    assert set(frame["anchor"]) == {"gpcc-octree", "gpcc-trisoup"}
    assert set(frame["metric"]) == {"d1", "d2"}
    assert set(frame["cloud"]) == {LONGDRESS, LOOT, "mean"}
    assert set(frame["verdict"]) == {"OK", "WEAK", "REFUSED"}
    refused = frame[frame["verdict"] == "REFUSED"]
    assert (refused["bd_rate_pct"] == "").all()
    assert (refused["reason"] != "").all()


def test_tables_hold_every_bd_figure(report):
    text = (report / "tables.md").read_text(encoding="utf-8")
    frame = pd.read_csv(report / "bd.csv")
    for value in frame.loc[frame["verdict"] != "REFUSED", "bd_rate_pct"]:
        decimals = 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
        assert f"{value:+.{decimals}f}" in text
    assert "### BD-rate against G-PCC octree, 8ivfb" in text
    tex = (report / "tables.tex").read_text(encoding="utf-8")
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == text.count("### ")


def test_same_rows_give_the_same_report(rows, provenance, certify, tmp_path):
    few = rows[rows["codec"].isin(["gpcc-octree", "octree"]) & (rows["rate"] != "lossless")]
    once = write_report(few, provenance, tmp_path / "once", certify=certify).parent
    shuffled = few.sample(frac=1, random_state=3)
    again = write_report(shuffled, provenance, tmp_path / "deep" / "folder", certify=certify).parent
    paths = [path.relative_to(once) for path in once.rglob("*") if path.is_file()]
    assert len(paths) == 14
    for path in paths:
        assert (again / path).read_bytes() == (once / path).read_bytes(), path


def test_passports_get_sections_of_their_own(rows, change, passport, provenance, certify, tmp_path):
    few = rows[rows["codec"].isin(["gpcc-octree", "octree"])]

    def is_loot(f):
        return f["cloud"] == LOOT

    mixed = change(few, is_loot, passport={**passport(LOOT), "ties": "first"})
    path = write_report(mixed, provenance, tmp_path, certify=certify)
    text = path.read_text(encoding="utf-8")
    Page(text)
    assert "Metric passport A" in text
    assert "Metric passport B" in text
    assert "The rows have 2 metric passports" in text
    figures = pd.read_csv(tmp_path / "bd.csv")
    assert set(figures["passport"]) == {"A", "B"}
    rules = dict(zip(figures["passport"], figures["passport_rules"], strict=True))
    assert rules["B"].endswith("duplicates=counted once; ties=first")
    assert "psnr_factor=3.0; normals.source=estimated" in rules["A"]
    assert "## Metric passport B" in (tmp_path / "tables.md").read_text(encoding="utf-8")


def test_run_where_everything_failed(rows, change, provenance, certify, tmp_path):
    failed = change(
        rows[rows["codec"] == "octree"],
        lambda f: f["status"] == "ok",
        status="encode_failed",
        reason="no <luck> & more",
        passport={},
        rate_bpp=None,
        d1_mse=None,
        d1_psnr_db=None,
        d2_mse=None,
        d2_psnr_db=None,
        encode_s=None,
        decode_s=None,
    )
    path = write_report(failed, {}, tmp_path, certify=certify)
    text = path.read_text(encoding="utf-8")
    Page(text)
    assert "No job succeeded" in text
    assert "no &lt;luck&gt; &amp; more" in text
    assert len(pd.read_csv(tmp_path / "results.csv")) == len(failed)
    assert list(pd.read_csv(tmp_path / "bd.csv").columns[:3]) == ["anchor", "codec", "dataset"]


def test_run_without_g_pcc_uses_octree_as_anchor(rows, provenance, certify, tmp_path):
    ours = rows[rows["codec"].isin(["octree", "draco", "raw"]) & (rows["cloud"] == LOOT)]
    write_report(ours, provenance, tmp_path, certify=certify)
    assert set(pd.read_csv(tmp_path / "bd.csv")["anchor"]) == {"octree"}
    svg = (tmp_path / "plots" / f"rd-8ivfb-{LOOT}.svg").read_text(encoding="utf-8")
    assert "G-PCC octree, published" in svg  # measured by nobody here, so the published curve stands


def test_hostile_names_cannot_break_the_page_or_leave_the_folder(rows, change, provenance, certify, tmp_path):
    few = rows[rows["codec"].isin(["gpcc-octree", "octree"]) & (rows["cloud"] == LOOT)]
    name = "../<script>alert(1)</script>&_%"
    hostile = change(few, lambda f: f["status"] == "ok", cloud=name)
    path = write_report(hostile, provenance, tmp_path / "out", certify=certify)
    text = path.read_text(encoding="utf-8")
    Page(text)
    assert "<script>alert(1)" not in text
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert len(list((tmp_path / "out" / "plots").iterdir())) == 6


def test_unavailable_codecs_are_said_once_and_touch_nothing(rows, make_row, provenance, certify, tmp_path):
    """Rows as older versions stored them: no cloud, no rate, the data sets in one text."""
    few = rows[rows["codec"].isin(["octree", "draco"])]
    few = few.assign(dataset=["8ivfb" if cloud == LOOT else "mvub" for cloud in few["cloud"]])
    nothing = dict.fromkeys(few.columns) | {"job_key": "", "rate": "", "dataset": "8ivfb,mvub", "cloud": ""}
    reasons = {"gpcc-octree": "tmc3 is neither on PATH nor given", "octree": "was broken yesterday"}
    absent = [{**nothing, "codec": codec, "status": "unavailable", "reason": why} for codec, why in reasons.items()]
    provenance |= {"unavailable": {"pcgcv2": "needs MinkowskiEngine", "draco": "needed DracoPy in this session"}}
    folders = []
    for number, frame in enumerate((few, pd.concat([few, pd.DataFrame(absent)], ignore_index=True))):
        path = write_report(frame, provenance, tmp_path / str(number), certify=certify)
        folders.append(path.parent)
        page = Page(path.read_text(encoding="utf-8"))
        text = " ".join(" ".join(page.text).split())
        assert "2 point cloud codecs on 8ivfb and mvub" in text
        assert f"Octree and Draco on {LOOT} and {LONGDRESS}: " in text
        assert "24 of 24" in text
        assert "clouds 2 8ivfb and mvub" in text
        assert "8ivfb,mvub" not in text
        assert text.count("gpcc-octree") == number  # the notice
        assert text.count("pcgcv2") == 1
        assert "yesterday" not in text  # it ran in another session
        assert "DracoPy" not in text
        assert "did not succeed" not in text
    assert "gpcc-octree (tmc3 is neither on PATH nor given)" in text
    for name in ("results.csv", "bd.csv", "tables.md", "tables.tex"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_one_cloud_has_a_plain_title(rows, provenance, certify, tmp_path):
    few = rows[(rows["codec"] == "octree") & (rows["cloud"] == LOOT)]
    text = write_report(few, provenance | {"missing_clouds": {}}, tmp_path, certify=certify).read_text()
    assert "<h1>1 point cloud codec on 8ivfb</h1>" in text
    assert f"Octree on {LOOT}: real bitstreams, decoded by sealed processes that had nothing else." in text


def test_codecs_that_do_not_code_a_cloud_are_no_failures(rows, change, provenance, certify, tmp_path):
    few = rows[rows["codec"].isin(["gpcc-octree", "octree", "draco"])]

    def is_skipped(frame):
        no_curve = (frame["codec"] == "draco") & (frame["cloud"] == LOOT)
        return no_curve | ((frame["codec"] == "octree") & (frame["cloud"] == LOOT) & (frame["rate"] == "lossless"))

    skipped = change(few, is_skipped, status="not_applicable", reason="codes voxels only, this cloud is real-valued")
    path = write_report(skipped, provenance, tmp_path, certify=certify)
    text = " ".join(" ".join(Page(path.read_text(encoding="utf-8")).text).split())
    assert "32 of 32" in text
    assert "did not succeed" not in text
    assert "Every job that was run succeeded." in text
    assert text.count("codes voxels only") == 2  # once for each codec
    markdown = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert f"| Draco | all | {LOOT.replace('_', chr(92) + '_')} |" in markdown
    assert f"| Octree | lossless | {LOOT.replace('_', chr(92) + '_')} |" in markdown
    results = pd.read_csv(tmp_path / "results.csv")
    assert (results["status"] == "not_applicable").sum() == 6
    figures = pd.read_csv(tmp_path / "bd.csv")
    mine = figures[(figures["codec"] == "draco") & (figures["cloud"] == LOOT)]
    assert not len(mine)
    # Octree finished loot without the rate that does not apply there.
    means = figures[(figures["cloud"] == "mean") & (figures["codec"] == "octree")]
    assert set(means["clouds"]) == {LONGDRESS}  # draco is compared, too, and did not code loot


def test_failures_are_counted_by_status(rows, change, provenance, certify, tmp_path):
    few = rows[rows["codec"].isin(["gpcc-octree", "octree"])]
    statuses = {"r01": "unreadable", "r02": "disrupted", "r03": "timeout", "r04": "timeout"}
    for rate, status in statuses.items():
        few = change(
            few,
            lambda f, rate=rate: (f["codec"] == "octree") & (f["rate"] == rate) & (f["cloud"] == LOOT),
            status=status,
            reason=f"why {rate}",
        )
    text = " ".join(" ".join(Page(write_report(few, provenance, tmp_path, certify=certify).read_text()).text).split())
    assert "24 of 28" in text
    assert "4 jobs did not succeed (2 timeout, 1 unreadable, 1 disrupted); see Failures." in text
    assert "unreadable the cloud could not be read, which is no fault of the codec." in text
    assert "the next `bench run` tries it again" in text


def test_seal_and_repeats_are_told(rows, change, provenance, certify, tmp_path):
    few = rows[rows["codec"].isin(["gpcc-octree", "octree"])]
    few = change(few, lambda f: (f["codec"] == "octree") & (f["cloud"] == LOOT), seal="none", repeats_dropped=153)
    text = " ".join(" ".join(Page(write_report(few, provenance, tmp_path, certify=certify).read_text()).text).split())
    assert "7 jobs had no seal around the decoder" in text
    assert "decoded by processes that were given nothing else" in text
    assert "landlock+userns (21 jobs) and none (7 jobs)" in text
    assert f"153 points of {LOOT}, merged with the point at their place before coding" in text


def test_chamfer_and_hausdorff_stand_in_the_tables(report):
    markdown = (report / "tables.md").read_text(encoding="utf-8")
    assert f"### {LOOT}: distances".replace("_", r"\_") in markdown
    (heading,) = {line for line in markdown.splitlines() if line.startswith("| codec | rate | bpp | chamfer")}
    arrow = "\N{RIGHTWARDS ARROW}"
    assert f"chamfer: mean d², A{arrow}B + B{arrow}A" in heading
    assert "Hausdorff, larger direction: D1, dB" in heading
    (line,) = [text for text in markdown.split(heading)[-1].splitlines() if text.startswith("| Octree | r01 | 0.02")]
    assert line.split(" | ")[4] == "32.7"  # twice the mean squared error of 52.83 dB
    assert "chamfer" in (report / "report.html").read_text(encoding="utf-8")
    assert "chamfer" in (report / "tables.tex").read_text(encoding="utf-8")


def test_which_mean_to_quote_is_said_where_there_are_two(rows, report, provenance, certify, tmp_path):
    few = rows[rows["codec"].isin(["gpcc-octree", "octree"])]
    text = write_report(few, provenance, tmp_path, certify=certify).read_text(encoding="utf-8")
    assert text.count("Quote the mean: BD-rate of each cloud, averaged over the clouds.") == 1
    assert "Quote the mean" not in (report / "report.html").read_text(encoding="utf-8")  # one cloud was finished


def test_errors(rows, provenance, certify, tmp_path):
    with pytest.raises(ReportError, match="no rows"):
        write_report(pd.DataFrame(), provenance, tmp_path, certify=certify)
    with pytest.raises(ReportError, match="did you mean"):
        write_report(rows, provenance, tmp_path, certify=certify, anchor="gpcc")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_report(rows[rows["codec"] == "raw"], provenance, tmp_path / "file" / "x", certify=certify)


def test_secondary_metrics_get_a_plot_where_they_were_measured(rows, change, provenance, certify, tmp_path):
    passport = {"radius": 4.0, "centres": 10_000, "hit_distance": 1.0}
    columns = ("density_count_ab", "density_count_ba", "normals_f1", "secondary_passport")
    measured = change(
        rows.assign(**dict.fromkeys(columns)),
        lambda frame: (frame["cloud"] == LOOT) & ~frame["lossless"],
        density_count_ab=0.5,
        density_count_ba=0.25,
        normals_f1=0.75,
        secondary_passport=passport,
    )
    page = write_report(measured, provenance, tmp_path, certify=certify)
    plots = {path.name for path in (tmp_path / "plots").glob("*.svg")}
    assert f"secondary-8ivfb-{LOOT}.svg" in plots
    assert f"secondary-8ivfb-{LONGDRESS}.svg" not in plots
    text = " ".join(Page(page.read_text(encoding="utf-8")).text)
    assert "Local density: how much the number of points within 4" in text
    table = pd.read_csv(tmp_path / "results.csv")
    row = table[table["density_count_ab"].notna()].iloc[0]
    assert row["cloud"] == LOOT
    assert row["secondary_passport"] == "radius=4.0; centres=10000; hit_distance=1.0"
