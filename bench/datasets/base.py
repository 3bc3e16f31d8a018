"""Data sets as the harness sees them: clouds by name, found or missing, loaded and checked."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from ...codecs.cloud import PointCloud
from ...codecs.errors import CloudError
from ..errors import UsageError

#: Start of a layout's pattern for names in any folder below; `glob` would not follow links there.
_ANYWHERE = "**/"


class DatasetMissingError(UsageError):
    """A data set is not there: where it was looked for, where it is published, its terms and layout."""


def without_repeats(cloud: PointCloud) -> PointCloud:
    """The cloud as it is coded and measured: the one policy on repeated points, of every data set and command.

    On a voxel grid a repeated point says nothing new; it is merged, as MPEG's tools do, and counted in
    `repeats_dropped`.  Points of real coordinates stay as they are: a laser's two returns from one place are two.
    Rates are bits a point of what this returns.
    """
    return cloud.merged() if cloud.is_voxelised else cloud


class CloudRef(ABC):
    """A cloud that can be loaded, here or in another process.

    Attributes:
        name: of the cloud within its data set.
        dataset: name of the data set.
    """

    name: str
    dataset: str

    @property
    @abstractmethod
    def source_sha256(self) -> str:
        """Hash of the file, or of the recipe, that the cloud comes from."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the loaded cloud, plain values, for the keys of jobs."""

    @abstractmethod
    def load(self) -> PointCloud:
        """The cloud, after the data set's duplicate policy.

        Raises:
            CloudError: the file is unreadable, empty, or not the published one.
        """


@dataclass(frozen=True)
class CloudFile(CloudRef):
    """A cloud in a file.

    Attributes:
        path: the file.
        bit_depth: that the data set declares; None for what the file says.
        peak: of the PSNR, where the data set declares one.
        points: published number of points, where known.
        columns: float32 values of a row of a headerless `.bin`; None for what its name and values say.
    """

    name: str
    dataset: str
    path: Path
    bit_depth: int | None = None
    peak: float | None = None
    points: int | None = None
    columns: int | None = None

    @cached_property
    def source_sha256(self) -> str:
        """Hash of the file."""
        from ...codecs.formats import file_sha256

        return file_sha256(self.path)

    def fingerprint(self) -> dict[str, Any]:
        """Hash of the file and the loading rules."""
        rules = {"bit_depth": self.bit_depth, "peak": self.peak, "columns": self.columns}
        return {"source_sha256": self.source_sha256, **rules}

    def load(self) -> PointCloud:
        """The cloud, checked against its published number of points."""
        cloud = self._read()
        if not len(cloud):
            raise CloudError(f"{self.path}: an empty cloud")
        if self.points is not None and len(cloud) != self.points:
            raise CloudError(f"{self.path}: {len(cloud):,} points, the published frame has {self.points:,}")
        return without_repeats(cloud)

    def _read(self) -> PointCloud:
        from ...codecs.formats import read_cloud

        depth = "auto" if self.bit_depth is None else self.bit_depth
        return read_cloud(self.path, bit_depth=depth, declared_peak=self.peak, columns=self.columns)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Selection:
    """Clouds that were asked for.

    Attributes:
        found: those that are there.
        missing: names of those that are not.
        unmatched: patterns that choose nothing, each with the names that are near.
    """

    found: list[CloudRef]
    missing: list[str] = field(default_factory=list)
    unmatched: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset(ABC):
    """A data set by name.

    Attributes:
        name: what `--dataset` takes.
        title: full name with citation.
        published: where it is to be had.
        terms: its licence in a few words.
        layout: path of a cloud below the data root, with what varies in capitals.
    """

    name: str
    title: str
    published: str = ""
    terms: str = ""
    layout: str = ""

    @abstractmethod
    def available(self) -> dict[str, CloudRef]:
        """All clouds that are there, by name."""

    @property
    def default(self) -> Sequence[str]:
        """Names of the clouds of a plain run, whether they are there or not; empty for all that are there."""
        return ()

    def aliases(self, name: str) -> tuple[str, ...]:
        """Further words that choose a cloud (its sequence)."""
        return ()

    def select(self, patterns: Sequence[str] | None, *, must_match: bool = True) -> Selection:
        """The clouds that patterns choose, or the default ones.

        A pattern that is the name of a cloud means that cloud, whatever else it may mean (`scan[1]`, `*`).

        Args:
            patterns: names, sequences, or shell patterns of either; None for the default.
            must_match: whether a pattern that chooses nothing is an error; else it stands in `unmatched`.

        Raises:
            UsageError: a pattern that chooses nothing, with near matches.
            DatasetMissingError: none of the clouds is there.
        """
        here = self.available()
        unmatched: dict[str, list[str]] = {}
        if patterns is None:
            wanted = list(self.default) or sorted(here)
        else:
            chosen = {pattern: self._matching(pattern, here) for pattern in patterns}
            wanted = list(dict.fromkeys(name for names in chosen.values() for name in names))
            unmatched = {pattern: self._near(pattern, here) for pattern, names in chosen.items() if not names}
        if unmatched and must_match:
            pattern, near = next(iter(unmatched.items()))
            if not here:
                raise DatasetMissingError(self.missing_text([pattern]))
            shown = ", ".join(name.replace(",", r"\,") for name in near)  # as the command line takes it
            raise UsageError(f"{self.name} has no cloud {pattern!r}; did you mean {shown}?")
        missing = [name for name in wanted if name not in here]
        found = [here[name] for name in wanted if name in here]
        if not found and not unmatched:
            raise DatasetMissingError(self.missing_text(missing))
        return Selection(found, missing, unmatched)

    def _matching(self, pattern: str, here: Mapping[str, CloudRef]) -> list[str]:
        names = list(dict.fromkeys([*self.default, *sorted(here)]))
        if pattern in names:
            return [pattern]
        words = {name: (name, *self.aliases(name)) for name in names}
        chosen = [name for name in names if pattern in words[name]]
        preferred = [name for name in chosen if name in self.default]
        # A sequence has hundreds of frames: its name alone means the customary one, a pattern all that match.
        return preferred or chosen or [n for n in names if any(fnmatchcase(word, pattern) for word in words[n])]

    def _near(self, pattern: str, here: Mapping[str, CloudRef]) -> list[str]:
        names = list(dict.fromkeys([*self.default, *sorted(here)]))
        words = sorted({word for name in names for word in (name, *self.aliases(name))} - {pattern})
        return get_close_matches(pattern, words, n=3, cutoff=0.4) or words[:5]

    def missing_text(self, missing: Sequence[str]) -> str:
        """One message: what is missing, where it was looked for and how to get it."""
        return f"data set {self.name}: nothing there" + (f" ({', '.join(missing)})" if missing else "")


