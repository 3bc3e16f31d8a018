"""Occupancy: a set of voxels, coded without loss by contexts that were trained on other clouds.

byte 0     depth of the tree
then       number of voxels, varint
then       payload, level by level from the root
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..cloud import MAX_BIT_DEPTH
from ..container import get_varint, put_varint
from ..entropy.binary import decoder_state, encoder_state, finish
from ..errors import BitstreamError
from .kernel import EXHAUSTED, KEY_BITS, LOSSLESS, MIN_PROBABILITY, OK, TOO_MANY, Model, code_level, new_model

#: What of a model training changes, and a cloud starts with.
TRAINED = ("hidden", "output", "updates", "mixers", "final")

_AXIS = (1 << KEY_BITS) - 1
_LOW = (1 << KEY_BITS - 1) - 1
_PARENT_MASK = _LOW << 2 * KEY_BITS | _LOW << KEY_BITS | _LOW
#: No decision costs less than -log2(1 - MIN_PROBABILITY / 2**16) bits.
_MAX_VOXELS_PER_BYTE = 8 * int(0.6931 * (1 << 16) / MIN_PROBABILITY)
#: Probabilities of each table, as a power of two, for small clouds and for large ones.
_MIN_TABLE_BITS, _MAX_TABLE_BITS = 14, 20
#: Decisions that a trained model counts as already made: how fast it adapts to a cloud.
_EXPERIENCE = 200_000

Keys = npt.NDArray[np.int64]


class Experience:
    """What a cloud's coding starts from: the arrays of a trained model, never changed."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.int32]]) -> None:
        self.arrays = {name: np.ascontiguousarray(arrays[name], np.int32) for name in TRAINED}

    @classmethod
    def of(cls, model: Model) -> Experience:
        """What a model has learned so far."""
        return cls({name: getattr(model, name).copy() for name in TRAINED})

    def model(self, voxels: int) -> Model:
        """A fresh model for a cloud of so many voxels."""
        bits = min(max(voxels.bit_length(), _MIN_TABLE_BITS), _MAX_TABLE_BITS)
        model = new_model(bits, len(self.arrays["output"]))
        for name, value in self.arrays.items():
            getattr(model, name)[...] = value
        model.decisions[0] = _EXPERIENCE
        return model


def levels_of(leaves: Keys) -> list[Keys]:
    """Sorted keys of the nodes of each level of the smallest tree that holds `leaves` (sorted), root first."""
    extent = int(np.bitwise_or.reduce(leaves, initial=0))
    depth = max((extent >> axis * KEY_BITS & _AXIS).bit_length() for axis in range(3))
    levels = [leaves]
    for _ in range(depth):
        levels.append(parents_of(levels[-1]))
    return levels[::-1]


def parents_of(keys: Keys) -> Keys:
    """Sorted distinct keys of the voxels of twice the side."""
    return np.unique(keys >> 1 & _PARENT_MASK)


def learn(leaves: Keys, model: Model) -> float:
    """Let a model learn from a set of voxels (sorted keys); the bits that it took."""
    coder, stream = _writer(levels := levels_of(leaves))
    return sum(
        code_level(False, above, below, _none(above), LOSSLESS, len(leaves), model, coder, stream)[2]
        for above, below in itertools.pairwise(levels)
    )


def encode_keys(leaves: Keys, experience: Experience) -> tuple[bytes, float]:
    """Code a set of voxels (sorted distinct keys); also the predicted bits, in whole bytes with the head."""
    if not len(leaves):
        return bytes([0]) + put_varint(0), 16.0
    levels = levels_of(leaves)
    model = experience.model(len(leaves))
    coder, stream = _writer(levels)
    predicted_bits = 0.0
    for above, below in itertools.pairwise(levels):
        predicted_bits += code_level(False, above, below, _none(above), LOSSLESS, len(leaves), model, coder, stream)[
            2
        ]
    head = bytes([len(levels) - 1]) + put_varint(len(leaves))
    return head + finish(coder, stream), 8 * (len(head) + math.ceil(predicted_bits / 8))


