"""A run's description: unknown keys and bad values are errors, paths are relative to the file."""

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


def test_every_key_changes_the_yaml():
    other = {
        "codecs": ("octree",),
        "datasets": ("8ivfb",),
        "clouds": ("longdress",),
        "rates": ("r01",),
        "data_root": "/data",
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
    assert other.keys() == RunSpec.model_fields.keys() - {"version"}
    plain = RunSpec().to_yaml()
    for key, value in other.items():
        assert RunSpec.make(**{key: value}).to_yaml() != plain, key
