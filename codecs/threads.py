"""Threads: work in parts, for kernels that release the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def side_by_side(function: Callable[[_Part], _Result], parts: Sequence[_Part]) -> list[_Result]:
    """The results for all parts, computed on as many threads as there are cores."""
    threads = min(len(parts), len(os.sched_getaffinity(0)))
    if threads < 2:
        return [function(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, parts))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch computes on the thread that calls it: for small products, and for work that is side by side already.

    Threads would wait for each other longer than they compute.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
