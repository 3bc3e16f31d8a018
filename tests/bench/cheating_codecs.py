"""Codecs whose decoder gets the cloud by another way than the bytes; loaded as a third party's file would be.

Each encoder leaves a token somewhere and sends almost nothing; each decoder looks for the token, or for the data, and
knows the cloud of the test when it finds one.  None may succeed.
"""

# ruff: noqa: PTH111, PTH115, PTH116, PTH123, PTH207, PTH208, RUF012

import contextlib
import ctypes
import fcntl
import glob
import json
import mmap
import os
import random
import site
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from pccbench.codecs.base import Codec, CodecCard, Rate
from pccbench.codecs.cloud import PointCloud

TOKEN = b"pccbench-cheat-0123456789abcdef"
SEED, COUNT = 5, 300
LIBC = ctypes.CDLL(None, use_errno=True)
HERE = Path(__file__).resolve().parent


def secret():
    """The points of the test's cloud."""
    points = np.random.default_rng(SEED).integers(0, 256, (COUNT, 3))
    return np.unique(points, axis=0).astype(np.int32)


class Cheat(Codec):
    """Encodes to what `leave` returns, and decodes to the cloud when `find` finds."""

    name = "cheat"

    def rates(self):
        return [Rate("only", lossless=True)]

    def encode(self, cloud, rate):
        return bytes(self.leave(cloud) or b"x")

    def decode(self, data):
        if not self.find(data):
            raise RuntimeError("nothing leaked")
        return PointCloud(secret(), bit_depth=8)

    def leave(self, cloud):
        return b"x"

    def find(self, data):
        return False

    def card(self):
        return CodecCard(version="1", title=self.name)


class Honest(Cheat):
    name = "honest-control"

    def encode(self, cloud, rate):
        return cloud.points.astype("<i4").tobytes()

    def decode(self, data):
        return PointCloud(np.frombuffer(data, "<i4").reshape(-1, 3), bit_depth=8)


def is_readable(path):
    """Whether a file holds the token or the cloud."""
    with contextlib.suppress(Exception):
        data = Path(path).read_bytes()
        return TOKEN in data or secret().tobytes() in data
    return False


class ReadsTheHarness(Cheat):
    """Looks for points, streams and rows around its folder, and everywhere in the temporary ones."""

    name = "reads-the-harness"

    def find(self, data):
        patterns = ["../../*.npy", "../../../*", "../../../*/*", "../*", "../../*/*/*", "../../*/log"]
        patterns += [f"{base}/**/*" for base in {tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"}]
        return any(is_readable(path) for pattern in patterns for path in glob.glob(pattern, recursive=True))


class KnowsTheData(Cheat):
    """Has the paths of the data set and of the run folder in a file beside it."""

    name = "knows-the-data"

    def find(self, data):
        roots = json.loads((HERE / "paths.json").read_text())
        found = [path for root in roots for path in (root, *glob.glob(f"{root}/**/*", recursive=True))]
        has_started = subprocess.run(["cat", *roots], capture_output=True).stdout
        return any(map(is_readable, found)) or TOKEN in has_started or secret().tobytes() in has_started


class LeavesFiles(Cheat):
    """Writes wherever it can think of."""

    name = "leaves-files-around"

    def places(self):
        import pccbench

        package = Path(pccbench.__file__).parent
        folders = [
            *("/tmp", "/var/tmp", "/dev/shm", tempfile.gettempdir(), "/run", "/run/user/0", "/", "/etc", "/root"),
            *(
                Path.cwd(),
                Path.home(),
                "~/.cache",
                HERE,
                HERE / "__pycache__",
                os.environ.get("NUMBA_CACHE_DIR", "/x"),
            ),
            *(package, package / "codecs", package / "codecs" / "__pycache__", sys.prefix, *site.getsitepackages()),
            *(Path(sys.executable).parent, *json.loads((HERE / "paths.json").read_text())),
        ]
        real = os.environ.get("LOGNAME", "root")
        folders += [os.path.expanduser(f"~{real}"), os.path.expanduser(f"~{real}/.cache")]
        return [Path(folder).expanduser() / "pccbench-cheat.py" for folder in folders]

    def leave(self, cloud):
        for place in self.places():
            with contextlib.suppress(OSError):
                place.write_bytes(TOKEN)
        return "\n".join(map(str, self.places())).encode()

    def find(self, data):
        return any(is_readable(place) for place in [*data.decode().split("\n"), *self.places()])


class LeavesNamesAndTimes(Cheat):
    """Tells by the times, sizes, rights and attributes of files, which can be seen without reading them."""

    name = "leaves-names-and-times"

    def leave(self, cloud):
        own = Path.cwd() / "sign"
        own.write_bytes(b"1" * 4321)
        for path in (own, HERE / "paths.json", Path(__file__)):
            with contextlib.suppress(OSError):
                os.utime(path, ns=(1234567890, 1234567890))
            with contextlib.suppress(OSError):
                os.setxattr(path, "user.cheat", TOKEN)
            with contextlib.suppress(OSError):
                path.chmod(0o751)
        return str(own).encode()

    def find(self, data):
        for path in (data.decode(), str(HERE / "paths.json"), __file__):
            with contextlib.suppress(OSError):
                facts = os.stat(path)
                if facts.st_size == 4321 or facts.st_mtime_ns == 1234567890 or facts.st_mode & 0o777 == 0o751:
                    return True
            with contextlib.suppress(OSError):
                if os.getxattr(path, "user.cheat"):
                    return True
        return False


class HoldsLocks(Cheat):
    """Locks a file that both can read: a message to whoever tries to lock it."""

    name = "holds-locks"

    def leave(self, cloud):
        HoldsLocks.kept = open(__file__)
        with contextlib.suppress(OSError):
            fcntl.flock(HoldsLocks.kept, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):
            fcntl.lockf(HoldsLocks.kept, fcntl.LOCK_SH, 10, 0)

    def find(self, data):
        with open(__file__) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                pass
            with contextlib.suppress(OSError):
                asked = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 10, 0))
                return struct.unpack("hhqqi", asked)[0] != fcntl.F_UNLCK
        return False


