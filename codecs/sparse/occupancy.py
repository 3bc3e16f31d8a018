"""Occupancy: a set of voxels, coded without loss by contexts that were trained on other clouds.

byte 0     bits 0-4: depth of the tree; bit 7: cut in parts
then       number of voxels, varint
then       where cut: bytes of the payload above the parts, and of each part but the last, varints
then       payload, level by level from the root; where cut, the last two levels of each part on their own

Large sets are cut along z, and their parts, which begin with what was learned above, are coded side by side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ...metrics.workers import Workers
from ..cloud import MAX_BIT_DEPTH
from ..container import get_varint, put_varint
from ..entropy.binary import decoder_state, encoder_state, finish
from ..errors import BitstreamError
from ..limits import most_coded, most_nodes
from ..octree.occupancy import distinct
from .kernel import EXHAUSTED, KEY_BITS, LOSSLESS, OK, TOO_MANY, Model, code_level, new_model

#: What of a model training changes, and a cloud starts with.
TRAINED = ("hidden", "output", "updates", "mixers", "final")

_AXIS = (1 << KEY_BITS) - 1
_LOW = (1 << KEY_BITS - 1) - 1
_PARENT_MASK = _LOW << 2 * KEY_BITS | _LOW << KEY_BITS | _LOW
#: Probabilities of each table, as a power of two, for small clouds and for large ones.
_MIN_TABLE_BITS, _MAX_TABLE_BITS = 14, 20
#: Decisions that a trained model counts as already made: how fast it adapts to a cloud.
_EXPERIENCE = 200_000
#: Parts of a large set, the levels that they have of their own, and the nodes above these that make a set large.
_PARTS = 2
_CUT_LEVELS = 2
_CUT_NODES = 40_000
#: Nodes that are many where their children alone are coded.
_CUT_CHILDREN = 150_000
_CUT_FLAG = 1 << 7

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
            getattr(model, name)[..., : value.shape[-1]] = value
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
    return distinct(keys >> 1 & _PARENT_MASK)


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
    is_cut = len(levels) > _CUT_LEVELS and len(levels[-1 - _CUT_LEVELS]) >= _CUT_NODES
    head = bytes([len(levels) - 1 | (_CUT_FLAG if is_cut else 0)]) + put_varint(len(leaves))
    if not is_cut:
        data, bits = _encode_levels(levels, len(leaves), model)
        return head + data, 8 * (len(head) + math.ceil(bits / 8))
    top, bits = _encode_levels(levels[:-_CUT_LEVELS], len(leaves), model)

    def encode(part: Sequence[Keys]) -> tuple[bytes, float]:
        return _encode_levels(part, len(leaves), _copy(model))

    below = levels[-1 - _CUT_LEVELS :]
    coded = Workers().map(
        encode, list(zip(*(_parts(level, below[0], 1 << k) for k, level in enumerate(below)), strict=True))
    )
    strings = [top, *(data for data, _ in coded)]
    head += b"".join(put_varint(len(string)) for string in strings[:-1])
    whole = [math.ceil(one / 8) for one in (bits, *(bits for _, bits in coded))]
    return head + b"".join(strings), 8 * (len(head) + sum(whole))


def decode_keys(data: bytes, experience: Experience) -> Keys:
    """Sorted keys of the voxels of a string made by `encode_keys`.

    Raises:
        BitstreamError: the string is damaged.
    """
    if not data:
        raise BitstreamError("occupancy is empty, expected at least 2 bytes")
    depth, is_cut = data[0] & ~_CUT_FLAG, bool(data[0] & _CUT_FLAG)
    count, position = get_varint(data, 1)
    if depth > MAX_BIT_DEPTH or (is_cut and depth < _CUT_LEVELS):
        raise BitstreamError(f"occupancy has depth {depth}, expected at most {MAX_BIT_DEPTH}")
    if count > min(8**depth, most_coded(len(data))):
        raise BitstreamError(f"{count} voxels cannot be in {len(data) - position} bytes at depth {depth}")
    if count == 0:
        return np.empty(0, np.int64)
    model = experience.model(count)
    root = np.zeros(1, np.int64)
    if not is_cut:
        keys = _decode_levels(data[position:], root, depth, count, model, most_nodes(len(data)))
    else:
        top, *strings = _strings(data, position, 1 + _PARTS)
        nodes = _decode_levels(top, root, depth - _CUT_LEVELS, count, model, most_nodes(len(data)))

        def decode(part: tuple[bytes, Keys]) -> Keys:
            return _decode_levels(*part, _CUT_LEVELS, count, _copy(model), most_nodes(len(data)))

        keys = np.concatenate(Workers().map(decode, list(zip(strings, _parts(nodes, nodes, 1), strict=True))))
    if len(keys) != count:
        raise BitstreamError(f"occupancy declares {count} voxels, but {len(keys)} were found")
    return keys


def _encode_levels(levels: Sequence[Keys], most: int, model: Model) -> tuple[bytes, float]:
    """The string of all levels but the first, and the predicted bits."""
    coder, stream = _writer(levels)
    bits = 0.0
    for above, below in itertools.pairwise(levels):
        bits += code_level(False, above, below, _none(above), LOSSLESS, most, model, coder, stream)[2]
    return finish(coder, stream), bits


def _decode_levels(data: bytes, nodes: Keys, depth: int, most: int, model: Model, most_in_all: int) -> Keys:
    """Nodes `depth` levels below, at most `most`, and at most `most_in_all` on the way.

    Raises:
        BitstreamError: the string is damaged.
    """
    payload = np.frombuffer(data, np.uint8).copy()  # the kernel wants it writable
    coder, none = decoder_state(payload), np.empty(0, np.int64)
    for _ in range(depth):
        outcome, nodes, _ = code_level(True, nodes, none, _none(nodes), LOSSLESS, most, model, coder, payload)
        most_in_all -= len(nodes)
        if outcome == TOO_MANY:
            raise BitstreamError(f"occupancy holds more than the {most} voxels that it declares")
        if outcome == EXHAUSTED:
            raise BitstreamError("occupancy ends before its last voxel")
        if most_in_all < 0:
            raise BitstreamError(f"occupancy has too many nodes for {len(data)} bytes")
    return nodes


def _parts(keys: Keys, nodes: Keys, scale: int) -> list[Keys]:
    """The keys, of a grid `scale` times as fine as that of the nodes, cut across z: about as many nodes a part."""
    cuts = nodes[[len(nodes) * part // _PARTS for part in range(1, _PARTS)]] >> 2 * KEY_BITS
    return np.split(keys, np.searchsorted(keys, cuts * scale << 2 * KEY_BITS))


def _strings(data: bytes, position: int, count: int) -> list[bytes]:
    """The strings at the end of `data`: the lengths of all but the last stand before them.

    Raises:
        BitstreamError: they are longer than the data.
    """
    lengths = []
    for _ in range(count - 1):
        length, position = get_varint(data, position)
        lengths.append(length)
    if sum(lengths) > len(data) - position:
        raise BitstreamError(f"parts of {sum(lengths)} bytes cannot be in {len(data) - position}")
    ends = [position, *itertools.accumulate(lengths, initial=position)][1:]
    return [data[start:end] for start, end in itertools.pairwise([*ends, len(data)])]


def _copy(model: Model) -> Model:
    return model._replace(**{name: getattr(model, name).copy() for name in model._fields})


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
    wanted = children[~skipped[np.searchsorted(nodes, children >> 1 & _PARENT_MASK)].astype(np.bool_)]

    def encode(part: tuple[Keys, Keys, npt.NDArray[np.uint8]]) -> tuple[bytes, float, Keys]:
        above, below, left_out = part
        coder, stream = _writer([above, below])
        model, limit = experience.model(len(above)), 8 * len(above)
        _, found, bits = code_level(False, above, below, left_out, band, limit, model, coder, stream)
        return finish(coder, stream), bits, found

    parts = Workers().map(encode, _children_parts(nodes, wanted, skipped))
    found = np.concatenate([found for _, _, found in parts])
    head = put_varint(len(found)) + b"".join(put_varint(len(data)) for data, _, _ in parts[:-1])
    whole = sum(math.ceil(bits / 8) for _, bits, _ in parts)
    return head + b"".join(data for data, _, _ in parts), 8 * (len(head) + whole), found


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

    def decode(part: tuple[bytes, tuple[Keys, Keys, npt.NDArray[np.uint8]]]) -> Keys:
        string, (above, none, left_out) = part
        payload = np.frombuffer(string, np.uint8).copy()
        state = experience.model(len(above)), decoder_state(payload), payload
        outcome, children, _ = code_level(True, above, none, left_out, band, count, *state)
        if outcome != OK:
            raise BitstreamError(f"{count} voxels were declared, but the string holds others")
        return children

    parts = _children_parts(nodes, np.empty(0, np.int64), skipped)
    strings = _strings(data, position, len(parts))
    children = np.concatenate(Workers().map(decode, list(zip(strings, parts, strict=True))))
    if len(children) != count:
        raise BitstreamError(f"{count} voxels were declared, but {len(children)} were found")
    return children


def _children_parts(
    nodes: Keys, children: Keys, skipped: npt.NDArray[np.uint8]
) -> list[tuple[Keys, Keys, npt.NDArray[np.uint8]]]:
    """Nodes, children and what is skipped, in parts where there are many nodes."""
    if len(nodes) < _CUT_CHILDREN:
        return [(nodes, children, skipped)]
    above = _parts(nodes, nodes, 1)
    ends = np.cumsum([len(part) for part in above])[:-1]
    return list(zip(above, _parts(children, nodes, 2), np.split(skipped, ends), strict=True))


def _none(nodes: Keys) -> npt.NDArray[np.uint8]:
    return np.zeros(len(nodes), np.uint8)


def _writer(levels: Sequence[Keys]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """State of an encoder, and room: a decision costs at most 12 bits, a node has at most 8."""
    return encoder_state(), np.empty(12 * sum(map(len, levels[:-1])) + 64, np.uint8)
