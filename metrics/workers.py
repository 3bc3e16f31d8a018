"""Workers: threads for what releases the interpreter lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TypeVar

from .errors import MetricError

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """Threads for kernels that release the interpreter lock.

    Args:
        threads: how many, or None for the processors that this process may use.
    """

    def __init__(self, threads: int | None = None) -> None:
        if threads is None:
            usable = getattr(os, "sched_getaffinity", None)
            threads = len(usable(0)) if usable else os.cpu_count() or 1
        if threads < 1:
            raise MetricError(f"threads must be at least 1, got {threads}")
        self.threads = threads

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Results of `function` for each item, in their order."""
        todo = list(items)
        if self.threads == 1 or len(todo) < 2:
            return [function(item) for item in todo]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(self.threads, len(todo))) as pool:
            return list(pool.map(function, todo))
