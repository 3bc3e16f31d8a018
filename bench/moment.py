"""Moment: failures that say nothing of codec, cloud or metric, and that another try may not meet.

A full disk, a file that went away, a process killed from outside: a row of such a failure is `disrupted`, and the
next run tries it again.
"""

from __future__ import annotations

import errno
import os
import signal
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
#: Signals that a process gets from outside; the others (SIGSEGV, SIGABRT, ...) are its own doing.
_FROM_OUTSIDE = frozenset(
    getattr(signal, name)
    for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGPWR")
    if hasattr(signal, name)
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


def is_passing_number(number: object) -> bool:
    """Whether an errno that a worker reports is of the moment; its limits of memory and files are its own."""
    own = (errno.ENOMEM, errno.EMFILE, errno.EAGAIN)
    return isinstance(number, int) and number in ERRNOS and number not in own


def says_full(*texts: str) -> bool:
    """Whether a text speaks of a full disk."""
    return any(words in text for words in _FULL for text in texts)


def is_from_outside(number: int) -> bool:
    """Whether a signal that ended a process came from another, or from the kernel when memory ran out."""
    return number in _FROM_OUTSIDE
