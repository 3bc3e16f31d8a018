"""Where the data sets lie: an option, the environment, or the configuration file."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from ..errors import UsageError

ENVIRONMENT = "PCCBENCH_DATA"
_KEYS = {"data_root"}


def config_path() -> Path:
    """The user's configuration file, whether it exists or not."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "pccbench" / "config.yaml"


def data_root(given: Path | None = None) -> Path | None:
    """The folder of the data sets: as given, else PCCBENCH_DATA, else `data_root` of the configuration file.

    Raises:
        UsageError: the folder does not exist, or the configuration file is wrong.
    """
    sources = (
        ("--data-root", given),
        (ENVIRONMENT, os.environ.get(ENVIRONMENT) or None),
        (str(config_path()), _configured()),
    )
    for source, value in sources:
        if value is not None:
            root = Path(value).expanduser()
            if not root.is_dir():
                raise UsageError(f"{source}: no folder {root}")
            return root
    return None


def _configured() -> str | None:
    path = config_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict) or set(settings) - _KEYS:
        raise UsageError(f"{path}: expected only the key data_root")
    value = settings.get("data_root")
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{path}: data_root must be a path, got {value!r}")
    return value
