"""The weights of the package: what their record says, and what they reach on a surface they never saw."""

import hashlib

import numpy as np
import pytest

from pccbench.codecs.conformance import surface_cloud
from pccbench.codecs.dpcc.codec import DpccCodec
from pccbench.codecs.dpcc.files import SHIPPED, model_path
from pccbench.codecs.registry import codec_class
from pccbench.codecs.weights import read_record
from pccbench.metrics.distortion import distortion


def test_the_record_is_of_these_weights():
    record = read_record(SHIPPED)
    assert hashlib.sha256(model_path(SHIPPED).read_bytes()).hexdigest() == record["weights_sha256"]
    assert model_path(SHIPPED).stat().st_size < 1 << 20
    card = codec_class("dpcc")().card()
    assert card.trained
    assert card.parameters == record["parameters"] == 270_507
    assert card.training_files_sha256


def test_the_rates_of_the_shipped_weights_keep_their_names_and_parameters():
    """Keys of stored rows hold them: other parameters would make rows of earlier runs stale."""
    found = [(rate.name, *rate.parameters.values()) for rate in DpccCodec().rates()]
    assert found == [
        ("r01", 1, 1.2, 0.0),
        ("r02", 2, 1.0, 0.0),
        ("r03", 8, 1.8, 0.3),
        ("r04", 8, 1.44, 0.3),
        ("r05", 8, 1.44, 0.06),
        ("r06", 8, 1.08, 0.3),
        ("r07", 8, 1.08, 0.12),
        ("r08", 8, 1.08, 0.0),
        ("r09", 8, 0.72, 0.0),
    ]
    assert list(DpccCodec().rates()[0].parameters) == ["point", "grid_share", "towards_zero"]


def test_rates_rise_and_the_cloud_comes_closer():
    cloud = surface_cloud(3)
    codec = DpccCodec()
    sizes, errors = [], []
    for rate in (codec.rates()[1], codec.rates()[-1]):
        data = codec.encode(cloud, rate)
        decoded = codec.decode(data)
        assert decoded.geometry_sha256() == data.reconstruction_sha256
        assert len(decoded) == pytest.approx(len(cloud), rel=0.15)
        sizes.append(len(data))
        errors.append(distortion(cloud.points, decoded.points, peak=127).d1_mse)
    assert sizes[0] < sizes[1]
    assert errors[1] < errors[0]
    assert np.sqrt(errors[1]) < 2.0
