"""Rates: those that the factors and latents of the weights make."""

import json

import pytest

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import CodecUnavailableError
from pccbench.codecs.sparse.codec import SparseCodec
from pccbench.codecs.weights import RECORD


def test_rates_are_the_products_of_the_factors(weights, surface):
    codec = SparseCodec(weights)  # of factors 2, 3, 4
    steps = [rate.parameters["step"] for rate in codec.rates()]
    assert steps == [24, 16, 12, 8, 6, 4, 3, 2, 2, 2, 2, 2, 1]
    assert [rate.name for rate in codec.rates()][-3:] == ["r11", "r12", "lossless"]
    cloud = PointCloud(surface, bit_depth=6)
    for rate in codec.rates():
        data = codec.encode(cloud, rate)
        assert codec.decode(bytes(data)).geometry_sha256() == data.reconstruction_sha256


def test_a_record_may_name_others(weights, tmp_path):
    for path in weights.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = json.loads((weights / RECORD).read_text())

    def write(rates):
        (tmp_path / RECORD).write_text(json.dumps({**record, "rates": rates}))

    write([{"step": 9}, {"step": 2, "refine": 0.5}])
    assert [(rate.name, rate.parameters["step"]) for rate in SparseCodec(tmp_path).rates()] == [
        ("r01", 9),
        ("r02", 2),
        ("lossless", 1),
    ]
    for rates, message in (([{"step": 5}], "no product of the factors"), ([{"step": 0}], "step must be 1 to")):
        write(rates)
        with pytest.raises(CodecUnavailableError, match=message):
            SparseCodec(tmp_path).rates()
