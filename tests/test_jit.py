"""Machine code is never older than the sources that it was made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

HELPER = """
from .._jit import njit

@njit(inline="never")
def helped(value):
    return value + {step}
"""
CALLER = """
from .._jit import njit
from .helper import helped

@njit(nogil=True)
def called(value):
    return helped(value)
"""
ASK = """
from house.codecs.caller import called
print(called(1), sum(called.stats.cache_hits.values()), sum(called.stats.cache_misses.values()))
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small package with the module under test, a compiled function, and a helper in another file."""
    folder = tmp_path / "house"
    (folder / "codecs").mkdir(parents=True)
    for package in (folder, folder / "codecs"):
        (package / "__init__.py").touch()
    for module in ("_jit.py", "_cache.py"):
        shutil.copy(REPOSITORY / module, folder)
    (folder / "codecs" / "caller.py").write_text(CALLER)
    (folder / "codecs" / "helper.py").write_text(HELPER.format(step=1))
    return folder


def _ask(house: Path, cache: Path) -> list[int]:
    """Result, cache hits and misses of a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=house.parent,
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_a_helper_edited_under_a_warm_cache_has_its_effect(house: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert _ask(house, cache) == [2, 0, 1]
    assert _ask(house, cache) == [2, 1, 0]
    (house / "codecs" / "helper.py").write_text(HELPER.format(step=5))
    assert _ask(house, cache) == [6, 0, 1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_costs_time_only(house: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o500)
    assert _ask(house, cache) == [2, 0, 1]


def test_a_cache_in_the_place_of_a_file_costs_time_only(house: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.touch()
    assert _ask(house, cache) == [2, 0, 1]


def test_a_torn_cache_is_made_anew(house: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    _ask(house, cache)
    for path in cache.rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:20])
    assert _ask(house, cache) == [2, 0, 1]
    assert _ask(house, cache) == [2, 1, 0]


def test_nothing_is_compiled_but_through_the_one_module() -> None:
    folders = [REPOSITORY / name for name in ("bench", "codecs", "metrics", "reports")]
    sources = {path: path.read_text() for folder in folders for path in folder.rglob("*.py")}
    direct = [path for path, text in sources.items() if "import njit" in text and "_jit import njit" not in text]
    assert not direct
