"""Streams that were recorded once: the same bytes are still made of the same clouds, and decode to the same points.

`golden/record.py` made them.  A failure here says that a stream format, or what an encoder decides, has changed.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
from pathlib import Path

import pytest

from pccbench.codecs import registry
from pccbench.codecs.base import Codec
from pccbench.codecs.errors import CodecUnavailableError

FOLDER = Path(__file__).resolve().parent / "golden"
_spec = importlib.util.spec_from_file_location("golden_clouds", FOLDER / "clouds.py")
assert _spec is not None and _spec.loader is not None
clouds = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(clouds)


def _codec(name: str) -> Codec:
    try:
        return registry.find([name], tmc3=os.environ.get("PCCBENCH_TMC3"))[0].create()
    except CodecUnavailableError as error:
        pytest.skip(str(error))


def test_every_built_in_codec_has_golden_streams_of_every_rate() -> None:
    assert {path.stem for path in FOLDER.glob("*.jsonl")} == set(registry.BUILT_IN)


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_streams_are_those_that_were_recorded(name: str) -> None:
    codec = _codec(name)
    records = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    rates = {rate.name: rate for rate in codec.rates()}
    assert {record["rate"] for record in records} == set(rates)
    made = {cloud: clouds.CLOUDS[cloud]() for cloud in {record["cloud"] for record in records}}
    changed = []
    for record in records:
        stream = base64.b64decode(record["stream"])
        what = f"{record['cloud']} {record['rate']}"
        if codec.decode(stream).geometry_sha256() != record["decoded_sha256"]:
            changed.append(f"{what}: decodes to other points")
        encoded = codec.encode(made[record["cloud"]], rates[record["rate"]])
        if encoded != stream:
            changed.append(f"{what}: {len(encoded)} bytes, were {len(stream)}, or others")
    assert not changed
