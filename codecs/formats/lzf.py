"""LZF: the byte compression of `binary_compressed` PCD files (format of Marc Lehmann's liblzf)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..._jit import njit
from ..errors import CloudError

#: One reference of three bytes gives at most 264 bytes, so no honest stream grows more than this.
MAX_GROWTH = 88


def decompress(data: bytes, n_bytes: int) -> bytes:
    """The `n_bytes` that `data` holds.

    Raises:
        CloudError: the stream is damaged or holds another number of bytes.
    """
    if n_bytes > MAX_GROWTH * len(data):
        raise CloudError(f"{len(data):,} bytes of LZF cannot hold {n_bytes:,}")
    out = np.zeros(n_bytes, np.uint8)
    written = _decompress(np.frombuffer(data, np.uint8), out)
    if written != n_bytes:
        raise CloudError(f"damaged LZF data: expected {n_bytes:,} bytes, {max(int(written), 0):,} are sound")
    return out.tobytes()


@njit()
def _decompress(data: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> int:  # pragma: no cover
    """Fill `out`; bytes written, or -1 when the stream reads or writes outside its bounds."""
    read = np.int64(0)
    write = np.int64(0)
    while read < data.size:
        control = np.int64(data[read])
        read += 1
        if control < 32:  # a run of literal bytes
            length = control + 1
            if read + length > data.size or write + length > out.size:
                return -1
            for _ in range(length):
                out[write] = data[read]
                read += 1
                write += 1
            continue
        length = control >> 5  # a reference to bytes written before
        if length == 7:
            if read >= data.size:
                return -1
            length += np.int64(data[read])
            read += 1
        if read >= data.size:
            return -1
        source = write - ((control & 31) << 8) - np.int64(data[read]) - 1
        read += 1
        length += 2
        if source < 0 or write + length > out.size:
            return -1
        for _ in range(length):  # may overlap what it writes
            out[write] = out[source]
            source += 1
            write += 1
    return int(write)
