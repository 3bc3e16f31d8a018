"""Weights: a trained model on disk, as safetensors: integers where the decoder runs, half precision elsewhere.

Beside it lie the contexts of the coder of latents' places, integers, of which those of the hidden layer are stored
in 16 bits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..entropy.exact import ExactModule, export_arrays, freeze, load_arrays
from ..entropy.tables import FrequencyTables
from ..errors import CodecUnavailableError
from ..sparse.occupancy import TRAINED, Experience
from ..weights import stable, write_whole
from .config import ModelConfig
from .model import PointModel

_EXACT, _HALF, _FULL, _LATENTS = "exact.", "half.", "full.", "latents."
#: The hidden layer of the contexts is stored in units of this power of two.
_HIDDEN_SHIFT = 7


@dataclass(frozen=True, eq=False)
class Quantised:
    """A model with what its features are rounded by.

    Attributes:
        model: in eval mode.
        median: (points, dim) float32, what symbols are told from.
        gain: (points, dim) float32, what features are multiplied with; kept as numbers, since exponentials differ.
        patch: half the side of a patch over the median scale of its latents, where places are told in patches (as
            published); None where each latent's own neighbourhood is the unit.
    """

    model: PointModel
    median: torch.Tensor
    gain: torch.Tensor
    patch: float | None

    @property
    def config(self) -> ModelConfig:
        """Of the model."""
        return self.model.config

    @classmethod
    def of(cls, model: PointModel, patch: float | None) -> Quantised:
        """A model in eval mode, as far as it is trained."""
        points = range(len(model.config.points))
        median = torch.stack([model.bottleneck(point).medians() for point in points])
        return cls(model, median, torch.stack([model.gain(point).detach() for point in points]), patch)


@dataclass(frozen=True, eq=False)
class Trained(Quantised):
    """A model ready for coding, frozen.

    Attributes:
        tables: of each operating point, one table a feature.
        experience: what the coder of latents' places starts from.
    """

    tables: tuple[FrequencyTables, ...]
    experience: Experience


def finished(model: PointModel, experience: Experience, patch: float | None = None) -> Trained:
    """A trained model frozen for coding; what is stored with less precision is used with less from now on."""
    model.eval().requires_grad_(requires_grad=False)
    freeze(model)
    for name in _half(model):
        model.get_parameter(name).data = model.get_parameter(name).data.half().float()
    tables = []
    for point in range(len(model.config.points)):
        bottleneck = model.bottleneck(point)
        bottleneck.update()
        tables.append(bottleneck.tables())
    quantised = Quantised.of(model, patch)
    return Trained(model, quantised.median, quantised.gain, patch, tuple(tables), _restored(_stored(experience)))


def _stored(experience: Experience) -> dict[str, npt.NDArray[np.integer]]:
    """The arrays of contexts as a file has them."""
    arrays: dict[str, npt.NDArray[np.integer]] = dict(experience.arrays)
    hidden = arrays["hidden"].astype(np.int64) + (1 << _HIDDEN_SHIFT - 1) >> _HIDDEN_SHIFT
    limits = np.iinfo(np.int16)
    arrays["hidden"] = hidden.clip(limits.min, limits.max).astype(np.int16)
    arrays["updates"] = arrays["updates"].astype(np.uint8)
    return arrays


def _restored(stored: dict[str, npt.NDArray[np.integer]]) -> Experience:
    arrays = {name: stored[name].astype(np.int32) for name in TRAINED}
    arrays["hidden"] <<= _HIDDEN_SHIFT
    return Experience(arrays)


def _half(model: PointModel) -> list[str]:
    """Names of the parameters of the encoder."""
    exact = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, ExactModule)
        for parameter in module.parameters()
    }
    return [
        name
        for name, parameter in model.named_parameters()
        if id(parameter) not in exact and name.startswith(("first.", "encoder."))
    ]


def save_model(trained: Trained, path: Path) -> None:
    """Write a model; learned coordinates are left out, as streams do not hold them."""
    from safetensors.numpy import save

    model = trained.model
    arrays: dict[str, npt.NDArray[Any]] = {_EXACT + key: value for key, value in export_arrays(model).items()}
    arrays |= {_HALF + name: model.get_parameter(name).data.half().numpy() for name in _half(model)}
    arrays |= {_FULL + "median": trained.median.numpy(), _FULL + "gain": trained.gain.numpy()}
    if model.context is not None:
        arrays[_FULL + "context.bias"] = model.context.bias.data.numpy()
    if model.count_bias is not None:
        arrays[_FULL + "count_bias"] = model.count_bias.data.numpy()
    arrays |= {_LATENTS + name: value for name, value in _stored(trained.experience).items()}
    for point, tables in enumerate(trained.tables):
        arrays |= tables.arrays(f"tables.{point}.")
    metadata = {"config": json.dumps(model.config.model_dump(mode="json"))}
    if trained.patch is not None:
        metadata["patch"] = json.dumps(trained.patch)
    write_whole(path, stable(save({key: value.copy(order="C") for key, value in arrays.items()}, metadata)))


def load_model(path: Path) -> Trained:
    """The model of a file made by `save_model`.

    Raises:
        CodecUnavailableError: there is no such file.
    """
    from safetensors import safe_open

    if not path.exists():
        raise CodecUnavailableError(f"no weights at {path.name}: train them with `bench train dpcc`")
    with safe_open(path, "np") as file:
        metadata = file.metadata()
        config = ModelConfig.model_validate(json.loads(metadata["config"]))
        arrays = {key: file.get_tensor(key) for key in file.keys()}
    model = PointModel(config).eval().requires_grad_(requires_grad=False)
    load_arrays(model, {key.removeprefix(_EXACT): value for key, value in arrays.items() if key.startswith(_EXACT)})
    for name in _half(model):
        model.get_parameter(name).data = torch.from_numpy(arrays[_HALF + name].astype(np.float32))
    if model.context is not None:
        model.context.bias.data = torch.from_numpy(arrays[_FULL + "context.bias"].copy())
    if model.count_bias is not None:
        model.count_bias.data = torch.from_numpy(arrays[_FULL + "count_bias"].copy())
    tables = tuple(FrequencyTables.from_arrays(arrays, f"tables.{point}.") for point in range(len(config.points)))
    median, gain = (torch.from_numpy(arrays[_FULL + name].copy()) for name in ("median", "gain"))
    experience = _restored({name: arrays[_LATENTS + name] for name in TRAINED})
    patch = json.loads(metadata["patch"]) if "patch" in metadata else None
    return Trained(model, median, gain, patch, tables, experience)
