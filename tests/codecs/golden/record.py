"""Record the golden streams: `python tests/codecs/golden/record.py [CODEC ...]`.

One file a codec, `CODEC.jsonl`, one line a cloud and rate: the stream (base64) and the hash of the decoded points.
A stream that was recorded once is a promise to those who keep streams: record anew only when the format's version has
changed too, and say so in CHANGELOG.md.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from clouds import CLOUDS

from pccbench.codecs import registry
from pccbench.codecs.errors import CodecError, CodecUnavailableError

FOLDER = Path(__file__).resolve().parent


def records(name: str) -> Iterator[dict[str, str]]:
    """The golden streams of a codec, as the code of this checkout makes them."""
    codec = registry.find([name], tmc3=os.environ.get("PCCBENCH_TMC3"))[0].create()
    for cloud_name, make in CLOUDS.items():
        if name == "raw" and cloud_name == "surface":
            continue  # 100 kB that say nothing that the others do not
        cloud = make()
        for rate in codec.rates():
            try:
                stream = codec.encode(cloud, rate)
            except (CodecError, CodecUnavailableError):
                continue  # not a cloud of this codec
            yield {
                "cloud": cloud_name,
                "rate": rate.name,
                "decoded_sha256": codec.decode(stream).geometry_sha256(),
                "stream": base64.b64encode(stream).decode(),
            }


def main() -> None:
    """Write the files of the codecs that are named, or of all."""
    for name in sys.argv[1:] or registry.BUILT_IN:
        lines = [json.dumps(record) + "\n" for record in records(name)]
        (FOLDER / f"{name}.jsonl").write_text("".join(lines), encoding="ascii")
        print(f"{name}: {len(lines)} streams")


if __name__ == "__main__":
    main()
