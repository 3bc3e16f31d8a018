"""`folder:PATH`: every readable cloud in a folder is a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...codecs.formats import READABLE
from .base import CloudFile, CloudRef, Dataset


@dataclass(frozen=True)
class Folder(Dataset):
    """The clouds in a folder and those below it."""

    root: Path = Path()

    def available(self) -> dict[str, CloudRef]:
        """Files that `read_cloud` knows by their extension, by stem; by path below the folder where stems repeat."""
        paths = sorted(p for p in self.root.rglob("*") if p.suffix.lower() in READABLE and p.is_file())
        stems = [path.stem for path in paths]
        found: dict[str, CloudRef] = {}
        for path in paths:
            unique = stems.count(path.stem) == 1
            name = path.stem if unique else path.relative_to(self.root).as_posix()
            found[name] = CloudFile(name, self.name, path)
        return found

    def missing_text(self, missing: Sequence[str]) -> str:
        """What was looked for."""
        what = "no such folder" if not self.root.is_dir() else f"no cloud in it (known are {' '.join(READABLE)})"
        return f"{self.root}: {what}"
