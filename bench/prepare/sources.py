"""Sources: surfaces to train on - the meshes of a folder, or procedural ones - with category, licence and hash."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from ...codecs.formats.files import read_mesh
from ...codecs.formats.mesh import Mesh
from ...codecs.formats.tree import file_sha256, walk_files
from ..errors import UsageError

MESH_SUFFIXES = (".off", ".obj", ".ply")
_OFF_COUNT = re.compile(rb"OFF\s*(?:#[^\n]*\n\s*)*(\d+)")
#: What the category of people is called, in parts.
_HUMAN_WORDS = ("human", "person", "people", "bodies", "figure")
_PLY_COUNT = re.compile(rb"element\s+vertex\s+(\d+)")
#: Data that codecs are measured on: nothing under such a name may become training data.
EVALUATION_NAMES = (
    "8ivfb", "8ivslf", "mvub", "owlii", "kitti", "semantickitti",
    "longdress", "loot", "redandblack", "soldier", "thaidancer", "basketball_player",
)  # fmt: skip


AnySurface = TypeVar("AnySurface", bound="Surface")


class Surface(Protocol):
    """Something to scan.

    Attributes:
        name: unique, `category/name`.
        category: people are known by it, see `is_human`.
        licence: terms of use, or "".
    """

    @property
    def name(self) -> str: ...  # noqa: D102  # above
    @property
    def category(self) -> str: ...  # noqa: D102
    @property
    def licence(self) -> str: ...  # noqa: D102

    def sha256(self) -> str:
        """Hash of what defines the surface."""

    def mesh(self) -> Mesh:
        """The surface."""


@dataclass(frozen=True)
class Drawn:
    """A procedural surface.

    Attributes:
        name: `figures/0007`.
        category: `figures` or `things`.
        seed: of the whole set.
    """

    name: str
    category: str
    seed: int
    licence: str = "procedural: no source data"

    #: Counts up when the same seed draws other surfaces.
    VERSION = 1

    def sha256(self) -> str:
        """Hash of version, seed and name."""
        return hashlib.sha256(f"procedural {self.VERSION} {self.seed} {self.name}".encode()).hexdigest()

    def mesh(self) -> Mesh:
        """Draw it."""
        from .procedural import figure, thing

        rng = np.random.default_rng([self.seed, zlib.crc32(self.name.encode()), self.VERSION])
        return figure(rng) if self.category == FIGURES else thing(rng)


FIGURES, THINGS = "figures", "things"


def drawn_surfaces(n: int, seed: int) -> list[Drawn]:
    """So many procedural surfaces, two thirds of them figures."""
    figures = (2 * n + 2) // 3
    return [Drawn(f"{FIGURES}/{number:04d}", FIGURES, seed) for number in range(figures)] + [
        Drawn(f"{THINGS}/{number:04d}", THINGS, seed) for number in range(n - figures)
    ]


@dataclass(frozen=True)
class MeshFile:
    """One mesh of a folder.

    Attributes:
        name: path below the folder, with forward slashes.
        category: first folder of the path, "" for a file at the top.
        path: where the file lies here.
        licence: as `INDEX.csv` beside the meshes says, or "" where it says nothing.
    """

    name: str
    category: str
    path: Path
    licence: str = ""

    def sha256(self) -> str:
        """Hash of the file."""
        return file_sha256(self.path)

    def mesh(self) -> Mesh:
        """Read it.

        Raises:
            CloudError: it is no sound mesh.
        """
        return read_mesh(self.path)

    def vertex_count(self) -> int:
        """Vertices as the file's header says, without reading the rest; -1 where it says nothing."""
        suffix = self.path.suffix.lower()
        with self.path.open("rb") as stream:
            if suffix == ".obj":
                return sum(line.startswith((b"v ", b"v\t")) for line in stream)
            head = stream.read(4096)
        pattern = _OFF_COUNT if suffix == ".off" else _PLY_COUNT
        found = pattern.search(head)
        return int(found.group(1)) if found else -1


def find_meshes(folder: Path) -> list[MeshFile]:
    """All OFF, OBJ and PLY meshes below a folder, sorted by name.

    An `INDEX.csv` in the folder, with columns `file` and `licence`, gives the licences.

    Raises:
        UsageError: no such folder, no mesh in it, or a mesh of a data set that codecs are evaluated on.
    """
    if not folder.is_dir():
        raise UsageError(f"expected a folder of meshes, there is no folder {folder}")
    licences = _licences(folder / "INDEX.csv")
    meshes = []
    for path in walk_files(folder, [f"*{suffix}" for suffix in MESH_SUFFIXES]):
        relative = path.relative_to(folder)
        name = relative.as_posix()
        category = relative.parts[0] if len(relative.parts) > 1 else ""
        meshes.append(MeshFile(name, category, path, licences.get(name, "")))
    if not meshes:
        raise UsageError(f"no mesh in {folder}: expected files that end in {', '.join(MESH_SUFFIXES)}")
    # The folder's own name and its parent's count too; those further up may say anything.
    place = "/".join(folder.resolve().parts[-2:])
    refuse_evaluation_data([f"{place}/{mesh.name}" for mesh in meshes])
    # A link may give such data another name.
    home = folder.resolve()
    targets = [target for mesh in meshes if not (target := mesh.path.resolve()).is_relative_to(home)]
    refuse_evaluation_data(["/".join(target.parts[-4:]) for target in targets])
    return meshes


def refuse_evaluation_data(names: Sequence[str]) -> None:
    """Raise UsageError when a name says that the file is of a data set that codecs are evaluated on."""
    for name in names:
        parts = name.lower().split("/")
        for known in EVALUATION_NAMES:
            if any(part == known or part.startswith((f"{known}_", f"{known}v", f"{known}.")) for part in parts):
                raise UsageError(f"{name}: looks like {known}, which is for evaluation only, never for training")


def _licences(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if rows and not {"file", "licence"} <= rows[0].keys():
        raise UsageError(f"{path}: expected the columns file and licence, got {', '.join(rows[0])}")
    return {row["file"]: row["licence"] for row in rows}


def select_largest(meshes: Sequence[MeshFile], n: int) -> list[MeshFile]:
    """The n meshes of each category with the most vertices, most first; equal ones in the order given."""
    chosen = []
    for category in sorted({mesh.category for mesh in meshes}):
        of_category = [mesh for mesh in meshes if mesh.category == category]
        sizes = {mesh.name: mesh.vertex_count() for mesh in of_category}
        chosen += sorted(of_category, key=lambda mesh: -sizes[mesh.name])[:n]
    return chosen


def split(surfaces: Sequence[AnySurface], patterns: Sequence[str]) -> tuple[list[AnySurface], list[AnySurface]]:
    """(training, held out): held out are those whose name matches one of the shell patterns.

    Raises:
        UsageError: a pattern matches nothing, or everything is held out.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(surface.name, pattern) for surface in surfaces):
            raise UsageError(f"no surface matches {pattern!r}, so that nothing would be held out by it")
    training: list[AnySurface] = []
    held: list[AnySurface] = []
    for surface in surfaces:
        out = any(fnmatch.fnmatchcase(surface.name, pattern) for pattern in patterns)
        (held if out else training).append(surface)
    if not training:
        raise UsageError(f"the patterns {', '.join(patterns)} hold out all {len(held)} surfaces")
    return training, held


def is_human(category: str) -> bool:
    """Whether a category holds people, by its name."""
    return any(word in category.lower() for word in _HUMAN_WORDS)