def processes():
    """Every number that may be a process."""
    listed = [int(name) for name in os.listdir("/proc") if name.isdigit()] if os.access("/proc", os.R_OK) else []
    own = {os.getpid()} | {int(name) for name in os.listdir("/proc/self/task")}
    near = range(max(1, os.getpid() - 200), os.getpid() + 50)
    return [number for number in dict.fromkeys([os.getppid(), *listed, *near]) if number not in own]


class LooksAtProcesses(Cheat):
    """Reads what the kernel tells of the harness and the encoder: command lines, environments, open files."""

    name = "looks-at-processes"

    def find(self, data):
        for number in processes():
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    text = Path(f"/proc/{number}/{name}").read_bytes()
                    words = text.replace(b"folder:", b"\0").split(b"\0")
                    if b"pytest" in text or any(
                        Path(os.fsdecode(word)).is_dir() and b"clouds" in word for word in words
                    ):
                        return True
            for link in (f"/proc/{number}/cwd", *glob.glob(f"/proc/{number}/fd/*")):
                with contextlib.suppress(OSError):
                    if is_readable(os.readlink(link)) or is_readable(link):
                        return True
        return False


class ReadsMemory(Cheat):
    """Sends the address of the points, and reads them in the encoder's memory."""

    name = "reads-memory"

    def leave(self, cloud):
        ReadsMemory.kept = mmap.mmap(-1, 4096)
        ReadsMemory.kept.write(TOKEN)
        address = ctypes.addressof(ctypes.c_char.from_buffer(ReadsMemory.kept))
        return struct.pack("<QQ", address, os.getpid())

    def find(self, data):
        address, number = struct.unpack("<QQ", data)
        buffer = ctypes.create_string_buffer(len(TOKEN))
        vector = struct.pack("<QQ", ctypes.addressof(buffer), len(TOKEN)), struct.pack("<QQ", address, len(TOKEN))
        ReadsMemory.kept = None
        for one in (number, *processes()):
            if one == os.getpid():
                continue
            with contextlib.suppress(OSError, ValueError, OverflowError), open(f"/proc/{one}/mem", "rb") as memory:
                memory.seek(address)
                if memory.read(len(TOKEN)) == TOKEN:
                    return True
            LIBC.process_vm_readv(one, vector[0], 1, vector[1], 1, 0)
            if buffer.raw == TOKEN:
                return True
            if LIBC.ptrace(16, one, 0, 0) == 0:  # PTRACE_ATTACH
                return True
        return False


