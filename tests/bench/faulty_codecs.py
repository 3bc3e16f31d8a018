"""Codecs that misbehave, each in its own way; loaded as a third party's file would be."""

import os
import sys
import time

import numpy as np

from pccbench.codecs.base import Codec, CodecCard, Rate
from pccbench.codecs.cloud import PointCloud


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
