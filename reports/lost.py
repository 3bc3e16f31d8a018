"""Lost: what an old run has and a new one lacks, in few lines: whole codecs first, then clouds, rates and jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .text import plural

#: A job: codec, rate, data set, cloud.
Key = tuple[str, ...]


@dataclass(frozen=True)
class Lost:
    """What is gone, one line each: for no known reason, and because its codec cannot run now."""

    lines: tuple[str, ...]
    unavailable: tuple[str, ...]


def what_is_lost(was: Sequence[Key], now: Mapping[Key, Any], provenance: Mapping[str, Any]) -> Lost:
    """What of `was` is not in `now`.

    Args:
        was: jobs that were ok in the old run.
        now: jobs of the new run.
        provenance: of the new run; its `unavailable` and `missing_clouds` give reasons.
    """
    unavailable = provenance.get("unavailable") or {}
    missing = provenance.get("missing_clouds") or {}
    lines, gone = [], []
    remaining = list(was)
    left = [key for key in was if key not in now]
    for group, name in _GROUPS:
        for one in dict.fromkeys(group(key) for key in left):
            mine = [key for key in remaining if group(key) == one]
            if not all(key in left for key in mine) or (len(mine) == 1 and group is _rate):
                continue
            line = f"{name(mine[0])} is not in the new run ({plural(len(mine), 'job')})"
            codec, _, dataset, cloud = mine[0]
            if group is _codec and codec in unavailable:
                gone.append(f"{line}: {unavailable[codec]}")
            else:
                is_missing = group is _cloud and cloud in (missing.get(dataset) or ())
                lines.append(f"{line}: its file is not there" if is_missing else line)
            remaining = [key for key in remaining if group(key) != one]
            left = [key for key in left if group(key) != one]
    lines += [f"{codec} {rate} on {cloud} is not in the new run" for codec, rate, _, cloud in left]
    return Lost(tuple(lines), tuple(gone))


def _codec(key: Key) -> Key:
    return key[:1]


def _cloud(key: Key) -> Key:
    return key[2:]


def _rate(key: Key) -> Key:
    return key[:2]


_GROUPS: tuple[tuple[Callable[[Key], Key], Callable[[Key], str]], ...] = (
    (_codec, lambda key: f"codec {key[0]}"),
    (_cloud, lambda key: f"cloud {key[3]}"),
    (_rate, lambda key: f"rate {key[1]} of {key[0]}"),
)
