"""What Python code calls."""

import pandas as pd
import pytest

from pccbench.bench.api import load_run, run
from pccbench.codecs.errors import PccbenchError


def test_a_run_from_python_continues_and_is_the_one_that_the_command_line_reads(tmp_path):
    settings = {"codecs": ["raw", "octree"], "datasets": ["synthetic"], "clouds": ["tiny-gown"]}
    some = run(out=tmp_path / "run", **settings, rates=["lossless"])
    assert sorted(zip(some["codec"], some["status"], strict=True)) == [("octree", "ok"), ("raw", "ok")]
    rows = run(out=tmp_path / "run", **settings)
    assert len(rows) > len(some)
    kept = rows.merge(some, on="job_key", suffixes=("", "_before"))
    assert (kept["started_at"] == kept["started_at_before"]).all()
    assert len(kept) == len(some)
    pd.testing.assert_frame_equal(load_run(tmp_path / "run"), rows)


def test_wrong_settings_are_one_error(tmp_path):
    with pytest.raises(PccbenchError, match="octtree"):
        run(out=tmp_path / "run", codecs=["octtree"], datasets=["synthetic"])
    with pytest.raises(PccbenchError, match="codec"):
        run(out=tmp_path / "run", codec=["octree"], datasets=["synthetic"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(PccbenchError, match="run"):
        load_run(tmp_path / "run")
