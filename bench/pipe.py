"""Pipe: messages between the harness and a process of its own, each a JSON object with a payload of bytes.

A frame is the lengths of both (two big-endian unsigned 64-bit integers), the object, the payload.  Standard library
only.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Callable
from typing import Any

_HEAD = struct.Struct(">QQ")
#: The largest object and payload that are read: 2**31 bytes hold 89 million points.
LARGEST_MESSAGE, LARGEST_PAYLOAD = 1 << 26, 1 << 31
#: How often a wait calls its watch, in seconds.
POLL_S = 0.02
_BLOCK = 1 << 20

# Kept from the start: a codec that runs in the same process may replace what the modules hold.
_read, _write, _monotonic = os.read, os.write, time.monotonic


class PipeError(Exception):
    """What came is no message."""


class Pipe:
    """One end of a pair of pipes.

    Args:
        reads: file descriptor for what comes.
        writes: file descriptor for what goes.
        watch: called every `POLL_S` while this end waits for the other; what it raises ends the wait.  None waits
            without end.
    """

    def __init__(self, reads: int, writes: int, watch: Callable[[], None] | None = None) -> None:
        self._reads, self._writes, self._watch = reads, writes, watch
        self._open = [reads, writes]
        if watch is not None:
            os.set_blocking(writes, False)
            os.set_blocking(reads, False)
        #: When the first byte of the last message came, of `time.monotonic`.
        self.arrived_s = 0.0

    def send(self, message: dict[str, Any], payload: bytes | bytearray | memoryview = b"") -> None:
        """Send a message.

        Raises:
            OSError: the other end is closed.
        """
        text = json.dumps(message).encode()
        body = memoryview(payload).cast("B") if len(payload) else memoryview(b"")
        for part in (memoryview(_HEAD.pack(len(text), len(body)) + text), body):
            rest = part
            while len(rest):
                try:
                    rest = rest[_write(self._writes, rest[:_BLOCK]) :]
                except BlockingIOError:
                    self._wait(self._writes, select.POLLOUT)

    def receive(self) -> tuple[dict[str, Any], bytearray]:
        """The next message.

        Raises:
            EOFError: the other end is closed.
            PipeError: it is no message, or a larger one than is read.
        """
        head = bytearray(_HEAD.size)
        self._fill(memoryview(head)[:1])
        self.arrived_s = _monotonic()
        self._fill(memoryview(head)[1:])
        length, size = _HEAD.unpack(head)
        if length > LARGEST_MESSAGE or size > LARGEST_PAYLOAD:
            raise PipeError(f"a message of {length + size:,} bytes")
        text, payload = bytearray(length), bytearray(size)
        self._fill(memoryview(text))
        self._fill(memoryview(payload))
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PipeError(type(error).__name__) from None
        if not isinstance(message, dict):
            raise PipeError(f"expected an object, got {type(message).__name__}")
        return message, payload

    def has_more(self) -> bool:
        """Whether something is there to be read, without waiting."""
        poll = select.poll()
        poll.register(self._reads, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close both ends; a second time, after an interrupt in the first, does what is left."""
        while self._open:
            os.close(self._open.pop())

    def _fill(self, view: memoryview) -> None:
        while len(view):
            try:
                block = _read(self._reads, min(len(view), _BLOCK))
            except BlockingIOError:
                self._wait(self._reads, select.POLLIN)
                continue
            if not block:
                raise EOFError
            view[: len(block)] = block
            view = view[len(block) :]

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        while not poll.poll(POLL_S * 1000):
            if self._watch is not None:
                self._watch()
