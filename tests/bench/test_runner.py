"""A run: every misbehaviour is a row, the other jobs finish, and a killed run continues."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pccbench.bench.errors import UsageError
from pccbench.bench.plan import make_plan, stale_reasons
from pccbench.bench.runner import Cores, execute
from pccbench.bench.spec import RunSpec
from pccbench.bench.store import Store

FAULTY = Path(__file__).with_name("faulty_codecs.py")


@pytest.fixture
def folder(tmp_path):
    """A folder data set with two small voxelised clouds."""
    root = tmp_path / "clouds"
    root.mkdir()
    generator = np.random.default_rng(5)
    for name, count in (("one", 300), ("two", 500)):
        points = np.unique(generator.integers(0, 256, (count, 3)), axis=0).astype(np.int32)
        np.save(root / f"{name}.npy", points)
    return f"folder:{root}"


def run(folder, out, *codecs, **settings):
    spec = RunSpec.make(codecs=codecs, datasets=[folder], codec_modules=[FAULTY], **settings)
    plan = make_plan(spec, lambda text: None)
    return execute(plan, spec, Store(out), {"started_at": "now"})


def test_every_misbehaviour_is_a_row_and_the_others_finish(folder, tmp_path):
    expected = {
        "aborts": ("encode_failed", "encode", "SIGABRT"),
        "aborts-in-decoder": ("decode_failed", "decode", "exit code 3"),
        "hangs": ("timeout", "decode", "decode took longer than 3 s"),
        "asks-for-too-much": ("out_of_memory", "decode", "Unable to allocate"),
        "returns-garbage": ("mismatch", "decode", "claims to be lossless"),
        "returns-wrong-type": ("encode_failed", "encode", "encode returned str, expected bytes"),
        "decodes-wrong-type": ("decode_failed", "decode", "decode returned ndarray, expected PointCloud"),
        "raises": ("encode_failed", "encode", "ValueError: cannot do this (faulty_codecs.py:114)"),
        "remembers": ("decode_failed", "decode", "decode returned NoneType"),
        "lies-about-sections": ("mismatch", "decode", "sections sum to 1 bytes"),
        "fails-to-start": ("encode_failed", "encode", "RuntimeError: no licence"),
        "leaves-files": ("decode_failed", "decode", "No such file"),
        "writes-to-stdout": ("ok", "", ""),
        "honest": ("ok", "", ""),
    }
    settings = {"clouds": ["one"], "timeout_s": 3, "memory_limit_gb": 1}
    outcome = run(folder, tmp_path / "run", *expected, **settings)
    rows = {row.codec: row for row in outcome.rows}
    for codec, (status, phase, reason) in expected.items():
        row = rows[codec]
        assert (row.status, row.phase) == (status, phase), row
        assert reason in row.reason
        assert "\n" not in row.reason
    assert "last words" in rows["aborts-in-decoder"].stderr_tail
    assert rows["honest"].rate_bpp == 8 * rows["honest"].size_bytes / rows["honest"].points_in
    assert rows["honest"].missing["d1_psnr_db"]
    assert rows["honest"].encode_s > 0
    assert rows["honest"].decode_peak_mb > 10


def test_eating_memory_ends_at_the_limit(folder, tmp_path):
    (row,) = run(folder, tmp_path / "run", "eats-memory", clouds=["one"], memory_limit_gb=0.5).rows
    assert (row.status, row.phase) == ("out_of_memory", "encode")


def test_clouds_that_cannot_be_read_or_measured_are_rows_and_the_others_finish(folder, tmp_path):
    root = Path(folder.removeprefix("folder:"))
    np.save(root / "huge.npy", np.random.default_rng(6).normal(size=(100, 3)) * 1e300)
    (root / "bad.npy").write_bytes(b"not an array")
    spec = RunSpec.make(codecs=["raw"], datasets=[folder])
    outcome = execute(make_plan(spec, lambda text: None), spec, Store(tmp_path / "run"), {"started_at": "now"})
    rows = {row.cloud: row for row in outcome.rows}
    assert (rows["bad"].status, rows["bad"].phase) == ("encode_failed", "setup")
    assert "bad.npy" in rows["bad"].reason
    assert (rows["huge"].status, rows["huge"].phase) == ("metric_failed", "metric")
    assert "coordinates beyond" in rows["huge"].reason
    assert (rows["one"].status, rows["two"].status) == ("ok", "ok")


def test_an_empty_decoded_cloud_has_no_figures_but_reasons(folder, tmp_path):
    (row,) = run(folder, tmp_path / "run", "returns-nothing", clouds=["one"]).rows
    assert row.status == "metric_failed"
    assert row.d1_psnr_db is None
    assert "no points" in row.reason


def test_a_worker_survives_an_exception_and_restarts_after_a_crash(folder, tmp_path):
    rows = run(folder, tmp_path / "run", "raises", "aborts").rows
    assert [row.status for row in rows] == ["encode_failed"] * 4


def test_a_second_run_repeats_nothing_and_a_changed_ingredient_does(folder, tmp_path):
    first = run(folder, tmp_path / "run", "honest")
    again = run(folder, tmp_path / "run", "honest")
    assert (first.repeated, again.repeated) == (0, 2)
    assert [row.started_at for row in again.rows] == [row.started_at for row in first.rows]
    spec = RunSpec.make(codecs=["honest"], datasets=[folder], codec_modules=[FAULTY], peak=511)
    jobs = make_plan(spec, lambda text: None).jobs
    assert stale_reasons(jobs[0], first.rows[0], spec) == ["metric.peak was absent, is 511.0"]
    assert run(folder, tmp_path / "run", "honest", peak=511).repeated == 0


def test_a_changed_cloud_is_stale(folder, tmp_path):
    run(folder, tmp_path / "run", "honest")
    path = Path(folder.removeprefix("folder:")) / "one.npy"
    np.save(path, np.load(path)[:-1])
    assert run(folder, tmp_path / "run", "honest").repeated == 1


def test_secondary_metrics_are_measured_when_asked_for_and_then_kept(folder, tmp_path):
    np.save(Path(folder.removeprefix("folder:")) / "point.npy", np.array([[1, 2, 3]]))
    (row, *_) = run(folder, tmp_path / "run", "raw", clouds=["one"]).rows
    assert row.density_difference is None
    again = run(folder, tmp_path / "run", "raw", clouds=["one", "point"], secondary=True)
    rows = {row.cloud: row for row in again.rows}
    assert again.repeated == 0
    assert rows["one"].density_count_ab == pytest.approx(0, abs=1e-6)
    assert rows["one"].normals_f1 == 1
    assert rows["point"].status == "ok"
    assert "two distinct points" in rows["point"].secondary_passport["missing"]
    for secondary in (True, False):
        assert run(folder, tmp_path / "run", "raw", clouds=["one", "point"], secondary=secondary).repeated == 2


def test_a_timeout_is_tried_again_with_more_time_only(folder, tmp_path):
    def hangs(timeout_s):
        return run(folder, tmp_path / "run", "hangs", clouds=["one"], timeout_s=timeout_s).repeated

    assert [hangs(1), hangs(1), hangs(0.5), hangs(2)] == [0, 1, 1, 0]


def test_parallel_jobs_give_the_same_rows(folder, tmp_path):
    alone = run(folder, tmp_path / "alone", "honest", "aborts", "raw")
    cores = len(os.sched_getaffinity(0))
    together = run(folder, tmp_path / "together", "honest", "aborts", "raw", jobs=2, threads=1, share_cores=cores < 2)

    def facts(outcome):
        return sorted((row.codec, row.cloud, row.rate, row.status, row.stream_sha256) for row in outcome.rows)

    assert facts(alone) == facts(together)


def test_repeats_are_kept(folder, tmp_path):
    (row,) = run(folder, tmp_path / "run", "honest", clouds=["one"], repeats=4).rows
    assert len(row.encode_s_samples) == len(row.decode_s_samples) == 4
    assert min(row.encode_s_samples) <= row.encode_s <= max(row.encode_s_samples)


def test_streams_are_kept_on_request_under_their_hash(folder, tmp_path):
    (row,) = run(folder, tmp_path / "run", "honest", clouds=["one"], keep_streams=True).rows
    assert (tmp_path / "run" / "streams" / f"{row.stream_sha256}.bin").stat().st_size == row.size_bytes


def test_more_threads_than_cores_are_refused_unless_asked_for():
    cores = len(os.sched_getaffinity(0))
    with pytest.raises(UsageError, match="--share-cores"):
        Cores.divide(RunSpec.make(jobs=2, threads=cores))
    assert Cores.divide(RunSpec.make(jobs=2, threads=cores, share_cores=True)).shared


def command(folder, out, codecs, rates="only"):
    return [
        *(sys.executable, "-c", "from pccbench.bench.cli import main; main()"),
        *("run", "--codecs", codecs, "--dataset", folder, "--out", str(out)),
        *("--codec-module", str(FAULTY), "--no-report", "--rates", rates),
    ]


def test_kill_9_at_random_moments_loses_no_row_and_repeats_none(folder, tmp_path):
    """Kill the whole run again and again; every row that was ever complete must stay, and stay single."""
    out = tmp_path / "run"
    rows_path = out / "rows.jsonl"
    again = command(folder, out, "honest,raw,octree", "only,lossless")
    moments = random.Random(2)
    seen: dict[str, str] = {}
    for _ in range(6):
        process = subprocess.Popen(again, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.8, 3.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines = rows_path.read_bytes().splitlines(keepends=True) if rows_path.exists() else []
        now = {row["job_key"]: row["started_at"] for row in map(json.loads, (x for x in lines if x.endswith(b"\n")))}
        assert seen.items() <= now.items()
        seen = now
    done = subprocess.run(again, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in rows_path.read_text().splitlines()]
    keys = [row["job_key"] for row in rows]
    assert len(keys) == len(set(keys)) == 6
    assert seen.items() <= {row["job_key"]: row["started_at"] for row in rows}.items()


def test_a_killed_harness_leaves_no_worker(folder, tmp_path):
    arguments = command(folder, tmp_path / "run", "hangs")
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    marker = f" {process.pid}"

    def workers():
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.splitlines()
        return [line for line in listing if "pccbench.bench.worker" in line and line.endswith(marker)]

    deadline = time.monotonic() + 60
    while len(workers()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers()) == 2
    process.kill()
    process.wait()
    while workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers()


def test_ctrl_c_leaves_a_resumable_run(folder, tmp_path):
    arguments = command(folder, tmp_path / "run", "honest,hangs")
    code = arguments.index("-c") + 1  # as in a terminal: a background job starts with Ctrl-C ignored
    arguments[code] = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {arguments[code]}"
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    rows = tmp_path / "run" / "rows.jsonl"
    deadline = time.monotonic() + 60
    while (not rows.exists() or rows.read_bytes().count(b"\n") < 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in stderr
    assert "Traceback" not in stderr
