"""Declared: what a codec says of itself, checked in one place before the harness believes a word of it.

A codec is a third party's code: its card, rates, sections and notes may be anything at all.  What can be repaired
without changing a meaning is (a numpy integer becomes an int, a long text is cut); what makes no sense raises
`DeclarationError`, and costs that codec or that row alone.  What comes out is plain JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..codecs.base import CodecCard, Rate
from ..reports.plain import visible
from .errors import DeclarationError

#: Characters of a text (a reason, a note, the end of a log) that are kept; the rest is cut, and `…` says so.
TEXT_LIMIT = 2000
#: Characters of a title or version.
NAME_LIMIT = 100
#: Entries of a mapping: parameters of a rate, sections of a stream, notes.
ENTRIES_LIMIT = 200
#: Characters of all notes of a row together, as JSON.
NOTES_LIMIT = 20_000
#: Items of a list in a note.
ITEMS_LIMIT = 10_000
#: Rates of a codec.
RATES_LIMIT = 1000

_DEEPEST = 8


def text(value: Any, limit: int = TEXT_LIMIT) -> str:
    """The value as text that every file and page can hold: valid Unicode, at most `limit` characters."""
    try:
        whole = value if isinstance(value, str) else "" if value is None else str(value)
    except Exception as error:  # a third party's __str__, or an int of more digits than Python writes
        whole = f"<{type(value).__name__} without a text: {type(error).__name__}>"
    valid = whole[: limit + 1].encode("utf-8", "backslashreplace").decode()
    return valid if len(valid) <= limit else f"{valid[: limit - 1]}…"


def tail(value: Any, limit: int = TEXT_LIMIT) -> str:
    """As `text`, but it is the end that is kept."""
    whole = value if isinstance(value, str) else text(value, limit)
    return text(whole if len(whole) <= limit else f"…{whole[1 - limit :]}", limit)


def line(value: Any, limit: int = TEXT_LIMIT) -> str:
    """As `text`, in one line."""
    return text(" ".join(text(value, 4 * limit).split()), limit)


def printable(value: Any) -> str:
    """The text with what could steer a terminal escaped: control characters, changes of direction."""
    return visible(str(value), kept="\n\t")


def plain(value: Any, *, depth: int = _DEEPEST) -> Any:
    """The value as JSON can hold it: numpy scalars as numbers, what is not finite as None, the rest as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 1 << 63 else text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth > 0 and isinstance(value, Mapping):
        return {text(key): plain(item, depth=depth - 1) for key, item in islice(value.items(), ENTRIES_LIMIT)}
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth=depth - 1) for item in islice(value, ITEMS_LIMIT)]
    return text(value)


def checked_card(card: Any) -> CodecCard:
    """The card with plain values.

    Raises:
        DeclarationError: it is no `CodecCard`, or a field of it is not what its type says.
    """
    if not isinstance(card, CodecCard):
        raise DeclarationError(f"card() must give a CodecCard, it gave {_what(card)}")
    return CodecCard(
        version=_name("card().version", card.version),
        title=_name("card().title", card.title),
        description=_words("card().description", card.description),
        paper=_words("card().paper", card.paper),
        parameters=_count("card().parameters", card.parameters),
        macs_per_point=_figure("card().macs_per_point", card.macs_per_point),
        weights_sha256=_hash("card().weights_sha256", card.weights_sha256),
        trained=_flag("card().trained", card.trained),
        training_files_sha256=_hashes("card().training_files_sha256", card.training_files_sha256),
        tool=None if card.tool is None else _words("card().tool", _path(card.tool)),
        tool_sha256=_hash("card().tool_sha256", card.tool_sha256),
    )


def checked_rates(rates: Any) -> tuple[Rate, ...]:
    """The rates with plain parameters.

    Raises:
        DeclarationError: there is none, two have one name, or a name or parameter is not what its type says.
    """
    if isinstance(rates, str | bytes | Mapping) or not isinstance(rates, Iterable):
        raise DeclarationError(f"rates() must give a list of Rate, it gave {_what(rates)}")
    checked = [_rate(rate) for rate in islice(rates, RATES_LIMIT + 1)]
    names = [rate.name for rate in checked]
    if not names or len(set(names)) < len(names):
        raise DeclarationError(f"rates() must give at least one rate with names of their own, got {line(names, 200)}")
    if len(names) > RATES_LIMIT:
        raise DeclarationError(f"rates() gives more than {RATES_LIMIT} rates")
    return tuple(checked)


