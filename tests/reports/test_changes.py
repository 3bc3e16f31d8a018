"""Comparison of two runs: what is worse, what only looks so, what cannot be compared."""

import json
import math

import numpy as np
import pytest

from pccbench.reports import Limits, ReportError, compare
from pccbench.reports.changes import judge_times

LONGDRESS, LOOT = "longdress_vox10_1300", "loot_vox10_1200"
CODECS = ("octree", "draco", "raw")
CLOUDS = {LONGDRESS: 857_966}


@pytest.fixture(scope="module")
def old(make_rows):
    return make_rows(codecs=CODECS, clouds=CLOUDS, repeats=6)


@pytest.fixture(scope="module")
def new(make_rows):
    return make_rows(codecs=CODECS, clouds=CLOUDS, repeats=6, seed=1)


@pytest.fixture
def run(old, provenance, certify):
    def compared(new, *, new_provenance=None, limits=None, old=old):
        options = {} if limits is None else {"limits": limits}
        return compare(old, new, provenance, new_provenance or provenance, certify=certify, **options)

    return compared


def is_job(codec, rate):
    return lambda f: (f["codec"] == codec) & (f["rate"] == rate)


def job_of(comparison, codec, rate):
    (job,) = [job for job in comparison.jobs if (job.codec, job.rate) == (codec, rate)]
    return job


def curve_of(comparison, codec):
    (curve,) = [curve for curve in comparison.curves if curve.codec == codec]
    return curve


def test_the_same_run_has_no_regression(run, old, new):
    for other in (old, new):
        comparison = run(other)
        assert not comparison.has_regression
        assert not comparison.improvements
        assert all(job.same_stream for job in comparison.jobs)
        assert comparison.headline.startswith("no regression: 13 jobs in both runs, 13 with equal bitstreams")
        assert [bd.bd_rate_pct for bd in curve_of(comparison, "octree").bd] == [0, 0]


def test_more_bytes_for_nothing_are_a_regression(run, new, change):
    size = int(new.loc[is_job("octree", "r03")(new), "size_bytes"].iloc[0])
    worse = change(
        new,
        is_job("octree", "r03"),
        size_bytes=round(1.02 * size),
        rate_bpp=8 * round(1.02 * size) / 857_966,
        stream_sha256="f",
    )
    comparison = run(worse)
    assert comparison.has_regression
    job = job_of(comparison, "octree", "r03")
    assert job.size_pct == pytest.approx(2, abs=0.01)
    assert job.regressions == (f"bytes +2.00 % ({size:,} to {round(1.02 * size):,})",)
    assert not job.same_stream
    bd = {change.metric: change for change in curve_of(comparison, "octree").bd}
    assert 0 < bd["d1"].bd_rate_pct < 2
    assert not run(worse, limits=Limits(size_pct=3, bd_rate_pct=3)).has_regression
    better = run(new, old=worse)
    assert not better.has_regression
    assert any("bytes -1.96 %" in line for line in better.improvements)


def test_within_the_limit_is_reported_and_no_regression(run, new, change):
    size = int(new.loc[is_job("octree", "lossless")(new), "size_bytes"].iloc[0])
    comparison = run(change(new, is_job("octree", "lossless"), size_bytes=size + 10, stream_sha256="f"))
    assert not comparison.has_regression
    assert 0 < job_of(comparison, "octree", "lossless").size_pct < 0.5


def test_lost_decibels_are_a_regression(run, new, change):
    comparison = run(change(new, is_job("draco", "q08"), d2_psnr_db=66.0))
    job = job_of(comparison, "draco", "q08")
    assert job.d2_db < -0.5
    assert any(line.startswith("D2 -") for line in job.regressions)


def test_bytes_traded_for_quality_are_for_bd_rate_to_judge(run, new, change):
    def trade(psnr_gain):
        mine = new.loc[is_job("octree", "r03")(new)].iloc[0]
        return change(
            new,
            is_job("octree", "r03"),
            size_bytes=round(1.1 * mine["size_bytes"]),
            rate_bpp=1.1 * mine["rate_bpp"],
            d1_psnr_db=mine["d1_psnr_db"] + psnr_gain,
            d2_psnr_db=mine["d2_psnr_db"] + psnr_gain,
            stream_sha256="f",
        )

    good = run(trade(2.0))
    job = job_of(good, "octree", "r03")
    assert not job.regressions
    assert "bytes traded for quality" in job.notes[0]
    assert not good.has_regression
    assert any("BD-rate -" in line for line in good.improvements)
    bad = run(trade(0.05))
    assert not job_of(bad, "octree", "r03").regressions
    assert any("D1 BD-rate +" in line for line in bad.regressions)


