"""Damaged streams behind right checksums: each is refused or decodes, soon and in little memory.

PCCBENCH_FUZZ=2000 decodes so many of each codec; `damage.py` does it outside pytest, with other seeds.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = int(os.environ.get("PCCBENCH_FUZZ", "0"))
SCRIPT = Path(__file__).with_name("damage.py")


def run(name, count):
    size = () if COUNT else ("--small",)
    command = [sys.executable, str(SCRIPT), name, "--count", str(COUNT or count), *size]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "count"),
    [("raw", 200), ("octree", 60), ("draco", 200), ("sparse", 60), ("deepcompress", 60), ("dpcc", 30)],
)
def test_damage_is_refused_or_decodes(name, count):
    assert "'refused'" in run(name, count)


@pytest.mark.parametrize("name", ["gpcc-octree", "gpcc-trisoup"])
def test_damage_is_refused_or_decodes_by_tmc3(name, tmc3):
    assert "'refused'" in run(name, 12)
