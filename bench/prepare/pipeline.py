"""Pipeline: surfaces to clouds to blocks to a folder that training reads.

Steps: the meshes with the most vertices of each category; each sampled, scaled and voxelised; the clouds cut into the
cubes of an octree level; the cubes with the most points.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..._version import __version__
from ...codecs.blocks import Blocks, cut
from ...codecs.errors import CloudError
from ..errors import UsageError
from .scan import Scan, Voxels, random_scan, random_waves, voxelised
from .sources import Surface, drawn_surfaces, find_meshes, is_human, select_largest, split

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
_SHARD_BLOCKS = 2048
#: Numbers of random streams beside those of the scans 0, 1, ...
_CHOICE_VARIANT, _WHOLE_VARIANT = 1_000_000, 2_000_000
#: Extent of the longest axis, voxels: people fill a 10-bit grid, things are smaller parts of a scene.
HUMAN_EXTENT, OBJECT_EXTENT = (300.0, 1023.0), (250.0, 800.0)


@dataclass(frozen=True)
class Recipe:
    """What to make.

    Attributes:
        surfaces: procedural surfaces to draw where no folder of meshes is given.
        largest: keep so many meshes of each category, those with the most vertices; None for all.
        vg_size: voxels along the longest axis; None for extents that vary as in scans.
        level: octree level at which clouds are cut: blocks have `vg_size / 2**level` voxels a side.
        block_size: voxels a side when `vg_size` is None.
        longest_axis: shortest and longest extent of clouds when `vg_size` is None, voxels; None for 300 to 1023 for
            people and 250 to 800 for things.
        blocks: blocks to keep, those with the most points; None for all.
        per_category: `blocks` counts for each category, not overall.
        min_points: blocks with fewer points are left out.
        per_cloud: keep so many blocks of each cloud, drawn at random; None for all.
        clouds_per_mesh: scans of each mesh.
        human_clouds_per_mesh: the same for meshes of people (by the name of their category), None for the same.
        samples: samples of each mesh with `vg_size`.
        hold_out: shell patterns of mesh names that are kept apart for validation.
        hold_out_blocks: blocks of the held-out meshes to keep, drawn at random.
        hold_out_clouds: held-out surfaces, in their order, that are also written as whole clouds.
        seed: of all random choices.
    """

    surfaces: int = 200
    largest: int | None = None
    vg_size: int | None = None
    level: int = 3
    block_size: int = 64
    longest_axis: tuple[float, float] | None = None
    blocks: int | None = None
    per_category: bool = False
    min_points: int = 500
    per_cloud: int | None = None
    clouds_per_mesh: int = 1
    human_clouds_per_mesh: int | None = None
    samples: int = 500_000
    hold_out: tuple[str, ...] = ()
    hold_out_blocks: int = 100
    hold_out_clouds: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.vg_size is not None:
            if not 8 <= self.vg_size <= 2048:
                raise UsageError(f"--vg-size must be 8 to 2048, got {self.vg_size}")
            if not 0 <= self.level <= 8 or self.vg_size % (1 << self.level):
                raise UsageError(f"--level {self.level} does not divide a grid of {self.vg_size} into whole blocks")
        if self.longest_axis is not None and not 8 <= self.longest_axis[0] <= self.longest_axis[1] <= 2048:
            low, high = self.longest_axis
            raise UsageError(f"--longest-axis must be 8 to 2048, the shortest first, got {low:g} {high:g}")
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
    """What came of one surface: its blocks, or why there are none."""

    surface: Surface
    sha256: str
    clouds: int
    points: int
    blocks: Blocks | None
    skipped: str = ""

    def held_out(self, recipe: Recipe) -> bool:
        """Whether the surface is kept from training."""
        return any(fnmatch.fnmatchcase(self.surface.name, pattern) for pattern in recipe.hold_out)


@dataclass
class Prepared:
    """The folder that was written."""

    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def blocks(self) -> int:
        """Training blocks."""
        return int(self.manifest["splits"]["train"]["blocks"])


def random_of(name: str, variant: int, seed: int) -> np.random.Generator:
    """Random numbers of one scan: they depend on nothing but these three."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), variant])