def test_lost_exactness_is_a_regression(run, new, change):
    comparison = run(change(new, is_job("octree", "lossless"), d1_mse=0.25, d1_psnr_db=71.2))
    assert "D1 no longer lossless (mse 0.25)" in job_of(comparison, "octree", "lossless").regressions
    back = run(new, old=change(new, is_job("octree", "lossless"), d1_mse=0.25, d1_psnr_db=71.2))
    assert "D1 now lossless" in job_of(back, "octree", "lossless").improvements


def test_lost_metric_is_a_regression(run, new, change):
    lost = change(new, is_job("draco", "q08"), d2_mse=None, d2_psnr_db=None, missing={"d2_mse": "no normals"})
    assert job_of(run(lost), "draco", "q08").regressions == ("D2 is missing: no normals",)


def test_failures(run, new, change):
    failed = change(new, is_job("draco", "q08"), status="timeout", reason="60 s")
    comparison = run(failed)
    assert job_of(comparison, "draco", "q08").regressions == ("was ok, now timeout: 60 s",)
    assert not run(failed, old=failed).has_regression
    assert job_of(run(failed, old=failed), "draco", "q08").notes == ("still fails: timeout: 60 s",)
    assert job_of(run(new, old=failed), "draco", "q08").improvements == ("succeeds now; was timeout: 60 s",)
    gone = change(new, lambda f: f["codec"] == "draco", status="unavailable", reason="no DracoPy")
    assert run(gone).has_regression
    assert not run(gone, limits=Limits(unavailable_fails=False)).has_regression


def test_jobs_of_one_run_only(run, new):
    comparison = run(new[~is_job("draco", "q08")(new)])
    assert comparison.only_old == (f"draco q08 on {LONGDRESS}",)
    assert not comparison.only_new
    assert not comparison.has_regression
    assert "1 only in the old" in comparison.headline


def test_pairs_that_cannot_be_compared_are_refused(run, new, change, passport):
    other = change(new, is_job("draco", "q08"), cloud_sha256="0" * 64)
    other = change(other, is_job("draco", "q07"), passport={**passport(LONGDRESS), "peak": 1024.0})
    other = change(other, is_job("draco", "q06"), parameters={"bits": 5}, size_bytes=10**6)
    comparison = run(other)
    assert not comparison.has_regression
    assert job_of(comparison, "draco", "q08").refused.startswith("another cloud under the same name")
    assert job_of(comparison, "draco", "q07").refused == "another metric passport: peak 1023.0, then 1024.0"
    assert job_of(comparison, "draco", "q06").refused.startswith("other parameters of the rate: bits None, then 5")
    assert len(comparison.refusals) == 3
    assert curve_of(comparison, "draco").n_jobs == 2


def slowed(new, change, factor, codec="octree", rate="r04", column="encode"):
    mine = new.loc[is_job(codec, rate)(new)].iloc[0]
    samples = [factor * value for value in mine[f"{column}_s_samples"]]
    return change(
        new, is_job(codec, rate), **{f"{column}_s": float(np.median(samples)), f"{column}_s_samples": samples}
    )


def test_slower_beyond_limit_and_rank_test(run, new, change):
    comparison = run(slowed(new, change, 1.5))
    (encode, decode) = job_of(comparison, "octree", "r04").times
    assert (encode.verdict, decode.verdict) == ("slower", "no difference shown")
    assert encode.ratio == pytest.approx(1.5, abs=0.06)
    assert encode.p_value < 0.01
    assert comparison.has_regression
    assert any("encode x1.5" in line for line in comparison.regressions)
    faster = run(slowed(new, change, 0.5, column="decode"))
    assert not faster.has_regression
    assert any("decode x0.5" in line for line in faster.improvements)


def test_small_but_certain_slowdown_is_within_the_limit(run, new, change):
    (encode, _) = job_of(run(slowed(new, change, 1.07)), "octree", "r04").times
    assert encode.verdict == "no difference shown"
    assert encode.ratio > 1.02


