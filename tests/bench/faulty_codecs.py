"""Codecs that misbehave, each in its own way; loaded as a third party's file would be."""

import errno
import os
import sys
import time

import numpy as np

from pccbench.codecs.base import Bitstream, Codec, CodecCard, Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import CodecUnavailableError, NotApplicableError


class Honest(Codec):
    """Keeps every point; what the others do wrong is a change to this."""

    name = "honest"

    def rates(self):
        return [Rate("only", {"step": 1}, lossless=True)]

    def encode(self, cloud, rate):
        return bytes([cloud.bit_depth]) + cloud.points.astype("<i4").tobytes()

    def decode(self, data):
        return PointCloud(np.frombuffer(data[1:], "<i4").reshape(-1, 3), bit_depth=data[0])

    def card(self):
        return CodecCard(version="1", title=self.name)


class Aborts(Honest):
    name = "aborts"

    def encode(self, cloud, rate):
        os.abort()


class AbortsInDecoder(Honest):
    name = "aborts-in-decoder"

    def decode(self, data):
        print("last words", file=sys.stderr)
        os._exit(3)


class Hangs(Honest):
    name = "hangs"

    def decode(self, data):
        time.sleep(600)


class EatsMemory(Honest):
    name = "eats-memory"

    def encode(self, cloud, rate):
        hoard = []
        while True:
            hoard.append(np.ones(4_000_000))
            time.sleep(0.01)


class AsksForTooMuch(Honest):
    name = "asks-for-too-much"

    def decode(self, data):
        return np.zeros(1 << 42)


class ReturnsGarbage(Honest):
    name = "returns-garbage"

    def decode(self, data):
        return PointCloud(np.arange(30, dtype=np.int32).reshape(10, 3), bit_depth=10)


class ReturnsWrongType(Honest):
    name = "returns-wrong-type"

    def encode(self, cloud, rate):
        return "not bytes"


class DecodesWrongType(Honest):
    name = "decodes-wrong-type"

    def decode(self, data):
        return np.zeros((3, 3))


class ReturnsNothing(Honest):
    name = "returns-nothing"

    def rates(self):
        return [Rate("only")]

    def decode(self, data):
        return PointCloud(np.zeros((0, 3), np.int32), bit_depth=10)


class WritesToStdout(Honest):
    name = "writes-to-stdout"

    def encode(self, cloud, rate):
        print("chatter " * 1000)
        os.write(1, b"\x00\xff raw bytes")
        return super().encode(cloud, rate)


class Raises(Honest):
    name = "raises"

    def encode(self, cloud, rate):
        raise ValueError("cannot\ndo this")


class Remembers(Honest):
    """Its decoder wants what its encoder left in memory: the sealed decoder has to fail."""

    name = "remembers"
    kept = None

    def encode(self, cloud, rate):
        Remembers.kept = cloud
        return b"x"

    def decode(self, data):
        return Remembers.kept


class LiesAboutSections(Honest):
    name = "lies-about-sections"

    def sections(self, data):
        return {"payload": 1}


class FailsToStart(Honest):
    name = "fails-to-start"

    def warm_up(self):
        raise RuntimeError("no licence")


class LeavesFiles(Honest):
    """Leaves a file where it works; its decoder must not find it."""

    name = "leaves-files"

    def encode(self, cloud, rate):
        with open("cloud.bin", "wb") as file:  # noqa: PTH123
            file.write(super().encode(cloud, rate))
        return b"see cloud.bin"

    def decode(self, data):
        with open("cloud.bin", "rb") as file:  # noqa: PTH123
            return super().decode(file.read())


class IsNotApplicable(Honest):
    name = "is-not-applicable"

    def encode(self, cloud, rate):
        raise NotApplicableError("codes spheres alone")


class IsUnavailable(Honest):
    """Its set-up finds out that it cannot run; `rates` gives two, so that this would be said twice."""

    name = "is-unavailable"

    def rates(self):
        return [Rate("one"), Rate("two")]

    def warm_up(self):
        raise CodecUnavailableError("no licence: buy one")


