"""BD tables: per cloud, mean, flags, and what is refused."""

import pytest

from pccbench.reports import MixedPassportsError, ReportError
from pccbench.reports.bd import MEAN, MEAN_CURVE, bd_table, default_anchors
from pccbench.reports.frame import prepare, records

LONGDRESS, LOOT = "longdress_vox10_1300", "loot_vox10_1200"


def figure(table, codec, cloud, metric="d1", anchor="gpcc-octree"):
    chosen = table[
        (table["anchor"] == anchor)
        & (table["codec"] == codec)
        & (table["cloud"] == cloud)
        & (table["metric"] == metric)
    ]
    (record,) = records(chosen)
    return record


def only(rows, *codecs):
    """The rows of G-PCC octree and a codec or two, where the others would only cost time."""
    return rows[rows["codec"].isin(["gpcc-octree", *(codecs or ["octree"])])]


def test_default_anchors(rows, change):
    assert default_anchors(prepare(rows), None) == ["gpcc-octree", "gpcc-trisoup"]
    assert default_anchors(prepare(rows), "draco") == ["draco", "gpcc-trisoup"]
    assert default_anchors(prepare(rows), "gpcc-trisoup") == ["gpcc-trisoup"]
    failed = change(rows, lambda f: f["codec"].str.startswith("gpcc"), status="unavailable")
    assert default_anchors(prepare(failed), None) == ["octree"]
    assert default_anchors(prepare(rows[rows["codec"] == "raw"]), None) == []


def test_wrong_anchor(rows, change):
    with pytest.raises(ReportError, match=r"no codec 'gpc-octree'.*did you mean gpcc-octree"):
        default_anchors(prepare(rows), "gpc-octree")
    failed = change(rows, lambda f: f["codec"] == "draco", status="timeout")
    with pytest.raises(ReportError, match="the anchor draco has no job that succeeded"):
        default_anchors(prepare(failed), "draco")


def test_figures_are_those_of_the_metric(rows, bd, certify):
    for cloud in (LONGDRESS, LOOT):
        curves = []
        for codec in ("gpcc-octree", "draco"):
            mine = rows[(rows["codec"] == codec) & (rows["cloud"] == cloud)]
            curves += [list(mine["rate_bpp"]), list(mine["d1_psnr_db"])]
        expected = certify(*curves)
        got = figure(bd, "draco", cloud)
        assert got["bd_rate_pct"] == expected.bd_rate_pct
        assert got["bd_psnr_db"] == expected.bd_psnr_db
        assert (got["verdict"], got["overlap"]) == (expected.verdict, expected.overlap)
        assert got["dropped"] == "anchor 6: lossless or not measured; test 4: lossless or not measured"


def test_mean_over_clouds_with_its_spread(bd):
    parts = [figure(bd, "draco", cloud)["bd_rate_pct"] for cloud in (LONGDRESS, LOOT)]
    mean = figure(bd, "draco", MEAN)
    assert mean["bd_rate_pct"] == pytest.approx(sum(parts) / 2)
    assert mean["sd_pct"] == pytest.approx(abs(parts[0] - parts[1]) / 2**0.5)
    assert (mean["min_pct"], mean["max_pct"]) == (min(parts), max(parts))
    assert mean["n_clouds"] == 2
    curve = figure(bd, "draco", MEAN_CURVE)
    assert curve["bd_rate_pct"] == pytest.approx(mean["bd_rate_pct"], abs=1)
    assert curve["verdict"] == "OK"


def test_mean_is_over_what_all_compared_codecs_finished(troubled_bd):
    mean, longdress = figure(troubled_bd, "octree", MEAN), figure(troubled_bd, "octree", LONGDRESS)
    assert mean["bd_rate_pct"] == longdress["bd_rate_pct"]
    assert (mean["n_clouds"], mean["clouds"]) == (1, LONGDRESS)
    assert not (troubled_bd["cloud"] == MEAN_CURVE).any()
    assert figure(troubled_bd, "octree", LOOT)["verdict"] == "OK"  # the cloud's own figure stays
    draco = figure(troubled_bd, "draco", MEAN)
    assert (draco["n_ok"], draco["n_total"]) == (9, 10)


def test_failed_rates_are_not_in_the_curve(troubled_bd):
    assert figure(troubled_bd, "draco", LOOT)["test_points"] == 3
    assert figure(troubled_bd, "draco", LONGDRESS)["test_points"] == 4
    assert figure(troubled_bd, "draco", LOOT)["verdict"] == "WEAK"


def test_untrained_is_refused_and_contaminated_is_weak(troubled_bd):
    untrained = figure(troubled_bd, "untrained-net", LONGDRESS)
    assert untrained["verdict"] == "REFUSED"
    assert untrained["reason"] == "the weights of untrained-net are untrained"
    assert untrained["psnr_verdict"] == "REFUSED"
    assert all(
        untrained[name] != untrained[name] for name in ("bd_rate_pct", "bd_rate_pchip_pct", "bd_psnr_db")
    )  # NaN
    assert figure(troubled_bd, "voxel-net", LONGDRESS)["verdict"] == "OK"
    contaminated = figure(troubled_bd, "voxel-net", LOOT)
    assert contaminated["verdict"] == "WEAK"
    assert "voxel-net was trained on this cloud" in contaminated["reason"]


def test_mean_is_believed_no_more_than_its_worst_part(rows, change, certify):
    def is_net_on_loot(f):
        return (f["codec"] == "voxel-net") & (f["cloud"] == LOOT)

    frame = prepare(change(only(rows, "voxel-net"), is_net_on_loot, contaminated=True))
    mean = figure(bd_table(frame, ["gpcc-octree"], certify), "voxel-net", MEAN)
    assert mean["verdict"] == "WEAK"
    assert mean["reason"] == f"on {LOOT}: voxel-net was trained on this cloud"