def test_few_repeats_are_not_judged(provenance, certify, make_rows, change):
    def rows(seed):
        return make_rows(codecs=("raw",), clouds=CLOUDS, repeats=3, seed=seed)

    comparison = compare(
        rows(0), slowed(rows(1), change, 9, "raw", "lossless"), provenance, provenance, certify=certify
    )
    (encode, _) = comparison.jobs[0].times
    assert encode.verdict == "not judged"
    assert encode.reason == "not enough repeats to judge (3 and 3, 5 each are needed)"
    assert encode.ratio == pytest.approx(9, rel=0.1)
    assert not comparison.has_regression
    assert "not enough repeats to judge" in comparison.to_text()


def test_times_of_other_machines_are_not_compared(run, new, change, provenance):
    slow = slowed(new, change, 5)
    comparison = run(slow, new_provenance={**provenance, "cpu": "Other CPU"})
    assert not comparison.has_regression
    (encode, _) = job_of(comparison, "octree", "r04").times
    assert encode.verdict == "not judged"
    assert "the machines differ: Example CPU @ 2.7 GHz (2 cores), then Other CPU (2 cores)" in encode.reason
    assert any("times and memory are not compared" in line for line in comparison.conditions)
    mixed = {**provenance, "sessions": [provenance, {**provenance, "cpu": "Other CPU"}]}
    assert not run(slow, new_provenance=mixed).has_regression


@pytest.mark.parametrize(("column", "value"), [("threads", 1), ("shares_cores", True)])
def test_times_under_other_conditions_are_not_compared(run, new, change, column, value):
    comparison = run(change(slowed(new, change, 5), is_job("octree", "r04"), **{column: value}))
    assert not comparison.has_regression
    assert job_of(comparison, "octree", "r04").times[0].verdict == "not judged"


def test_memory_needs_ratio_and_amount(run, new, change):
    job = job_of(run(change(new, is_job("octree", "r04"), encode_peak_mb=900.0)), "octree", "r04")
    assert job.regressions == ("encoder memory +744 MB (156 to 900)",)
    small = change(new, is_job("raw", "lossless"), encode_peak_mb=115.0)  # x1.27, but 24 MB
    assert not run(small).has_regression
    saved = run(new, old=change(new, is_job("octree", "r04"), decode_peak_mb=900.0))
    assert job_of(saved, "octree", "r04").improvements == ("decoder memory -780 MB (900 to 120)",)


def test_conditions_name_what_differs(run, new, provenance):
    other = {**provenance, "git_commit": "fe", "git_clean": False, "packages": {"numpy": "3"}, "load_1min": 5.0}
    conditions = run(new, new_provenance=other).conditions
    assert any(line.startswith("git commit: 0123") and line.endswith("then fe") for line in conditions)
    assert "numpy: 2.4.6, then 3" in conditions
    assert "the new run's tree had changes" in conditions
    assert "the machine was busy when the new run began (load 5.0 on 2 cores)" in conditions


def test_renderings(run, new, change):
    comparison = run(change(slowed(new, change, 2), is_job("draco", "q08"), status="timeout", reason="60 s"))
    text, markdown = comparison.to_text(), comparison.to_markdown()
    for words in ("2 regressions", "draco q08 on longdress", "was ok, now timeout: 60 s", "x1.1 with p <= 0.01"):
        assert words in text
        assert words.replace("_", r"\_") in markdown or words in markdown
    record = json.loads(comparison.to_json())
    assert record["has_regression"]
    assert len(record["regressions"]) == 2
    assert len(record["jobs"]) == 13
    assert record["limits"]["size_pct"] == 0.5
    assert record == json.loads(json.dumps(comparison.to_dict()))


def test_empty_run(new, certify):
    with pytest.raises(ReportError, match="no rows"):
        compare(new.iloc[:0], new, certify=certify)


def test_rank_test_holds_its_error_rate():
    """Of runs without a difference, about one in fifty may look different by rank alone."""
    rng = np.random.default_rng(5)
    lenient = Limits(time_ratio=1.0)
    outcomes = [judge_times(rng.lognormal(0, 0.1, 7), rng.lognormal(0, 0.1, 7), lenient)[1] for _ in range(600)]
    claims = sum(outcome != "no difference shown" for outcome in outcomes)
    assert claims / 600 < 0.02 + 3 * math.sqrt(0.02 * 0.98 / 600)  # both directions at p = 0.01 each
    found = [judge_times(rng.lognormal(0, 0.1, 7), rng.lognormal(math.log(1.5), 0.1, 7))[1] for _ in range(100)]
    assert found.count("slower") > 95


def test_equal_samples_are_no_difference():
    assert judge_times([1.0] * 6, [1.0] * 6) == (1.0, "no difference shown", "")
    assert judge_times([], [1.0] * 6)[1] == "not judged"