class FillsTheDisk(Honest):
    name = "fills-the-disk"

    def encode(self, cloud, rate):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Changes(Honest):
    """Its stream is another one each time."""

    name = "changes"

    def rates(self):
        return [Rate("only")]

    def encode(self, cloud, rate):
        self.calls = getattr(self, "calls", 0) + 1
        return super().encode(cloud, rate) + bytes(12 * self.calls)


class Chatters(Honest):
    """Says twenty megabytes where a line would do."""

    name = "chatters"

    def encode(self, cloud, rate):
        print("chatter\n" * 3_000_000, file=sys.stderr)
        raise ValueError("\x1b[2J\u202e" + "x" * 20_000_000)


#: Codecs whose card, rates, sections or notes make no sense, by what is wrong with them: honest but for one method.
CARELESS = {
    "card-none": {"card": None},
    "card-dict": {"card": {"version": "1"}},
    "card-trained-nan": {"card": CodecCard("1", trained=float("nan"))},
    "card-version-list": {"card": CodecCard(["1"])},
    "card-files-dict": {"card": CodecCard("1", training_files_sha256={"a": 1})},
    "card-weights-int": {"card": CodecCard("1", weights_sha256=3)},
    "card-macs-nan": {"card": CodecCard("1", macs_per_point=float("nan"))},
    "card-parameters-text": {"card": CodecCard("1", parameters="many")},
    "rates-none": {"rates": None},
    "rates-empty": {"rates": []},
    "rates-texts": {"rates": ["r01"]},
    "rates-twice": {"rates": [Rate("a"), Rate("a")]},
    "rates-nan": {"rates": [Rate("a", {"step": float("nan")})]},
    "rates-list": {"rates": [Rate("a", {"step": [1]})]},
    "rates-huge": {"rates": [Rate("x" * 3_000_000)]},
    "rates-surrogate": {"rates": [Rate("caf\udce9")]},
    "rates-control": {"rates": [Rate("a\x1b[2J")]},
    "rates-lossless-text": {"rates": [Rate("a", lossless="no")]},
    "rates-parameters-list": {"rates": [Rate("a", ["step"])]},
    "sections-none": {"sections": None},
    "sections-text": {"sections": "payload"},
    "sections-list": {"sections": [1, 2]},
    "sections-nan": {"sections": {"payload": float("nan")}},
    "sections-negative": {"sections": {"payload": -1}},
    "sections-nested": {"sections": {"payload": {"a": 1}}},
    "sections-many": {"sections": {str(number): 1 for number in range(5000)}},
    "bits-negative": {"facts": {"estimated_bits": -1e30}},
    "bits-text": {"facts": {"estimated_bits": "few"}},
    "notes-huge": {"facts": {"notes": {str(n): "x" * 100_000 for n in range(300)}}},
    "notes-nan": {"facts": {"notes": {"nan": float("nan"), "set": {1}, "numpy": np.float32(2), "text": "\udce9"}}},
    "hash-list": {"facts": {"reconstruction_sha256": ["a"]}},
    "card-numbers": {"card": CodecCard(2, title=3, training_files_sha256=None, parameters=np.int64(5))},
    "card-title-huge": {"card": CodecCard("1", title="T" * 3_000_000)},
    "card-title-control": {"card": CodecCard("1", title="caf\udce9 \x1b[2J\u202e")},
    "rates-numpy": {"rates": [Rate("a", {"step": np.int64(3), "weight": np.float32(0.5)}, lossless=np.bool_(True))]},
    "sections-numpy": {"sections": np.int64},
}


def _careless(name, kind):
    def encode(self, cloud, rate):
        return Bitstream(Honest.encode(self, cloud, rate), **kind["facts"])

    def sections(self, data):
        return {"payload": np.int64(len(data))} if kind["sections"] is np.int64 else kind["sections"]

    methods = {
        "card": lambda self: kind["card"],
        "rates": lambda self: kind["rates"],
        "sections": sections,
        "facts": encode,
    }
    body = {"encode" if key == "facts" else key: methods[key] for key in kind}
    return type(f"Careless_{name.replace('-', '_')}", (Honest,), {"name": name, "__module__": __name__, **body})


globals().update({cls.__name__: cls for cls in (_careless(*one) for one in CARELESS.items())})
