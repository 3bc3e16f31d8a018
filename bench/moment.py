"""Moment: failures that say nothing of codec, cloud or metric, and that another try may not meet.

A full disk, a file that went away, a process killed from outside: a row of such a failure is `disrupted`, and the
next run tries it again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

#: Errors of the system that pass: disk and quota, too many files or processes, memory, a server of files.
ERRNOS = frozenset(
    number
    for name in (
        *("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN"),
        *("ESTALE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EREMOTEIO"),
    )
    if (number := getattr(errno, name, None)) is not None
)
#: How libraries and tools word a full disk, when nothing but their text is left.
_FULL = tuple(
    os.strerror(number) for name in ("ENOSPC", "EDQUOT") if (number := getattr(errno, name, None)) is not None
)


def is_passing(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is a failure of the moment."""
    return any(isinstance(one, OSError) and one.errno in ERRNOS for one in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def says_full(*texts: str) -> bool:
    """Whether a text speaks of a full disk."""
    return any(words in text for words in _FULL for text in texts)
