"""Weights: a trained model on disk, as safetensors: integers where the decoder runs, half precision elsewhere."""

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
from .config import ModelConfig
from .model import PointModel

_EXACT, _HALF, _FULL = "exact.", "half.", "full."


@dataclass(frozen=True, eq=False)
class Trained:
    """A model ready for coding.

    Attributes:
        model: frozen, in eval mode.
        tables: of each operating point, one table a feature.
        median: (points, dim) float32, what symbols are told from.
        gain: (points, dim) float32, what features are multiplied with; kept as numbers, since exponentials differ.
    """

    model: PointModel
    tables: tuple[FrequencyTables, ...]
    median: torch.Tensor
    gain: torch.Tensor

    @property
    def config(self) -> ModelConfig:
        """Of the model."""
        return self.model.config


def finished(model: PointModel) -> Trained:
    """A trained model frozen for coding; what is stored in half precision is used in half precision from now on."""
    model.eval().requires_grad_(requires_grad=False)
    freeze(model)
    for name in _half(model):
        model.get_parameter(name).data = model.get_parameter(name).data.half().float()
    points = range(len(model.config.points))
    tables = []
    for point in points:
        bottleneck = model.bottleneck(point)
        bottleneck.update()
        tables.append(bottleneck.tables())
    return Trained(
        model,
        tuple(tables),
        torch.stack([model.bottleneck(point).median for point in points]),
        torch.stack([model.gain(point).detach() for point in points]),
    )


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
    from safetensors.numpy import save_file

    model = trained.model
    arrays: dict[str, npt.NDArray[Any]] = {_EXACT + key: value for key, value in export_arrays(model).items()}
    arrays |= {_HALF + name: model.get_parameter(name).data.half().numpy() for name in _half(model)}
    arrays |= {_FULL + "median": trained.median.numpy(), _FULL + "gain": trained.gain.numpy()}
    if model.context is not None:
        arrays[_FULL + "context.bias"] = model.context.bias.data.numpy()
    if model.count_bias is not None:
        arrays[_FULL + "count_bias"] = model.count_bias.data.numpy()
    for point, tables in enumerate(trained.tables):
        arrays |= tables.arrays(f"tables.{point}.")
    config = json.dumps(model.config.model_dump(mode="json"))
    save_file({key: value.copy(order="C") for key, value in arrays.items()}, path, metadata={"config": config})


def load_model(path: Path) -> Trained:
    """The model of a file made by `save_model`.

    Raises:
        CodecUnavailableError: there is no such file.
    """
    from safetensors import safe_open

    if not path.exists():
        raise CodecUnavailableError(f"no weights at {path.name}: train them with `bench train dpcc`")
    with safe_open(path, "np") as file:
        config = ModelConfig.model_validate(json.loads(file.metadata()["config"]))
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
    return Trained(model, tables, median, gain)
