"""Sources: the meshes of a folder, with category, licence and hash."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...codecs.errors import CloudError
from ...codecs.formats.files import read_mesh
from ..errors import UsageError

MESH_SUFFIXES = (".off", ".obj", ".ply")
#: Data that codecs are measured on: nothing under such a name may become training data.
EVALUATION_NAMES = (
    "8ivfb", "8ivslf", "mvub", "owlii", "semantickitti", "kitti",
    "longdress", "loot", "redandblack", "soldier", "thaidancer", "boxer",
    "basketball_player", "dancer", "exercise", "model_vox",
    "andrew", "david", "phil", "ricardo", "sarah",
)  # fmt: skip


@dataclass(frozen=True)
class MeshFile:
    """One mesh.

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
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


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
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in MESH_SUFFIXES or not path.is_file():
            continue
        relative = path.relative_to(folder)
        name = relative.as_posix()
        category = relative.parts[0] if len(relative.parts) > 1 else ""
        meshes.append(MeshFile(name, category, path, licences.get(name, "")))
    if not meshes:
        raise UsageError(f"no mesh in {folder}: expected files that end in {', '.join(MESH_SUFFIXES)}")
    refuse_evaluation_data([folder.resolve().as_posix() + "/" + mesh.name for mesh in meshes])
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
    """The n meshes of each category with the most vertices, most first; equal ones in the order given.

    A mesh that cannot be read counts as the smallest.
    """
    sizes = {}
    for mesh in meshes:
        try:
            sizes[mesh.name] = len(read_mesh(mesh.path).vertices)
        except CloudError:
            sizes[mesh.name] = -1
    chosen = []
    for category in sorted({mesh.category for mesh in meshes}):
        of_category = [mesh for mesh in meshes if mesh.category == category]
        chosen += sorted(of_category, key=lambda mesh: -sizes[mesh.name])[:n]
    return chosen


def split(meshes: Sequence[MeshFile], patterns: Sequence[str]) -> tuple[list[MeshFile], list[MeshFile]]:
    """(training, held out): held out are those whose name matches one of the shell patterns.

    Raises:
        UsageError: a pattern matches nothing, or everything is held out.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(mesh.name, pattern) for mesh in meshes):
            raise UsageError(f"no mesh matches {pattern!r}, so that nothing would be held out by it")
    held = [mesh for mesh in meshes if any(fnmatch.fnmatchcase(mesh.name, pattern) for pattern in patterns)]
    names = {mesh.name for mesh in held}
    training = [mesh for mesh in meshes if mesh.name not in names]
    if not training:
        raise UsageError(f"the patterns {', '.join(patterns)} hold out all {len(held)} meshes")
    return training, held
