"""Command: `bench prepare`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .pipeline import Made

_AT_LEAST_ONE = click.IntRange(1)
_FOLDER = click.Path(file_okay=False, path_type=Path)
#: Held out of procedural surfaces unless told otherwise.
_DRAWN_HOLD_OUT = ("*/*00",)


@click.command()
@click.argument("out", type=_FOLDER)
@click.option("--source", type=_FOLDER, help="Folder of OFF, OBJ or PLY meshes, one folder a category [procedural].")
@click.option("--surfaces", type=_AT_LEAST_ONE, default=200, show_default=True, help="Procedural surfaces to draw.")
@click.option("--largest", type=_AT_LEAST_ONE, help="Meshes of each category to use: those with the most vertices.")
@click.option("--vg-size", type=_AT_LEAST_ONE, help="Plain clouds of so many voxels a side [varied, as from scans].")
@click.option("--level", type=int, default=3, show_default=True, help="Octree level of the blocks of plain clouds.")
@click.option("--samples", type=_AT_LEAST_ONE, default=500_000, show_default=True, help="Samples of a plain cloud.")
@click.option(
    "--block-size", type=_AT_LEAST_ONE, default=64, show_default=True, help="Voxels of a block, varied clouds."
)
@click.option("--longest-axis", type=float, nargs=2, help="Extents of varied clouds [people 300 1023, else 250 800].")
@click.option("--blocks", type=_AT_LEAST_ONE, help="Blocks to keep: those with the most points [all].")
@click.option("--per-category", is_flag=True, help="--blocks of each category, not overall.")
@click.option("--min-points", type=_AT_LEAST_ONE, default=500, show_default=True, help="Fewest points of a block.")
@click.option("--per-cloud", type=_AT_LEAST_ONE, help="Blocks of each cloud to keep, drawn at random [all].")
@click.option(
    "--scans", "clouds_per_mesh", type=_AT_LEAST_ONE, default=1, show_default=True, help="Clouds a surface."
)
@click.option("--human-scans", "human_clouds_per_mesh", type=_AT_LEAST_ONE, help="The same for people [--scans].")
@click.option("--hold-out", multiple=True, help="Pattern of names to keep for validation, repeatable.")
@click.option("--hold-out-blocks", type=int, default=100, show_default=True, help="Blocks of those to keep.")
@click.option("--hold-out-clouds", type=int, default=0, show_default=True, help="Of those as whole vox10 clouds.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of all random choices.")
@click.option("--jobs", type=_AT_LEAST_ONE, default=1, show_default=True, help="Processes.")
def prepare(out: Path, source: Path | None, jobs: int, hold_out: tuple[str, ...], **options: Any) -> None:
    """Make training blocks from meshes, or from procedural surfaces, in the folder OUT.

    A ModelNet40 tree, as DeepCompress trains on it:

        bench prepare blocks --source ModelNet40 --largest 200 --vg-size 512 --level 3 --blocks 4000
    """
    from tqdm import tqdm

    from .pipeline import Recipe, chosen_surfaces
    from .pipeline import prepare as run

    if source is None and not hold_out:
        hold_out = _DRAWN_HOLD_OUT
    recipe = Recipe(hold_out=tuple(hold_out), **options)
    total = sum(len(part) for part in chosen_surfaces(source, recipe))
    skipped = []
    with tqdm(total=total, unit="surface", disable=not sys.stderr.isatty()) as bar:

        def step(made: Made) -> None:
            bar.update()
            if made.skipped:
                skipped.append(made)

        prepared = run(source, out, recipe, jobs=jobs, command=_command_line(), progress=step)
    for made in skipped:
        click.echo(f"bench: skipped {made.surface.name}: {made.skipped}", err=True)
    splits = prepared.manifest["splits"]
    counts = ", ".join(f"{entry['blocks']:,} {name}" for name, entry in splits.items())
    click.echo(f"{counts} blocks of {recipe.size} voxels from {total - len(skipped)} surfaces, in {out}")


def _command_line() -> str:
    """The command as typed, without the folder that the program lies in."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