def cloud_of(surface: Surface, recipe: Recipe, variant: int = 0) -> Voxels:
    """One voxelised cloud of a surface, (n, 3) int32.

    Raises:
        CloudError: the mesh cannot be read or has no surface.
    """
    rng = random_of(surface.name, variant, recipe.seed)
    if recipe.vg_size is not None:
        return voxelised(surface.mesh(), Scan(float(recipe.vg_size), samples=recipe.samples), rng)
    extent = recipe.longest_axis or (HUMAN_EXTENT if is_human(surface.category) else OBJECT_EXTENT)
    return voxelised(surface.mesh(), random_scan(rng, extent), rng)


def whole_cloud(surface: Surface, seed: int, bit_depth: int = 10) -> Voxels:
    """A whole cloud as a test set would hold it, to follow training by: upright, filling its grid, lightly folded.

    Args:
        surface: one that is held out.
        seed: of turn, folds and noise.
        bit_depth: of its grid.

    Returns:
        (n, 3) int32 in [0, 2**bit_depth).

    Raises:
        CloudError: the mesh cannot be read or has no surface.
    """
    rng = random_of(surface.name, _WHOLE_VARIANT, seed)
    side = float(1 << bit_depth)
    turn = float(rng.uniform(0.0, 2.0 * np.pi))
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    # A longest axis of 88 % leaves room for the turn of flat things, and for folds.
    scan = Scan(
        longest_axis=0.88 * side,
        samples_per_area=float(rng.uniform(4.0, 6.0)),
        rotation=((cosine, 0.0, sine), (0.0, 1.0, 0.0), (-sine, 0.0, cosine)),
        waves=random_waves(rng, 4),
        noise=float(rng.choice([0.0, 0.1])),
    )
    cloud = voxelised(surface.mesh(), scan, rng)
    cloud -= cloud.min(axis=0)
    return cloud[(cloud < side).all(axis=1)]


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


def make(surface: Surface, number: int, recipe: Recipe) -> Made:
    """All blocks of one surface; a damaged mesh is skipped with the reason.

    Args:
        surface: the surface.
        number: its number in the manifest, kept with each block.
        recipe: what to make.
    """
    parts, points = [], 0
    variants = recipe.clouds_of(surface.category)
    digest = surface.sha256()
    try:
        for variant in range(variants):
            cloud = cloud_of(surface, recipe, variant)
            points += len(cloud)
            rng = random_of(surface.name, _CHOICE_VARIANT + variant, recipe.seed)
            parts.append(octree_blocks(cloud, recipe, rng, number))
    except CloudError as error:
        return Made(surface, digest, 0, 0, None, str(error))
    return Made(surface, digest, variants, points, Blocks.join(parts))


Progress = Callable[[Made], None]


def prepare(
    source: Path | None,
    out: Path,
    recipe: Recipe,
    *,
    jobs: int = 1,
    command: str = "",
    progress: Progress | None = None,
) -> Prepared:
    """Make the training blocks of a folder of meshes, or of procedural surfaces.

    Args:
        source: folder of meshes, one folder a category; None for procedural surfaces.
        out: folder to write: shards `train-000.npz`, `held-out-000.npz` and `manifest.json`, and `clouds`.
        recipe: what to make.
        jobs: processes.
        command: how this was asked for, for the manifest.
        progress: called after each surface.

    Raises:
        UsageError: no meshes, nothing left to train on, or `out` holds something else.
    """
    _refuse_other_content(out)
    training, held = chosen_surfaces(source, recipe)
    numbered = list(enumerate([*training, *held]))
    made: list[Made] = []
    for one in _run(numbered, recipe, jobs):
        made.append(one)
        if progress:
            progress(one)
    n = len(training)
    blocks = _training_blocks(made[:n], recipe)
    if not len(blocks):
        reasons = sorted({one.skipped for one in made[:n] if one.skipped})
        because = f" ({reasons[0]})" if reasons else ""
        raise UsageError(f"no block has {recipe.min_points} points, nothing to train on{because}")
    rng = np.random.default_rng(recipe.seed)
    blocks = blocks.take(rng.permutation(len(blocks)))  # so that a reader of one shard sees all categories
    splits = {"train": blocks}
    kept_out = [one.blocks for one in made[n:] if one.blocks is not None and len(one.blocks)]
    if kept_out:
        joined = Blocks.join(kept_out)
        splits["held-out"] = joined.take(np.sort(rng.permutation(len(joined))[: recipe.hold_out_blocks]))
    whole = {
        surface.name: whole_cloud(surface, recipe.seed)
        for surface, one in zip(held[: recipe.hold_out_clouds], made[n:], strict=False)
        if not one.skipped
    }
    return _write(out, recipe, command, made, splits, whole)


