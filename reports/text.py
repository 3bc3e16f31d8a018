"""Text: how figures are written, the same in every table and plot."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from typing import Any

#: Larger figures are nonsense, and sums of them would overflow.
LARGEST = 1e100
#: From here on a figure is written with an exponent.
_LONG = 1e15
#: Characters of a name in a file name; a path component has 255 bytes at most.
SLUG_LIMIT = 120
#: What stands where there is no figure.
MISSING = "\N{EN DASH}"
#: A real minus; renderers that want ASCII translate it.
MINUS = "\N{MINUS SIGN}"


def is_missing(value: Any) -> bool:
    """Whether a cell of a data frame holds no value (None or NaN)."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: Any) -> float | None:
    """A finite float, or None for what is missing, infinite, no number, or too large to be one that was measured."""
    if is_missing(value) or isinstance(value, str | bytes):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):  # a list, say, or an integer beyond the floats
        return None
    return result if abs(result) <= LARGEST else None


def integer(value: float) -> str:
    """`79,389`."""
    return f"{round(value):,}" if abs(value) < _LONG else f"{value:.3g}"


def signed(value: float, digits: int = 2) -> str:
    """`-4.43` with a real minus, `+0.12`; a value that rounds to zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{MINUS if value < 0 else '+'}{text}"


def figure(value: float) -> str:
    """A BD-rate: two decimals, fewer where they would say nothing: `-4.43`, `+632.6`, `+2315`."""
    return signed(value, _decimals(value))


def deviation(value: float, of: float) -> str:
    """A standard deviation, to the decimals of its mean."""
    return f"{value:.{_decimals(of)}f}"


def _decimals(value: float) -> int:
    return 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0


def significant(value: float, digits: int = 3) -> str:
    """A value to `digits` significant digits, without exponent: `0.0123`, `1.23`, `123`, `12,345`."""
    if value == 0:
        return "0"
    if abs(value) >= _LONG:
        return f"{value:.{digits - 1}e}"
    exponent = math.floor(math.log10(abs(value)))
    decimals = digits - 1 - exponent
    if decimals > 9:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(decimals, 0)}f}"


def bpp(value: float) -> str:
    """Bits a point: four decimals, fewer for large rates."""
    return f"{value:.4f}" if value < 10 else f"{value:.2f}"


def percent(fraction: float) -> str:
    """A fraction in percent: `42 %`, `0.9 %`."""
    scaled = 100 * fraction
    return f"{scaled:.0f} %" if scaled >= 1 or scaled == 0 else f"{scaled:.1f} %"


def plural(count: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(items: list[str]) -> str:
    """`a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def few(items: Sequence[str], count: int = 8) -> str:
    """`a, b and c`; of more than `count` items the first, and how many more."""
    distinct = list(dict.fromkeys(items))
    if len(distinct) <= count:
        return listed(distinct)
    return f"{', '.join(distinct[:count])} and {len(distinct) - count} more"


def slug(text: str) -> str:
    """A name safe in file names, HTML ids and LaTeX labels, of at most `SLUG_LIMIT` characters."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"
    return safe if len(safe) <= SLUG_LIMIT else f"{safe[: SLUG_LIMIT - 9]}-{zlib.crc32(safe.encode()):08x}"


def natural_key(text: str) -> list[Any]:
    """Sort key that puts r2 before r10."""
    parts = re.split(r"([0-9]+)", text)
    # A number compares by its length, then by its digits: no integer is made of what may be thousands of them.
    return [(len(part.lstrip("0")), part.lstrip("0")) if i % 2 else part for i, part in enumerate(parts)]
