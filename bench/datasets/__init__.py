"""Data sets by name."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ..errors import UsageError
from .base import CloudFile, CloudRef, Dataset, DatasetMissingError, PublishedSet, Selection, without_repeats
from .folder import Folder
from .published import published_sets
from .root import data_root
from .synthetic import SyntheticSet

__all__ = [
    "CloudFile",
    "CloudRef",
    "Dataset",
    "DatasetMissingError",
    "PublishedSet",
    "Selection",
    "data_root",
    "list_datasets",
    "needs_root",
    "open_dataset",
    "without_repeats",
]

FOLDER_PREFIX = "folder:"


def open_dataset(name: str, root: Path | None = None, columns: int | None = None) -> Dataset:
    """A data set by name.

    Args:
        name: `8ivfb`, `synthetic`, ..., or `folder:PATH`.
        root: folder of the data sets; None for PCCBENCH_DATA or the configuration file.
        columns: float32 values of a row of headerless `.bin` files in `folder:PATH`; None for what these say.

    Raises:
        UsageError: an unknown name, with near matches, or a root that does not exist.
    """
    if name.startswith(FOLDER_PREFIX):
        path = Path(name.removeprefix(FOLDER_PREFIX)).expanduser()
        return Folder(name, f"clouds in {path}", root=path, columns=columns)
    if name == SyntheticSet.key:  # needs no root, and works where that is set wrong
        return SyntheticSet()
    known = {dataset.name: dataset for dataset in published_sets(None)}
    if name not in known:
        names = [SyntheticSet.key, *known, f"{FOLDER_PREFIX}PATH"]
        near = get_close_matches(name, names, n=3, cutoff=0.5) or names
        raise UsageError(f"unknown data set {name!r}; did you mean {', '.join(near)}?")
    return next(dataset for dataset in published_sets(data_root(root)) if dataset.name == name)


def needs_root(name: str) -> bool:
    """Whether a data set lies below the root of the data sets: a folder has its own place, `synthetic` none."""
    return not name.startswith(FOLDER_PREFIX) and name != SyntheticSet.key


def list_datasets(root: Path | None = None) -> list[tuple[str, str, str]]:
    """Name, whether it is there, and a line on each data set.

    Raises:
        UsageError: the root does not exist.
    """
    rows = [(SyntheticSet.key, "yes", SyntheticSet().title)]
    for dataset in published_sets(data_root(root)):
        count = len(dataset.available())
        text = f"{dataset.title}; {dataset.published}; {dataset.terms}"
        rows.append((dataset.name, "yes" if count else "no", f"{count} clouds; {text}" if count else text))
    rows.append((f"{FOLDER_PREFIX}PATH", "yes", "every readable cloud in a folder"))
    return rows