def chosen_surfaces(source: Path | None, recipe: Recipe) -> tuple[list[Surface], list[Surface]]:
    """(training, held out) surfaces of a recipe.

    Raises:
        UsageError: there are none, or the recipe's choices leave none.
    """
    if source is None:
        training, held = split(drawn_surfaces(recipe.surfaces, recipe.seed), recipe.hold_out)
        return list(training), list(held)
    meshes, kept = split(find_meshes(source), recipe.hold_out)
    if recipe.largest is not None:
        meshes = select_largest(meshes, recipe.largest)
    return list(meshes), list(kept)


def _training_blocks(made: Sequence[Made], recipe: Recipe) -> Blocks:
    parts = [(one.surface.category, one.blocks) for one in made if one.blocks is not None and len(one.blocks)]
    if not parts:
        empty = np.zeros((0, 3))
        return Blocks(recipe.size, empty.astype(np.uint8), np.zeros(1, np.int64), empty.astype(np.int32),
                      np.zeros(0, np.int32))  # fmt: skip
    blocks = Blocks.join([part for _, part in parts])
    if recipe.blocks is None:
        return blocks
    categories = [category for category, part in parts for _ in range(len(part))]
    return largest_blocks(blocks, categories, recipe.blocks, recipe.per_category)


def _run(numbered: Sequence[tuple[int, Surface]], recipe: Recipe, jobs: int) -> Iterable[Made]:
    if jobs == 1:
        return (make(surface, number, recipe) for number, surface in numbered)
    from joblib import Parallel, delayed

    results: Iterable[Made] = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(make)(surface, number, recipe) for number, surface in numbered
    )
    return results


def _refuse_other_content(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UsageError(f"{out} is not empty and holds no {MANIFEST}: choose another folder")


def _write(  # all that was made, once
    out: Path,
    recipe: Recipe,
    command: str,
    made: Sequence[Made],
    splits: Mapping[str, Blocks],
    whole: Mapping[str, Voxels],
) -> Prepared:
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("train-*.npz"), *out.glob("held-out-*.npz"), *out.glob("clouds/*_vox*.npy")]:
        old.unlink()
    shards = {name: _shards(out, name, blocks) for name, blocks in splits.items()}
    clouds = {name: _cloud(out, name, cloud) for name, cloud in whole.items()}
    counts = {name: np.bincount(blocks.sources, minlength=len(made)) for name, blocks in splits.items()}
    total = np.sum(list(counts.values()), axis=0)
    n_training = len(made) - sum(one.held_out(recipe) for one in made)
    sources = [
        {
            "file": one.surface.name,
            "category": one.surface.category,
            "sha256": one.sha256,
            "licence": one.surface.licence,
            "split": "train" if number < n_training else "held-out",
            "clouds": one.clouds,
            "points": one.points,
            "blocks": int(total[number]),
            **({"skipped": one.skipped} if one.skipped else {}),
        }
        for number, one in enumerate(made)
    ]
    per_category: dict[str, int] = {}
    for number, one in enumerate(made[:n_training]):
        label = one.surface.category
        per_category[label] = per_category.get(label, 0) + int(counts["train"][number])
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "pccbench": __version__,
        "command": command,
        "recipe": {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(recipe).items()},
        "block_size": recipe.size,
        "splits": shards,
        "clouds": clouds,
        "categories": per_category,
        "licences": sorted({one.surface.licence for one in made if one.surface.licence}),
        "sources": sources,
    }
    # Last, and at once: a folder with a manifest is complete.
    partial = out / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    partial.replace(out / MANIFEST)
    return Prepared(out, manifest)


def _cloud(out: Path, name: str, cloud: Voxels) -> dict[str, Any]:
    folder = out / "clouds"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name.replace('/', '-').rsplit('.', 1)[0]}_vox10.npy"
    np.save(path, cloud.astype(np.int32))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.relative_to(out).as_posix(), "sha256": digest, "points": len(cloud)}


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