def _rate(rate: Any) -> Rate:
    if not isinstance(rate, Rate):
        raise DeclarationError(f"rates() must give Rate, it gave {_what(rate)}")
    where = f"the name of a rate, {line(repr(rate.name), 60)},"
    if not isinstance(rate.name, str) or not is_name(rate.name):
        raise DeclarationError(f"{where} must be a word of 1 to {NAME_LIMIT} printable characters")
    parameters = rate.parameters
    if not isinstance(parameters, Mapping) or len(parameters) > ENTRIES_LIMIT:
        raise DeclarationError(
            f"rate {rate.name}: parameters must be a mapping of at most {ENTRIES_LIMIT} entries, "
            f"got {_what(parameters)}"
        )
    values = {_key(rate.name, key): _scalar(f"rate {rate.name}: {key}", item) for key, item in parameters.items()}
    return Rate(rate.name, values, _flag(f"rate {rate.name}: lossless", rate.lossless))


def _key(rate: str, key: Any) -> str:
    if not isinstance(key, str) or not is_name(key):
        raise DeclarationError(f"rate {rate}: {line(repr(key), 60)} is no name of a parameter")
    return key


def _scalar(where: str, value: Any) -> bool | int | float | str:
    """A parameter as the encoder will get it: it must not be changed, so nothing is cut."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and len(value) <= TEXT_LIMIT and text(value) == value:
        return str(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise DeclarationError(f"{where} must be a finite number, a truth value or a text, got {_what(value)}")


def is_name(name: str) -> bool:
    """Whether a text can stand in tables, on command lines and in files as the name of something."""
    return 0 < len(name) <= NAME_LIMIT and name.isprintable() and visible(name) == name == name.strip()


def checked_sections(sections: Any) -> dict[str, int]:
    """Bytes of each part of a stream; whether they sum to its length is another question.

    Raises:
        DeclarationError: not a mapping of names to whole numbers of bytes.
    """
    if not isinstance(sections, Mapping):
        raise DeclarationError(f"sections() must give a mapping of names to bytes, it gave {_what(sections)}")
    if len(sections) > ENTRIES_LIMIT:
        raise DeclarationError(f"sections() names {len(sections)} parts, at most {ENTRIES_LIMIT} are kept")
    checked = {}
    for name, size in sections.items():
        count = _count(f"sections()[{line(repr(name), 60)}]", size)
        if count is None:
            raise DeclarationError(f"sections()[{line(repr(name), 60)}] must be a number of bytes, got {_what(size)}")
        checked[text(name, NAME_LIMIT)] = count
    if len(checked) < len(sections):
        raise DeclarationError("sections() gives parts whose names are the same once they are cut")
    return checked


def checked_notes(notes: Any) -> dict[str, Any]:
    """What a codec or tool reports of itself, texts cut, at most `NOTES_LIMIT` characters together.

    Raises:
        DeclarationError: not a mapping.
    """
    if notes is None:
        return {}
    if not isinstance(notes, Mapping):
        raise DeclarationError(f"notes must be a mapping of names to figures, got {_what(notes)}")
    kept: dict[str, Any] = {}
    room = NOTES_LIMIT
    for name, value in islice(notes.items(), ENTRIES_LIMIT):
        entry = plain(value)
        room -= len(json.dumps(entry, allow_nan=False)) + len(text(name, NAME_LIMIT))
        if room < 0:
            break
        kept[text(name, NAME_LIMIT)] = entry
    if len(kept) < len(notes):
        kept["…"] = f"{len(notes) - len(kept)} notes left out, {NOTES_LIMIT} characters are kept"
    return kept


def checked_bits(bits: Any) -> float | None:
    """Estimated bits.

    Raises:
        DeclarationError: not a finite number of at least 0.
    """
    return _figure("estimated_bits", bits)


def checked_hash(value: Any) -> str | None:
    """A promised hash of the reconstruction.

    Raises:
        DeclarationError: not a text.
    """
    return _hash("reconstruction_sha256", value)


def _name(where: str, value: Any) -> str:
    return line(_words(where, value), NAME_LIMIT)


def _words(where: str, value: Any) -> str:
    """A text; a number, which stands where a text was meant, is written as one."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return ""
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return text(value)
    raise DeclarationError(f"{where} must be a text, got {_what(value)}")


def _path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _count(where: str, value: Any) -> int | None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise DeclarationError(f"{where} must be a whole number from 0, got {_what(value)}")
    return int(value)


def _figure(where: str, value: Any) -> float | None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
        raise DeclarationError(f"{where} must be a finite number from 0, got {_what(value)}")
    return float(value)


def _flag(where: str, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise DeclarationError(f"{where} must be True or False, got {_what(value)}")


def _hash(where: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not is_name(value):
        raise DeclarationError(f"{where} must be a hash in letters and digits, got {_what(value)}")
    return str(value)


def _hashes(where: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, tuple | list | set | frozenset):
        raise DeclarationError(f"{where} must be a tuple of hashes, got {_what(value)}")
    return tuple(found for one in values if (found := _hash(where, one)) is not None)


def _what(value: Any) -> str:
    """Type and beginning of a value, for a message."""
    try:
        shown = repr(value) if isinstance(value, bool | int | float | str | bytes | None) else ""
    except Exception:  # an int of more digits than Python writes
        shown = ""
    return f"{type(value).__name__} {line(shown, 60)}".rstrip()
