"""`folder:PATH`: every readable cloud in a folder is a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...codecs.formats import READABLE, walk_files
from ...codecs.formats.tree import printable
from .base import CloudFile, CloudRef, Dataset


@dataclass(frozen=True)
class Folder(Dataset):
    """The clouds in a folder and those below it, through links.

    Attributes:
        columns: float32 values of a row of headerless `.bin` files; None for what their names and values say.
    """

    root: Path = Path()
    columns: int | None = None

    def available(self) -> dict[str, CloudRef]:
        """Files that `read_cloud` knows by their extension, by stem; by path below the folder where stems repeat."""
        if not self.root.is_dir():
            return {}
        paths = walk_files(self.root, [f"*{suffix}" for suffix in READABLE])
        below = [path.relative_to(self.root).as_posix() for path in paths]
        words = Counter([*below, *(path.stem for path in paths)])
        found: dict[str, CloudRef] = {}
        for path, place in zip(paths, below, strict=True):
            name = printable(path.stem if words[path.stem] == 1 else place)
            found[name] = CloudFile(
                name, self.name, path, columns=self.columns if path.suffix.lower() == ".bin" else None
            )
        return found

    def missing_text(self, missing: Sequence[str]) -> str:
        """What was looked for."""
        what = "no such folder" if not self.root.is_dir() else f"no cloud in it (known are {' '.join(READABLE)})"
        return f"{self.root}: {what}"
