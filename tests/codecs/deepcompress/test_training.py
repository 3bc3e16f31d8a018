"""Training: it learns, it resumes, and what it writes is what the codec loads."""

import csv
import json

import numpy as np
import pytest
import torch

from pccbench.codecs.base import Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.deepcompress.cells import CELL_SIDE, cells_of, points_of
from pccbench.codecs.deepcompress.codec import HyperpriorCodec
from pccbench.codecs.deepcompress.config import ConfigError, TrainingConfig
from pccbench.codecs.deepcompress.dataset import read_blocks, turned
from pccbench.codecs.deepcompress.train import train
from pccbench.codecs.deepcompress.training import TransformTrainer, read_data
from pccbench.codecs.errors import CloudError
from pccbench.codecs.training.checkpoint import CheckpointError, Identity, load
from pccbench.codecs.training.ledger import Ledger
from pccbench.codecs.training.schedule import learning_rate_share, rate_share

TINY = {
    "filters": 16,
    "latent_channels": 4,
    "bottleneck": 8,
    "sub_filters": 8,
    "mixer_filters": 16,
    "analysis_blocks": 1,
    "synthesis_blocks": 1,
    "mixers": 1,
}


@pytest.fixture
def folders(tmp_path, surface):
    for name, shift in (("train", 0), ("validation", 3)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "shell.npy", surface + shift)
    return tmp_path


def config_of(folder, *, epochs=8.0, **training):
    record = {
        "data": {
            "modelnet40_path": folder / "train",
            "validation_path": folder / "validation",
            "resolution": 32,
            "min_points": 50,
        },
        "model": {**TINY, "entropy_model": "hyperprior"},
        "training": {
            "batch_size": 4,
            "epochs": epochs,
            "entropy_epochs": 3,
            "upsampler_epochs": 3,
            "rate_warm_up": 0.5,
            "checkpoint_dir": folder / "run",
            "learning_rates": {"reconstruction": 3e-3, "entropy": 3e-3},
            "validate_every": 8,
            "mixed_precision": "float32",
            **training,
        },
    }
    (folder / "config.yml").write_text(json.dumps(json.loads(json.dumps(record, default=str))))
    return TrainingConfig.read(folder / "config.yml")


