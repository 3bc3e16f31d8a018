"""The seal: no decoder gets a cloud by another way than its bytes, and no codec's word is taken for its times."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pccbench.bench import allowed, kernel, seal
from pccbench.bench.plan import make_plan
from pccbench.bench.runner import execute
from pccbench.bench.spec import RunSpec
from pccbench.bench.store import Store
from pccbench.codecs.registry import CodecSpec

SOURCE = Path(__file__).with_name("cheating_codecs.py")
#: Cheats, and a layer without which each succeeds or may.
CHEATS = {
    "reads-the-harness": "landlock",
    "knows-the-data": "landlock",
    "leaves-files-around": "landlock",
    "leaves-names-and-times": "mntns",
    "holds-locks": "seccomp",
    "looks-at-processes": "landlock",
    "reads-memory": "seccomp",
    "serves-by-copy": "seccomp",
    "opens-sockets": "seccomp",
    "shares-memory": "seccomp",
    "uses-descriptors": "landlock",
    "escapes": "seccomp",
    "reads-environment": "",
    "kills-others": "pidns",
}
ENOUGH = {"landlock", "seccomp", "mntns", "pidns"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set, a run folder, and a copy of the cheats beside a file that tells them where both are."""
    root = tmp_path_factory.mktemp("cheats")
    clouds, codecs = root / "clouds", root / "codecs"
    clouds.mkdir()
    codecs.mkdir()
    points = np.random.default_rng(5).integers(0, 256, (300, 3))
    np.save(clouds / "one.npy", np.unique(points, axis=0).astype(np.int32))
    (codecs / "paths.json").write_text(json.dumps([str(clouds), str(root / "run"), str(clouds / "one.npy")]))
    shutil.copy(SOURCE, codecs)
    return root


def run(place, *codecs, **settings):
    out = place / "run" / f"{len(list(place.glob('run/*')))}"
    spec = RunSpec.make(
        codecs=codecs,
        datasets=[f"folder:{place / 'clouds'}"],
        codec_modules=[place / "codecs" / SOURCE.name],
        **settings,
    )
    outcome = execute(make_plan(spec, lambda text: None), spec, Store(out), {"started_at": "now"})
    return {row.codec: row for row in outcome.rows}


def need(*layers):
    if lacking := set(layers) - {""} - set(seal.layers()):
        pytest.skip(f"this system has no {', '.join(sorted(lacking))}")


@pytest.fixture(scope="module")
def rows(place):
    os.environ["CHEAT_SECRET"] = str(place)
    try:
        return run(place, "honest-control", *CHEATS, timeout_s=60, keep_streams=True)
    finally:
        del os.environ["CHEAT_SECRET"]


def test_an_honest_codec_is_ok_and_its_row_names_the_seal(rows):
    row = rows["honest-control"]
    assert row.status == "ok", row
    assert row.seal == seal.name(seal.layers(), has_gpu=bool(allowed.gpus()))
    assert row.seal.split("+")[-1] in ("env", "gpu-open")


@pytest.mark.parametrize("codec", CHEATS)
def test_no_cheat_gets_the_cloud(rows, codec):
    need(CHEATS[codec])
    row = rows[codec]
    assert row.status in ("decode_failed", "disrupted"), row
    assert codec == "kills-others" or "nothing leaked" in row.reason, row.reason
    assert row.encode_s > 0


@pytest.mark.parametrize(
    "layers", ["landlock+seccomp", "mntns+pidns+netns+ipcns+userns+seccomp+landlock", "landlock+seccomp+mntns+userns"]
)
def test_fewer_layers_still_keep_files_and_sockets(place, layers, monkeypatch):
    need("landlock", "seccomp")
    monkeypatch.setenv(seal.VARIABLE, layers)
    seal.layers.cache_clear()
    try:
        names = ("reads-the-harness", "knows-the-data", "leaves-files-around", "opens-sockets", "reads-memory")
        found = run(place, "honest-control", *names)
    finally:
        monkeypatch.undo()
        seal.layers.cache_clear()
    assert found.pop("honest-control").status == "ok"
    assert {row.status for row in found.values()} == {"decode_failed"}, found


def test_without_a_seal_the_row_says_so(place, monkeypatch):
    monkeypatch.setenv(seal.VARIABLE, "none")
    seal.layers.cache_clear()
    try:
        row = run(place, "honest-control")["honest-control"]
        assert seal.finding()[1] is False
    finally:
        monkeypatch.undo()
        seal.layers.cache_clear()
    assert row.status == "ok"
    assert row.seal.split("+")[0] == "env"


