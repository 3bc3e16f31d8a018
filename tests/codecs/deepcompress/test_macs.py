"""Multiply-accumulates of the entropy models, against sums by hand over their layers' sizes."""

import pytest

pytest.importorskip("torch")

from pccbench.codecs.deepcompress.codec import DeepCompressCodec
from pccbench.codecs.deepcompress.files import SHIPPED, transform_path
from pccbench.codecs.deepcompress.macs import prior_macs_per_cell
from pccbench.codecs.deepcompress.priors import PRIORS, RATE_KNOTS
from pccbench.codecs.deepcompress.train import _macs_per_cell
from pccbench.codecs.deepcompress.weights import load_transform
from pccbench.codecs.weights import read_record

C = 32  # latent channels, four groups of 8
H = 48
HYPER = 8
TAPS = 27
#: Cells of a window of 4**3 on a plane.
WINDOW = 16


def head(channels):
    return H * H + H * 2 * channels


# Encoder alone: a layer at each cell, two at each cube of four cells.
ANALYSIS = C * H + (8 * H * 2 * H + 2 * H * HYPER) / 4
TRUNK = (TAPS + RATE_KNOTS) * H + (TAPS * HYPER * H + H * 8 * H) / 4 + TAPS * H * H
# Query, key, value and output; scores and mixture, each over the window.
ATTENTION = 4 * H * H + 2 * WINDOW * H
EXPECTED = {
    "gaussian": 2 * RATE_KNOTS * 2 * C,
    "hyperprior": ANALYSIS + 2 * (TRUNK + head(C)),
    "channel": ANALYSIS + 2 * (TRUNK + TAPS * (8 + 16 + 24) * H + 4 * head(8)),
    "context": ANALYSIS + 2 * (TRUNK + TAPS * C * H + head(C)),
    "attention": ANALYSIS + 2 * (TRUNK + (8 + 16 + 24) * H + 4 * (ATTENTION + head(8))),
    # Four sets of a quarter of the cells, in two groups: all passes but the first look around, every second attends.
    "hybrid": ANALYSIS + 2 * (TRUNK + 7 / 4 * TAPS * C * H + 3 * (C * H + ATTENTION) + 8 / 4 * head(16)),
}


@pytest.mark.parametrize("name", PRIORS)
def test_sums_by_hand(name):
    assert prior_macs_per_cell(PRIORS[name](C)) == pytest.approx(EXPECTED[name], rel=1e-12)


def test_each_model_says_its_own():
    classes = [DeepCompressCodec, *DeepCompressCodec.__subclasses__()]
    macs = {cls.prior: cls().card().macs_per_point for cls in classes}
    assert set(macs) == set(PRIORS)
    assert len(set(macs.values())) == len(PRIORS)
    assert macs["gaussian"] < macs["hyperprior"] < macs["context"] < macs["channel"] < macs["hybrid"]


def test_the_shipped_record_says_what_is_counted_now():
    record = read_record(SHIPPED)
    model = load_transform(transform_path(SHIPPED))
    points_per_cell = _macs_per_cell(model) / record["macs_per_point"]
    for name, macs in record["entropy_macs_per_point"].items():
        counted = prior_macs_per_cell(PRIORS[name](model.config.latent_channels)) / points_per_cell
        assert macs == pytest.approx(counted, abs=0.1)
