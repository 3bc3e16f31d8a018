"""What all trainings share: checkpoints, ledger, interruption, divergence, precision, configuration."""

import csv
import errno
import os
import signal

import pytest
import torch

from pccbench.codecs.errors import CloudError
from pccbench.codecs.training import checkpoint
from pccbench.codecs.training.checkpoint import CheckpointError, Identity, exclusive
from pccbench.codecs.training.config import ConfigError, ConfigFile, Count, Positive, Section, Seed
from pccbench.codecs.training.divergence import DivergedError, diverging, expect_finite
from pccbench.codecs.training.interruption import Interruption
from pccbench.codecs.training.ledger import Ledger, Means
from pccbench.codecs.training.precision import Choice, Mixed, choose, device_of, measured
from pccbench.codecs.training.record import LEAST_STEPS, is_trained
from pccbench.codecs.training.sources import expect_apart, manifest_hashes
from pccbench.codecs.weights import file_sha256, stable, write_whole

ONE = Identity({"training": {"seed": 0, "batch_size": 4}, "training files": ["a" * 64]})


def test_a_checkpoint_says_what_differs(tmp_path):
    path = tmp_path / "x.pt"
    checkpoint.save(path, ONE, {"step": 3})
    assert checkpoint.load(path, ONE)["step"] == 3
    other = Identity({"training": {"seed": 9, "epochs": 2}, "training files": ["b" * 64]})
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path, other)
    for part in ("seed was 0, is 9", "batch_size was 4, is absent", "epochs was absent, is 2", "training files has"):
        assert part in str(caught.value)


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_damaged_checkpoint_is_one_line(tmp_path, damage):
    path = tmp_path / "x.pt"
    checkpoint.save(path, ONE, {"step": 3, "model": torch.zeros(1000)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match="remove it to start anew"):
        checkpoint.load(path, ONE)


def test_a_state_that_does_not_fit_is_damaged(tmp_path):
    with pytest.raises(CheckpointError, match="something else"), checkpoint.taking_up(tmp_path / "x.pt"):
        {}["model"]
    with pytest.raises(ConfigError), checkpoint.taking_up(tmp_path / "x.pt"):
        raise ConfigError("of another machine")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    checkpoint.save(path, ONE, {"step": 3})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="cannot be written: No space left") as caught:
        checkpoint.save(path, ONE, {"step": 4})
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert checkpoint.load(path, ONE)["step"] == 3
    assert [one.name for one in tmp_path.iterdir()] == ["x.pt"]


def test_one_training_in_a_folder(tmp_path):
    with exclusive(tmp_path / "run"), pytest.raises(CheckpointError, match="another training"):
        with exclusive(tmp_path / "run"):
            pass
    with exclusive(tmp_path / "run"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="expected a folder"), exclusive(tmp_path / "file"):
        pass


def rows_of(path):
    with path.open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("steps", "due"), [(1, [1]), (35, [1, 35]), (120, [1, 50, 100, 120])])
def test_a_ledger_has_the_first_step_and_the_last(tmp_path, steps, due):
    ledger = Ledger(tmp_path / "l.csv", ("step", "loss"), last=steps)
    for step in range(1, steps + 1):
        if ledger.is_due(step):
            ledger.add({"step": step, "loss": 1.0})
    assert rows_of(tmp_path / "l.csv") == due


def test_a_ledger_of_a_killed_process_is_taken_up(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("step,loss\n10,1.5\n20,1.4\n3")
    Ledger(path, ("step", "loss"), from_step=20)
    assert rows_of(path) == [10, 20]
    path.write_text("step,loss\n10,1.5\nx")
    Ledger(path, ("step", "loss"), from_step=20)
    assert rows_of(path) == [10]


def test_means_are_of_the_steps_since():
    means = Means()
    means.add({"loss": 1.0})
    means.add({"loss": 3.0, "other": 5.0})
    assert means.take() == {"loss": 2.0, "other": 5.0}
    assert means.take() == {}


def test_a_first_signal_is_noted_and_a_second_ends():
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_not_finite_names_its_step():
    expect_finite("model", 11, loss=torch.tensor(1.0), norm=2.0)
    with pytest.raises(DivergedError, match=r"model diverged at step 12: the loss is nan; lower the learning rate"):
        expect_finite("model", 11, loss=torch.tensor(float("nan")))


def test_what_far_too_large_weights_break_is_told_as_divergence():
    with pytest.raises(DivergedError, match="largest weight is 1e"), diverging("model", 3, [torch.tensor([1e20])]):
        raise RuntimeError("repeats can not be negative")
    with pytest.raises(RuntimeError, match="a fault"), diverging("model", 3, [torch.tensor([1.0])]):
        raise RuntimeError("a fault")


def test_a_loss_that_is_no_number_changes_nothing():
    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.Adam([weight], 0.1)
    with pytest.raises(DivergedError, match="the loss is nan"):
        Mixed.plain().descend("model", 0, weight.sum() * float("nan"), optimiser, [weight])
    with pytest.raises(DivergedError, match="norm of the gradient is inf"):
        Mixed.plain().descend("model", 0, torch.sqrt((weight - 1).sum()), optimiser, [weight])
    assert torch.equal(weight.detach(), torch.ones(3))


def test_the_faster_precision_is_picked_where_it_is_worth_it():
    def choice_of(seconds):
        now, current = [0.0], []

        def attempt(precision):
            current.append(precision)
            now[0] += seconds[precision]

        return choose("auto", "cpu", attempt, lambda: now[0]), current

    found, tried = choice_of({"float32": 1.0, "bfloat16": 0.5})
    assert (found.precision, found.device) == ("bfloat16", "cpu")
    assert found.step_s == {"float32": pytest.approx(1.0), "bfloat16": pytest.approx(0.5)}
    assert "float32 1 s, bfloat16 0.5 s" in found.reason
    assert tried[:4] == ["float32", "bfloat16"] * 2
    assert choice_of({"float32": 1.0, "bfloat16": 3.0})[0].precision == "float32"
    assert choice_of({"float32": 1.0, "bfloat16": 0.95})[0].precision == "float32"


def test_a_configuration_that_fixes_the_precision_is_obeyed():
    def never(precision):
        raise AssertionError

    for wish, expected in (("float32", "float32"), (False, "float32"), (True, "bfloat16"), ("bfloat16", "bfloat16")):
        assert choose(wish, "cpu", never).precision == expected
    with pytest.raises(ConfigError, match="cpu trains in float32, bfloat16, got float16"):
        choose("float16", "cpu", never)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_line():
    assert device_of("auto") == device_of("cpu") == "cpu"
    with pytest.raises(ConfigError, match="cuda is not available"):
        device_of("cuda")
    elsewhere = Mixed(Choice("cpu", "float32", "")).state()
    elsewhere["choice"]["device"] = "cuda"
    with pytest.raises(ConfigError, match="cuda is not available"):
        Mixed.of_state(elsewhere)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_step_on_cuda(precision):
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1).cuda()
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    mixed = Mixed(choose(precision, "cuda", lambda one: None))
    x = torch.randn(64, 8, device="cuda")
    losses = []
    for step in range(50):
        with mixed.autocast():
            loss = ((model(x) - x.sum(1, keepdim=True)) ** 2).float().mean()
        mixed.descend("model", step, loss, optimiser, model.parameters())
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


