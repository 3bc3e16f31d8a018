"""The published architecture: a short training gives weights that the codec runs at all its rates."""

import json

import numpy as np
import pytest

from pccbench.codecs.dpcc.codec import DpccCodec
from pccbench.codecs.errors import CodecUnavailableError
from pccbench.codecs.weights import RECORD
from pccbench.metrics.distortion import distortion


def test_rates_follow_from_the_operating_points(published, weights):
    codec = DpccCodec(published)
    assert [(rate.name, rate.parameters["point"]) for rate in codec.rates()] == [("r01", 1)]
    three = DpccCodec(weights).rates()
    assert [(rate.name, rate.parameters["point"]) for rate in three] == [("r01", 1), ("r02", 2), ("r03", 3)]
    assert codec.card().parameters > 87_662


def test_it_codes_at_all_its_rates(published, cloud, real_cloud):
    codec = DpccCodec(published)
    for one in (cloud, real_cloud):
        for rate in codec.rates():
            data = codec.encode(one, rate)
            decoded = DpccCodec(published).decode(bytes(data))
            assert decoded.geometry_sha256() == data.reconstruction_sha256
            assert len(decoded) == pytest.approx(len(one), rel=0.5)
            # Children lie near their latents from the beginning: places are told in the patches of training.
            extent = float(np.ptp(one.points, axis=0).max())
            found = distortion(one.points, decoded.points, peak=extent).d1_mse
            assert np.sqrt(found) < extent / 4


def test_it_is_validated_as_it_is_coded(published):
    rows = (published.parent / "ledger.csv").read_text().splitlines()
    column = rows[0].split(",").index("validation_d1_psnr_db")
    assert [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]][-1] > 10


def test_few_steps_are_no_training(published):
    record = json.loads((published / RECORD).read_text())
    assert (record["steps"], record["planned_steps"], record["trained"]) == (12, 12, False)
    assert not DpccCodec(published).card().trained


@pytest.mark.parametrize("rate", [{"point": 2}, {"point": 1, "grid_share": 0}, {"point": "one"}])
def test_rates_that_the_weights_have_not_are_one_line(published, tmp_path, rate):
    for path in published.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = json.loads((published / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**record, "rates": [rate]}))
    with pytest.raises(CodecUnavailableError, match=r"record.json: dpcc needs"):
        DpccCodec(tmp_path).rates()
