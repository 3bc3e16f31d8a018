"""Train: `bench train CODEC --config FILE`, which makes the weights of a learned codec again."""

from __future__ import annotations

import importlib
import logging
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

#: Those that compute in float32 on the CPU, whatever is there.
_FLOAT32 = frozenset({"dpcc"})
PLAIN = ("auto", "float32")
_INTERRUPTED = 130

FILE = click.Path(path_type=Path)


class TrainingError(PccbenchError):
    """A training cannot be started."""


@click.command()
@click.argument("codec")
@click.option("--config", type=FILE, help="YAML file that says how [the one that made the shipped weights].")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), help="Where networks are trained [the file's].")
@click.option(
    "--precision",
    type=click.Choice(("auto", "float32", "bfloat16", "float16")),
    help="Floats of the networks; auto measures which are fastest [the file's].",
)
def train(codec: str, config: Path | None, device: str | None, precision: str | None) -> int:
    """Train a learned codec as --config says; a run that was stopped goes on where it was.

    The shipped configurations expect what `bench prepare` makes: deepcompress in data/blocks, sparse blocks of 256
    voxels in data/blocks256.  --config takes a file, or `published` for dpcc's published architecture and schedule.
    `bench run --weights CODEC=FOLDER` runs what came out.

    Exit code 0 when the weights are there, 1 when the disk is full, 2 for wrong use or a training that diverged, 130
    when it was stopped.
    """
    if codec not in TRAINABLE:
        raise TrainingError(f"cannot train {codec!r}; codecs that can be trained: {', '.join(TRAINABLE)}")
    config = _config_file(codec, config)
    wished = {"device": device, "mixed_precision": precision}
    changes = {key: value for key, value in wished.items() if value is not None}
    if codec in _FLOAT32:
        if changes.get("device", "auto") == "cuda" or changes.get("mixed_precision", "auto") not in PLAIN:
            raise TrainingError(
                f"{codec} trains on the CPU in float32: its decoder learns the integers it computes in"
            )
        changes = {}
    from ..codecs.training.interruption import TrainingInterrupted
    from ..codecs.training.record import LEAST_STEPS
    from ..codecs.weights import read_record

    module, _, function = TRAINABLE[codec].partition(":")
    run: Callable[..., Path] = getattr(importlib.import_module(f"..codecs.{module}", __package__), function)
    with _bars() as reporter:
        try:
            out = run(config, shlex.join(["bench", *sys.argv[1:]]), reporter, changes)
        except TrainingInterrupted as stop:
            interrupted: str | None = str(stop)
        else:
            interrupted = None
    if interrupted is not None:
        click.echo(f"bench: {interrupted}; the same command goes on there", err=True)
        return _INTERRUPTED
    click.echo(f"weights: {out}")
    if not read_record(out).get("trained", False):
        text = f"fewer than {LEAST_STEPS} steps are no training: `bench run` takes these with --allow-untrained alone"
        click.echo(f"bench: {text}", err=True)
    return 0


def _config_file(codec: str, given: Path | None) -> Path:
    """The file that is meant: a path, or the name of one that ships with the codec."""
    if given is not None and given.is_file():
        return given
    folder = Path(str(files("pccbench.codecs") / codec / "configs"))
    shipped = folder / f"{codec if given is None else given}.yml"
    if shipped.is_file() and shipped.parent == folder:
        return shipped
    names = ", ".join(sorted(path.stem for path in folder.glob("*.yml")))
    raise TrainingError(f"{given}: expected a YAML file, or one of {names}; found nothing there")


@contextmanager
def _bars() -> Iterator[Callable[[str], Callable[[int, int, dict[str, float]], None]]]:
    """Progress bars, one for each stage of a training."""
    from tqdm import tqdm

    bars: list[Any] = []

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with tqdm.external_write_mode(file=sys.stderr):
                click.echo(f"bench: {record.getMessage()}", err=True)

    def reporter(stage: str) -> Callable[[int, int, dict[str, float]], None]:
        def report(step: int, steps: int, figures: dict[str, float]) -> None:
            if not bars or bars[-1].desc != stage:
                bars.append(tqdm(total=steps, initial=step, desc=stage, unit="step"))
            bar = bars[-1]
            bar.set_postfix({key: f"{value:.4f}" for key, value in figures.items()}, refresh=False)
            bar.update(step - bar.n)

        return report

    told, logger = Told(), logging.getLogger(__package__.partition(".")[0] + ".codecs")
    logger.addHandler(told)
    logger.setLevel(logging.INFO)
    try:
        yield reporter
    finally:
        logger.removeHandler(told)
        for bar in bars:
            bar.close()
