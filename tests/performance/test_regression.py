"""The comparison at the end of `make bench`."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.fixture
def regression():
    spec = importlib.util.spec_from_file_location("regression", Path(__file__).with_name("regression.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path, times):
    entries = [{"fullname": name, "stats": {"min": seconds}} for name, seconds in times.items()]
    path.write_text(json.dumps({"benchmarks": entries}))
    return str(path)


def test_what_is_slower_fails_and_is_named(regression, tmp_path, capsys):
    before = write(tmp_path / "before.json", {"a": 1.0, "b": 1.0, "c": 1.0})
    now = write(tmp_path / "now.json", {"a": 1.24, "b": 1.26, "c": 0.5, "new": 9.0})
    assert regression.main([before, now, "--limit", "25"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("SLOWER")] == ["SLOWER: b: 1 s, now 1.26 s (+26 %)"]
    assert lines[-1] == "1 of 3 benchmarks are more than 25 % slower, +24 % in the middle"
    assert "new in the baseline: new" in lines
    assert regression.main([before, now, "--limit", "30"]) == 0


def test_only_what_stays_slower_fails(regression, tmp_path, capsys, monkeypatch):
    before = write(tmp_path / "before.json", {"a": 1.0, "b": 1.0, "c": 1.0})
    now = write(tmp_path / "now.json", {"a": 1.0, "b": 2.0, "c": 2.0})
    measured = []

    def measure_again(names):
        measured.append(names)
        return {name: 1.5 if name == "c" else 1.1 for name in names}

    monkeypatch.setattr(regression, "measure_again", measure_again)
    assert regression.main([before, now, "--again", "2"]) == 1
    assert measured == [["b", "c"], ["c"]]
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("SLOWER")] == ["SLOWER: c: 1 s, now 1.5 s (+50 %)"]


def test_what_is_gone_fails_and_is_named(regression, tmp_path, capsys):
    before = write(tmp_path / "before.json", {"a": 1.0, "b": 1.0, "c": 1.0})
    now = write(tmp_path / "now.json", {"a": 1.0})
    assert regression.main([before, now]) == 1
    assert regression.main([before, now]) == 1, "a second run forgets nothing by itself"
    lines = capsys.readouterr().out.splitlines()
    assert "GONE: b: in the baseline, not measured now" in lines
    assert "GONE: c: in the baseline, not measured now" in lines
    assert any("2 of 3 benchmarks" in line and "`make bench FORGET=1`" in line for line in lines)
    assert regression.main([before, now, "--forget-gone"]) == 0
    assert "forgotten: b: in the baseline, not measured now" in capsys.readouterr().out.splitlines()
    assert regression.main([before, now]) == 0
    assert regression.best_s(before) == {"a": 1.0}


def test_all_gone_fails(regression, tmp_path, capsys):
    before, now = write(tmp_path / "before.json", {"a": 1.0}), write(tmp_path / "now.json", {"z": 1.0})
    assert regression.main([before, now]) == 1
    assert "GONE: a" in capsys.readouterr().out


def test_what_is_new_is_compared_from_the_next_run_on(regression, tmp_path, capsys):
    before = write(tmp_path / "before.json", {"a": 1.0})
    assert regression.main([before, write(tmp_path / "now.json", {"a": 0.5, "new": 1.0})]) == 0
    assert regression.best_s(before) == {"a": 1.0, "new": 1.0}, "the baseline keeps what it had"
    assert regression.main([before, write(tmp_path / "later.json", {"a": 1.0, "new": 2.0})]) == 1
    assert "SLOWER: new" in capsys.readouterr().out


def test_the_makefile_says_how_to_forget():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert "$(if $(FORGET),--forget-gone)" in makefile
