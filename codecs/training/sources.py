"""Sources: the files that training blocks were made of, and that none of them is evaluated."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path

from ..errors import CloudError
from ..weights import file_sha256
from .config import ConfigError

MANIFEST = "manifest.json"
_logger = logging.getLogger(__name__)


def manifest_hashes(folder: Path) -> tuple[str, ...]:
    """Hashes of the source files of a folder's training blocks, as `bench prepare` wrote them; empty without.

    Raises:
        CloudError: the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return ()
    try:
        sources = json.loads(path.read_text(encoding="utf-8")).get("sources", [])
        found = {str(one["sha256"]) for one in sources if one.get("split", "train") == "train" and one.get("sha256")}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CloudError(
            f"{path}: expected the manifest of `bench prepare`: {' '.join(str(error).split())}"
        ) from None
    return tuple(sorted(found))


def expect_apart(key: str, folder: Path | None, hashes: Collection[str]) -> None:
    """No file that is evaluated may be trained on; a folder that is not there is said, and checks nothing.

    Args:
        key: of the configuration.
        folder: of the clouds that are evaluated, None for none.
        hashes: of the training files.

    Raises:
        ConfigError: a file is among the training files.
    """
    if folder is None:
        return
    known = set(hashes)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if not paths:
        _logger.warning("%s: %s: no file there; nothing is evaluated, nothing kept apart", key, folder)
    for path in paths:
        if file_sha256(path) in known:
            raise ConfigError(f"{key}: {path} is also a training file; it must not be trained on")
