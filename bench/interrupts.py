"""Interrupts: Ctrl-C held back where it would do harm."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .signals import numbers


@contextmanager
def deferred() -> Iterator[None]:
    """Hold back what asks a run to end until the block ends, and then act on them.

    An extension module that is interrupted in its first import may swallow the interrupt and stay half imported:
    open3d then fails for as long as the process lives.  Outside the main thread, where Python handles no signals, the
    block just runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    before = {
        int(number): signal.signal(number, lambda number, frame: caught.append((number, frame))) or signal.SIG_DFL
        for number in numbers()
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if caught:
            number, frame = caught[0]
            handler = before[number]
            if callable(handler):
                handler(number, frame)
            elif handler == signal.SIG_DFL:
                os.kill(os.getpid(), number)
