"""The store survives torn lines, refuses foreign folders, and keeps one writer."""

import json
import subprocess
import sys

import pandas as pd
import pytest

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


def test_a_codec_that_was_unavailable_once_is_what_its_rows_say(tmp_path):
    def absent(codec):
        return Row("", codec, "", "synthetic", "", "unavailable", phase="setup", reason="no tool")

    store = write(tmp_path, row("r01"), absent("octree"), absent("gpcc-octree"))
    assert [(r.codec, r.status) for r in store.rows()] == [("octree", "ok"), ("gpcc-octree", "unavailable")]


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


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    store = write(tmp_path, row("r01"), row("r02"))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{broken\n" + path.read_bytes())
    with pytest.raises(StoreError, match="rows.jsonl:1: not a row"):
        store.rows()


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


def test_values_that_are_no_numbers_never_reach_the_file(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write(tmp_path, row(d1_psnr_db=float("inf")))
