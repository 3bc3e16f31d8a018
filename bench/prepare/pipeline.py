"""Pipeline: meshes to clouds to blocks to a folder that training reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..._version import __version__
from ...codecs.blocks import Blocks, cut
from ...codecs.errors import CloudError
from ...codecs.formats.files import read_mesh
from ..errors import UsageError
from .scan import Scan, Voxels, random_scan, voxelised
from .sources import MeshFile, find_meshes, select_largest, split

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
_SHARD_BLOCKS = 2048
#: Extent of the longest axis, voxels: people fill a 10-bit grid, things are smaller parts of a scene.
HUMAN_EXTENT, OBJECT_EXTENT = (300.0, 1023.0), (250.0, 800.0)
_HUMAN_WORDS = ("human", "person", "people", "body", "figure")


@dataclass(frozen=True)
class Recipe:
    """What to make.

    Attributes:
        largest: keep so many meshes of each category, those with the most vertices; None for all.
        vg_size: voxels along the longest axis; None for extents that vary as in scans.
        level: octree level at which clouds are cut: blocks have `vg_size / 2**level` voxels a side.
        block_size: voxels a side when `vg_size` is None.
        blocks: blocks to keep, those with the most points; None for all.
        per_category: `blocks` counts for each category, not overall.
        min_points: blocks with fewer points are left out.
        per_cloud: keep so many blocks of each cloud, drawn at random; None for all.
        clouds_per_mesh: scans of each mesh.
        human_clouds_per_mesh: the same for meshes of people (by the name of their category), None for the same.
        samples: samples of each mesh with `vg_size`.
        hold_out: shell patterns of mesh names that are kept apart for validation.
        hold_out_blocks: blocks of the held-out meshes to keep, drawn at random.
        seed: of all random choices.
    """

    largest: int | None = None
    vg_size: int | None = None
    level: int = 3
    block_size: int = 64
    blocks: int | None = None
    per_category: bool = False
    min_points: int = 500
    per_cloud: int | None = None
    clouds_per_mesh: int = 1
    human_clouds_per_mesh: int | None = None
    samples: int = 500_000
    hold_out: tuple[str, ...] = ()
    hold_out_blocks: int = 100
    seed: int = 1

    def __post_init__(self) -> None:
        if self.vg_size is not None:
            if not 8 <= self.vg_size <= 2048:
                raise UsageError(f"--vg-size must be 8 to 2048, got {self.vg_size}")
            if not 0 <= self.level <= 8 or self.vg_size % (1 << self.level):
                raise UsageError(f"--level {self.level} does not divide a grid of {self.vg_size} into whole blocks")
        if not 1 <= self.size <= 256:
            raise UsageError(f"blocks of {self.size} voxels a side, expected 1 to 256: choose another --level")

    @property
    def size(self) -> int:
        """Voxels a side of a block."""
        return self.block_size if self.vg_size is None else self.vg_size >> self.level

    def clouds_of(self, category: str) -> int:
        """Scans of each mesh of a category."""
        if self.human_clouds_per_mesh is not None and is_human(category):
            return self.human_clouds_per_mesh
        return self.clouds_per_mesh


@dataclass(frozen=True)
class Made:
    """What came of one mesh: its blocks, or why there are none."""

    mesh: MeshFile
    sha256: str
    clouds: int
    points: int
    blocks: Blocks | None
    skipped: str = ""


@dataclass
class Prepared:
    """The folder that was written."""

    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def blocks(self) -> int:
        """Training blocks."""
        return int(self.manifest["splits"]["train"]["blocks"])


def is_human(category: str) -> bool:
    """Whether a category holds people, by its name."""
    return any(word in category.lower() for word in _HUMAN_WORDS)


def mesh_seed(name: str, variant: int, seed: int) -> np.random.Generator:
    """Random numbers of one scan: they depend on nothing but these three."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), variant])


