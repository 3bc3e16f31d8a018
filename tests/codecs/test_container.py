"""The container: round trips, its size, and what it does with damage."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pccbench.codecs.container import MAGIC, codec_of, get_varint, ledger, pack, put_varint, unpack
from pccbench.codecs.errors import BitstreamError


@given(
    codec=st.sampled_from(["raw", "octree"]) | st.text(min_size=1, max_size=60),
    sections=st.lists(st.binary(max_size=300), min_size=1, max_size=64),
)
def test_round_trip(codec, sections):
    data = pack(codec, sections)
    assert unpack(data) == (codec, sections)
    assert codec_of(data) == codec
    assert sum(ledger(data, [str(i) for i in range(len(sections))]).values()) == len(data)


def test_the_overhead_is_small():
    assert len(pack("octree", [b""])) == 8
    assert len(pack("octree", [b"header", b"x" * 100_000])) - 100_006 == 9
    assert len(pack("someone-elses", [b""])) == 8 + 1 + len("someone-elses")


def test_sections_are_named_in_order():
    assert ledger(pack("raw", [b"abc", b"", b"de"]), ["one", "two", "three"]) == {
        "container": 10,
        "one": 3,
        "three": 2,
    }


@given(value=st.integers(0, 2**63 - 1), before=st.binary(max_size=3), after=st.binary(max_size=3))
def test_varint_round_trip(value, before, after):
    coded = put_varint(value)
    assert get_varint(before + coded + after, len(before)) == (value, len(before) + len(coded))


@pytest.mark.parametrize("value", [-1, 2**63])
def test_varint_range(value):
    with pytest.raises(ValueError, match="varint"):
        put_varint(value)


def test_endless_varint_is_refused():
    with pytest.raises(BitstreamError, match="longer than"):
        get_varint(b"\xff" * 20, 0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a pccbench stream"),
        (b"ply\nformat ascii 1.0\n", "not a pccbench stream: it starts with 706c"),
        (MAGIC, "not a pccbench stream"),
        (MAGIC + bytes([2 << 5 | 2]), "format version 2"),
        (MAGIC + bytes([1 << 5 | 31]), "unknown codec, number 31"),
        (MAGIC + bytes([1 << 5, 9]) + b"abc", "inside the codec's name"),
        (MAGIC + bytes([1 << 5 | 2, 0]), "0 sections"),
        (MAGIC + bytes([1 << 5 | 2, 2]) + put_varint(2**62) + b"abcdefgh", "truncated"),
    ],
)
def test_foreign_streams_are_refused_with_the_reason(data, said):
    with pytest.raises(BitstreamError, match=said):
        unpack(data)


def test_another_codecs_stream_is_refused():
    with pytest.raises(BitstreamError, match="expected a stream of codec 'raw', got one of 'octree'"):
        unpack(pack("octree", [b"abc"]), "raw")


def test_every_truncation_is_noticed():
    data = pack("mine", [b"head", b"body" * 20])
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            unpack(data[:length])


def test_every_flipped_bit_is_noticed():
    data = pack("mine", [b"head", b"body" * 20])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unpack(bytes(damaged))


def test_garbage_with_a_right_checksum_is_bounded():
    generator = np.random.default_rng(5)
    for _ in range(500):
        body = MAGIC + bytes([1 << 5 | 2]) + generator.bytes(int(generator.integers(0, 40)))
        data = body + zlib.crc32(body).to_bytes(4, "little")
        try:
            _, sections = unpack(data)
        except BitstreamError:
            continue
        assert sum(map(len, sections)) < len(data)
