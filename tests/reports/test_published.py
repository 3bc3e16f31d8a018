"""Published curves: cited, of the same cloud, never of what was measured."""

import csv
import math

import pytest

from pccbench.reports.published import published_curves

LONGDRESS = "longdress_vox10_1300"


def test_only_clouds_of_the_same_name():
    assert {curve.cloud for curve in published_curves(LONGDRESS)} == {LONGDRESS}
    assert not published_curves("longdress")
    assert not published_curves("longdress_vox10_1301")


def test_every_curve_is_cited_and_rises_in_rate():
    for cloud in (LONGDRESS, "loot_vox10_1200", "redandblack_vox10_1550", "soldier_vox10_0690"):
        curves = published_curves(cloud)
        assert {"PCGCv2", "SparsePCGC", "pcc_geo_cnn_v2"} <= {curve.codec for curve in curves}
        for curve in curves:
            assert curve.paper
            assert curve.source.startswith("github.com/")
            assert curve.licence
            assert list(curve.rate_bpp) == sorted(curve.rate_bpp)
            assert all(value is None or math.isfinite(value) for value in curve.d1_psnr_db + curve.d2_psnr_db)


def test_measured_g_pcc_replaces_the_published():
    names = {curve.codec for curve in published_curves(LONGDRESS, frozenset({"gpcc-octree"}))}
    assert "G-PCC octree" not in names
    assert "G-PCC trisoup" in names


def test_another_peak_has_no_published_curves_beside_it(rows, change, passport):
    from pccbench.reports.frame import prepare
    from pccbench.reports.plots import rd_plot

    few = rows[(rows["codec"] == "octree") & (rows["cloud"] == LONGDRESS)]
    plot = rd_plot(prepare(few), "8ivfb", LONGDRESS, "x")
    assert "PCGCv2" in plot.caption
    assert "PCGCv2, published (DCC 2021)" in plot.svg
    other = change(few, lambda f: f["status"] == "ok", passport={**passport(LONGDRESS), "peak": 1.0})
    plot = rd_plot(prepare(other), "8ivfb", LONGDRESS, "x")
    assert "PCGCv2" not in plot.caption
    assert "published" not in plot.svg


def test_labels_and_references():
    (curve,) = [curve for curve in published_curves(LONGDRESS) if curve.codec == "PCGCv2"]
    assert curve.label == "PCGCv2, published (DCC 2021)"
    assert "DCC 2021" in curve.citation
    assert curve.reference.startswith("PCGCv2. Wang, Ding, Li, Ma: Multiscale")
    assert curve.reference.endswith("Figures from github.com/NJUVISION/PCGCv2 results/ (MIT).")


def test_figures_are_those_of_the_golden_file(shared):
    """Every committed figure is one of the published ones, to the digit."""
    with (shared / "golden" / "published_rd.csv").open(newline="") as file:
        golden = {
            (row["sequence"], float(row["bpp"]), f"github.com/{row['source']}"): row for row in csv.DictReader(file)
        }
    for cloud in (LONGDRESS, "loot_vox10_1200", "queen_0200", "dancer_vox11_00000001"):
        for curve in published_curves(cloud):
            for rate, d1 in zip(curve.rate_bpp, curve.d1_psnr_db, strict=True):
                near = [
                    row
                    for (sequence, bpp, source), row in golden.items()
                    if sequence == cloud and source == curve.source and bpp == pytest.approx(rate, rel=1e-5)
                ]
                assert near, (curve.codec, cloud, rate)
                if d1 is not None:
                    values = [float(row["d1_psnr_db"] or "nan") for row in near]
                    assert any(value == pytest.approx(d1, abs=1e-3) for value in values) or len(near) == 1