def test_a_run_learns_and_exports_a_codec(folders, surface):
    config_of(folders, epochs=25)
    told = []
    out = train(folders / "config.yml", "bench train", lambda stage: lambda *figures: told.append((stage, figures)))
    with (folders / "run" / "ledger.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert len(losses) > 1
    assert losses[-1] < losses[0]
    bits = [float(row["round_bits_per_point"]) for row in rows if row["rate_weight"] == "24.0"]
    assert bits[-1] < 0.5 * bits[0]
    assert {row["rate_weight"] for row in rows if row["rate_weight"]} == {"0.5", "2.0", "8.0", "24.0"}
    assert (folders / "run" / "ledger.png").stat().st_size > 1000
    record = json.loads((out / "record.json").read_text())
    assert record["trained"] is False  # of so few steps
    assert record["transform"]["steps"] == record["transform"]["planned_steps"]
    assert record["transform"]["computed"]["precision"] in ("float32", "bfloat16")
    assert {one[0] for one in told} == {"transform", "upsampler", "entropy"}
    assert record["macs_per_point"] > 0
    codec = HyperpriorCodec(out)
    cloud = PointCloud(surface, bit_depth=6)
    data = codec.encode(cloud, Rate("x", {"rate_weight": 1.0}))
    decoded = HyperpriorCodec(out).decode(bytes(data))
    assert decoded.geometry_sha256() == data.reconstruction_sha256
    assert codec.card().training_files_sha256 == tuple(record["training_files_sha256"])


def test_a_killed_run_goes_on_as_if_nothing_had_happened(folders):
    config = config_of(folders, epochs=3.0)
    blocks = read_data(config)
    whole = TransformTrainer(config, blocks)
    for batch in whole._batches():
        whole.train_step(batch)
    config.training.checkpoint_dir.mkdir()
    first = TransformTrainer(config, blocks)
    for batch in first._batches():
        first.train_step(batch)
        if first.step == 3:
            first.save()
        if first.step == 4:  # lost with the process
            break
    second = TransformTrainer(config, blocks)
    assert second.resume()
    assert second.step == 3
    second.run()
    assert second.step == whole.step
    for a, b in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_checkpoint_of_another_configuration_is_refused(folders):
    config = config_of(folders)
    trainer = TransformTrainer(config, read_data(config))
    config.training.checkpoint_dir.mkdir()
    trainer.save()
    other = config_of(folders, seed=5)
    with pytest.raises(CheckpointError, match="another configuration .training.seed was 0, is 5"):
        TransformTrainer(other, read_data(other)).resume()
    longer = config_of(folders, epochs=20.0)
    assert TransformTrainer(longer, read_data(longer)).resume()


def test_a_damaged_checkpoint_is_one_clear_line(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError):
        load(tmp_path / "x.pt", Identity({}))
    assert load(tmp_path / "none.pt", Identity({})) is None


def test_evaluation_clouds_are_never_trained_on(folders, surface):
    np.save(folders / "validation" / "copy.npy", surface)
    with pytest.raises(ConfigError, match="must not be trained on"):
        read_data(config_of(folders))


def test_blocks_hold_all_points_of_clouds(folders, surface):
    blocks = read_blocks(folders / "train", 32, 1)
    assert sum(int(np.unpackbits(cells.bits).sum()) for cells in blocks.cells) == len(surface)
    assert max(int(cells.positions.max()) for cells in blocks.cells) < 4
    with pytest.raises(CloudError, match="points or more"):
        read_blocks(folders / "train", 32, 10**6)


@pytest.mark.parametrize("symmetry", range(0, 48, 7))
def test_symmetries_move_points_as_a_whole(surface, symmetry):
    block = surface[(surface < 32).all(axis=1)]
    cells = cells_of(block)
    positions, voxels = turned(cells, 32 // CELL_SIDE, symmetry)
    points = points_of(positions, np.packbits(voxels, axis=1))
    middle = (points * 2 - 31).astype(np.int64)
    before = (block * 2 - 31).astype(np.int64)
    # A symmetry of the cube keeps the set of distances to its middle, and is one of the 48 signed permutations.
    assert sorted((middle**2).sum(axis=1)) == sorted((before**2).sum(axis=1))
    turned_sets = []
    for axes in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for signs in np.ndindex(2, 2, 2):
            turned_sets.append({tuple(p) for p in before[:, axes] * (1 - 2 * np.array(signs))})
    assert {tuple(p) for p in middle} in turned_sets


def test_schedules():
    assert learning_rate_share(0, 1000, 0.4) == pytest.approx(0.02)
    assert learning_rate_share(300, 1000, 0.4) == 1.0
    assert learning_rate_share(700, 1000, 0.4) == pytest.approx(0.5)
    assert learning_rate_share(1000, 1000, 0.4) == pytest.approx(0.01)
    shares = [rate_share(step, 1000, 0.2) for step in range(0, 300, 20)]
    assert shares[0] == pytest.approx(0.01)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert rate_share(0, 1000, 0.0) == 1.0


def test_a_ledger_drops_what_was_lost_with_the_process(tmp_path):
    ledger = Ledger(tmp_path / "l.csv", ("step", "loss"))
    for step in (10, 20, 30):
        ledger.add({"step": step, "loss": 1 / step})
    again = Ledger(tmp_path / "l.csv", ("step", "loss"), from_step=20)
    again.add({"step": 30})
    with (tmp_path / "l.csv").open() as file:
        assert [(row["step"], bool(row["loss"])) for row in csv.DictReader(file)] == [
            ("10", True),
            ("20", True),
            ("30", False),
        ]
