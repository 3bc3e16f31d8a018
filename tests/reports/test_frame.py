"""Rows made ready: order, passports, completeness."""

import re
import shlex

import pandas as pd
import pytest

from pccbench.reports import MixedPassportsError, ReportError
from pccbench.reports.frame import (
    clouds_of,
    codecs_of,
    command_again,
    compared_codecs,
    fingerprint,
    finished_clouds,
    prepare,
    rates_of,
    records,
    require_one_passport,
    results,
    split_by_passport,
    title_of,
)

LONGDRESS, LOOT = "longdress_vox10_1300", "loot_vox10_1200"


def test_order_of_codecs_and_rates(rows):
    frame = prepare(rows.sample(frac=1, random_state=1))
    assert codecs_of(frame) == ["gpcc-octree", "gpcc-trisoup", "octree", "draco", "voxel-net", "raw"]
    assert rates_of(frame, "octree") == ["r01", "r02", "r03", "r04", "r05", "r06", "lossless"]
    assert len(frame) == len(rows)
    assert list(frame["codec"][:7]) == ["gpcc-octree"] * 7


def test_rate_that_never_ran_takes_its_place_by_name(rows, change):
    gone = change(rows, lambda f: (f["codec"] == "octree") & (f["rate"] == "r03"), rate_bpp=None, status="timeout")
    assert rates_of(prepare(gone), "octree")[:4] == ["r01", "r02", "r03", "r04"]


def test_minimal_rows_are_enough():
    frame = prepare(
        pd.DataFrame([{"job_key": "k", "codec": "x", "rate": "r", "dataset": "d", "cloud": "c", "status": "timeout"}])
    )
    assert frame.loc[0, "trained"]
    assert frame.loc[0, "missing"] == {}
    assert len(split_by_passport(frame)) == 1


@pytest.mark.parametrize("column", ["codec", "job_key", "status"])
def test_missing_column_is_named(rows, column):
    with pytest.raises(ReportError, match=f"the rows lack the columns {column}"):
        prepare(rows.drop(columns=column))


def test_no_rows():
    with pytest.raises(ReportError, match="no rows"):
        prepare(pd.DataFrame())


def test_later_row_of_a_job_replaces_the_earlier(rows, make_row):
    again = pd.DataFrame([make_row("raw", "lossless", LOOT, bpp=90, d1=None, out=1, points=805_285, seed=7)])
    frame = prepare(pd.concat([rows, again], ignore_index=True))
    assert len(frame) == len(rows)
    (row,) = records(frame[(frame["codec"] == "raw") & (frame["cloud"] == LOOT)])
    assert row["rate_bpp"] == pytest.approx(90, rel=1e-5)


def test_row_ids_are_unique_and_stable(rows):
    frame = prepare(rows)
    assert frame["row_id"].is_unique
    same_keys = prepare(rows.assign(job_key="same"))
    assert same_keys["row_id"].is_unique


def test_finished_clouds_are_those_of_all_compared_codecs(rows, troubled_rows):
    whole = prepare(rows)
    assert finished_clouds(whole, "8ivfb", compared_codecs(whole, "8ivfb")) == [LONGDRESS, LOOT]
    frame = prepare(troubled_rows)
    compared = compared_codecs(frame, "8ivfb")
    assert set(compared) == set(codecs_of(frame))
    assert finished_clouds(frame, "8ivfb", compared) == [LONGDRESS]


def test_codec_that_finished_nothing_is_not_compared(rows, change):
    frame = prepare(change(rows, lambda f: (f["codec"] == "draco") & (f["rate"] == "q07"), status="timeout"))
    compared = compared_codecs(frame, "8ivfb")
    assert "draco" not in compared
    assert finished_clouds(frame, "8ivfb", compared) == [LONGDRESS, LOOT]


