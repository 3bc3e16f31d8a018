import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pccbench.codecs.dpcc.config import ConfigError, TrainingConfig
from pccbench.codecs.dpcc.dataset import read_dataset, scan, turned
from pccbench.codecs.dpcc.model import PointModel
from pccbench.codecs.dpcc.training import Trainer, columns
from pccbench.codecs.errors import CloudError
from pccbench.codecs.training.checkpoint import CheckpointError
from pccbench.codecs.training.record import last_figures
from pccbench.codecs.weights import file_sha256


def trainer(record):
    config = TrainingConfig.parse(record)
    return Trainer(config, read_dataset(config.data))


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(record, tmp_path):
    whole = trainer(record)
    whole.run()
    record["training"]["checkpoint_dir"] = str(tmp_path / "second")
    first = trainer(record)
    first.run(until_step=5)
    second = trainer(record)
    assert second.resume()
    assert second.step == 5
    second.run()
    assert second.step == whole.step == 12
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_checkpoint_is_resumed_by_its_own_run_alone(record):
    first = trainer(record)
    first.run(until_step=1)
    record["loss"]["density"] = 0.7
    with pytest.raises(CheckpointError, match="another configuration .loss.density was 0.1, is 0.7"):
        trainer(record).resume()


def test_parts_of_the_loss_sum_to_the_total_in_the_ledger(weights):
    path = weights.parent / "ledger.csv"
    with path.open() as file:
        assert csv.DictReader(file).fieldnames == list(columns(3))
    step = trainer_step(weights)
    parts = sum(value for key, value in step.items() if key.endswith("_loss") and key != "auxiliary_loss")
    assert step["loss"] == pytest.approx(parts, abs=1e-6)
    assert set(step) <= set(columns(3))


def trainer_step(weights):
    config = TrainingConfig.parse(json.loads((weights / "record.json").read_text())["config"])
    run = Trainer(config, read_dataset(config.data))
    return run.train_step(run.dataset.batch_of(2, 0, 0, 0))


def test_the_published_configuration_trains(record):
    del record["model"], record["loss"]
    record["training"] = {"epochs": 0.5, "checkpoint_dir": record["training"]["checkpoint_dir"], "batch_size": 2}
    run = trainer(record)
    assert run.model.parameter_count() == 87_662
    assert run.optimiser.param_groups[0]["peak"] == 1e-3
    figures = run.train_step(run.dataset.batch_of(2, 0, 0, 0))
    assert figures["latent_coordinates_loss"] > 0
    assert figures["rate_loss"] > 0
    assert all(np.isfinite(value) for value in figures.values())
    run.step = run.steps_an_epoch * 31
    assert run._learning_rate_share() == 0.25
    for name, parameter in run.model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_counts_get_gradients_from_density_and_chamfer_reaches_the_encoder(record):
    record["loss"] |= {"density": 0.0, "point_count": 0.0}
    run = trainer(record)
    batch = run.dataset.batch_of(1, 0, 0, 0)

    def gradients():
        run.model.zero_grad(set_to_none=True)
        parts, _ = run.losses_of(batch, 1, 0.0, torch.Generator().manual_seed(0))
        parts.total.backward()
        return run.model.decoder[0].count.second.weight.grad, run.model.first.first.weight.grad

    count, first = gradients()
    assert count is None or not count.any()
    assert first.any()
    run.config = TrainingConfig.parse({**record, "loss": {**record["loss"], "density": 1.0}})
    assert gradients()[0].any()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"training": {"chekpoint_s": 3}}, "training.chekpoint_s: is no key of this file"),
        ({"model": {"dimension": 8}}, "model.dimension: is no key"),
        ({"model": {"points": []}}, "model.points"),
        ({"model": {"points": [{"ratio": 0.5}]}}, "model.points.0.ratio"),
        ({"loss": {"density": -1}}, "loss.density"),
        ({"data": {"scanned": 2}}, "data.scanned"),
    ],
)
def test_configurations_are_refused_in_one_line(record, change, text):
    for section, keys in change.items():
        record[section] |= keys
    with pytest.raises(ConfigError, match=text) as caught:
        TrainingConfig.parse(record)
    assert "\n" not in str(caught.value)


def test_shipped_configurations_are_valid():
    folder = Path(__file__).parents[3] / "codecs" / "dpcc" / "configs"
    found = {path.stem: TrainingConfig.read(path) for path in folder.glob("*.yml")}
    assert set(found) == {"dpcc", "published"}
    assert PointModel(found["published"].model).parameter_count() == 87_662
    published = found["published"].training
    schedule = (published.learning_rate, published.decay_epochs, published.decay, published.epochs)
    assert schedule == (1e-3, 15, 0.5, 50)
    assert (published.batch_size, published.auxiliary_learning_rate) == (1, 1e-3)


def test_an_evaluated_cloud_is_not_trained_on(record, tmp_path):
    source = tmp_path / "evaluation" / "longdress.npy"
    source.parent.mkdir()
    np.save(source, np.zeros((3, 3), np.int32))
    manifest = {"sources": [{"sha256": file_sha256(source), "split": "train"}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    record["data"]["evaluation_path"] = str(source.parent)
    with pytest.raises(ConfigError, match="longdress.npy is also a training file"):
        trainer(record)
    assert (
        file_sha256(source)
        in read_dataset(TrainingConfig.parse({**record, "data": without(record)}).data).files_sha256
    )


def without(record):
    return {key: value for key, value in record["data"].items() if key != "evaluation_path"}


def test_missing_blocks_are_one_line(record, tmp_path):
    record["data"]["path"] = str(tmp_path / "nowhere")
    with pytest.raises(CloudError, match="expected training blocks"):
        trainer(record)


def test_blocks_are_turned_and_scanned_without_loss_of_scale():
    rng = np.random.default_rng(0)
    cube = rng.integers(0, 64, (5000, 3)).astype(float)
    moved = turned(cube, 63.0, rng)
    assert sorted(map(tuple, np.sort(np.minimum(moved, 63 - moved), 1))) == sorted(
        map(tuple, np.sort(np.minimum(cube, 63 - cube), 1))
    )
    seen = scan(cube, 64.0, rng)
    assert 256 <= len(seen) <= len(cube)
    assert seen.min() > -1
    assert seen.max() < 64


def test_last_figures_are_the_last_of_each_column(tmp_path):
    path = tmp_path / "ledger.csv"
    path.write_text("step,loss,rate\n50,3,1\n100,2,\n")
    assert last_figures(path) == {"step": 100, "loss": 2, "rate": 1}


def test_held_out_blocks_are_coded_while_training(record, tmp_path, make_blocks):
    make_blocks(tmp_path / "held-out-000.npz", first_seed=40)
    record["training"]["validate_every"] = 5
    run = trainer(record)
    run.run()
    with (tmp_path / "out" / "ledger.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["validation_bpp"]]
    assert [int(row["step"]) for row in rows] == [5, 10, 12]
    for row in rows:
        bpp = [float(row[f"r{number:02d}_validation_bpp"]) for number in (1, 2, 3)]
        psnr = [float(row[f"r{number:02d}_validation_d1_psnr_db"]) for number in (1, 2, 3)]
        assert 0 < bpp[0] < bpp[2]
        assert 30 < psnr[0] < psnr[2] < 80
        assert float(row["validation_bpp"]) == pytest.approx(np.mean(bpp))
    assert last_figures(tmp_path / "out" / "ledger.csv")["r03_validation_bpp"] == bpp[2]
    # The same figures whenever they are asked for, and the model is as it was.
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert run.validate()["validation_bpp"] == float(rows[-1]["validation_bpp"])
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, before[name]), name
