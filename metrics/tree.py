"""Tree: builds the k-d tree that searches fall back on, on several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from .kernels import LEAF_POINTS, Tree, build_nodes

#: Subtrees of at most this share of the points, or so many points, are built as tasks of their own.
_TASKS = 16
_LEAST_TASK = 4096


def build_tree(
    points: npt.NDArray[np.float32],
    bounds: npt.NDArray[np.float32],
    each: Callable[[Callable[[int], None], Sequence[int]], object],
) -> tuple[Tree, npt.NDArray[np.int32]]:
    """Build the tree over distinct points.

    Args:
        points: (n, 3) in lexicographic order.
        bounds: (2, 3) their least and largest coordinates.
        each: calls a function for every number of a sequence, perhaps in parallel.

    Returns:
        The tree, and the (n,) rows of `points` that its points are.
    """
    n = len(points)
    order = np.arange(n, dtype=np.int32)
    # Fewer than 2 n nodes, but each task below has a range of its own; untouched pages cost nothing.
    room = 4 * n + 1
    nodes = (
        np.empty(room, np.int8),
        np.empty(room, np.float32),
        np.empty(room, np.float32),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
    )
    pending = np.empty((n // LEAF_POINTS + 1, 4), np.int64)
    boxes = np.empty((n // LEAF_POINTS + 1, 2, 3), np.float32)
    stop = max(n // _TASKS, _LEAST_TASK)
    used, depth, tasks = build_nodes(points, order, 0, 1, 0, n, bounds, stop, pending, boxes, *nodes)
    depths = [depth] * (tasks + 1)
    bases = 1 + used + 2 * np.cumsum(pending[:tasks, 2] - pending[:tasks, 1])

    def build(task: int) -> None:
        node, begin, end, above = (int(value) for value in pending[task])
        base = int(bases[task]) - 2 * (end - begin)
        box = boxes[task].copy()
        below = build_nodes(points, order, node, base, begin, end, box, 0, pending[:0], boxes[:0], *nodes)[1]
        depths[task] = above + below

    each(build, range(tasks))
    return Tree(bounds, *nodes, points[order], max(depths)), order
