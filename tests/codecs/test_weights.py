"""Weights: rates that follow from them, records, and random ones."""

import json

import numpy as np
import pytest

from pccbench.codecs.base import Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.deepcompress.codec import DeepCompressCodec, _spread
from pccbench.codecs.dpcc.codec import DpccCodec
from pccbench.codecs.errors import CodecUnavailableError
from pccbench.codecs.sparse.codec import SparseCodec
from pccbench.codecs.training.untrained import ball
from pccbench.codecs.weights import named_rates, read_metadata, read_record


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[" * 10_000, "expected JSON"),
        ("[1]", "expected keys and values, got list"),
        ('{"rates": 5}', "rates: expected a list of parameters"),
        ('{"rates": []}', "rates: expected a list of parameters"),
        ('{"rates": [1]}', "rates: expected a list of parameters"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, content, message):
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(CodecUnavailableError, match=message) as caught:
        named_rates(tmp_path)
    assert "\n" not in str(caught.value)


def test_without_a_record_nothing_is_named(tmp_path):
    assert read_record(tmp_path) == {}
    assert named_rates(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"no weights", b"\xff" * 100, bytes(8) + b"{}"])
def test_a_damaged_file_of_weights_is_one_line(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CodecUnavailableError, match="expected weights"):
        read_metadata(tmp_path / "model.safetensors", "config")
    with pytest.raises(CodecUnavailableError, match="expected weights"):
        DpccCodec(tmp_path).rates()


def test_weights_of_another_codec_are_one_line(tmp_path):
    from pccbench.codecs.sparse.files import SHIPPED, weights_path

    (tmp_path / "model.safetensors").symlink_to(weights_path(SHIPPED))
    with pytest.raises(CodecUnavailableError, match="expected a model of dpcc"):
        DpccCodec(tmp_path).rates()


def test_deepcompress_spreads_its_rates_over_what_was_trained():
    assert _spread((0.2, 50.0))[0] == (24.0, 1)
    found = _spread((1.0, 10.0))
    assert len(found) == 8
    assert all(1.0 <= weight <= 10.0 for weight, _ in found)
    assert [coarsening for _, coarsening in found] == [1, 1, 0, 0, 0, 0, 0, 0]
    fine = [weight for weight, coarsening in found if not coarsening]
    assert fine == sorted(fine, reverse=True)


@pytest.fixture(scope="module")
def surface():
    return PointCloud(ball() + 30, bit_depth=7)


@pytest.fixture(scope="module", params=[DpccCodec, SparseCodec, DeepCompressCodec], ids=lambda cls: cls.name)
def random_weights(request, tmp_path_factory):
    import importlib

    folder = tmp_path_factory.mktemp("untrained")
    importlib.import_module(f"{request.param.__module__.rpartition('.')[0]}.untrained").write_untrained(folder)
    return request.param, folder


def test_random_weights_are_untrained_and_code(random_weights, surface):
    cls, folder = random_weights
    codec = cls(folder)
    assert codec.card().trained is False
    assert codec.card().training_files_sha256 == ()
    rate = codec.rates()[0]
    assert isinstance(rate, Rate)
    data = codec.encode(surface, rate)
    assert codec.decode(bytes(data)).geometry_sha256() == data.reconstruction_sha256


def test_random_weights_are_the_same_every_time(random_weights, tmp_path):
    import importlib

    import torch

    cls, folder = random_weights
    torch.manual_seed(99)
    np.random.default_rng(3)
    importlib.import_module(f"{cls.__module__.rpartition('.')[0]}.untrained").write_untrained(tmp_path)
    for path in folder.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
    assert json.loads((folder / "record.json").read_text())["trained"] is False