def test_measuring_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []

    def attempt(mixed):
        seen.append(mixed.choice.precision)
        with mixed.autocast():
            return model(torch.ones(8, 4)).float().sum()

    mixed = measured("model", "auto", "cpu", model, attempt)
    assert set(seen) == {"float32", "bfloat16"}
    assert mixed.choice.precision in seen
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert Mixed.of_state(mixed.state()).choice == Choice.from_record(mixed.choice.record())


def test_few_steps_are_no_training():
    assert is_trained((LEAST_STEPS, LEAST_STEPS))
    assert not is_trained((35, 35))
    assert not is_trained((5000, 9000))
    assert not is_trained((5000, 5000), (35, 35))


def test_folders_of_evaluated_clouds_that_are_not_there_are_said(tmp_path, caplog):
    expect_apart("data.ivfb_path", None, ())
    expect_apart("data.ivfb_path", tmp_path / "nowhere", ("x",))
    assert "data.ivfb_path" in caplog.text
    (tmp_path / "a.ply").write_text("cloud")
    with pytest.raises(ConfigError, match="a.ply is also a training file"):
        expect_apart("data.ivfb_path", tmp_path, (file_sha256(tmp_path / "a.ply"),))


@pytest.mark.parametrize("content", ["{", "[]", '{"sources": 3}', '{"sources": [1]}', "[" * 5000])
def test_a_damaged_manifest_is_one_line(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CloudError, match="expected the manifest of `bench prepare`"):
        manifest_hashes(tmp_path)


class _Part(Section):
    rate: Positive = 1.0
    count: Count = 1
    seed: Seed = 0


class _File(ConfigFile):
    training: _Part


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {rate: .nan}", "training.rate"),
        ("training: {rate: .inf}", "training.rate"),
        ("training: {rate: true}", "training.rate: .*expected a number, got true"),
        ("training: {rate: fast}", "training.rate"),
        ("training: {count: 1.5}", "training.count"),
        ("training: {count: 99999999999999999999}", "training.count"),
        ("training: {seed: -1}", "training.seed"),
        ("training: {rat: 1}", "training.rat: is no key"),
        ("training:", "training"),
        ("", "the file"),
        ("- 1", "the file"),
        ("training: {", "expected YAML"),
        ("[" * 3000, "expected YAML"),
        ("training: {rate: 2001-99-99}", "rate|YAML"),
    ],
)
def test_configurations_are_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "c.yml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        _File.read(tmp_path / "c.yml")
    assert "\n" not in str(caught.value)


def test_options_replace_keys_of_the_file(tmp_path):
    (tmp_path / "c.yml").write_text("training: {rate: 2}")
    assert _File.read(tmp_path / "c.yml", {"seed": 4}).training == _Part(rate=2.0, seed=4)


def test_equal_weights_are_equal_bytes(tmp_path):
    import numpy as np
    from safetensors.numpy import load, save

    arrays = {"b": np.arange(5, dtype=np.int8), "a": np.ones((2, 3), np.float32)}
    one = stable(save(arrays, {"x": "1", "y": "2", "z": "3"}))
    assert all(stable(save(arrays, {"z": "3", "y": "2", "x": "1"})) == one for _ in range(5))
    assert all(np.array_equal(load(one)[name], array) for name, array in arrays.items())
    write_whole(tmp_path / "w", one)
    assert (tmp_path / "w").read_bytes() == one
