"""Plain normals: what open3d does for `normals`, done with scipy where open3d has no wheel for the system.

The directions agree with open3d's but where neighbours are equally far, of which the two may take others; so they
have a passport of their own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Points whose neighbourhoods are held in memory together.
_CHUNK = 1 << 17
#: Links without cost would count as no links.
_LEAST_COST = 1e-6


def unoriented(points: npt.NDArray[np.float64], neighbours: int) -> npt.NDArray[np.float64]:
    """Direction of least variance of each point's nearest neighbours, (n, 3) unit vectors of any sign.

    Where there is none (fewer than three neighbours, or all in one place) it is the z axis.
    """
    from scipy.spatial import cKDTree

    normals = np.zeros((len(points), 3))
    normals[:, 2] = 1.0
    count = min(neighbours, len(points))
    if count < 3:
        return normals
    tree = cKDTree(points)
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        near = points[tree.query(points[part], count, workers=-1)[1]]
        near -= near.mean(axis=1, keepdims=True)
        spread = np.einsum("nki,nkj->nij", near, near)
        values, vectors = np.linalg.eigh(spread)
        has_one = values[:, 2] > 0
        normals[part][has_one] = vectors[has_one, :, 0]
    return normals


def oriented(
    points: npt.NDArray[np.float64], normals: npt.NDArray[np.float64], links: int
) -> npt.NDArray[np.float64]:
    """The normals, turned so that those of neighbours agree [Hoppe et al. 1992].

    Signs go along a minimum spanning tree of the graph of nearest neighbours, whose links cost less the more parallel
    the normals are; each piece of the graph has a sign of its own.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
    from scipy.spatial import cKDTree

    n = len(points)
    near = cKDTree(points).query(points, min(links + 1, n), workers=-1)[1][:, 1:]
    one, other = np.repeat(np.arange(n), near.shape[1]), near.ravel()
    cost = 1.0 + _LEAST_COST - np.abs(np.einsum("ij,ij->i", normals[one], normals[other])).clip(0.0, 1.0)
    low, high = np.minimum(one, other), np.maximum(one, other)
    _, first = np.unique(low * n + high, return_index=True)  # coo_matrix adds up what is there twice
    tree = minimum_spanning_tree(coo_matrix((cost[first], (low[first], high[first])), shape=(n, n)).tocsr())
    turned = normals.copy()
    waiting = np.ones(n, bool)
    for seed in range(n):
        if not waiting[seed]:
            continue
        order, before = breadth_first_order(tree, seed, directed=False)
        waiting[order] = False
        for row in order[1:]:
            if turned[row] @ turned[before[row]] < 0:
                turned[row] *= -1
    return turned
