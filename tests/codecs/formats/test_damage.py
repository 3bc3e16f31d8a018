"""A share of `tests/fuzz_readers.py`, and files made to cost time or memory."""

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).resolve().parents[2] / "fuzz_readers.py"


def test_damaged_files_are_read_or_refused():
    done = subprocess.run(
        [sys.executable, FUZZ, "--files", "200", "--seed", "7"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("refused") == 13