class ServesByCopy(Cheat):
    """Leaves a process that answers on sockets."""

    name = "serves-by-copy"
    where = ("\0pccbench-cheat", "127.0.0.1")

    def leave(self, cloud):
        if os.fork():
            time.sleep(0.2)
            return
        os.setsid()
        for family, address in ((socket.AF_UNIX, self.where[0]), (socket.AF_INET, (self.where[1], 45871))):
            threading.Thread(target=self.serve, args=(family, address), daemon=True).start()
        time.sleep(20)
        os._exit(0)

    def serve(self, family, address):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(address)
            server.listen()
            while True:
                server.accept()[0].sendall(TOKEN)

    def find(self, data):
        for family, address in ((socket.AF_UNIX, self.where[0]), (socket.AF_INET, (self.where[1], 45871))):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as client:
                client.settimeout(1)
                client.connect(address)
                if client.recv(100) == TOKEN:
                    return True
        return False


class OpensSockets(Cheat):
    """Could ask any server, if it only had a socket."""

    name = "opens-sockets"

    def find(self, data):
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
            with contextlib.suppress(OSError):
                socket.socket(family, socket.SOCK_DGRAM if family != socket.AF_NETLINK else socket.SOCK_RAW).close()
                return True
        return False


class SharesMemory(Cheat):
    """Leaves System V and POSIX shared memory, queues, and a key in the kernel's ring."""

    name = "shares-memory"
    key = 0x9CCB

    def leave(self, cloud):
        number = LIBC.shmget(self.key, 4096, 0o1666)
        LIBC.shmat.restype = ctypes.c_void_p
        if number >= 0 and (address := LIBC.shmat(number, None, 0)):
            ctypes.memmove(address, TOKEN, len(TOKEN))
        queue = LIBC.msgget(self.key, 0o1666)
        if queue >= 0:
            LIBC.msgsnd(queue, struct.pack("<q", 1) + TOKEN, len(TOKEN), 0o4000)
        LIBC.syscall(248, b"user", b"pccbench-cheat", TOKEN, len(TOKEN), ctypes.c_int(-4))
        with contextlib.suppress(Exception):
            rt = ctypes.CDLL("librt.so.1", use_errno=True)
            SharesMemory.queue = rt.mq_open(b"/pccbench-cheat", os.O_CREAT | os.O_RDWR, 0o666, None)
        with contextlib.suppress(Exception):
            from multiprocessing.shared_memory import SharedMemory

            SharesMemory.kept = SharedMemory("pccbench-cheat", create=True, size=4096)
            SharesMemory.kept.buf[: len(TOKEN)] = TOKEN

    def find(self, data):
        number = LIBC.shmget(self.key, 4096, 0)
        LIBC.shmat.restype = ctypes.c_void_p
        if number >= 0 and LIBC.shmat(number, None, 0) not in (None, ctypes.c_void_p(-1).value):
            return True
        if LIBC.msgget(self.key, 0) >= 0:
            return True
        if LIBC.syscall(249, b"user", b"pccbench-cheat", None, 0) > 0:
            return True
        with contextlib.suppress(Exception):
            rt = ctypes.CDLL("librt.so.1", use_errno=True)
            if rt.mq_open(b"/pccbench-cheat", os.O_RDWR) >= 0:
                return True
        with contextlib.suppress(Exception):
            from multiprocessing.shared_memory import SharedMemory

            return bytes(SharedMemory("pccbench-cheat").buf[: len(TOKEN)]) == TOKEN
        return False


class UsesDescriptors(Cheat):
    """Looks through all that it inherited."""

    name = "uses-descriptors"

    def find(self, data):
        for number in range(3, 4096):
            with contextlib.suppress(OSError):
                facts = os.fstat(number)
                if (facts.st_mode & 0o170000) in (0o040000, 0o140000):  # a folder leads out, a socket talks
                    return True
                if facts.st_size and is_readable(f"/proc/self/fd/{number}"):
                    return True
        return False


