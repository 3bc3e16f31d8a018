"""A run: every misbehaviour is a row, the other jobs finish, and a killed run continues."""

import contextlib
import errno
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pccbench.bench.datasets import CloudFile
from pccbench.bench.errors import UsageError
from pccbench.bench.plan import make_plan, stale_reasons
from pccbench.bench.runner import Cores, Observer, execute
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


def facts(outcome):
    return sorted((row.codec, row.cloud, row.rate, row.status, row.stream_sha256) for row in outcome.rows)


def test_every_misbehaviour_is_a_row_and_the_others_finish(folder, tmp_path):
    expected = {
        "aborts": ("encode_failed", "encode", "SIGABRT"),
        "aborts-in-decoder": ("decode_failed", "decode", "exit code 3"),
        "hangs": ("timeout", "decode", "decode took longer than 3 s"),
        "asks-for-too-much": ("out_of_memory", "decode", "Unable to allocate"),
        "returns-garbage": ("mismatch", "decode", "claims to be lossless"),
        "returns-wrong-type": ("encode_failed", "encode", "encode returned str, expected bytes"),
        "decodes-wrong-type": ("decode_failed", "decode", "decode returned ndarray, expected PointCloud"),
        "raises": ("encode_failed", "encode", "ValueError: cannot do this (faulty_codecs.py:"),
        "remembers": ("decode_failed", "decode", "decode returned NoneType"),
        "lies-about-sections": ("mismatch", "decode", "sections sum to 1 bytes"),
        "fails-to-start": ("encode_failed", "encode", "RuntimeError: no licence"),
        "leaves-files": ("decode_failed", "decode", "No such file"),
        "is-not-applicable": ("not_applicable", "encode", "codes spheres alone"),
        "fills-the-disk": ("disrupted", "encode", "No space left on device"),
        "chatters": ("encode_failed", "encode", "ValueError: "),
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
    assert (outcome.counts.ok, outcome.counts.not_applicable, outcome.counts.total) == (2, 1, 16)
    assert len(outcome.failed) == 14
    assert len((tmp_path / "run" / "rows.jsonl").read_bytes()) < 150_000
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
    assert (rows["bad"].status, rows["bad"].phase) == ("unreadable", "load")
    assert "bad.npy" in rows["bad"].reason
    assert (rows["huge"].status, rows["huge"].phase) == ("metric_failed", "metric")
    assert "coordinates beyond" in rows["huge"].reason
    assert (rows["one"].status, rows["two"].status) == ("ok", "ok")


def test_careless_codecs_cost_only_their_own_rows(folder, tmp_path):
    careless = runpy.run_path(str(FAULTY))["CARELESS"]
    warnings = []
    spec = RunSpec.make(
        codecs=[*careless, "honest"], datasets=[folder], clouds=["one"], codec_modules=[FAULTY], timeout_s=60
    )
    plan = make_plan(spec, warnings.append)
    outcome = execute(plan, spec, Store(tmp_path / "run"), {}, Observer(warn=warnings.append))
    repaired = {"notes-huge", "notes-nan", "card-numbers", "card-title-huge", "card-title-control"}
    repaired |= {"rates-numpy", "sections-numpy"}
    refused = {name for name in careless if name.partition("-")[0] in ("card", "rates")} - repaired
    assert outcome.unavailable.keys() == refused
    assert all("\n" not in why and len(why) < 600 for why in outcome.unavailable.values())
    rows = {row.codec: row for row in outcome.rows}
    assert rows.keys() == careless.keys() - refused | {"honest"}
    for codec, row in rows.items():
        expected = "ok" if codec in repaired | {"honest"} else "mismatch"
        assert row.status == expected, (codec, row.reason)
        assert row.d1_mse == 0
    assert (rows["card-numbers"].codec_version, rows["card-numbers"].codec_title) == ("2", "3")
    assert rows["rates-numpy"].parameters == {"step": 3, "weight": 0.5}
    assert len(rows["card-title-huge"].codec_title) == 100
    assert rows["bits-negative"].estimated_bits is None
    assert (tmp_path / "run" / "rows.jsonl").stat().st_size < 200_000
    assert len(Store(tmp_path / "run").frame()) == len(rows)


def test_a_cloud_that_cannot_be_read_is_read_once_and_blames_no_codec(folder, tmp_path, monkeypatch):
    root = Path(folder.removeprefix("folder:"))
    np.save(root / "nan.npy", np.array([[0.0, 1.0, np.nan]]))
    np.save(root / "text.npy", np.array([["a", "b", "c"]]))
    (root / "empty.ply").write_bytes(b"")
    (root / os.fsdecode(b"caf\xe9.npy")).write_bytes(b"")
    loads = []
    original = CloudFile.load
    monkeypatch.setattr(CloudFile, "load", lambda self: (loads.append(self.name), original(self))[1])
    settings = {"rates": ["r01", "r02", "r03", "only"]}
    outcome = run(folder, tmp_path / "run", "honest", "octree", **settings)
    bad = ["nan", "text", "empty", "caf\\udce9"]
    for name in bad:
        rows = [row for row in outcome.rows if row.cloud == name]
        assert [(row.status, row.phase) for row in rows] == [("unreadable", "load")] * 4, rows
        assert len({row.reason for row in rows}) == 1
    assert {row.status for row in outcome.rows if row.cloud not in bad} == {"ok"}
    assert len(loads) == len(set(loads)) == 6
    together = run(folder, tmp_path / "together", "honest", "octree", jobs=2, threads=1, share_cores=True, **settings)
    assert facts(together) == facts(outcome)
    again = run(folder, tmp_path / "run", "honest", "octree", **settings)
    assert again.repeated == len(outcome.rows)


def test_a_file_that_went_away_since_the_plan_is_of_the_moment(folder, tmp_path):
    path = Path(folder.removeprefix("folder:")) / "one.npy"
    spec = RunSpec.make(codecs=["raw"], datasets=[folder])
    plan = make_plan(spec, lambda text: None)
    data = path.read_bytes()
    path.unlink()
    statuses = [row.status for row in execute(plan, spec, Store(tmp_path / "run"), {}).rows]
    assert statuses == ["disrupted", "ok"]
    path.write_bytes(data)
    again = execute(plan, spec, Store(tmp_path / "run"), {})
    assert (again.repeated, [row.status for row in again.rows]) == (1, ["ok", "ok"])


def kill_workers(number, until):
    """Send a signal to the workers of this process, once there are some."""
    while not until.is_set():
        listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout.splitlines()
        mine = [line.split()[0] for line in listing if "bench.worker" in line and line.endswith(f" {os.getpid()}")]
        if len(mine) >= 2:
            time.sleep(0.5)
            for pid in mine:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), number)
            return
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_worker_killed_from_outside_is_tried_again(folder, tmp_path, name):
    is_over = threading.Event()
    killer = threading.Thread(target=kill_workers, args=(getattr(signal, name), is_over))
    killer.start()
    try:
        (row,) = run(folder, tmp_path / "run", "hangs", clouds=["one"], timeout_s=120).rows
    finally:
        is_over.set()
        killer.join()
    assert row.status == "disrupted"
    assert f"{name}: killed from outside" in row.reason
    again = run(folder, tmp_path / "run", "hangs", clouds=["one"], timeout_s=1)
    assert (again.repeated, again.rows[0].status) == (0, "timeout")