def mesh_to_cloud(mesh: MeshFile, recipe: Recipe, variant: int = 0) -> Voxels:
    """One voxelised cloud of a mesh, (n, 3) int32.

    Raises:
        CloudError: the mesh cannot be read or has no surface.
    """
    rng = mesh_seed(mesh.name, variant, recipe.seed)
    surface = read_mesh(mesh.path)
    if recipe.vg_size is None:
        extent = HUMAN_EXTENT if is_human(mesh.category) else OBJECT_EXTENT
        return voxelised(surface, random_scan(rng, extent), rng)
    return voxelised(surface, Scan(float(recipe.vg_size), samples=recipe.samples), rng)


def octree_blocks(cloud: Voxels, recipe: Recipe, rng: np.random.Generator, source: int = 0) -> Blocks:
    """The blocks of a cloud with enough points; at most `per_cloud` of them, drawn at random."""
    blocks = cut(cloud, recipe.size, source=source)
    kept = np.flatnonzero(blocks.counts >= recipe.min_points)
    if recipe.per_cloud is not None and len(kept) > recipe.per_cloud:
        kept = np.sort(rng.choice(kept, recipe.per_cloud, replace=False))
    return blocks.take(kept)


def largest_blocks(blocks: Blocks, categories: Sequence[str], n: int, per_category: bool) -> Blocks:
    """The n blocks with the most points, overall or of each category.

    Args:
        blocks: all blocks.
        categories: category of each block.
        n: how many.
        per_category: n of each category.
    """
    if not per_category:
        return blocks.largest(n)
    labels = np.array(categories)
    parts = [blocks.take(np.flatnonzero(labels == label)).largest(n) for label in sorted(set(categories))]
    return Blocks.join(parts) if parts else blocks


def make(mesh: MeshFile, number: int, recipe: Recipe) -> Made:
    """All blocks of one mesh; a damaged mesh is skipped with the reason.

    Args:
        mesh: the mesh.
        number: its number in the manifest, kept with each block.
        recipe: what to make.
    """
    parts, points = [], 0
    variants = recipe.clouds_of(mesh.category)
    digest = ""
    try:
        digest = mesh.sha256()
        for variant in range(variants):
            cloud = mesh_to_cloud(mesh, recipe, variant)
            points += len(cloud)
            rng = mesh_seed(mesh.name, 1_000_000 + variant, recipe.seed)
            parts.append(octree_blocks(cloud, recipe, rng, number))
    except CloudError as error:
        return Made(mesh, digest, 0, 0, None, str(error))
    return Made(mesh, digest, variants, points, Blocks.join(parts))


Progress = Callable[[Made], None]


def prepare(
    source: Path, out: Path, recipe: Recipe, *, jobs: int = 1, command: str = "", progress: Progress | None = None
) -> Prepared:
    """Make the training blocks of a folder of meshes.

    Args:
        source: folder of meshes, one folder a category.
        out: folder to write: shards `train-000.npz`, `held-out-000.npz` and `manifest.json`.
        recipe: what to make.
        jobs: processes.
        command: how this was asked for, for the manifest.
        progress: called after each mesh.

    Raises:
        UsageError: no meshes, nothing left to train on, or `out` holds something else.
    """
    _refuse_other_content(out)
    meshes = find_meshes(source)
    training, held = split(meshes, recipe.hold_out)
    if recipe.largest is not None:
        training = select_largest(training, recipe.largest)
    numbered = list(enumerate([*training, *held]))
    made: list[Made] = []
    for one in _run(numbered, recipe, jobs):
        made.append(one)
        if progress:
            progress(one)
    n = len(training)
    blocks = _training_blocks(made[:n], recipe)
    if not len(blocks):
        raise UsageError(f"no block of {source} has {recipe.min_points} points, nothing to train on")
    rng = np.random.default_rng(recipe.seed)
    blocks = blocks.take(rng.permutation(len(blocks)))  # so that a reader of one shard sees all categories
    kept_out = [one.blocks for one in made[n:] if one.blocks is not None and len(one.blocks)]
    held_blocks = None
    if kept_out:
        joined = Blocks.join(kept_out)
        chosen = rng.permutation(len(joined))[: recipe.hold_out_blocks]
        held_blocks = joined.take(np.sort(chosen))
    return _write(out, recipe, command, made, n, blocks, held_blocks)


