"""A run's description: unknown keys and bad values are errors, paths are relative to the file."""

from pathlib import Path

import numpy as np
import pytest

from pccbench.bench.errors import UsageError
from pccbench.bench.spec import RunSpec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codec: [octree]", "codec: unknown key"),
        ("repeats: 0", "repeats: Input should be greater than or equal to 1"),
        ("timeout_s: -1", "timeout_s"),
        ("codecs: []", "codecs: names at least one"),
        ("version: 2", "version 2, this pccbench reads 1"),
        ("- octree", "expected keys and values, got list"),
        ("codecs: [octree", "not YAML"),
        ("jobs: many", "jobs"),
        ("1: octree", "1: unknown key"),
        ("started: 2020-99-99", "not YAML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        RunSpec.read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.yaml: no such file"):
        RunSpec.read(tmp_path / "nothing.yaml")


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "run.yaml").write_text("codec_modules: mine.py\ndata_root: data\n")
    given = RunSpec.read(tmp_path / "run.yaml")
    assert given == {"codec_modules": (tmp_path / "mine.py",), "data_root": tmp_path / "data"}
    (tmp_path / "run.yaml").write_text("datasets: ['folder:scans', synthetic, 'folder:/clouds']\ntmc3: ./tmc3\n")
    given = RunSpec.read(tmp_path / "run.yaml")
    assert given["datasets"] == (f"folder:{tmp_path}/scans", "synthetic", "folder:/clouds")
    assert given["tmc3"] == tmp_path / "tmc3"


def test_a_spec_made_absolute_says_the_same_from_every_folder(tmp_path, monkeypatch):
    here, elsewhere, home = tmp_path / "here", tmp_path / "elsewhere", tmp_path / "home"
    for folder in (here, elsewhere, home):
        folder.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PCCBENCH_DATA", "../home")
    spec = RunSpec.make(
        datasets=["folder:scans", "folder:../elsewhere", "folder:~/x", "8ivfb"], codec_modules=["a.py"], tmc3="t/tmc3"
    ).absolute()
    assert spec.datasets == (f"folder:{here}/scans", f"folder:{elsewhere}", f"folder:{home}/x", "8ivfb")
    assert (spec.codec_modules, spec.tmc3, spec.data_root) == ((here / "a.py",), here / "t/tmc3", home)
    (elsewhere / "run.yaml").write_text(spec.to_yaml())
    monkeypatch.chdir(elsewhere)
    assert RunSpec.make(**RunSpec.read(elsewhere / "run.yaml")).absolute() == spec


def test_what_is_retried(tmp_path):
    assert RunSpec.make(retry="failed").retry == ("failed",)
    assert "retry" not in RunSpec.make(retry=["timeout"]).to_yaml()
    (tmp_path / "run.yaml").write_text("retry: [timeout, metric_failed]\n")
    assert RunSpec.read(tmp_path / "run.yaml") == {"retry": ("timeout", "metric_failed")}
    with pytest.raises(UsageError, match="'timeouts'; did you mean timeout\\? choices are failed, encode_failed"):
        RunSpec.make(retry=["timeouts"])
    for word in ("ok", "unavailable", ""):
        with pytest.raises(UsageError, match="choices are"):
            RunSpec.make(retry=[word])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"datasets": [Path("scans")]}, "'folder:scans'"),
        ({"datasets": Path("scans")}, "'folder:scans'"),
        ({"datasets": 3}, "datasets"),
        ({"codecs": [None]}, "codecs.0"),
        ({"codecs": {"octree": 1}}, "codecs"),
        ({"repeats": "many"}, "repeats"),
        ({"repeats": 1.5}, "repeats"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"peak": np.float32("nan")}, "peak"),
        ({"memory_limit_gb": 1e300}, "memory_limit_gb"),
        ({"jobs": np.array([1, 2])}, "jobs"),
    ],
)
def test_wrong_types_from_python_are_one_line(settings, message):
    with pytest.raises(UsageError) as caught:
        RunSpec.make(**settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numpy_values_are_values():
    spec = RunSpec.make(
        repeats=np.int64(3), timeout_s=np.float32(2), share_cores=np.bool_(True), codecs=np.array(["raw"])
    )
    assert spec == RunSpec.make(repeats=3, timeout_s=2, share_cores=True, codecs=["raw"])


def test_every_key_changes_the_yaml():
    other = {
        "codecs": ("octree",),
        "datasets": ("8ivfb",),
        "clouds": ("longdress",),
        "rates": ("r01",),
        "data_root": "/data",
        "columns": 5,
        "codec_modules": ("/mine.py",),
        "tmc3": "/tmc3",
        "jobs": 2,
        "threads": 3,
        "share_cores": True,
        "timeout_s": 5.0,
        "memory_limit_gb": 2.0,
        "repeats": 7,
        "peak": 511.0,
        "secondary": True,
        "allow_untrained": True,
        "keep_streams": True,
    }
    assert other.keys() == RunSpec.model_fields.keys() - {"version", "retry"}
    plain = RunSpec().to_yaml()
    for key, value in other.items():
        assert RunSpec.make(**{key: value}).to_yaml() != plain, key
