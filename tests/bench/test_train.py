"""`bench train`: one clear line for what cannot be trained, and a run that was stopped goes on."""

import json
import os
import signal

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from pccbench.bench.train import train
from pccbench.codecs.blocks import cut
from pccbench.codecs.errors import PccbenchError
from pccbench.codecs.training.untrained import BLOCK, ball


def run(*arguments):
    return CliRunner().invoke(train, [str(argument) for argument in arguments], standalone_mode=False)


def refused(*arguments):
    """The one line that a user gets, with exit code 2."""
    result = run(*arguments)
    assert isinstance(result.exception, PccbenchError), (result.output, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture
def config(tmp_path):
    """Writes the configuration of a tiny training of dpcc, changed by sections, and gives its path."""
    cut(ball(), BLOCK).save(tmp_path / "train-000.npz")

    def write(**sections):
        record = {
            "data": {"path": str(tmp_path), "min_points": 100, "max_points": 400},
            "model": {"hidden_dim": 8, "neighbours": 6, "decoder_hidden_dim": 8, "stages": 2},
            "occupancy": {"clouds": 1, "units": 8},
            "training": {"epochs": 4, "checkpoint_dir": str(tmp_path / "run")},
        }
        for name, keys in sections.items():
            record[name] |= keys
        (tmp_path / "c.yml").write_text(yaml.safe_dump(record))
        return tmp_path / "c.yml"

    return write


def test_what_cannot_be_trained_is_one_line(tmp_path, config):
    assert "codecs that can be trained" in refused("octree")
    assert "expected a YAML file, or one of dpcc, published" in refused("dpcc", "--config", tmp_path / "no.yml")
    assert "expected a YAML file" in refused("dpcc", "--config", tmp_path)
    assert "expected a YAML file" in refused("dpcc", "--config", "../configs/dpcc")
    assert "trains on the CPU in float32" in refused("dpcc", "--config", config(), "--precision", "bfloat16")
    assert "data.path" in refused("dpcc", "--config", config(data={"path": 5}))
    assert "training.learning_rate" in refused("dpcc", "--config", config(training={"learning_rate": float("nan")}))
    assert "expected training blocks" in refused("dpcc", "--config", config(data={"path": str(tmp_path / "none")}))
    assert "expected a folder to train in" in refused(
        "dpcc", "--config", config(training={"checkpoint_dir": str(tmp_path / "c.yml")})
    )


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"", lambda data: b"PK" + data[2:90]])
def test_damaged_blocks_are_one_line(tmp_path, config, damage):
    path = config()
    blocks = tmp_path / "train-000.npz"
    blocks.write_bytes(damage(blocks.read_bytes()))
    assert "train-000.npz" in refused("dpcc", "--config", path)


def test_a_training_that_was_stopped_goes_on(tmp_path, config, monkeypatch):
    from pccbench.codecs.dpcc.training import Trainer

    path = config()
    step = Trainer.train_step

    def stopped(self, batch):
        found = step(self, batch)
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    monkeypatch.setattr(Trainer, "train_step", stopped)
    result = run("dpcc", "--config", path)
    assert result.return_value == 130, result.exception
    assert "model: interrupted at step 2 of 4; the same command goes on there" in result.output
    monkeypatch.undo()
    assert "training.seed was 0, is 3" in refused("dpcc", "--config", config(training={"seed": 3}))
    done = run("dpcc", "--config", config())
    assert done.return_value == 0, done.exception
    assert "fewer than 1000 steps are no training" in done.output
    record = json.loads((tmp_path / "run" / "weights" / "record.json").read_text())
    assert (record["steps"], record["planned_steps"], record["trained"]) == (4, 4, False)
    steps = [row.split(",")[0] for row in (tmp_path / "run" / "ledger.csv").read_text().splitlines()[1:]]
    assert steps == ["1", "4"]


def test_a_training_that_diverges_names_the_step_and_keeps_its_checkpoint(tmp_path, config):
    text = refused("dpcc", "--config", config(training={"learning_rate": 1e30, "checkpoint_s": 1e-9}))
    assert "model diverged at step" in text
    assert "lower the learning rate" in text
    import torch

    path = tmp_path / "run" / "model.pt"
    state = torch.load(path, weights_only=True)
    assert state["step"] >= 1


def test_a_missing_folder_of_evaluated_clouds_is_said_and_skipped(tmp_path, config):
    path = config(data={"evaluation_path": str(tmp_path / "nowhere")}, training={"epochs": 1})
    result = run("dpcc", "--config", path)
    assert result.return_value == 0, result.exception
    assert "data.evaluation_path" in result.output
    assert np.isfinite(json.loads((tmp_path / "run" / "weights" / "record.json").read_text())["last"]["loss"])
