"""Train: `bench train CODEC --config FILE`, which makes the weights of a learned codec again."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from ..codecs.errors import PccbenchError

#: Codecs that can be trained: name -> "module:function" below `codecs`; the function takes the file, the command for
#: the record, and a reporter.
TRAINABLE = {"deepcompress": "deepcompress.train:train", "dpcc": "dpcc.train:train", "sparse": "sparse.train:train"}

FILE = click.Path(path_type=Path)


class TrainingError(PccbenchError):
    """A training cannot be started."""


@click.command()
@click.argument("codec")
@click.option("--config", type=FILE, help="YAML file that says how [the one that made the shipped weights].")
def train(codec: str, config: Path | None) -> None:
    """Train a learned codec as --config says; a run that was stopped goes on where it was.

    The shipped configurations expect what `bench prepare` makes: deepcompress in data/blocks, sparse blocks of 256
    voxels in data/blocks256.
    """
    if codec not in TRAINABLE:
        raise TrainingError(f"cannot train {codec!r}; codecs that can be trained: {', '.join(TRAINABLE)}")
    if config is None:
        config = Path(str(files("pccbench.codecs") / codec / "configs" / f"{codec}.yml"))
    if not config.is_file():
        raise TrainingError(f"{config}: expected a YAML file, found nothing there")
    module, _, function = TRAINABLE[codec].partition(":")
    run: Callable[..., Path] = getattr(importlib.import_module(f"..codecs.{module}", __package__), function)
    with _bars() as reporter:
        out = run(config, shlex.join(["bench", *sys.argv[1:]]), reporter)
    click.echo(f"weights: {out}")


@contextmanager
def _bars() -> Iterator[Callable[[str], Callable[[int, int, dict[str, float]], None]]]:
    """Progress bars, one for each stage of a training."""
    from tqdm import tqdm

    bars: list[Any] = []

    def reporter(stage: str) -> Callable[[int, int, dict[str, float]], None]:
        def report(step: int, steps: int, figures: dict[str, float]) -> None:
            if not bars or bars[-1].desc != stage:
                bars.append(tqdm(total=steps, initial=step, desc=stage, unit="step"))
            bar = bars[-1]
            bar.set_postfix({key: f"{value:.4f}" for key, value in figures.items()}, refresh=False)
            bar.update(step - bar.n)

        return report

    try:
        yield reporter
    finally:
        for bar in bars:
            bar.close()