def test_a_cloud_that_is_refused_does_not_empty_the_mean(rows, change, certify):
    """Octree's curve on loot shares no quality with the anchor's; BD-PSNR stands on both clouds."""

    def is_octree_on_loot(f):
        return (f["codec"] == "octree") & (f["cloud"] == LOOT) & (f["rate"] != "lossless")

    few = only(rows)
    few.loc[is_octree_on_loot(few), "d1_psnr_db"] += 30
    table = bd_table(prepare(few), ["gpcc-octree"], certify)
    assert figure(table, "octree", LOOT)["verdict"] == "REFUSED"
    mean, longdress = figure(table, "octree", MEAN), figure(table, "octree", LONGDRESS)
    assert mean["bd_rate_pct"] == longdress["bd_rate_pct"]
    assert (mean["verdict"], mean["n_clouds"], mean["n_finished"], mean["clouds"]) == ("WEAK", 1, 2, LONGDRESS)
    assert mean["reason"].startswith(f"mean of 1 of 2 clouds ({LONGDRESS}); refused on {LOOT}: the curves share no ")
    assert (mean["psnr_verdict"], mean["psnr_n_clouds"]) == ("OK", 2)
    assert mean["bd_psnr_db"] == pytest.approx(
        (longdress["bd_psnr_db"] + figure(table, "octree", LOOT)["bd_psnr_db"]) / 2
    )


def test_bd_psnr_has_a_verdict_of_its_own(rows, certify):
    few = only(rows)
    mine = (few["codec"] == "octree") & (few["rate"] != "lossless")
    few.loc[mine, "rate_bpp"] *= 100  # no rate is shared any more
    record = figure(bd_table(prepare(few), ["gpcc-octree"], certify), "octree", LONGDRESS)
    assert record["verdict"] == "OK"
    assert record["psnr_verdict"] == "REFUSED"
    assert record["psnr_reason"].startswith("the curves share no rate: anchor 0.022 to 0.679, test ")


def test_lossless_codec_has_no_figure(bd):
    for cloud in (LONGDRESS, MEAN):
        assert figure(bd, "raw", cloud)["verdict"] == "REFUSED"
        assert "0 usable points of 1 (lossless or not measured)" in figure(bd, "raw", cloud)["reason"]


def test_anchor_that_failed_on_a_cloud(rows, change, certify):
    frame = prepare(
        change(only(rows), lambda f: (f["codec"] == "gpcc-octree") & (f["cloud"] == LOOT), status="out_of_memory")
    )
    table = bd_table(frame, ["gpcc-octree"], certify)
    assert figure(table, "octree", LOOT)["reason"] == "gpcc-octree: no job succeeded on this cloud"
    assert figure(table, "octree", MEAN)["n_clouds"] == 1


def test_means_are_per_data_set(rows, certify):
    few = only(rows)
    frame = prepare(few.assign(dataset=["8ivfb" if cloud == LOOT else "other" for cloud in few["cloud"]]))
    means = bd_table(frame, ["gpcc-octree"], certify)
    means = means[(means["cloud"] == MEAN) & (means["codec"] == "octree") & (means["metric"] == "d1")]
    assert sorted(means["dataset"]) == ["8ivfb", "other"]
    assert set(means["n_clouds"]) == {1}


def test_metric_that_was_not_made_has_no_rows(rows, certify):
    frame = prepare(only(rows).assign(d2_mse=None, d2_psnr_db=None))
    assert set(bd_table(frame, ["gpcc-octree"], certify)["metric"]) == {"d1"}


def test_decibels_of_different_peaks_are_not_averaged(rows, change, passport, certify):
    frame = prepare(change(only(rows), lambda f: f["cloud"] == LOOT, passport={**passport(LOOT), "peak": 2047.0}))
    table = bd_table(frame, ["gpcc-octree"], certify)
    assert figure(table, "octree", MEAN)["verdict"] == "OK"  # BD-rate does not depend on the peak
    assert "different peaks" in figure(table, "octree", MEAN_CURVE)["reason"]


def test_mixed_passports_are_refused(rows, change, passport, certify):
    def is_octree_on_loot(f):
        return (f["codec"] == "octree") & (f["cloud"] == LOOT)

    frame = prepare(change(rows, is_octree_on_loot, passport={**passport(LOOT), "peak": 1024.0}))
    with pytest.raises(MixedPassportsError):
        bd_table(frame, ["gpcc-octree"], certify)


def test_measured_g_pcc_gives_the_known_figure(shared, make_row, certify):
    """The whole way from tmc3's measured rows to the figure of trisoup against octree."""
    import json

    import pandas as pd

    golden = json.loads((shared / "golden" / "tmc3_v23_ctc.json").read_text())["rows"]
    rows = [
        make_row(
            row["codec"],
            row["rate"],
            row["sequence"],
            bpp=row["bpp"],
            d1=row["d1_psnr_db"],
            out=row["decoded_points"] / row["input_points"],
            points=row["input_points"],
        )
        for row in golden
    ]
    table = bd_table(prepare(pd.DataFrame(rows)), ["gpcc-octree"], certify)
    assert figure(table, "gpcc-trisoup", LONGDRESS)["bd_rate_pct"] == pytest.approx(-86.35, abs=0.01)
    assert figure(table, "gpcc-trisoup", LOOT)["bd_rate_pct"] == pytest.approx(-87.02, abs=0.01)
    assert figure(table, "gpcc-trisoup", MEAN)["bd_rate_pct"] == pytest.approx(-86.68, abs=0.01)
