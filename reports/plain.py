r"""Plain: whatever a row holds, as text and values that a page, a terminal and a spreadsheet can show.

Codecs, clouds and tools name themselves and write notes; a report must stand whatever they write.  Text is cut at
`TEXT_LIMIT` characters and then ends in `…`; characters that cannot be seen or that turn the reading direction
(controls, bidirectional overrides, zero-width marks, halves of surrogate pairs, bytes of names that are not UTF-8)
are shown as escapes like `\x1b`.  HTML, Markdown and LaTeX are escaped where they are written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence, Set
from itertools import islice
from typing import Any

#: Characters of one text in a report; what is longer is cut there and ends in `…`.  Where lines are kept (what a
#: worker wrote last) and in the provenance it is `LONG` times as much.
TEXT_LIMIT = 400
LONG = 10
#: Entries of one mapping or list in a report; of those that lie in others a quarter of it, and so on.
ITEM_LIMIT = 64
#: What stands where text or entries were cut.
CUT = "\N{HORIZONTAL ELLIPSIS}"

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\ufffe\uffff\U000e0000-\U000e0fff]"
)
#: First characters that make a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}")


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8, as os.fsdecode gives it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str, kept: str = "") -> str:
    """The text with everything shown that a reader would not see, but for the characters of `kept`."""
    return _HIDDEN.sub(lambda match: match.group() if match.group() in kept else _escape(match), text)


def cut(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text, or its beginning and `…`."""
    return text if len(text) <= limit else text[: limit - 1] + CUT


def line(value: Any, limit: int = TEXT_LIMIT) -> str:
    """Any value as one line of text; empty for None and NaN."""
    if isinstance(value, str) and len(value) <= limit and value.isascii() and value.isprintable():
        return " ".join(value.split())  # nearly all text there is
    text = value[: 2 * limit] if isinstance(value, str) else words(plain(value, limit), limit)
    text = visible(re.sub(r"[ \t\r\n]+", " ", text.strip(" \t\r\n")))
    return cut(text + CUT if isinstance(value, str) and len(value) > 2 * limit else text, limit)


def name(value: Any) -> str:
    """A name as one line in which every character can be seen, line breaks and tabs too; never empty."""
    text = value if isinstance(value, str) else line(value)
    return cut(visible(text[:TEXT_LIMIT]) + (CUT if len(text) > TEXT_LIMIT else "")) or "unnamed"


def tail(value: Any) -> str:
    """The last lines of a text, with its line breaks."""
    text = value if isinstance(value, str) else line(value)
    limit = LONG * TEXT_LIMIT
    kept = text if len(text) <= limit else CUT + text[1 - limit :]
    return "\n".join(visible(part) for part in kept.replace("\r\n", "\n").split("\n")).strip()


def plain(value: Any, limit: int = TEXT_LIMIT, depth: int = 0) -> Any:
    """A value of None, bool, finite numbers, lines of text, lists and mappings, all of bounded size."""
    if isinstance(value, Mapping | Sequence | Set) and not isinstance(value, str | bytes | bytearray):
        return _collection(value, limit, depth)
    return _scalar(value, limit)


def _scalar(value: Any, limit: int) -> Any:
    if value is None or type(value) is bool:
        return value
    if isinstance(value, str):
        return line(value, limit)
    if hasattr(value, "item") and not getattr(value, "ndim", 0):  # of numpy
        value = value.item()
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return "an integer beyond 64 bits"
    return value if value is None or isinstance(value, bool | int | float) else type(value).__name__


def _collection(value: Any, limit: int, depth: int) -> Any:
    count = ITEM_LIMIT >> 2 * depth
    if not count:
        return CUT
    if not isinstance(value, Mapping):
        items = [plain(item, limit, depth + 1) for item in islice(value, count)]
        return [*items, CUT] if len(value) > count else items
    pairs = islice(value.items(), count)
    named = {line(key, limit) or "unnamed": plain(item, limit, depth + 1) for key, item in pairs}
    return {**named, CUT: f"{len(value) - count} more"} if len(value) > count else named


def words(value: Any, limit: int = TEXT_LIMIT) -> str:
    """A plain value for people: `key=value; key=value`, items apart by blanks, nested names joined by dots."""
    if isinstance(value, Mapping):
        return cut("; ".join(f"{key}={words(item, limit)}" for key, item in _flat(value).items()), limit * LONG)
    if isinstance(value, list | tuple):
        return cut(" ".join(words(item, limit) for item in value), limit * LONG)
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat


def csv_cell(value: Any) -> Any:
    """A value as a cell of a CSV file: numbers as they are, all else as text that no spreadsheet takes for a formula.

    Text that begins with `=`, `+`, `-`, `@`, tab or carriage return gets an apostrophe in front, which spreadsheets
    do not show.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else words(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}
