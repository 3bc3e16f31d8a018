"""Signals: what asks a run to end (Ctrl-C, a closed terminal, a polite kill) ends it in one way."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

#: They act as Ctrl-C, where the system has them.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
#: Nobody sends these by the way; shells start background jobs with the second ignored, though.
_ALWAYS = ("SIGTERM", "SIGQUIT")
_EXIT_CODE = 130
_seen: list[int] = []


def treat_as_interrupts() -> None:
    """Let the first of these signals raise KeyboardInterrupt, and a second one end the process at once.

    An ignored Ctrl-C or closing of the terminal stays ignored (a background job, `nohup`).  Nothing is lost by the
    second signal: rows are on the disk, the kernel ends the workers with this process, and the next run removes
    temporary files.
    """
    _seen.clear()
    for number in numbers():
        if signal.getsignal(number) is not signal.SIG_IGN or number.name in _ALWAYS:
            signal.signal(number, _interrupt)


def was_asked_to_end() -> bool:
    """Whether one of the signals came: whoever caught the interrupt, or made another error of it, did not hear it."""
    return bool(_seen)


def numbers() -> list[signal.Signals]:
    """Those of `NAMES` that the system has."""
    return [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


def _interrupt(number: int, frame: FrameType | None) -> None:
    _seen.append(number)
    if len(_seen) == 1:
        raise KeyboardInterrupt
    with contextlib.suppress(OSError):
        os.write(2, b"\nbench: interrupted\n")
    os._exit(_EXIT_CODE)
