"""Training: loss, resumption, samples, configuration; and what it exports."""

import json

import numpy as np
import pytest
import torch

from pccbench.codecs.sparse.config import ConfigError, TrainingConfig
from pccbench.codecs.sparse.experience import ExperienceTrainer
from pccbench.codecs.sparse.samples import BATCH, Sampler
from pccbench.codecs.sparse.train import latent_trainer
from pccbench.codecs.sparse.training import Trainer
from pccbench.codecs.sparse.weights import load
from pccbench.codecs.training.checkpoint import CheckpointError
from pccbench.codecs.weights import read_record


def test_a_sample_holds_what_lies_in_its_voxels(blocks, rng):
    for factor in (2, 3, 4):
        sample = Sampler(blocks, 0.5).draw(factor, rng)
        used = sample.windows[:, 62] == 1  # a voxel sees itself
        assert 0 < int(used.sum()) <= BATCH
        assert int(sample.targets[used].sum(1).min()) >= 1
        assert int(sample.targets[~used].sum()) == 0
        assert not bool(sample.weight[~used].any())
        counted = sample.targets[sample.weight > 0].sum()
        assert sample.points == int(counted)
        np.testing.assert_array_equal((sample.neighbours[:, 13] < BATCH).numpy(), used.numpy())


def test_a_sample_depends_on_its_number_alone(blocks):
    one, two = (Sampler(blocks, 0.25).draw(3, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one.targets, two.targets)


def test_loss_falls(blocks, make_config):
    trainer = Trainer(make_config(steps=80, learning_rate=1e-2), (), blocks)
    losses = [trainer.train_step() for _ in range(80)]
    for factor in (2, 3, 4):
        found = [loss for one, (loss,) in losses if one == factor]
        assert np.mean(found[-5:]) < 0.8 * np.mean(found[:3])


def test_loss_is_the_cross_entropy_where_focal_has_no_share(blocks, make_config, rng):
    trainer = Trainer(make_config(), (), blocks)
    sample = trainer.sampler.draw(2, rng)
    model = trainer.networks[0].model
    with torch.no_grad():
        found = float(trainer._loss(model, sample, 2, 0.0))
        logits = model(sample.windows, sample.neighbours, 2)
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, sample.targets.float(), reduction="none"
        ).sum(1)
    assert found == pytest.approx(float((each * sample.weight).sum()) / sample.points, rel=1e-4)
    assert trainer._focal_share(2) == 0 < trainer._focal_share(4)


def make_surfaces(config, blocks):
    return Trainer(config, (), blocks)


def make_latents(config, blocks):
    return latent_trainer(config, make_surfaces(config, blocks))


@pytest.mark.parametrize("make", [make_surfaces, make_latents])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not(make, blocks, make_config, tmp_path):
    def new(folder):
        return make(make_config(tmp_path / folder, steps=6, latents={"steps": 6}), blocks)

    whole, part, rest = new("a"), new("b"), new("b")
    whole.run()
    part.path.parent.mkdir()
    for _ in range(3):
        part.train_step()
    part.save()
    part.train_step()  # lost
    assert rest.resume()
    assert rest.step == 3
    rest.run()
    for one, two in zip(whole.networks, rest.networks, strict=True):
        for key, value in one.averaged.state_dict().items():
            assert torch.equal(value, two.averaged.state_dict()[key]), key


def test_latents_learn(blocks, make_config, tmp_path):
    """More of them get through at the operating point that gives more for a wrong child, and fewer are wrong."""
    config = make_config(tmp_path, steps=60, latents={"steps": 300, "learning_rate": 1e-2, "trade_offs": [2.0, 0.01]})
    surfaces = Trainer(config, (), blocks, held_out=blocks)
    for _ in range(60):
        surfaces.train_step()
    latents = latent_trainer(config, surfaces)
    for _ in range(300):
        latents.train_step()
    low, high = latents.validate().values()
    assert high[0] < 0.9 * low[0]
    assert high[1] > 1.5 * low[1]


def test_a_configuration_without_latents(blocks, make_config, tmp_path):
    config = make_config(tmp_path, latents={"steps": 0})
    assert latent_trainer(config, Trainer(config, (), blocks)) is None


def test_contexts_resume(blocks, make_config, tmp_path):
    whole = ExperienceTrainer(make_config(tmp_path / "a", clouds=3), blocks)
    whole.run()
    part = ExperienceTrainer(make_config(tmp_path / "b", clouds=3), blocks)
    part.path.parent.mkdir()
    part.train_step()
    part.save()
    rest = ExperienceTrainer(make_config(tmp_path / "b", clouds=3), blocks)
    assert rest.resume()
    rest.run()
    np.testing.assert_array_equal(whole.model.hidden, rest.model.hidden)


def test_a_checkpoint_of_another_configuration_is_refused(blocks, make_config, tmp_path):
    trainer = Trainer(make_config(tmp_path), (), blocks)
    trainer.save()
    with pytest.raises(CheckpointError, match="another configuration"):
        Trainer(make_config(tmp_path, seed=9), (), blocks).resume()
    assert Trainer(make_config(tmp_path, steps=9), (), blocks).resume()


def test_exported_weights_are_those_of_the_average(weights):
    loaded = load(weights)
    assert loaded.factors == (2, 3, 4)
    record = read_record(weights)
    assert record["trained"] is False  # of so few steps
    assert record["surface"]["steps"] == record["surface"]["planned_steps"] == 60
    assert record["latents"]["steps"] == 40
    assert loaded.operating_points == 2
    assert record["occupancy"]["clouds"] == 2
    assert json.dumps(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"blocks_path": "x", "wrong": 1}}, "data.wrong: is no key"),
        ({"networks": []}, "belongs to one network"),
        ({"networks": [{"factors": [2, 9], "shares": [1, 1]}]}, "networks.0.factors.1"),
        ({"networks": [{"factors": [2], "shares": [1, 1]}]}, "one share for each factor"),
        ({"occupancy": {"grid_steps": [1]}}, "one share for each step"),
    ],
)
def test_configuration_names_its_fault(change, message):
    good = {
        "data": {"blocks_path": "x"},
        "networks": [{"factors": [2], "shares": [1]}],
        "training": {"checkpoint_dir": "y"},
    }
    TrainingConfig.parse(good)
    with pytest.raises(ConfigError, match=message):
        TrainingConfig.parse({**good, **change})