def test_a_system_without_any_layer_is_told_apart(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    seal.layers.cache_clear()
    try:
        assert seal.layers() == ()
        text, is_good = seal.finding()
    finally:
        monkeypatch.undo()
        seal.layers.cache_clear()
    assert not is_good
    assert "darwin" in text


def test_an_unprivileged_user_has_the_same_seal():
    python = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(p).exists()), None)
    if os.getuid() or python is None or shutil.which("setpriv") is None:
        pytest.skip("needs root, setpriv and a python that everybody may run")
    code = "import sys; sys.path[:0] = sys.argv[1:]; from pccbench.bench.seal import probe; probe()"
    package = Path(kernel.__file__).resolve().parent.parent
    paths = [entry for entry in sys.path if (Path(entry) / "pccbench").exists()]
    done = subprocess.run(
        ["setpriv", "--reuid", "nobody", "--clear-groups", python, "-c", code, *paths],
        capture_output=True, text=True, cwd="/", env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    if "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr or "SyntaxError" in done.stderr:
        pytest.skip(f"nobody cannot read {package}")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) - {"userns"} == set(seal.layers()) - {"userns"}


def test_readable_leaves_out_what_is_hidden_inside(tmp_path, monkeypatch):
    package = tmp_path / "mine"
    (package / "data" / "deep").mkdir(parents=True)
    for path in (package / "__init__.py", package / "code.py", package / "data" / "cloud.npy"):
        path.touch()
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    spec = CodecSpec("x", str(package / "__init__.py"))
    found, listed = allowed.readable(spec, [package / "data" / "deep", tmp_path])
    inside = {path for path in found if path.startswith(str(tmp_path))}
    assert inside == {str(package / "__init__.py"), str(package / "code.py"), str(package / "data" / "cloud.npy")}
    assert str(package) in listed
    assert str(tmp_path) not in found


def test_beside_a_codecs_file_only_code_and_weights_are_readable(tmp_path):
    for name in ("codec.py", "helper.py", "weights.pt", "cloud.ply", "one.npy", "stream.bin", "rows.jsonl"):
        (tmp_path / name).touch()
    found, _ = allowed.readable(CodecSpec("x", str(tmp_path / "codec.py")), [tmp_path / "helper.py"])
    inside = {Path(path).name for path in found if path.startswith(str(tmp_path))}
    assert inside == {"codec.py", "weights.pt"}


def test_the_environment_tells_nothing_of_data_but_what_is_passed_on(tmp_path, monkeypatch):
    data = tmp_path / "data"
    monkeypatch.setenv("PCCBENCH_DATA", str(data))
    monkeypatch.setenv("OMP_SECRET", f"x:{data}")
    monkeypatch.setenv("MY_WEIGHTS", str(tmp_path / "weights"))
    found = allowed.environment(tmp_path / "own", 2, [data])
    assert not any(str(data) in value for value in found.values())
    assert not {"PWD", "OLDPWD", "PCCBENCH_DATA", "MY_WEIGHTS"} & set(found)
    assert found["OMP_NUM_THREADS"] == "2"
    assert found["HOME"] == str(tmp_path / "own" / "home")
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv(allowed.VARIABLE, "MY_WEIGHTS")
    assert allowed.environment(tmp_path / "own", 2, [data])["MY_WEIGHTS"] == str(tmp_path / "weights")
    assert str(tmp_path / "weights") in allowed.readable(CodecSpec("raw"), [data])[0]


TIMES = {
    "forges-figures": "nan s, the harness measured",
    "forges-negative": "the worker says that encode took -1 s",
    "forges-fast": "the worker says that encode took 0.0001 s",
    "answers-twice": "made no sense",
    "answers-rubbish": "made no sense",
    "leaves-work-for-later": "",
}


@pytest.fixture(scope="module")
def timed(place):
    return run(place, "replaces-the-clock", *TIMES, timeout_s=60)


@pytest.mark.parametrize("codec", TIMES)
def test_no_forged_time_or_answer_is_accepted(timed, codec):
    row = timed[codec]
    assert row.status != "ok", row
    assert TIMES[codec] in row.reason


def test_a_replaced_clock_changes_nothing(timed):
    row = timed["replaces-the-clock"]
    assert row.status == "mismatch" or (row.status == "ok" and 0.29 < row.encode_s < 60), row


def test_later_repeats_that_were_remembered_do_not_count(place):
    row = run(place, "memoises", repeats=3)["memoises"]
    assert row.status == "ok"
    assert len(row.encode_s_samples) == 3
    assert row.encode_s == row.encode_s_samples[0] > 0.29
    assert "the first" in row.notes["encode_s_is"]
    assert "decode_s_is" not in row.notes
    assert all(math.isfinite(value) for value in row.encode_s_samples)
