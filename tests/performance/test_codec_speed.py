"""Speed of our octree and of sparse, both ways: on an embedded figure, and on the real longdress where it is.

    python -m pytest tests/performance/test_codec_speed.py

For 800,000 points at most 3 s each way is wanted of the octree, and 3 s to encode and 1.5 s to decode of sparse;
`extra_info` keeps the CPU seconds, which a busy machine spoils less.
"""

import functools
import time

import pytest

from pccbench.bench.datasets import open_dataset
from pccbench.codecs.formats import read_cloud
from pccbench.codecs.registry import codec_class

LONGDRESS = "8iVFBv2/longdress/Ply/longdress_vox10_1300.ply"
ROUNDS = 3


CASES = [("octree", "r04"), ("octree", "lossless")]
CASES += [("sparse", name) for name in ("r04", "r09", "r10", "lossless")]


@pytest.fixture(scope="module")
def cases(request):
    """A codec, a cloud, a rate and the stream of them, by their names; each is made once."""

    @functools.cache
    def codec(name):
        if name == "sparse":
            pytest.importorskip("torch")
        made = codec_class(name)()
        made.warm_up()
        return made

    @functools.cache
    def cloud(name):
        if name != "longdress":
            return open_dataset("synthetic").select([name]).found[0].load()
        path = request.getfixturevalue("shared") / "data" / LONGDRESS
        if not path.is_file():
            pytest.skip(f"{path} is not here")
        return read_cloud(path)

    @functools.cache
    def case(codec_name, name, rate_name):
        made = codec(codec_name)
        (rate,) = (rate for rate in made.rates() if rate.name == rate_name)
        return made, cloud(name), rate, bytes(made.encode(cloud(name), rate))

    return case


def timed_cpu(function, cpu):
    def call(*arguments):
        begin = time.process_time()
        result = function(*arguments)
        cpu.append(time.process_time() - begin)
        return result

    return call


@pytest.mark.parametrize(("codec_name", "rate_name"), CASES)
@pytest.mark.parametrize("name", ["gown", "longdress"])
@pytest.mark.parametrize("way", ["encode", "decode"])
def test_codec(benchmark, cases, codec_name, name, rate_name, way):
    codec, cloud, rate, stream = cases(codec_name, name, rate_name)
    call, arguments = (codec.encode, (cloud, rate)) if way == "encode" else (codec.decode, (stream,))
    cpu = []
    benchmark.group = f"{codec_name}: {way}"
    result = benchmark.pedantic(timed_cpu(call, cpu), arguments, rounds=ROUNDS)
    benchmark.extra_info.update(points=len(cloud), size_bytes=len(stream), cpu_s=min(cpu))
    if way == "encode":
        assert result == stream
    elif rate.lossless:
        assert result.geometry_sha256() == cloud.geometry_sha256()
