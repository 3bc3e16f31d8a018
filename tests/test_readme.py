"""What the README says is true: its example runs, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

README = Path(__file__).resolve().parent.parent / "README.md"


def bench(*arguments, cwd):
    code = "from pccbench.bench.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd)


def test_the_example_codec_runs_is_timed_and_gets_its_report(tmp_path):
    text = README.read_text()
    (example,) = re.findall(r"<!-- example -->\n```python\n(.*?)```\n<!-- end -->", text, re.DOTALL)
    (tmp_path / "halving.py").write_text(example)
    checked = bench("check", "halving", "--codec-module", "halving.py", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert "failed" not in checked.stdout
    done = bench(
        *("run", "--codecs", "halving,octree", "--codec-module", "halving.py", "--clouds", "tiny-*", "--out", "run"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "report: run/report/report.html"
    rows = pd.read_csv(tmp_path / "run" / "report" / "results.csv")
    mine = rows[rows["codec"] == "halving"]
    assert (mine["status"] == "ok").all()
    assert (mine["encode_s"] > 0).all()
    assert "Halving" in (tmp_path / "run" / "report" / "report.html").read_text()


def test_commands_and_options_of_the_readme_exist(tmp_path):
    text = README.read_text()
    options = ""
    for name in set(re.findall(r"`?bench ([a-z]+)", text)):
        done = bench(name, "--help", cwd=tmp_path)
        assert done.returncode == 0, name
        options += done.stdout
    others = {"--resolution", "--extra-index-url"}  # of pc_error and of pip
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) - others:
        assert option in options, option
