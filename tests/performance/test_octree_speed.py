"""Speed of our octree, both ways, lossless and at r04: on an embedded figure, and on the real longdress where it is.

    python -m pytest tests/performance/test_octree_speed.py

At most 3 s each way is wanted for 800,000 points; `extra_info` keeps the CPU seconds, which a busy machine spoils
less.
"""

import functools
import time

import pytest

from pccbench.bench.datasets import open_dataset
from pccbench.codecs.formats import read_cloud
from pccbench.codecs.octree import OctreeCodec

LONGDRESS = "8iVFBv2/longdress/Ply/longdress_vox10_1300.ply"
ROUNDS = 3


@pytest.fixture(scope="module")
def codec():
    codec = OctreeCodec()
    codec.warm_up()
    return codec


@pytest.fixture(scope="module")
def cases(request, codec):
    """A cloud, a rate and the stream of both, by their names; each is made once."""

    @functools.cache
    def cloud(name):
        if name != "longdress":
            return open_dataset("synthetic").select([name]).found[0].load()
        path = request.getfixturevalue("shared") / "data" / LONGDRESS
        if not path.is_file():
            pytest.skip(f"{path} is not here")
        return read_cloud(path)

    @functools.cache
    def case(name, rate_name):
        (rate,) = (rate for rate in codec.rates() if rate.name == rate_name)
        return cloud(name), rate, bytes(codec.encode(cloud(name), rate))

    return case


def timed_cpu(function, cpu):
    def call(*arguments):
        begin = time.process_time()
        result = function(*arguments)
        cpu.append(time.process_time() - begin)
        return result

    return call


@pytest.mark.parametrize("rate_name", ["r04", "lossless"])
@pytest.mark.parametrize("name", ["gown", "longdress"])
@pytest.mark.parametrize("way", ["encode", "decode"])
def test_octree(benchmark, codec, cases, name, rate_name, way):
    cloud, rate, stream = cases(name, rate_name)
    call, arguments = (codec.encode, (cloud, rate)) if way == "encode" else (codec.decode, (stream,))
    cpu = []
    benchmark.group = f"octree: {way}"
    result = benchmark.pedantic(timed_cpu(call, cpu), arguments, rounds=ROUNDS)
    benchmark.extra_info.update(points=len(cloud), size_bytes=len(stream), cpu_s=min(cpu))
    if way == "encode":
        assert result == stream
    elif rate.lossless:
        assert result.geometry_sha256() == cloud.geometry_sha256()
