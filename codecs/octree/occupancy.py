"""Occupancy: the plain coder of a set of voxels, for the octree codec and as a base layer of others.

A coded set is a header of a few bytes and one arithmetic-coded payload:

    byte 0     depth of the tree (5 bits), direct mode (1 bit)
    then       number of voxels, varint
    then       payload, level by level from the root
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..cloud import MAX_BIT_DEPTH
from ..container import get_varint, put_varint
from ..entropy.binary import decoder_state, encoder_state, finish
from ..errors import BitstreamError, CodecError
from ..limits import most_coded, most_nodes
from .kernel import EXHAUSTED, KEY_BITS, TOO_MANY, code_direct, code_level, code_multiplicities, new_model

_DIRECT_FLAG = 0x20
_AXIS = (1 << KEY_BITS) - 1

#: Fewer children than this on average, among the parents of leaves: a sparse cloud, worth the direct mode.
_SPARSE_CHILDREN = 2.5
_MIN_TABLE_BITS, _MAX_TABLE_BITS = 12, 20


def encode_occupancy(points: npt.NDArray[np.integer]) -> bytes:
    """Code the set of voxels that `points` occupy; repeated points count once.

    Args:
        points: (n, 3) integer coordinates in [0, 2**21); n may be 0.

    Returns:
        A self-contained string: a base layer can be stored as it is.

    Raises:
        CodecError: another shape or a coordinate out of range.
    """
    return encode_keys(keys_of(points))[0]


def decode_occupancy(data: bytes) -> npt.NDArray[np.int32]:
    """The voxels of a string made by `encode_occupancy`.

    Returns:
        (n, 3) distinct coordinates, sorted by z, then y, then x.

    Raises:
        BitstreamError: the string is damaged.
    """
    return points_of(decode_keys(data))


def keys_of(points: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Keys z << 42 | y << 21 | x of points, in their order.

    Raises:
        CodecError: another shape than (n, 3), or a coordinate outside [0, 2**21).
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise CodecError(f"voxels must have shape (n, 3), got {points.shape}")
    if len(points) and (points.min() < 0 or points.max() > _AXIS):
        raise CodecError(f"voxel coordinates {points.min()}..{points.max()} do not fit 0..{_AXIS}")
    wide = points.astype(np.int64, copy=False)
    return wide[:, 2] << 2 * KEY_BITS | wide[:, 1] << KEY_BITS | wide[:, 0]


def points_of(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Points of keys, in their order, (n, 3)."""
    points = np.empty((len(keys), 3), np.int32)
    points[:, 0] = keys & _AXIS
    points[:, 1] = (keys >> KEY_BITS) & _AXIS
    points[:, 2] = keys >> 2 * KEY_BITS
    return points


def encode_keys(keys: npt.NDArray[np.int64]) -> tuple[bytes, float]:
    """Code the set of voxels with these keys, in any order; also the predicted bits, in whole bytes with the head."""
    leaves = distinct(keys)
    if not len(leaves):
        return bytes([0]) + put_varint(0), 16.0
    extent = int(np.bitwise_or.reduce(leaves))
    depth = max((extent >> axis * KEY_BITS & _AXIS).bit_length() for axis in range(3))
    levels = _levels(leaves, depth)
    use_direct = depth > 1 and len(leaves) < _SPARSE_CHILDREN * len(levels[-2])
    alone = _alone(leaves, depth) if use_direct else []

    model = new_model(_table_bits(len(leaves)))
    coder = encoder_state()
    # A decision costs at most 12 bits, a node at most 8 decisions and a direct point beside.
    stream = np.empty(24 * sum(map(len, levels[:-1])) + 64, np.uint8)
    nodes = levels[0]
    predicted_bits = 0.0
    for level in range(depth):
        direct = np.zeros(len(nodes), np.uint8)
        if use_direct and level > 0 and depth - level > 1:
            _, direct, points = code_direct(
                False, depth - level, nodes, levels[level], alone[level], model, coder, stream
            )
            predicted_bits += 3 * (depth - level) * len(points)
        _, nodes, bits = code_level(False, level, nodes, levels[level + 1], direct, len(leaves), model, coder, stream)
        predicted_bits += bits
    head = bytes([depth | (_DIRECT_FLAG if use_direct else 0)]) + put_varint(len(leaves))
    return head + finish(coder, stream), 8 * (len(head) + math.ceil(predicted_bits / 8))


