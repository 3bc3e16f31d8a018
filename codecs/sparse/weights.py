"""Weights: surface networks and occupancy contexts on disk, in one file."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CodecUnavailableError
from .files import weights_path
from .header import REFINED_STEP
from .occupancy import TRAINED, Experience

if TYPE_CHECKING:
    from torch import Tensor

    from .exact import ExactSurface
    from .latent_coding import ExactLatents
    from .latents import LatentPair
    from .surface import SurfaceModel

_SURFACE, _OCCUPANCY, _LATENTS, _TABLES = "surface", "occupancy", "latents", "latent_tables"


@dataclass(frozen=True, eq=False)
class Weights:
    """What the codec needs.

    Attributes:
        experience: what occupancy coding starts from.
        surfaces: the networks, each for its factors, in integers.
        latents: networks of the latents; None if there are none.
    """

    experience: Experience
    surfaces: tuple[ExactSurface, ...]
    latents: ExactLatents | None

    @property
    def factors(self) -> tuple[int, ...]:
        """All factors, rising."""
        return tuple(sorted(factor for model in self.surfaces for factor in model.config.factors))

    @property
    def operating_points(self) -> int:
        """Of the latents."""
        return 0 if self.latents is None else len(self.latents.trade_offs)

    @property
    def with_latents(self) -> ExactLatents:
        """The networks of the latents.

        Raises:
            CodecUnavailableError: there are none.
        """
        if self.latents is None:
            raise CodecUnavailableError("these weights have no latents: train them with `bench train sparse`")
        return self.latents

    def surface(self, factor: int) -> ExactSurface:
        """The network of a factor."""
        return next(model for model in self.surfaces if factor in model.config.factors)


def save(
    folder: Path, experience: Experience, surfaces: Sequence[SurfaceModel], latents: LatentPair | None = None
) -> None:
    """Write the weights: networks in half precision, contexts and tables as the integers that they are."""
    import torch
    from safetensors.torch import save as to_bytes

    from ..weights import stable, write_whole
    from .latents import make_conditional

    tensors: dict[str, Tensor] = {}
    networks: dict[str, torch.nn.Module] = {f"{_SURFACE}.{number}": model for number, model in enumerate(surfaces)}
    metadata = {"surfaces": json.dumps([model.config.to_dict() for model in surfaces])}
    integers = {f"{_OCCUPANCY}.{name}": array for name, array in experience.arrays.items()}
    if latents is not None:
        networks[_LATENTS] = latents
        metadata["latents"] = json.dumps(latents.decoder.config.to_dict())
        integers |= {f"{_TABLES}.{name}": array for name, array in make_conditional().tables().arrays().items()}
    for prefix, model in networks.items():
        for key, value in model.state_dict().items():
            tensors[f"{prefix}.{key}"] = value.detach().half().contiguous()
    for name, array in integers.items():
        tensors[name] = torch.from_numpy(array.copy())
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(weights_path(folder), stable(to_bytes(tensors, metadata)))


@functools.cache
def load(folder: Path) -> Weights:
    """The weights of a folder, ready for use.

    Raises:
        CodecUnavailableError: there are none.
    """
    from safetensors import safe_open

    from ..entropy.tables import FrequencyTables
    from .exact import ExactSurface
    from .latent_coding import ExactLatents
    from .latents import LatentConfig, LatentPair
    from .surface import SurfaceConfig, SurfaceModel

    path = weights_path(folder)
    if not path.exists():
        raise CodecUnavailableError(f"no weights at {path.name}: train them with `bench train sparse`")
    surfaces, latents = [], None
    with safe_open(path, "pt") as file:

        def part(name: str) -> dict[str, Tensor]:
            keys = (key for key in file.keys() if key.startswith(f"{name}."))
            return {key.removeprefix(f"{name}."): file.get_tensor(key) for key in keys}

        def floats(name: str) -> dict[str, Tensor]:
            return {key: tensor.float() for key, tensor in part(name).items()}

        metadata = file.metadata()
        for number, record in enumerate(json.loads(metadata["surfaces"])):
            model = SurfaceModel(SurfaceConfig.from_dict(record))
            model.load_state_dict(floats(f"{_SURFACE}.{number}"))
            surfaces.append(ExactSurface(model))
        if "latents" in metadata:
            surface = next(one for one in surfaces if REFINED_STEP in one.config.factors)
            pair = LatentPair(LatentConfig.from_dict(json.loads(metadata["latents"])), surface.config.channels)
            pair.load_state_dict(floats(_LATENTS))
            tables = FrequencyTables.from_arrays({key: one.numpy() for key, one in part(_TABLES).items()})
            latents = ExactLatents(pair, surface, tables)
        arrays = {name: file.get_tensor(f"{_OCCUPANCY}.{name}").numpy() for name in TRAINED}
    return Weights(Experience(arrays), tuple(surfaces), latents)
