"""Weights: those that a run names for its learned codecs, and random ones where it allows them."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from .._cache import pccbench_cache
from ..codecs.base import Codec
from ..codecs.errors import CodecUnavailableError
from ..codecs.registry import CodecSpec
from ..codecs.sources import sources_sha256
from .errors import UsageError


def with_weights(
    specs: Sequence[CodecSpec], named: Mapping[str, Path], *, allow_untrained: bool = False
) -> list[CodecSpec]:
    """The codecs of a run, with the weights that they are to use.

    Args:
        specs: the codecs.
        named: folder of weights, by codec.
        allow_untrained: give random weights to a learned codec that lacks its own.

    Raises:
        UsageError: weights are named for a codec that is not in the run or takes none, or are not there.
    """
    names = [spec.name for spec in specs]
    for name in named:
        if name not in names:
            near = get_close_matches(name, names, n=3) or names
            raise UsageError(f"weights for {name}: no codec of this run; did you mean {', '.join(near)}?")
    made = []
    for spec in specs:
        if spec.name in named:
            made.append(_named(spec, named[spec.name]))
        elif allow_untrained:
            made.append(_perhaps_untrained(spec))
        else:
            made.append(spec)
    return made


def _named(spec: CodecSpec, folder: Path) -> CodecSpec:
    if not spec.load().takes_weights:
        raise UsageError(f"weights for {spec.name}: it takes none; they are for learned codecs")
    if not folder.is_dir():
        raise UsageError(f"weights for {spec.name}: {folder}: expected a folder that `bench train` wrote, found none")
    found = replace(spec, weights=str(folder.absolute()))
    try:
        found.create().rates()
    except CodecUnavailableError as error:
        raise UsageError(f"weights for {spec.name}: {folder}: {error}") from None
    return found


def _perhaps_untrained(spec: CodecSpec) -> CodecSpec:
    """With random weights, if the codec can be had no other way."""
    try:
        cls = spec.load()
        spec.create()
    except CodecUnavailableError:
        pass
    else:
        return spec
    try:
        cls = spec.load()
        return replace(spec, weights=str(untrained(cls))) if cls.takes_weights else spec
    except CodecUnavailableError:  # whoever creates it says why
        return spec


def untrained(cls: type[Codec]) -> Path:
    """Folder of random weights of a learned codec, made when it is first asked for.

    It lies in the user's cache, one for each state of the codec's sources, so that workers and later runs find it.

    Raises:
        CodecUnavailableError: the codec has none.
        OSError: it cannot be written.
    """
    package = cls.__module__.rpartition(".")[0]
    try:
        # By its name: what makes weights is no part of what determines the codec's bytes.
        write = importlib.import_module(f"{package}.untrained").write_untrained
    except (ImportError, AttributeError):
        raise CodecUnavailableError(f"{cls.name} has no random weights") from None
    cache = pccbench_cache() / "untrained"
    sources = sources_sha256(cls, write) or ""
    folder = cache / f"{package.rpartition('.')[2]}-{sources[:16]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=cache))
    try:
        write(scratch)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
