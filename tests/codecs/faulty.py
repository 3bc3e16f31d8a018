"""Codecs with one fault each, which a second process, a right checksum, a limit or another cloud shows."""

import contextlib
import os
import tempfile
import threading
import time
import zlib
from pathlib import Path

import numpy as np

from pccbench.codecs.base import Bitstream, Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import BitstreamError
from pccbench.codecs.raw import RawCodec

_LAST: list = []


class Sound(RawCodec):
    """No fault; the others differ from it in one thing."""


class ReadsTheEncodersFile(RawCodec):
    """The stream is a name; the points lie in a file."""

    def encode(self, cloud, rate):
        data = super().encode(cloud, rate)
        path = Path(tempfile.gettempdir(), f"cheat-{zlib.crc32(data):08x}")
        path.write_bytes(data)
        return b"cheat" + str(path).encode()

    def decode(self, data):
        if not data.startswith(b"cheat"):
            raise BitstreamError("foreign")
        try:
            return super().decode(Path(data[5:].decode()).read_bytes())
        except (OSError, ValueError) as error:
            raise BitstreamError("damaged") from error

    def sections(self, data):
        return {"all": len(data)}


class ReadsAGlobal(RawCodec):
    """The stream is a number; the points are in a list of the module."""

    def encode(self, cloud, rate):
        _LAST.append(cloud)
        body = len(_LAST).to_bytes(4, "little")
        for number, other in enumerate(_LAST, 1):
            if other.geometry_sha256() == cloud.geometry_sha256() and other.bit_depth == cloud.bit_depth:
                body = number.to_bytes(4, "little")
                break
        return body + zlib.crc32(body).to_bytes(4, "little")

    def decode(self, data):
        number = int.from_bytes(data[:4], "little")
        if len(data) != 8 or zlib.crc32(data[:4]).to_bytes(4, "little") != data[4:] or not 0 < number <= len(_LAST):
            raise BitstreamError("damaged")
        return _LAST[number - 1]

    def sections(self, data):
        return {"all": len(data)}


class LeavesFiles(RawCodec):
    def encode(self, cloud, rate):
        descriptor, _ = tempfile.mkstemp(prefix="left-")
        os.close(descriptor)
        return super().encode(cloud, rate)


class LeavesFilesElsewhere(RawCodec):
    def encode(self, cloud, rate):
        Path(f"/tmp/pccbench-faulty-{os.getpid()}").write_text("mine")
        return super().encode(cloud, rate)


class LeavesThreads(RawCodec):
    def encode(self, cloud, rate):
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        return super().encode(cloud, rate)


class TrustsTheChecksum(RawCodec):
    """Once the checksum is right, anything goes."""

    def encode(self, cloud, rate):
        data = super().encode(cloud, rate)
        body = len(cloud).to_bytes(4, "little") + data
        return body + zlib.crc32(body).to_bytes(4, "little")

    def decode(self, data):
        if len(data) < 8 or zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise BitstreamError("damaged")
        cloud = super().decode(data[4:-4])
        if len(cloud) != int.from_bytes(data[:4], "little"):
            raise IndexError("list index out of range")
        return cloud

    def sections(self, data):
        return {"all": len(data)}


class AllocatesByTheHeader(RawCodec):
    """Makes room for as many points as the header says, before it looks whether they are there."""

    def encode(self, cloud, rate):
        body = len(cloud).to_bytes(4, "little") + super().encode(cloud, rate)
        return body + zlib.crc32(body).to_bytes(4, "little")

    def decode(self, data):
        if len(data) < 8 or zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise BitstreamError("damaged")
        room = np.empty((int.from_bytes(data[:4], "little"), 3))
        cloud = super().decode(data[4:-4])
        if len(room) != len(cloud):
            raise BitstreamError("damaged")
        return cloud

    def sections(self, data):
        return {"all": len(data)}


class DependsOnThreads(RawCodec):
    def encode(self, cloud, rate):
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        return bytes([threads]) + super().encode(cloud, rate)

    def decode(self, data):
        return super().decode(data[1:])

    def sections(self, data):
        return {"all": len(data)}


class DependsOnHashes(RawCodec):
    def encode(self, cloud, rate):
        names = sorted({"x", "y", "z", "points", "depth", "order"}, key=hash)
        body = names[0].encode().ljust(8) + super().encode(cloud, rate)
        return body + zlib.crc32(body).to_bytes(4, "little")

    def decode(self, data):
        if len(data) < 12 or zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise BitstreamError("damaged")
        return super().decode(data[8:-4])

    def sections(self, data):
        return {"all": len(data)}


class EstimatesNonsense(RawCodec):
    def encode(self, cloud, rate):
        return Bitstream(super().encode(cloud, rate), estimated_bits=-1e30)


class ForgetsTheBitDepth(RawCodec):
    def decode(self, data):
        cloud = super().decode(data)
        return cloud if cloud.bit_depth is None else PointCloud(cloud.points, 21)


class WidensNumbers(RawCodec):
    def decode(self, data):
        cloud = super().decode(data)
        return cloud if cloud.bit_depth is not None else PointCloud(cloud.points.astype(np.float64))


class FailsFarAway(RawCodec):
    def encode(self, cloud, rate):
        if cloud.bit_depth is None and np.abs(cloud.points).max(initial=0) > 1e6:
            raise OverflowError("coordinate too large")
        return super().encode(cloud, rate)


class FailsOnManyPoints(RawCodec):
    def encode(self, cloud, rate):
        np.array([len(cloud)]).astype(np.uint16)[0]
        if len(cloud) > 65_536:
            raise OverflowError("Python integer out of bounds for uint16")
        return super().encode(cloud, rate)


class FailsAtAMiddleRate(RawCodec):
    def rates(self):
        return [Rate(f"r{number:02}", {"number": number}, lossless=True) for number in range(1, 6)]

    def encode(self, cloud, rate):
        data = super().encode(cloud, rate)
        body = data + bytes([rate.parameters["number"]])
        return body + zlib.crc32(body).to_bytes(4, "little")

    def decode(self, data):
        if len(data) < 6 or zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise BitstreamError("damaged")
        if data[-5] == 4:
            raise KeyError("no such rate")
        return super().decode(data[:-5])

    def sections(self, data):
        return {"all": len(data)}


class SleepsOnDamage(RawCodec):
    """Damage behind a right checksum keeps it busy."""

    def encode(self, cloud, rate):
        body = b"1" + super().encode(cloud, rate)
        return body + zlib.crc32(body).to_bytes(4, "little")

    def decode(self, data):
        if len(data) < 5 or zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise BitstreamError("damaged")
        while data[:1] != b"1":
            with contextlib.suppress(BaseException):
                time.sleep(0.1)
        return super().decode(data[1:-4])

    def sections(self, data):
        return {"all": len(data)}