def test_a_full_temporary_folder_is_of_the_moment(folder, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pccbench.bench.workers._Process", full)
    rows = run(folder, tmp_path / "run", "honest").rows
    assert [row.status for row in rows] == ["disrupted", "disrupted"]
    assert "No space left" in rows[0].reason
    monkeypatch.undo()
    assert [row.status for row in run(folder, tmp_path / "run", "honest").rows] == ["ok", "ok"]


def test_failures_are_tried_again_when_asked(folder, tmp_path):
    def repeated(*retry):
        return run(folder, tmp_path / "run", "raises", "aborts-in-decoder", clouds=["one"], retry=retry).repeated

    assert [repeated(), repeated(), repeated("failed"), repeated("decode_failed"), repeated("timeout")] == [
        0,
        2,
        0,
        1,
        2,
    ]


def test_a_codec_that_turns_out_unavailable_has_no_row_and_is_told_once(folder, tmp_path):
    warnings = []
    spec = RunSpec.make(codecs=["is-unavailable", "honest"], datasets=[folder], codec_modules=[FAULTY])
    store = Store(tmp_path / "run")
    outcome = execute(make_plan(spec, warnings.append), spec, store, {}, Observer(warn=warnings.append))
    assert [row.codec for row in outcome.rows] == ["honest", "honest"]
    assert warnings == ["is-unavailable unavailable: no licence: buy one"]
    assert outcome.unavailable == store.provenance()["unavailable"] == {"is-unavailable": "no licence: buy one"}
    assert not outcome.failed
    assert len(store.rows()) == 2


def test_repeats_asked_for_later_are_added(folder, tmp_path):
    first = run(folder, tmp_path / "run", "honest").rows
    more = run(folder, tmp_path / "run", "honest", repeats=3)
    assert more.repeated == 0
    for before, now in zip(first, more.rows, strict=True):
        assert now.encode_s_samples[0] == before.encode_s
        assert len(now.encode_s_samples) == len(now.decode_s_samples) == 3
        assert now.encode_s == sorted(now.encode_s_samples)[1]
        assert (now.d1_mse, now.stream_sha256, now.started_at) == (
            before.d1_mse,
            before.stream_sha256,
            before.started_at,
        )
    assert run(folder, tmp_path / "run", "honest", repeats=3).repeated == 2
    assert run(folder, tmp_path / "run", "honest", repeats=2).repeated == 2
    cores = len(os.sched_getaffinity(0))
    anew = run(folder, tmp_path / "run", "honest", repeats=4, threads=cores + 1, share_cores=True)
    assert not set(anew.rows[0].encode_s_samples) & set(more.rows[0].encode_s_samples)


def test_repeats_are_taken_in_turn(folder, tmp_path):
    told = []
    spec = RunSpec.make(codecs=["honest", "raises"], datasets=[folder], codec_modules=[FAULTY], repeats=3)
    observer = Observer(
        begin=lambda calls, done: told.append((calls, done)),
        done=lambda row, calls: told.append((row.codec, row.cloud, len(row.decode_s_samples), calls)),
    )
    execute(make_plan(spec, lambda text: None), spec, Store(tmp_path / "run"), {}, observer)
    honest = [("honest", cloud, number, 1) for number in (1, 2, 3) for cloud in ("one", "two")]
    assert told == [(12, 0), *honest, ("raises", "one", 0, 3), ("raises", "two", 0, 3)]


def test_a_repeat_with_another_stream_is_a_mismatch(folder, tmp_path):
    assert run(folder, tmp_path / "run", "changes", clouds=["one"]).rows[0].status == "ok"
    (row,) = run(folder, tmp_path / "again", "changes", clouds=["one"], repeats=2).rows
    assert row.status == "mismatch"
    assert "repeat 2 gave another stream" in row.reason


def test_repeated_points_are_counted(folder, tmp_path):
    root = Path(folder.removeprefix("folder:"))
    points = np.load(root / "one.npy")
    np.save(root / "one.npy", np.concatenate([points, points[:7]]))
    (row,) = run(folder, tmp_path / "run", "honest", clouds=["one"]).rows
    assert (row.points_in, row.repeats_dropped) == (len(points), 7)
    assert row.rate_bpp == 8 * row.size_bytes / len(points)


def test_clouds_need_match_in_one_data_set_only(folder, tmp_path):
    def clouds(*names):
        spec = RunSpec.make(codecs=["raw"], datasets=["synthetic", folder], clouds=names)
        return [job.cloud.name for job in make_plan(spec, lambda text: None).jobs]

    assert clouds("tiny-gown", "two") == ["tiny-gown", "two"]
    assert clouds("t*o") == ["two"]
    with pytest.raises(UsageError, match="no data set of this run has a cloud 'thre'"):
        clouds("tiny-gown", "thre")


def test_ctrl_c_in_the_first_import_of_open3d_ends_the_run(folder, tmp_path):
    """It is held back until the import is done; swallowed by it, every row would be metric_failed."""
    slow = tmp_path / "modules" / "open3d"
    slow.mkdir(parents=True)
    (slow / "__init__.py").write_text(
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(0.2)\n"
        "except KeyboardInterrupt:\n    raise ImportError('cannot initialize type IntVector') from None\n"
    )
    arguments = command(folder, tmp_path / "run", "honest")
    code = arguments.index("-c") + 1
    arguments[code] = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {arguments[code]}"
    done = subprocess.run(
        arguments, env={**os.environ, "PYTHONPATH": str(slow.parent)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 130, done.stderr
    assert not Store(tmp_path / "run").rows()


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
    assert len(workers()) >= 2  # with namespaces, each is three processes
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
