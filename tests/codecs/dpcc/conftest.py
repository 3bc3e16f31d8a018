"""A small model with hardly trained weights: streams must be right whatever the points look like."""

import json
from pathlib import Path

import numpy as np
import pytest

from pccbench.codecs.blocks import Blocks
from pccbench.codecs.cloud import PointCloud

POINTS = [
    {"ratio": 4.0, "rate_weight": 5.0},
    {"ratio": 3.0, "rate_weight": 2.0},
    {"ratio": 2.0, "rate_weight": 1.0},
]


def shell(radius, count, seed, centre=32.0):
    """Voxels of a wavy sphere."""
    rng = np.random.default_rng(seed)
    ray = rng.normal(size=(count, 3))
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    wave = 1 + 0.1 * np.sin(5 * ray[:, :1] + seed)
    return np.unique(np.floor(ray * radius * wave + centre).astype(np.int32), axis=0)


def write_blocks(path: Path, count=6, first_seed=0) -> None:
    parts = [shell(18 + number, 2500, first_seed + number).clip(0, 63).astype(np.uint8) for number in range(count)]
    parts = [np.unique(part, axis=0) for part in parts]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    zeros = np.zeros((count, 3), np.int32)
    Blocks(64, np.concatenate(parts), offsets, zeros, np.arange(count, dtype=np.int32)).save(path)


def config_record(folder: Path, **training):
    return {
        "data": {"path": str(folder), "min_points": 100, "max_points": 1200, "scanned": 0.3},
        "model": {
            "dim": 4,
            "hidden_dim": 8,
            "neighbours": 6,
            "decoder_dim": 8,
            "decoder_hidden_dim": 8,
            "context_neighbours": 4,
            "norm": "point",
            "coordinates": "octree",
            "points": POINTS,
        },
        "loss": {"unit": "spacing", "density": 0.1, "mean_distance": 1.5, "point_count": 1e-3},
        "occupancy": {"clouds": 3, "units": 8},
        "training": {"schedule": "cosine", "epochs": 2, "checkpoint_dir": str(folder / "out"), **training},
    }


@pytest.fixture
def make_blocks():
    """Writes blocks of wavy spheres to a file."""
    return write_blocks


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Folder of weights after a dozen steps."""
    import torch
    import yaml

    from pccbench.codecs.dpcc.train import train

    folder = tmp_path_factory.mktemp("dpcc")
    write_blocks(folder / "train-000.npz")
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config_record(folder)))
    threads = torch.get_num_threads()
    out = train(path, "test")
    torch.set_num_threads(threads)
    assert json.loads((out / "record.json").read_text())["steps"] == 12
    return out


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Folder of weights of the published architecture and loss after twelve steps."""
    import torch
    import yaml

    from pccbench.codecs.dpcc.train import train

    folder = tmp_path_factory.mktemp("published")
    write_blocks(folder / "train-000.npz")
    write_blocks(folder / "held-out-000.npz", count=1, first_seed=9)
    record = {
        "data": {"path": str(folder), "min_points": 100, "max_points": 1200},
        "occupancy": {"clouds": 2, "units": 8},
        "training": {"epochs": 2, "checkpoint_dir": str(folder / "out")},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(record))
    threads = torch.get_num_threads()
    out = train(folder / "config.yml", "test")
    torch.set_num_threads(threads)
    return out


@pytest.fixture
def record(tmp_path):
    """Of a configuration, as plain values, with blocks to train on."""
    write_blocks(tmp_path / "train-000.npz")
    return config_record(tmp_path)


@pytest.fixture
def codec(weights):
    from pccbench.codecs.dpcc.codec import DpccCodec

    return DpccCodec(weights)


@pytest.fixture(scope="session")
def cloud():
    return PointCloud(shell(30, 5000, 3, centre=64.0), bit_depth=7)


@pytest.fixture(scope="session")
def real_cloud():
    rng = np.random.default_rng(5)
    plane = rng.random((2500, 3)) * [40, 30, 0.2] - [20, 15, 0]
    return PointCloud(plane.astype(np.float32))
