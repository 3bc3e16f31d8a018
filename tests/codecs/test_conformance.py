"""The conformance kit finds each fault that it is there for, and our codecs have none."""

import importlib.util
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pccbench.codecs.base import Bitstream, CodecCard, Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.conformance import check_codec, example_clouds, failures, surface_cloud
from pccbench.codecs.errors import BitstreamError, CodecError
from pccbench.codecs.raw import RawCodec
from pccbench.codecs.registry import codec_class


def module_beside(name):
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"pccbench_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


faulty = module_beside("faulty")


class Base(RawCodec):
    """A sound codec; each of the others has one fault."""


class LosesAPoint(Base):
    def encode(self, cloud, rate):
        return super().encode(cloud.take(np.arange(len(cloud) - 1)) if len(cloud) > 2 else cloud, rate)


class Shifts(Base):
    """Forgets where the cloud was; its rate does not claim to be lossless."""

    def rates(self):
        return [Rate("r01")]

    def encode(self, cloud, rate):
        return RawCodec.encode(self, cloud, RawCodec.rates(self)[0])

    def decode(self, data):
        cloud = super().decode(data)
        return PointCloud(cloud.points.astype(np.float64) + 1000)


class Remembers(Base):
    count = 0

    def encode(self, cloud, rate):
        self.count += 1
        return Bitstream(super().encode(cloud, rate) + bytes([self.count]))

    def decode(self, data):
        return super().decode(data[:-1])


