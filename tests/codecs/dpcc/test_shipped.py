"""The weights of the package: what their record says, and what they reach on a surface they never saw."""

import hashlib

import numpy as np
import pytest

from pccbench.codecs.conformance import surface_cloud
from pccbench.codecs.dpcc.codec import DpccCodec
from pccbench.codecs.dpcc.files import SHIPPED, model_path, read_record
from pccbench.codecs.registry import codec_class
from pccbench.metrics.distortion import distortion


def test_the_record_is_of_these_weights():
    record = read_record(SHIPPED)
    assert hashlib.sha256(model_path(SHIPPED).read_bytes()).hexdigest() == record["weights_sha256"]
    assert model_path(SHIPPED).stat().st_size < 1 << 20
    card = codec_class("dpcc")().card()
    assert card.trained
    assert card.parameters == record["parameters"] == 270_507
    assert card.training_files_sha256


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
