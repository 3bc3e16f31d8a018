"""The store survives torn lines, refuses foreign folders, and keeps one writer."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pccbench.bench.declared import TEXT_LIMIT
from pccbench.bench.errors import StoreError, StoreWriteError
from pccbench.bench.row import Row
from pccbench.bench.spec import RunSpec
from pccbench.bench.store import Store


def row(rate="r01", status="ok", **fields):
    return Row("key", "octree", rate, "synthetic", "figure", status, **fields)


def write(folder, *rows):
    store = Store(folder)
    with store.writing(RunSpec(), {"started_at": "now"}):
        for one in rows:
            store.append(one)
    return store


def test_rows_come_back_and_later_ones_replace_earlier(tmp_path):
    write(tmp_path, row("r01", "timeout"), row("r02", d1_psnr_db=60.5))
    store = write(tmp_path, row("r01", "ok"))
    assert [(r.rate, r.status) for r in Store.open(tmp_path).rows()] == [("r01", "ok"), ("r02", "ok")]
    assert len(store.provenance()["sessions"]) == 2
    assert store.frame().loc[1, "d1_psnr_db"] == 60.5


def test_what_was_unavailable_in_the_last_session_is_told_unless_it_has_rows(tmp_path):
    store = Store(tmp_path)
    with store.writing(RunSpec(), {"unavailable": {"octree": "no licence", "gpcc-octree": "no tool"}}):
        store.append(row("r01"))
        store.amend_session(unavailable={"octree": "no licence", "gpcc-octree": "no tool", "dpcc": "no weights"})
    assert store.provenance()["unavailable"] == {"gpcc-octree": "no tool", "dpcc": "no weights"}


def as_version_1(one):
    """A row as pccbench 0.1 wrote it."""
    record = one.to_dict()
    for name in ("repeats_dropped", "seal"):
        record.pop(name)
    return {**record, "schema_version": 1}


def test_a_run_of_version_1_is_read_and_continued(tmp_path):
    absent = Row("", "gpcc-octree", "", "synthetic,kitti", "", "unavailable", phase="setup", reason="no tool")
    rows = [row("r01", d1_psnr_db=60.5), absent, row("lossless", "unavailable"), row("r02", "encode_failed")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(as_version_1(one)) + "\n" for one in rows))
    (tmp_path / "run.json").write_text(
        '{"schema_version": 1, "sessions": [{"unavailable": {"gpcc-octree": "no tool"}}]}'
    )
    old = Store.open(tmp_path)
    kept = [("r01", "ok"), ("lossless", "not_applicable"), ("r02", "encode_failed")]
    assert [(r.rate, r.status) for r in old.rows()] == kept
    assert old.frame().loc[0, "d1_psnr_db"] == 60.5
    assert old.provenance()["unavailable"] == {"gpcc-octree": "no tool"}
    assert not old.damage()
    store = write(tmp_path, row("r03"))
    assert [(r.rate, r.status) for r in store.rows()] == [*kept, ("r03", "ok")]
    assert not store.repaired
    assert json.loads((tmp_path / "run.json").read_text())["schema_version"] == 2


def test_pandas_reads_the_file_itself(tmp_path):
    write(tmp_path, row("r01"), row("r02"))
    assert list(pd.read_json(tmp_path / "rows.jsonl", lines=True)["rate"]) == ["r01", "r02"]


@pytest.mark.parametrize("kept", [1, 10, 500])
def test_a_torn_last_line_is_skipped_and_then_dropped(tmp_path, kept):
    store = write(tmp_path, row("r01"), row("r02"))
    path = tmp_path / "rows.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    assert [r.rate for r in store.rows()] == ["r01"]
    write(tmp_path, row("r03"))
    assert [r.rate for r in store.rows()] == ["r01", "r03"]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def line(one, **changes):
    return json.dumps({**one.to_dict(), **changes}).encode() + b"\n"


DAMAGED = {
    "garbage": b"{broken\n",
    "no text": bytes(range(1, 10)) + b"\xff\xfe\n",
    "zeros": bytes(500) + b"\n",
    "no object": b"[]\n",
    "deep": b"[" * 100_000 + b"\n",
    "another version": line(row(), schema_version=99),
    "unknown field": line(row(), colour="red"),
    "wrong type": line(row(), size_bytes="many"),
    "wrong samples": line(row(), encode_s_samples=["x"]),
    "unknown status": line(row(), status="fine"),
    "no number": line(row(), d1_mse=float("nan")),
    "field twice": line(row()).replace(b'"rate": "r01"', b'"rate": "r01", "rate": "r09"'),
    "field missing": line(row()).replace(b'"codec": "octree", ', b""),
    "empty": b"\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_lines_that_are_no_rows_are_skipped_told_and_dropped(tmp_path, kind):
    store = write(tmp_path, row("r02"), row("r03"))
    path = tmp_path / "rows.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    before = first + DAMAGED[kind] + second + b'{"torn'
    path.write_bytes(before)
    assert [r.rate for r in store.rows()] == ["r02", "r03"]
    assert list(store.damage().lines) == [2]
    assert store.damage().text.startswith("1 line that is no row (2: ")
    assert len(store.damage().text) < 200

    found = Store(tmp_path).repair()
    assert found.backup == tmp_path / "rows.jsonl.damaged-1"
    assert found.backup.read_bytes() == before
    assert path.read_bytes() == first + second
    assert Store(tmp_path).repair().backup is None

    path.write_bytes(before)
    store = write(tmp_path, row("r04"))
    assert list(store.repaired.lines) == [2]
    assert store.repaired.backup == tmp_path / "rows.jsonl.damaged-2"
    assert [r.rate for r in store.rows()] == ["r02", "r03", "r04"]
    assert not store.damage()


def test_repair_drops_rows_that_later_ones_replace_and_mends_run_json(tmp_path):
    write(tmp_path, row("r01", "timeout"), row("r02"), row("r01"))
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(StoreError, match="bench repair"):
        Store.open(tmp_path)
    assert Store(tmp_path).repair().replaced == (1,)
    assert [(r.rate, r.status) for r in Store.open(tmp_path).rows()] == [("r02", "ok"), ("r01", "ok")]
    assert len((tmp_path / "rows.jsonl").read_bytes().splitlines()) == 2
    assert (tmp_path / "run.json.damaged-1").read_text() == "{"
    with pytest.raises(StoreError, match="neither run.json nor rows.jsonl"):
        Store(tmp_path / "nothing").repair()
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("gone", ["deleted", "moved", "replaced"])
def test_a_run_folder_that_goes_away_is_an_error(tmp_path, gone):
    run = tmp_path / "run"
    store = Store(run)
    with pytest.raises(StoreWriteError, match="deleted or moved"), store.writing(RunSpec(), {}):
        store.append(row("r01"))
        if gone == "deleted":
            shutil.rmtree(run)
        else:
            run.rename(tmp_path / "elsewhere")
        if gone == "replaced":
            run.mkdir()
            (run / "rows.jsonl").write_text("")
        store.append(row("r02"))
    with pytest.raises(StoreWriteError, match="deleted or moved"), Store(tmp_path / "other").writing(RunSpec(), {}):
        shutil.rmtree(tmp_path / "other")


def test_only_one_writer(tmp_path):
    with Store(tmp_path).writing(RunSpec(), {}):
        code = (
            "from pathlib import Path\n"
            "from pccbench.bench.store import Store\n"
            "from pccbench.bench.spec import RunSpec\n"
            f"with Store(Path({str(tmp_path)!r})).writing(RunSpec(), {{}}): pass"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another bench run is writing" in other.stderr


def test_another_version_and_foreign_folders_are_refused(tmp_path):
    with pytest.raises(StoreError, match="not a run folder"):
        Store.open(tmp_path)
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match=r"not empty \(holds thesis.tex\)"):
        write(tmp_path)
    (tmp_path / "thesis.tex").unlink()
    write(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "schema_version": 99}))
    with pytest.raises(StoreError, match="schema version 99"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="schema version 99"):
        write(tmp_path)


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreWriteError, match="No space left on device; finished rows are safe"):
        with store.writing(RunSpec(), {}):
            store.append(row("r01"))
            monkeypatch.setattr("os.fsync", full)
            store.append(row("r02"))
    monkeypatch.undo()
    assert store.rows()[0].rate == "r01"


def test_the_yaml_reproduces_the_spec(tmp_path):
    spec = RunSpec.make(codecs=["octree"], datasets=["8ivfb"], data_root=tmp_path, repeats=3)
    with Store(tmp_path / "run").writing(spec, {}):
        pass
    assert RunSpec.make(**RunSpec.read(tmp_path / "run" / "run.yaml")) == spec


def test_whatever_a_row_holds_the_line_is_sound_and_short(tmp_path):
    figures = {"d1_psnr_db": float("inf"), "d1_mse": float("nan"), "encode_s": np.float64(0.5)}
    texts = {"reason": "x" * 20_000_000, "stderr_tail": "y" * 20_000_000 + "end", "codec_title": "caf\udce9"}
    nested = {"notes": {"a": float("nan"), "b": np.int64(3), "c": {1, 2}, "d": object}, "points_in": np.int64(7)}
    store = write(tmp_path, row("r\udce9", **figures, **texts, **nested, encode_s_samples=[0.5, float("inf")]))
    data = (tmp_path / "rows.jsonl").read_bytes()
    assert len(data) < 20_000
    json.loads(data.decode("utf-8"), parse_constant=pytest.fail).__str__().encode()
    (one,) = store.rows()
    assert not store.damage()
    assert (one.d1_psnr_db, one.d1_mse, one.encode_s, one.points_in) == (None, None, 0.5, 7)
    assert one.missing == {"d1_psnr_db": "came out as inf", "d1_mse": "came out as nan"}
    assert one.encode_s_samples == [0.5]
    assert one.notes["b"] == 3
    assert len(one.reason) == len(one.stderr_tail) == TEXT_LIMIT
    assert one.reason.endswith("…")
    assert one.stderr_tail.endswith("end")