def _training_blocks(made: Sequence[Made], recipe: Recipe) -> Blocks:
    parts = [(one.mesh.category, one.blocks) for one in made if one.blocks is not None and len(one.blocks)]
    if not parts:
        empty = np.zeros((0, 3))
        return Blocks(recipe.size, empty.astype(np.uint8), np.zeros(1, np.int64), empty.astype(np.int32),
                      np.zeros(0, np.int32))  # fmt: skip
    blocks = Blocks.join([part for _, part in parts])
    if recipe.blocks is None:
        return blocks
    categories = [category for category, part in parts for _ in range(len(part))]
    return largest_blocks(blocks, categories, recipe.blocks, recipe.per_category)


def _run(numbered: Sequence[tuple[int, MeshFile]], recipe: Recipe, jobs: int) -> Iterable[Made]:
    if jobs == 1:
        return (make(mesh, number, recipe) for number, mesh in numbered)
    from joblib import Parallel, delayed

    results: Iterable[Made] = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(make)(mesh, number, recipe) for number, mesh in numbered
    )
    return results


def _refuse_other_content(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UsageError(f"{out} is not empty and holds no {MANIFEST}: choose another folder")


def _write(
    out: Path, recipe: Recipe, command: str, made: Sequence[Made], n_training: int, train: Blocks, held: Blocks | None
) -> Prepared:
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("train-*.npz"), *out.glob("held-out-*.npz")]:
        old.unlink()
    splits = {"train": _shards(out, "train", train)}
    if held is not None:
        splits["held-out"] = _shards(out, "held-out", held)
    counts = np.bincount(train.sources, minlength=len(made))
    if held is not None:
        counts = counts + np.bincount(held.sources, minlength=len(made))
    sources = [
        {
            "file": one.mesh.name,
            "category": one.mesh.category,
            "sha256": one.sha256,
            "licence": one.mesh.licence,
            "split": "train" if number < n_training else "held-out",
            "clouds": one.clouds,
            "points": one.points,
            "blocks": int(counts[number]),
            **({"skipped": one.skipped} if one.skipped else {}),
        }
        for number, one in enumerate(made)
    ]
    categories = sorted({one.mesh.category for one in made[:n_training]})
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "pccbench": __version__,
        "command": command,
        "recipe": dataclasses.asdict(recipe),
        "block_size": recipe.size,
        "splits": splits,
        "categories": {
            label: int(sum(counts[i] for i, one in enumerate(made[:n_training]) if one.mesh.category == label))
            for label in categories
        },
        "licences": sorted({one.mesh.licence for one in made if one.mesh.licence}),
        "sources": sources,
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return Prepared(out, manifest)


def _shards(out: Path, name: str, blocks: Blocks) -> dict[str, Any]:
    shards = []
    for number, start in enumerate(range(0, len(blocks), _SHARD_BLOCKS)):
        part = blocks.take(np.arange(start, min(start + _SHARD_BLOCKS, len(blocks))))
        data = part.to_bytes()
        path = out / f"{name}-{number:03d}.npz"
        path.write_bytes(data)
        shards.append(
            {
                "file": path.name,
                "sha256": hashlib.sha256(data).hexdigest(),
                "blocks": len(part),
                "points": len(part.points),
            }
        )
    counts = blocks.counts
    return {
        "blocks": len(blocks),
        "points": len(blocks.points),
        "points_per_block": [int(v) for v in np.percentile(counts, [0, 25, 50, 75, 100])],
        "shards": shards,
    }
