import numpy as np
import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def surface():
    """A wavy shell of about 9,000 voxels, 6 bits."""
    span = np.arange(64)
    x, y, z = np.meshgrid(span, span, span, indexing="ij")
    radius = np.sqrt((x - 30) ** 2 + (y - 33) ** 2 + (z - 31) ** 2)
    inside = np.abs(radius - 24 - 2 * np.sin(x / 5) * np.cos(y / 7)) < 0.6
    return np.argwhere(inside).astype(np.int32)


@pytest.fixture(scope="session")
def blocks(surface):
    """Training blocks of 64 voxels from the shell, of two sources."""
    from pccbench.codecs.blocks import Blocks, cut

    return Blocks.join([cut(surface, 64, source=0), cut(surface[:, [2, 0, 1]], 64, source=1)])


@pytest.fixture(scope="session")
def make_config(tmp_path_factory):
    """A tiny training: make_config(steps=..., **training)."""
    from pccbench.codecs.sparse.config import TrainingConfig

    def make(folder=None, clouds=2, latents=None, **training):
        folder = tmp_path_factory.mktemp("train") if folder is None else folder
        return TrainingConfig.parse(
            {
                "data": {"blocks_path": str(folder)},
                "networks": [{"factors": [2, 3, 4], "shares": [1, 1, 1], "channels": 8, "blocks": 1, "hidden": 16}],
                "occupancy": {"clouds": clouds, "units": 16, "grid_steps": [1, 2], "shares": [1, 1]},
                "latents": {
                    "trade_offs": [0.5, 0.1],
                    "steps": 4,
                    "channels": 3,
                    "features": 8,
                    "blocks": 1,
                    "hidden": 8,
                    "encoder": 4,
                    **(latents or {}),
                },
                "training": {
                    "checkpoint_dir": str(folder),
                    "steps": 4,
                    "mixed_precision": "float32",
                    **training,
                },
            }
        )

    return make


@pytest.fixture(scope="session")
def weights(tmp_path_factory, blocks, make_config):
    """Folder of weights of a model that was hardly trained."""
    from pccbench.codecs.sparse.experience import ExperienceTrainer
    from pccbench.codecs.sparse.train import export, latent_trainer
    from pccbench.codecs.sparse.training import Trainer

    config = make_config(steps=60, learning_rate=1e-2, average=0.9, latents={"steps": 40, "learning_rate": 1e-2})
    contexts = ExperienceTrainer(config, blocks)
    contexts.run()
    surfaces = Trainer(config, (), blocks)
    surfaces.run()
    latents = latent_trainer(config, surfaces)
    latents.run()
    return export(config, contexts, surfaces, latents, (), "a test")


@pytest.fixture
def permute_sums(monkeypatch):
    """Have exact products add up in another order each time."""
    from pccbench.codecs.sparse.exact import ExactProduct

    rng = np.random.default_rng(1)

    def permuted(self, x):
        order = rng.permutation(x.shape[1])
        total = np.zeros((len(x), self.matrix.shape[1]), np.float32)
        step = max(len(order) // 5, 1)
        for start in range(0, len(order), step):
            part = order[start : start + step]
            total += x[:, part] @ self.matrix[part]
        return total

    return lambda: monkeypatch.setattr(ExactProduct, "__call__", permuted)


@pytest.fixture
def threads_and_pieces(monkeypatch):
    """Settings to compute under: pass through them."""

    def settings():
        for number, rows in ((1, 7), (2, 333), (3, 1 << 20)):
            monkeypatch.setattr("os.sched_getaffinity", lambda _, number=number: set(range(number)))
            monkeypatch.setattr("pccbench.codecs.sparse.exact._PIECE_ROWS", rows)
            yield number, rows

    return settings
