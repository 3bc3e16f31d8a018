"""Weights: trained models on disk, as safetensors, with the record of how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from ..entropy.exact import export_arrays, freeze, load_arrays, set_mode
from ..entropy.tables import FrequencyTables
from ..errors import CodecUnavailableError
from ..weights import stable, write_whole
from .coding import Coder, make_conditional
from .model import VoxelModel
from .priors import PRIORS, HyperPrior
from .transforms import TransformConfig
from .upsampler import Upsampler

_TABLES, _HYPER_TABLES, _EXACT, _PLAIN = "tables.", "hyper_tables.", "exact.", "plain."


def save_transform(model: VoxelModel, path: Path) -> None:
    """Write the transforms in half precision."""
    from safetensors.torch import save

    tensors = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    write_whole(path, save(tensors, {"config": json.dumps(model.config.to_dict())}))


def load_transform(path: Path) -> VoxelModel:
    """The transforms of a file made by `save_transform`, ready for use.

    Raises:
        CodecUnavailableError: there is no such file.
    """
    from safetensors import safe_open

    _expect(path)
    with safe_open(path, "pt") as file:
        config = TransformConfig.from_dict(json.loads(file.metadata()["config"]))
        state = {key: file.get_tensor(key).float() for key in file.keys()}
    model = VoxelModel(config)
    model.load_state_dict(state)
    return model.eval().requires_grad_(requires_grad=False)


def save_upsampler(upsampler: Upsampler, path: Path) -> None:
    """Write the upsampler in half precision."""
    from safetensors.torch import save

    write_whole(path, save({key: one.detach().half().contiguous() for key, one in upsampler.state_dict().items()}))


def load_upsampler(path: Path, config: TransformConfig) -> Upsampler:
    """The upsampler of a file made by `save_upsampler`, ready for use.

    Raises:
        CodecUnavailableError: there is no such file.
    """
    from safetensors.torch import load_file

    _expect(path)
    upsampler = Upsampler(config)
    upsampler.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return upsampler.eval().requires_grad_(requires_grad=False)


def save_prior(name: str, coder: Coder, path: Path) -> None:
    """Write an entropy model: integer weights where the decoder runs them, tables, half precision elsewhere."""
    from safetensors.numpy import save

    prior = coder.prior
    arrays: dict[str, npt.NDArray[Any]] = {_EXACT + k: v for k, v in export_arrays(prior).items()}
    arrays.update({_TABLES + k: v for k, v in coder.tables.arrays().items()})
    if isinstance(prior, HyperPrior) and coder.hyper_tables is not None:
        arrays.update({_HYPER_TABLES + k: v for k, v in coder.hyper_tables.arrays().items()})
        arrays[_PLAIN + "median"] = prior.bottleneck.median.numpy()
        for key, value in prior.analysis.state_dict().items():
            arrays[f"{_PLAIN}analysis.{key}"] = value.half().numpy()
    arrays = {key: value.copy(order="C") for key, value in arrays.items()}
    write_whole(path, stable(save(arrays, {"entropy_model": name, "latent_channels": str(prior.latent_channels)})))


def load_prior(path: Path) -> Coder:
    """The entropy model of a file made by `save_prior`, ready for coding.

    Raises:
        CodecUnavailableError: there is no such file.
    """
    from safetensors import safe_open

    _expect(path)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
        arrays = {key: file.get_tensor(key) for key in file.keys()}
    prior = PRIORS[metadata["entropy_model"]](int(metadata["latent_channels"]))
    load_arrays(prior, _part(arrays, _EXACT))
    hyper_tables = None
    if isinstance(prior, HyperPrior):
        plain = _part(arrays, _PLAIN)
        prior.bottleneck.median.copy_(torch.from_numpy(plain.pop("median")))
        state = {key.removeprefix("analysis."): torch.from_numpy(value).float() for key, value in plain.items()}
        prior.analysis.load_state_dict(state)
        hyper_tables = FrequencyTables.from_arrays(_part(arrays, _HYPER_TABLES))
    prior.eval().requires_grad_(requires_grad=False)
    return Coder(prior, make_conditional(), FrequencyTables.from_arrays(_part(arrays, _TABLES)), hyper_tables)


def finished(prior: torch.nn.Module) -> Coder:
    """A trained entropy model frozen for coding, with its tables."""
    set_mode(prior, "exact")
    prior.eval()
    freeze(prior)
    conditional = make_conditional()
    hyper_tables = None
    if isinstance(prior, HyperPrior):
        # What is stored in half precision is used in half precision from now on.
        for parameter in prior.analysis.parameters():
            parameter.data = parameter.data.half().float()
        prior.bottleneck.update()
        hyper_tables = prior.bottleneck.tables()
    return Coder(prior, conditional, conditional.tables(), hyper_tables)  # type: ignore[arg-type]


def _part(arrays: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _expect(path: Path) -> None:
    if not path.exists():
        raise CodecUnavailableError(f"no weights at {path.name}: train them with `bench train deepcompress`")