def test_one_passport_where_only_peak_and_normals_hash_differ_between_clouds(rows, change):
    passports = {LONGDRESS: 1023.0, LOOT: 2047.0}
    for cloud, peak in passports.items():
        rows = change(rows, lambda f, cloud=cloud: f["cloud"] == cloud, passport={"peak": peak, "psnr_factor": 3})
    sections = split_by_passport(prepare(rows))
    assert len(sections) == 1
    assert sections[0].passport == {"psnr_factor": 3}
    assert sections[0].peaks["8ivfb", LOOT] == {"peak": 2047.0}


def test_two_peaks_on_one_cloud_are_two_passports(rows, change, passport):
    def is_octree_on_loot(f):
        return (f["codec"] == "octree") & (f["cloud"] == LOOT)

    frame = prepare(change(rows, is_octree_on_loot, passport={**passport(LOOT), "peak": 1024.0}))
    first, second = split_by_passport(frame)
    assert set(second.rows["codec"]) == {"octree"}
    assert clouds_of(first.rows) == [("8ivfb", LONGDRESS), ("8ivfb", LOOT)]
    assert len(first.rows) + len(second.rows) == len(frame)
    with pytest.raises(MixedPassportsError, match=r"2 metric passports cannot share a table: peak 1023.0 and 1024.0"):
        require_one_passport(frame)
    require_one_passport(first.rows)


def test_two_rules_are_two_passports_and_failed_rows_go_with_their_cloud(troubled_rows, change, passport):
    other = {**passport(LOOT), "ties": "first"}
    frame = prepare(change(troubled_rows, lambda f: (f["cloud"] == LOOT) & (f["status"] == "ok"), passport=other))
    first, second = split_by_passport(frame)
    assert set(first.rows["cloud"]) == {LONGDRESS}
    assert set(second.rows["cloud"]) == {LOOT}
    assert (second.rows["status"] != "ok").sum() == 2
    with pytest.raises(MixedPassportsError, match="ties"):
        require_one_passport(frame)


def test_titles_carry_the_flags(troubled_rows):
    frame = prepare(troubled_rows)
    assert title_of(frame, "untrained-net") == "untrained-net [untrained]"
    assert title_of(frame, "voxel-net") == "Voxel net [contaminated]"
    assert title_of(frame, "octree") == "Octree"


def test_command_makes_the_row_again(rows):
    row = records(prepare(rows))[0]
    spec = {
        "data_root": "my data",
        "tmc3": "/x/tmc3",
        "codec_modules": ["a.py", "b.py"],
        "repeats": 3,
        "allow_untrained": True,
        "peak": None,
    }
    words = shlex.split(command_again(row, spec))
    assert words[:4] == ["bench", "run", "--codecs", "gpcc-octree"]
    assert words[words.index("--clouds") + 1] == LONGDRESS
    assert words[words.index("--rates") + 1] == "r01"
    assert words[words.index("--data-root") + 1] == "my data"
    assert words.count("--codec-module") == 2
    assert "--allow-untrained" in words
    assert "--peak" not in words


def test_results_hold_every_column_and_leading_ones_first(rows):
    table = results(prepare(rows))
    expected = "codec rate dataset cloud status reason points_in points_out size_bytes rate_bpp d1_mse d1_psnr_db"
    assert list(table.columns[:12]) == expected.split()
    assert set(rows.columns) <= set(table.columns)
    assert re.fullmatch(r"header=16; payload=\d+", table["sections"][0])
    assert table["limits"][0] == "timeout_s=3600.0; memory_limit_gb="
    assert len(table["encode_s_samples"][0].split()) == 3
    assert "normals.source=estimated; normals.neighbours=12; " in table["passport"][0]
    assert not {"row_id", "given", "skipped"} & set(table)


def test_fingerprint_does_not_depend_on_the_order(rows, change):
    assert fingerprint(prepare(rows)) == fingerprint(prepare(rows.iloc[::-1]))
    other = change(rows, lambda f: f["codec"] == "raw", stream_sha256="0")
    assert fingerprint(prepare(rows)) != fingerprint(prepare(other))