class Escapes(Cheat):
    """Tries to get out of the seal: namespaces, mounts, handles of files, the folder above the working one."""

    name = "escapes"

    def find(self, data):
        if LIBC.unshare(0x10000000) == 0 or LIBC.mount(b"none", b"/mnt", b"tmpfs", 0, None) == 0:
            return True
        if LIBC.chroot(b"/") == 0:
            return True
        with contextlib.suppress(OSError):
            os.listdir("../..")
            return True
        with contextlib.suppress(OSError):
            os.kill(os.getppid(), 0)
            Path(f"/proc/{os.getppid()}/environ").read_bytes()
            return True
        return False


class ReadsEnvironment(Cheat):
    """Its variables tell where the data is."""

    name = "reads-environment"

    def find(self, data):
        told = " ".join(os.environ.values()) + " " + " ".join(sys.argv) + " ".join(sys.path)
        names = {"PCCBENCH_DATA", "PWD", "OLDPWD", "CHEAT_SECRET", "SSH_AUTH_SOCK"} & set(os.environ)
        return bool(names) or any(path in told for path in json.loads((HERE / "paths.json").read_text()))


class KillsOthers(Cheat):
    """Ends every process that it may."""

    name = "kills-others"

    def find(self, data):
        os.kill(-1, 9)
        time.sleep(0.2)
        return False


# Times.


class TimeCheat(Honest):
    """Works for a while, and says something else."""

    name = "time-cheat"
    takes_s = 0.3

    def work(self):
        started = time.monotonic()
        while time.monotonic() - started < self.takes_s:
            pass

    def encode(self, cloud, rate):
        self.work()
        return super().encode(cloud, rate)


class ReplacesTheClock(TimeCheat):
    name = "replaces-the-clock"

    def encode(self, cloud, rate):
        ticks = iter(range(10**9))
        time.perf_counter = time.monotonic = lambda: -2284.0 * next(ticks)
        for module in list(sys.modules.values()):
            for name in ("_clock", "perf_counter", "_monotonic"):
                if hasattr(module, name):
                    setattr(module, name, time.perf_counter)
        started = time.time()
        while time.time() - started < self.takes_s:
            pass
        return cloud.points.astype("<i4").tobytes()


def session():
    """The session that this codec runs in, found as a cheat would find it."""
    import gc

    return next(one for one in gc.get_objects() if type(one).__name__ == "Session" and hasattr(one, "_pipe"))


class ForgesFigures(TimeCheat):
    """Has the worker itself say nonsense."""

    name = "forges-figures"
    said = float("nan")

    def encode(self, cloud, rate):
        own = session()
        reply = own._reply

        def forged(event, payload=b"", **fields):
            if event == "called":
                fields["wall_s"] = self.said
            reply(event, payload, **fields)

        own._reply = forged
        own._timed = lambda call: (call(), {"wall_s": self.said, "cpu_s": 0.0, "peak_mb": 1.0})
        self.work()
        return cloud.points.astype("<i4").tobytes()


class ForgesNegative(ForgesFigures):
    name = "forges-negative"
    said = -1.0


class ForgesFast(ForgesFigures):
    name = "forges-fast"
    said = 0.0001
    takes_s = 3.0


class AnswersTwice(TimeCheat):
    """Answers itself before it works, so that the time looks short."""

    name = "answers-twice"

    def encode(self, cloud, rate):
        import hashlib

        data = cloud.points.astype("<i4").tobytes()
        digest = hashlib.blake2b(data).hexdigest()
        session()._reply("called", data, digest=digest, wall_s=0.0, cpu_s=0.0, peak_mb=1.0)
        self.work()
        return data


class LeavesWorkForLater(TimeCheat):
    """Returns bytes that are only made when they are asked for."""

    name = "leaves-work-for-later"

    def encode(self, cloud, rate):
        data = cloud.points.astype("<i4").tobytes()

        class Later(bytes):
            def __bytes__(self):
                return data

        return Later(b"x")


class Chatters(TimeCheat):
    """Writes rubbish into every pipe that it has."""

    name = "answers-rubbish"

    def encode(self, cloud, rate):
        for number in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(number, random.Random(1).randbytes(64))
        return cloud.points.astype("<i4").tobytes()


class Memoises(Honest):
    """Works once, and remembers."""

    name = "memoises"
    known = {}

    def encode(self, cloud, rate):
        key = cloud.points.tobytes()
        if key not in self.known:
            time.sleep(0.3)
            self.known[key] = super().encode(cloud, rate)
        return self.known[key]
