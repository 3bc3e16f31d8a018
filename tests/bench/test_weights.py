"""Weights of a run: named ones, and random ones where they are allowed."""

import shutil
from pathlib import Path

import pytest

from pccbench.bench.errors import UsageError
from pccbench.bench.plan import plan_codecs
from pccbench.bench.spec import RunSpec
from pccbench.bench.weights import with_weights
from pccbench.codecs import registry
from pccbench.codecs.dpcc.files import SHIPPED, weights_sha256
from pccbench.codecs.registry import CodecSpec


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(SHIPPED, tmp_path / "mine"))


def test_named_weights_reach_workers_and_keys(folder):
    (spec,) = with_weights(registry.find(("dpcc",)), {"dpcc": folder})
    assert spec.weights == str(folder)
    assert CodecSpec.from_dict(spec.to_dict()) == spec
    (planned,), unavailable = plan_codecs(RunSpec.make(codecs="dpcc", weights={"dpcc": folder}))
    assert not unavailable
    assert planned.fingerprint["weights_sha256"] == weights_sha256(folder)
    (folder / "record.json").unlink()  # nobody says that they are trained
    planned, unavailable = plan_codecs(RunSpec.make(codecs="dpcc", weights={"dpcc": folder}))
    assert not planned
    assert "untrained" in unavailable["dpcc"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"octree": "x"}, "octree: it takes none"),
        ({"dpc": "x"}, "no codec of this run; did you mean dpcc"),
        ({"dpcc": "nowhere"}, "expected a folder that `bench train` wrote"),
        ({"dpcc": "."}, r"no weights \(model.safetensors\)"),
    ],
)
def test_weights_that_cannot_be_used_are_one_line(tmp_path, monkeypatch, weights, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        plan_codecs(RunSpec.make(codecs=["dpcc", "octree"], weights=weights))


def test_damaged_weights_are_one_line(folder):
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="expected weights"):
        plan_codecs(RunSpec.make(codecs="dpcc", weights={"dpcc": folder}))


def test_relative_weights_of_a_yaml_count_from_it(folder, tmp_path):
    (tmp_path / "run.yaml").write_text("codecs: dpcc\nweights: {dpcc: mine}\n")
    assert RunSpec.read(tmp_path / "run.yaml")["weights"] == {"dpcc": folder}


def test_missing_weights_are_random_where_that_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("pccbench.codecs.dpcc.files.SHIPPED", tmp_path / "none")
    planned, unavailable = plan_codecs(RunSpec.make(codecs="dpcc"))
    assert not planned
    assert "no weights" in unavailable["dpcc"]
    (planned,), unavailable = plan_codecs(RunSpec.make(codecs="dpcc", allow_untrained=True))
    assert not unavailable
    assert planned.card.trained is False
    assert len(planned.rates) == 8
    again = plan_codecs(RunSpec.make(codecs="dpcc", allow_untrained=True))[0]
    assert again[0].fingerprint == planned.fingerprint
    assert len(list((tmp_path / "pccbench" / "untrained").iterdir())) == 1
