"""Interruption: Ctrl-C, or a polite kill, ends a training after the step it is in, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class TrainingInterrupted(Exception):  # noqa: N818  (nothing went wrong)
    """A training was asked to stop, and its checkpoint is written; says where it stands."""


class Interruption:
    """Context manager: inside, the first signal is noted, and only a second one ends things at once.

    A signal in the middle of a step would leave a state that no undisturbed run has.
    """

    _SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        """Take the signals, where this thread may."""
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in self._SIGNALS if hasattr(signal, name)]
            self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