def decode_keys(data: bytes) -> npt.NDArray[np.int64]:
    """Sorted keys of the voxels of a string made by `encode_keys`.

    Raises:
        BitstreamError: the string is damaged.
    """
    if not data:
        raise BitstreamError("occupancy is empty, expected at least 2 bytes")
    depth, use_direct = data[0] & (_DIRECT_FLAG - 1), bool(data[0] & _DIRECT_FLAG)
    count, position = get_varint(data, 1)
    if data[0] >= 2 * _DIRECT_FLAG or depth > MAX_BIT_DEPTH:
        raise BitstreamError(f"occupancy has depth {depth} and flags {data[0] >> 6}, expected at most 21 and 0")
    payload = np.frombuffer(data, np.uint8, offset=position).copy()  # the kernel wants it writable
    if count > min(8**depth, most_coded(len(data))):
        raise BitstreamError(f"{count} voxels cannot be in {len(payload)} bytes at depth {depth}")
    if count == 0:
        return np.empty(0, np.int64)

    model = new_model(_table_bits(count))
    coder = decoder_state(payload)
    nodes = np.zeros(1, np.int64)
    none = np.empty(0, np.int64)
    direct_points = []
    direct_count = n_nodes = 0
    for level in range(depth):
        direct = np.zeros(len(nodes), np.uint8)
        if use_direct and level > 0 and depth - level > 1:
            outcome, direct, points = code_direct(True, depth - level, nodes, none, none, model, coder, payload)
            _check(outcome, count)
            direct_points.append(points)
            direct_count += len(points)
        outcome, nodes, _ = code_level(True, level, nodes, none, direct, count - direct_count, model, coder, payload)
        _check(outcome, count)
        n_nodes += len(nodes)
        if n_nodes > most_nodes(len(data)):
            raise BitstreamError(f"{n_nodes} nodes in {level + 1} levels cannot be in {len(data)} bytes")
    keys = np.sort(np.concatenate([nodes, *direct_points])) if direct_count else nodes
    if len(keys) != count:
        raise BitstreamError(f"occupancy declares {count} voxels, but {len(keys)} were found")
    return keys


def _check(outcome: int, count: int) -> None:
    if outcome == TOO_MANY:
        raise BitstreamError(f"occupancy holds more than the {count} voxels that it declares")
    if outcome == EXHAUSTED:
        raise BitstreamError("occupancy ends before its last voxel")


def _table_bits(count: int) -> int:
    return min(max(count.bit_length(), _MIN_TABLE_BITS), _MAX_TABLE_BITS)


def _parents(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Keys of the nodes one level up, in the order of `keys`, repeated."""
    low = (1 << KEY_BITS - 1) - 1
    mask = low << 2 * KEY_BITS | low << KEY_BITS | low
    return keys >> 1 & mask


def distinct(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The distinct keys, ascending; `np.unique` hashes first and takes many times as long."""
    ordered = np.sort(keys)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def _levels(leaves: npt.NDArray[np.int64], depth: int) -> list[npt.NDArray[np.int64]]:
    """Sorted keys of the nodes of each level, root first."""
    levels = [leaves]
    for _ in range(depth):
        levels.append(distinct(_parents(levels[-1])))
    return levels[::-1]


def _alone(leaves: npt.NDArray[np.int64], depth: int) -> list[npt.NDArray[np.int64]]:
    """For each node of `_levels` the key of the only leaf below it, or -1."""
    keys, only = leaves, leaves
    alone = [only]
    for _ in range(depth):
        parents = _parents(keys)
        order = np.argsort(parents, kind="stable")
        parents = parents[order]
        first = np.flatnonzero(np.r_[True, parents[1:] != parents[:-1]])
        single = np.diff(np.r_[first, len(parents)]) == 1
        only = np.where(single, only[order][first], -1)
        keys = parents[first]
        alone.append(only)
    return alone[::-1]


def encode_multiplicities(counts: npt.NDArray[np.int64]) -> bytes:
    """Code how often each voxel occurs, in sorted order; each at least 1."""
    model = np.full(128, 1 << 31, np.uint32)
    coder = encoder_state()
    stream = np.empty(16 * len(counts) + 64, np.uint8)
    code_multiplicities(False, counts, model, coder, stream)
    return finish(coder, stream)


def decode_multiplicities(data: bytes, voxels: int) -> npt.NDArray[np.int64]:
    """How often each of `voxels` voxels occurs.

    Raises:
        BitstreamError: the string is damaged.
    """
    stream = np.frombuffer(data, np.uint8).copy()
    counts = np.zeros(voxels, np.int64)
    coder = decoder_state(stream)
    if not code_multiplicities(True, counts, np.full(128, 1 << 31, np.uint32), coder, stream):
        raise BitstreamError("multiplicities end before the last voxel")
    return counts


def warm_up() -> None:
    """Compile the kernels, or load them from numba's cache: a sparse set, so that each is called."""
    points = np.array([[0, 0, 0], [40, 50, 60], [1000, 2000, 3000]])
    decode_occupancy(encode_occupancy(points))
    decode_multiplicities(encode_multiplicities(np.array([1, 2])), 2)
