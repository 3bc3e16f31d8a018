"""Cache: the folder in which pccbench keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """The user's folder of caches: `XDG_CACHE_HOME`, else `~/.cache`; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


def pccbench_cache() -> Path:
    """Folder of what pccbench keeps; it need not exist."""
    return user_cache() / "pccbench"
