"""Versions of packages as ingredients: of each codec those that it imports, and no others."""

import importlib.metadata

import pytest

from pccbench.codecs import packages, registry
from pccbench.codecs.packages import package_versions

MODULE = """
import os, lzma, tqdm, numpy as np
from pccbench.codecs.base import Codec, CodecCard, Rate
import helper
class Mine(Codec):
    name = "mine-{name}"
    def rates(self): return [Rate("r01")]
    def card(self): return CodecCard("1")
    def encode(self, cloud, rate):
        import {package}
        return b""
    def decode(self, data): return None
"""


@pytest.fixture(autouse=True)
def forget():
    packages._version.cache_clear()
    yield
    packages._version.cache_clear()


@pytest.fixture
def pretend(monkeypatch):
    """Makes a distribution look as if another version of it were installed."""
    real = importlib.metadata.version

    def set_version(**versions):
        packages._version.cache_clear()
        monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name) or real(name))

    return set_version


def versions_of(name):
    return package_versions(registry.codec_class(name))


def test_a_codec_has_the_packages_that_it_imports():
    assert set(versions_of("raw")) == {"numpy"}
    assert set(versions_of("octree")) == {"numpy", "numba"}
    assert "torch" not in versions_of("octree")
    draco = pytest.importorskip("DracoPy") and versions_of("draco")
    assert set(draco) == {"numpy", "DracoPy"}
    pytest.importorskip("torch")
    assert {"torch", "constriction", "numba"} <= set(versions_of("sparse"))


def test_a_third_partys_imports_count_inside_functions_too(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MODULE.format(name="one", package="scipy.spatial"))
    (tmp_path / "helper.py").write_text("")
    try:
        names = registry.load_codec_module(file)
    except registry.CodecModuleError:  # neighbours are not found yet
        file.write_text(MODULE.format(name="one", package="scipy.spatial").replace("import helper", ""))
        names = registry.load_codec_module(file)
    assert set(package_versions(registry.codec_class(names[0]))) == {"numpy", "scipy"}


def test_a_package_that_is_not_there_is_none(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MODULE.format(name="two", package="no_such_package").replace("import helper", ""))
    (name,) = registry.load_codec_module(file)
    assert package_versions(registry.codec_class(name))["no_such_package"] is None


def test_third_numbers_count_where_they_may_change_figures(pretend):
    pretend(numpy="1.26.4", DracoPy="1.4.2")
    assert versions_of("draco") == {"numpy": "1.26", "DracoPy": "1.4.2"}
    pretend(numpy="1.26.5", torch="2.13.0+cpu")
    assert versions_of("raw") == {"numpy": "1.26"}


def test_a_changed_package_makes_rows_stale_and_is_named(pretend):
    from pccbench.bench.plan import make_plan, stale_reasons
    from pccbench.bench.row import Row
    from pccbench.bench.spec import RunSpec

    spec = RunSpec.make(codecs=("raw", "octree"), clouds=("tiny-gown",), rates=("lossless",))

    def planned():
        return {job.codec.spec.name: job for job in make_plan(spec, print).jobs}

    def row(job):
        names = (job.codec.spec.name, job.rate.name, job.cloud.dataset, job.cloud.name)
        return Row(job.key, *names, "ok", ingredients=job.ingredients)

    rows = {name: row(job) for name, job in planned().items()}
    assert not any(stale_reasons(job, rows[name], spec) for name, job in planned().items())
    pretend(torch="99.0.0", DracoPy="99.0.0")
    assert not any(stale_reasons(job, rows[name], spec) for name, job in planned().items())
    now = importlib.metadata.version("numba").rsplit(".", 1)[0]
    pretend(numba="0.1.0")
    reasons = {name: stale_reasons(job, rows[name], spec) for name, job in planned().items()}
    assert f"codec.packages.numba was {now}, is 0.1" in reasons["octree"]
    assert reasons["raw"] == [f"metric.packages.numba was {now}, is 0.1"]