def decode_keys(data: bytes, experience: Experience) -> Keys:
    """Sorted keys of the voxels of a string made by `encode_keys`.

    Raises:
        BitstreamError: the string is damaged.
    """
    if not data:
        raise BitstreamError("occupancy is empty, expected at least 2 bytes")
    depth = data[0]
    count, position = get_varint(data, 1)
    if depth > MAX_BIT_DEPTH:
        raise BitstreamError(f"occupancy has depth {depth}, expected at most {MAX_BIT_DEPTH}")
    payload = np.frombuffer(data, np.uint8, offset=position).copy()  # the kernel wants it writable
    if count > min(8**depth, _MAX_VOXELS_PER_BYTE * (len(payload) + 16)):
        raise BitstreamError(f"{count} voxels cannot be in {len(payload)} bytes at depth {depth}")
    if count == 0:
        return np.empty(0, np.int64)
    model = experience.model(count)
    coder = decoder_state(payload)
    nodes, none = np.zeros(1, np.int64), np.empty(0, np.int64)
    for _ in range(depth):
        outcome, nodes, _ = code_level(True, nodes, none, _none(nodes), LOSSLESS, count, model, coder, payload)
        if outcome == TOO_MANY:
            raise BitstreamError(f"occupancy holds more than the {count} voxels that it declares")
        if outcome == EXHAUSTED:
            raise BitstreamError("occupancy ends before its last voxel")
    if len(nodes) != count:
        raise BitstreamError(f"occupancy declares {count} voxels, but {len(nodes)} were found")
    return nodes


def encode_children(
    nodes: Keys, children: Keys, skipped: npt.NDArray[np.uint8], band: tuple[int, int], experience: Experience
) -> tuple[bytes, float, Keys]:
    """Code the children of those of the `nodes` (sorted keys) that are not skipped.

    Args:
        nodes: sorted keys.
        children: sorted keys, all that there are.
        skipped: (nodes,) 1 for a node to leave out.
        band: `LOSSLESS`, or that of `code_level`, outside of which children are guessed.
        experience: what coding starts from.

    Returns:
        The string, the predicted bits (in whole bytes, with the head), and the children that the decoder will find.
    """
    if skipped.all():
        return b"", 0.0, np.empty(0, np.int64)
    model = experience.model(len(nodes))
    coder, stream = _writer([nodes, children])
    wanted = children[~skipped[np.searchsorted(nodes, children >> 1 & _PARENT_MASK)].astype(np.bool_)]
    limit = 8 * len(nodes)
    _, found, bits = code_level(False, nodes, wanted, skipped, band, limit, model, coder, stream)
    head = put_varint(len(found))
    return head + finish(coder, stream), 8 * (len(head) + math.ceil(bits / 8)), found


def decode_children(
    data: bytes, nodes: Keys, skipped: npt.NDArray[np.uint8], band: tuple[int, int], experience: Experience
) -> Keys:
    """What `encode_children` coded, sorted.

    Raises:
        BitstreamError: the string is damaged.
    """
    if skipped.all():
        return np.empty(0, np.int64)
    count, position = get_varint(data, 0)
    if count > 8 * len(nodes):
        raise BitstreamError(f"{count} voxels cannot be in {len(nodes)} nodes")
    payload = np.frombuffer(data, np.uint8, offset=position).copy()
    state = experience.model(len(nodes)), decoder_state(payload)
    outcome, children, _ = code_level(True, nodes, np.empty(0, np.int64), skipped, band, count, *state, payload)
    if outcome != OK or len(children) != count:
        raise BitstreamError(f"{count} voxels were declared, but the string holds others")
    return children


def _none(nodes: Keys) -> npt.NDArray[np.uint8]:
    return np.zeros(len(nodes), np.uint8)


def _writer(levels: list[Keys]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """State of an encoder, and room: a decision costs at most 12 bits, a node has at most 8."""
    return encoder_state(), np.empty(12 * sum(map(len, levels[:-1])) + 64, np.uint8)
