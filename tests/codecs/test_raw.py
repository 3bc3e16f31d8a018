"""The raw codec: exact, in the size that the arithmetic says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccbench.codecs.cloud import MAX_BIT_DEPTH, PointCloud
from pccbench.codecs.conformance import check_codec, failures
from pccbench.codecs.container import pack
from pccbench.codecs.errors import BitstreamError, CodecError
from pccbench.codecs.raw import RawCodec, pack_bits, packed_size, unpack_bits

codec = RawCodec()
(lossless,) = codec.rates()


def reference_packing(values, width):
    """All values in one big integer, the first lowest."""
    total = sum(int(value) << (i * width) for i, value in enumerate(values))
    return total.to_bytes((len(values) * width + 7) // 8, "little")


@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(1, 31), st.integers(0, 40))
def test_bits_are_those_of_one_big_integer(data, width, count):
    values = np.array(data.draw(st.lists(st.integers(0, 2**width - 1), min_size=count, max_size=count)), np.int32)
    packed = pack_bits(values, width)
    assert packed == reference_packing(values, width)
    assert len(packed) == packed_size(count, width)
    assert np.array_equal(unpack_bits(packed, width, count), values)


@pytest.mark.parametrize("bit_depth", range(1, MAX_BIT_DEPTH + 1))
def test_order_and_repeats_are_kept(bit_depth):
    generator = np.random.default_rng(bit_depth)
    points = generator.integers(0, 1 << bit_depth, (101, 3)).astype(np.int32)
    points[5] = points[50]
    data = codec.encode(PointCloud(points, bit_depth), lossless)
    decoded = codec.decode(bytes(data))
    assert np.array_equal(decoded.points, points)
    assert decoded.bit_depth == bit_depth
    assert codec.sections(data)["coordinates"] == -(-101 * 3 * bit_depth // 8)
    assert len(data) - codec.sections(data)["coordinates"] <= 12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_numbers_come_back_to_the_last_bit(dtype):
    points = np.random.default_rng(0).normal(size=(77, 3)).astype(dtype)
    points[0] = -0.0
    decoded = codec.decode(codec.encode(PointCloud(points), lossless))
    assert decoded.points.dtype == dtype
    assert decoded.points.tobytes() == points.tobytes()


def test_conformance():
    results = check_codec(RawCodec())
    assert not failures(results)
    assert {result.status for result in results} == {"passed"}


@pytest.mark.parametrize(
    "sections",
    [
        [b"\x0a\x01"],
        [b"", b"abc"],
        [b"\x0a", b"abcd"],
        [b"\x0a\x02", b"abcd"],
        [b"\x16\x01", b"123456789"],
        [b"\x00\x01", b""],
        [b"\x0a\xff\xff\xff\xff\xff\xff\xff\x7f", b"abcd"],
        [b"\x20\x01", np.array([np.nan, 0, 0], "<f4").tobytes()],
    ],
)
def test_unsound_headers_are_refused(sections):
    with pytest.raises(BitstreamError):
        codec.decode(pack("raw", sections))


def test_a_foreign_rate_is_refused():
    from pccbench.codecs.base import Rate

    with pytest.raises(CodecError, match="one rate lossless"):
        codec.encode(PointCloud(np.zeros((1, 3), np.int32), 1), Rate("r01"))