class DependsOnOrder(Base):
    def rates(self):
        return [Rate("r01")]

    def encode(self, cloud, rate):
        half = cloud.take(np.arange((len(cloud) + 1) // 2))
        return RawCodec.encode(self, half, RawCodec.rates(self)[0])


class KeepsTheCloud(Base):
    cloud = None

    def encode(self, cloud, rate):
        self.cloud = cloud
        return super().encode(cloud, rate)

    def decode(self, data):
        super().decode(data)
        return self.cloud


class NoChecksum(Base):
    def encode(self, cloud, rate):
        return super().encode(cloud, rate)[:-4]

    def decode(self, data):
        import zlib

        return super().decode(data + zlib.crc32(data).to_bytes(4, "little"))


class CrashesOnDamage(Base):
    def decode(self, data):
        try:
            return super().decode(data)
        except BitstreamError as error:
            raise IndexError("list index out of range") from error


class ForgetsASection(Base):
    def sections(self, data):
        return {"coordinates": len(data) - 4}


class ChangesTheInput(Base):
    def encode(self, cloud, rate):
        cloud.points[:] = cloud.points[::-1].copy()
        return super().encode(cloud, rate)


class CannotDecodeOnePoint(Base):
    def decode(self, data):
        cloud = super().decode(data)
        if len(cloud) == 1:
            raise BitstreamError("too short")
        return cloud


class Refuses(Base):
    def encode(self, cloud, rate):
        raise CodecError("not today")


class Breaks(Base):
    def encode(self, cloud, rate):
        if len(cloud) < 2:
            raise ZeroDivisionError("division by zero")
        return super().encode(cloud, rate)


class Hangs(Base):
    def decode(self, data):
        try:
            return super().decode(data)
        except BitstreamError:
            while True:
                try:
                    time.sleep(0.1)
                except Exception:  # as a careless codec would
                    continue


class WrongAnnouncement(Base):
    def encode(self, cloud, rate):
        return Bitstream(super().encode(cloud, rate), reconstruction_sha256="0" * 64)


class HighToLow(Base):
    def rates(self):
        return [Rate("r01", {"copies": 2}), Rate("r02", {"copies": 1})]

    def encode(self, cloud, rate):
        many = PointCloud(np.repeat(cloud.points, rate.parameters["copies"], axis=0), cloud.bit_depth)
        return RawCodec.encode(self, many, RawCodec.rates(self)[0])


class TwiceTheName(Base):
    def rates(self):
        return [Rate("r01", lossless=True), Rate("r01", lossless=True)]


class NoVersion(Base):
    def card(self):
        return CodecCard(version="")


@pytest.mark.parametrize(
    ("codec", "check", "says"),
    [
        (LosesAPoint, "collinear", "lossless, but 200 points came back as 199 others"),
        (Shifts, "surface", "bounding box is off by 1000"),
        (Remembers, "determinism", "other bytes the second time"),
        (Remembers, "statelessness", "changes the bytes"),
        (DependsOnOrder, "permutation", "depends on the order"),
        (KeepsTheCloud, "one_point", "decode returned NoneType"),
        (NoChecksum, "flipped_bits", "expected a BitstreamError"),
        (CrashesOnDamage, "truncation", "IndexError: list index out of range; expected a BitstreamError"),
        (CrashesOnDamage, "foreign_streams", "IndexError"),
        (ForgetsASection, "two_points", "sections sum to"),
        (ChangesTheInput, "rates", "changed the points"),
        (CannotDecodeOnePoint, "one_point", "cannot decode its own stream"),
        (Refuses, "rates", "refused an ordinary surface: not today"),
        (Breaks, "one_point", "ZeroDivisionError"),
        (Hangs, "truncation", "decode took longer than 0.5 s"),
        (WrongAnnouncement, "collinear", "not the one that the encoder announced"),
        (HighToLow, "rates", "from low to high"),
        (TwiceTheName, "rates", "same name"),
        (NoVersion, "card", "no version"),
    ],
)
def test_each_fault_is_found(codec, check, says):
    limit = 0.5 if codec is Hangs else 60.0
    found = [result for result in check_codec(codec(), call_limit_s=limit, n_flipped_bits=9)]
    matching = [result for result in found if result.check.partition("/")[0] == check]
    assert failures(matching)
    assert all(says in result.detail for result in failures(matching))


def test_the_sound_one_has_none():
    assert not failures(check_codec(Base()))


def test_without_a_checksum_damage_may_decode_but_not_crash():
    assert not failures(check_codec(NoChecksum(), is_checksummed=False))
    assert failures(check_codec(CrashesOnDamage(), is_checksummed=False))


@pytest.mark.parametrize(
    ("name", "check", "says"),
    [
        ("ReadsTheEncodersFile", "second_process", "another process cannot decode it"),
        ("ReadsAGlobal", "second_process", "another process cannot decode it"),
        ("LeavesFiles", "leftovers", "files stay after the calls: left-"),
        ("LeavesFilesElsewhere", "leftovers", "files stay after the calls: pccbench-faulty-"),
        ("LeavesThreads", "leftovers", "more threads run after the last call than after the first"),
        ("TrustsTheChecksum", "sealed_damage", r"IndexError: list index out of range \(faulty.py:\d+\)"),
        ("AllocatesByTheHeader", "sealed_damage", "MemoryError"),
        ("DependsOnThreads", "same_bytes", "1 threads, PYTHONHASHSEED 1 and 2 threads, PYTHONHASHSEED 2"),
        ("DependsOnHashes", "same_bytes", "other bytes in another process"),
        ("EstimatesNonsense", "surface", "estimated_bits is -1e"),
        ("ForgetsTheBitDepth", "surface", "bit depth 21, expected 7"),
        ("WidensNumbers", "real_numbers", "another type: float64 from float32"),
        ("FailsFarAway", "real_far", "OverflowError: coordinate too large"),
        ("FailsOnManyPoints", "large", "OverflowError"),
        ("FailsAtAMiddleRate", "surface", "KeyError: 'no such rate'"),
        ("SleepsOnDamage", "sealed_damage", "a call took too long"),
    ],
)
def test_faults_that_another_process_or_another_cloud_shows_are_found(name, check, says):
    codec = getattr(faulty, name)()
    results = check_codec(codec, call_limit_s=3.0, n_flipped_bits=3)
    found = [result.detail for result in failures(results) if result.check.split("/")[0] == check]
    assert found, [(result.check, result.detail) for result in failures(results)]
    assert any(re.search(says, detail) for detail in found), found


def test_the_sound_one_among_them_passes():
    assert {result.status for result in check_codec(faulty.Sound())} == {"passed"}


def test_what_no_other_process_can_make_is_said():
    class Local(RawCodec):
        pass

    skipped = [result for result in check_codec(Local(), is_thorough=False) if result.status == "skipped"]
    assert [result.check for result in skipped] == ["second_process"]
    assert "in no file" in skipped[0].detail


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"version": 3}, "version is 3, expected a line of text"),
        ({"title": ["a"]}, r"title is \['a'\]"),
        ({"title": "two\nlines"}, "title is"),
        ({"description": "x" * 100_000}, "description is"),
        ({"parameters": float("nan")}, "parameters is nan"),
        ({"macs_per_point": float("inf")}, "macs_per_point is inf"),
        ({"macs_per_point": -1}, "macs_per_point is -1"),
        ({"trained": None}, "trained is None"),
        ({"training_files_sha256": None}, "training_files_sha256 is None"),
        ({"training_files_sha256": ("secret",)}, "'secret' for a hash"),
        ({"weights_sha256": {}}, "has {} for a hash"),
        ({"tool": 5}, "tool is 5"),
    ],
)
def test_a_card_of_nonsense_is_found(settings, says):
    class Nonsense(Base):
        def card(self):
            return CodecCard(**{"version": "1", **settings})

    (failure,) = failures(check_codec(Nonsense()))
    assert failure.check == "card"
    assert re.search(says, failure.detail)
    assert len(failure.detail) < 200


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ([], r"rates\(\) is \[\]"),
        (None, r"rates\(\) is None"),
        (["r01"], "rates.. has 'r01', expected Rate"),
        ([Rate("")], "name is ''"),
        ([Rate("a,b")], "name is 'a,b'"),
        ([Rate("a b")], "name is"),
        ([Rate(3)], "name is 3"),
        ([Rate("r01", {"q": float("nan")})], "parameter 'q': nan"),
        ([Rate("r01", {"q": np.float64(2)})], "parameter 'q'"),
        ([Rate("r01", {"q": [1]})], r"parameter 'q': \[1\]"),
        ([Rate("r01", {3: 1})], "parameter 3"),
        ([Rate("r01", lossless=1)], "lossless of r01 is 1"),
    ],
)
def test_rates_of_nonsense_are_found(rates, says):
    class Nonsense(Base):
        def rates(self):
            return rates

    (failure,) = failures(check_codec(Nonsense()))
    assert failure.check == "rates"
    assert re.search(says, failure.detail), failure.detail


@pytest.mark.parametrize("name", ["octree", "deepcompress"])
def test_our_codecs_conform(name):
    codec = codec_class(name)
    results = check_codec(codec(), fresh=codec, n_flipped_bits=8, is_thorough=False)
    assert not failures(results)
    refused = {result.check.split("/")[0] for result in results if result.status == "refused"}
    assert refused == {"real_numbers", "real_one_point", "real_large", "real_far"}


def test_the_clouds_are_what_their_names_say():
    clouds = example_clouds()
    assert len(clouds["empty"]) == 0
    assert len(clouds["grid_corners"]) == 8
    assert clouds["grid_corners"].points.max() == 2**21 - 1
    assert len(clouds["repeated_points"].merged()) < len(clouds["repeated_points"])
    surface = surface_cloud()
    assert len(surface.merged()) == len(surface) > 5000
    assert surface_cloud(1).geometry_sha256() != surface.geometry_sha256()
