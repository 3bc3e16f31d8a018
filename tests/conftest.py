"""Fixtures that all tests share."""

import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden figures and data beside the checkout; not on a user's machine."""
    folder = Path(os.environ.get("PCCBENCH_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} (golden figures and data sets) is not here")
    return folder


def _tool(name: str, variable: str) -> Path:
    found = os.environ.get(variable) or shutil.which(name)
    if not found or not Path(found).is_file():
        pytest.skip(f"{name} is neither on PATH nor named by {variable}")
    return Path(found)


@pytest.fixture(scope="session")
def tmc3() -> Path:
    """MPEG's G-PCC test model."""
    return _tool("tmc3", "PCCBENCH_TMC3")


@pytest.fixture(scope="session")
def pc_error() -> Path:
    """MPEG's metric tool."""
    return _tool("pc_error", "PCCBENCH_PC_ERROR")