@dataclass(frozen=True)
class PublishedSet(Dataset):
    """A published data set: files below a root, in the layout of their publisher.

    Attributes:
        root: folder of the data sets, or of this one; None where the user named none.
        folder: name of the set's own folder.
        pattern: of the files below that folder.
        frames: default clouds with their published number of points (None where unknown).
        prototype: how a file is loaded: bit depth, peak, columns.
        naming: "stem" for the file's, or which parts of its path make the name of a cloud.
        depth_in_sequence: the number at the end of a sequence's name is its bit depth.
        one_of_each: a plain run takes the first cloud of each sequence, where `frames` names none.
    """

    root: Path | None = None
    folder: str = ""
    pattern: str = ""
    frames: dict[str, int | None] = field(default_factory=dict)
    prototype: CloudFile = field(default_factory=lambda: CloudFile("", "", Path()))
    naming: str = "stem"
    depth_in_sequence: bool = False
    one_of_each: bool = False

    @property
    def default(self) -> Sequence[str]:
        """The customary frames, or the first of each sequence."""
        if self.frames or not self.one_of_each:
            return tuple(self.frames)
        first: dict[str, str] = {}
        for name in self.available():
            first.setdefault(self._sequence(name), name)
        return tuple(first.values())

    def _base(self) -> Path | None:
        """The set's own folder: below the root, or the root itself."""
        if self.root is None:
            return None
        below = self.root / self.folder
        return below if below.is_dir() else self.root

    def available(self) -> dict[str, CloudRef]:
        """The files of the layout."""
        base = self._base()
        if base is None or not base.is_dir():
            return {}
        found: dict[str, CloudRef] = {}
        for path in self._files(base):
            name = self._name(path.relative_to(base))
            cloud = replace(self.prototype, name=name, dataset=self.name, path=path, points=self.frames.get(name))
            depth = re.search(r"[0-9]+$", self._sequence(name)) if self.depth_in_sequence else None
            found[name] = replace(cloud, bit_depth=int(depth[0])) if depth else cloud
        return found

    def _files(self, base: Path) -> list[Path]:
        """The files of the layout, through links."""
        from ...codecs.formats.tree import is_file, walk_files

        if self.pattern.startswith(_ANYWHERE):
            return walk_files(base, [self.pattern.removeprefix(_ANYWHERE)])
        return sorted(path for path in base.glob(self.pattern) if is_file(path))

    def _name(self, below: Path) -> str:
        """Name of the cloud in a file: its stem, or the parts of its path that tell it from others."""
        if self.naming == "stem":
            return below.stem
        parts = below.with_suffix("").parts
        return "_".join(parts[int(i)] for i in self.naming.split(","))

    def aliases(self, name: str) -> tuple[str, ...]:
        """The sequence, and what stands before its first underscore."""
        return tuple(dict.fromkeys((self._sequence(name), name.split("_", maxsplit=1)[0])))

    @staticmethod
    def _sequence(name: str) -> str:
        """What stands before `_vox`, else before the last underscore (ModelNet has `night_stand_0001`)."""
        return name.split("_vox", maxsplit=1)[0] if "_vox" in name else name.rsplit("_", maxsplit=1)[0]

    def missing_text(self, missing: Sequence[str]) -> str:
        """What is missing, where it was looked for, where it is published, its terms and layout."""
        looked = "no data root is set (--data-root, PCCBENCH_DATA or the configuration file)"
        if self.root is not None:
            looked = f"looked in {self.root}"
        names = f" ({', '.join(missing)})" if missing else ""
        return (
            f"data set {self.name} is not there{names}: {looked}; published at {self.published}; "
            f"licence: {self.terms}; expected layout: DATA_ROOT/{self.layout}"
        )
