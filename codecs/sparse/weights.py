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
from .occupancy import TRAINED, Experience

if TYPE_CHECKING:
    from torch import Tensor

    from .exact import ExactSurface
    from .surface import SurfaceModel

_SURFACE, _OCCUPANCY = "surface", "occupancy"


@dataclass(frozen=True, eq=False)
class Weights:
    """What the codec needs.

    Attributes:
        experience: what occupancy coding starts from.
        surfaces: the networks, each for its factors, in integers.
    """

    experience: Experience
    surfaces: tuple[ExactSurface, ...]

    @property
    def factors(self) -> tuple[int, ...]:
        """All factors, rising."""
        return tuple(sorted(factor for model in self.surfaces for factor in model.config.factors))

    def surface(self, factor: int) -> ExactSurface:
        """The network of a factor."""
        return next(model for model in self.surfaces if factor in model.config.factors)


def save(folder: Path, experience: Experience, surfaces: Sequence[SurfaceModel]) -> None:
    """Write the weights: networks in half precision, contexts as the integers that they are."""
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for number, model in enumerate(surfaces):
        for key, value in model.state_dict().items():
            tensors[f"{_SURFACE}.{number}.{key}"] = value.detach().half().contiguous()
    for name, array in experience.arrays.items():
        tensors[f"{_OCCUPANCY}.{name}"] = torch.from_numpy(array.copy())
    configs = json.dumps([model.config.to_dict() for model in surfaces])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, weights_path(folder), metadata={"surfaces": configs})


@functools.cache
def load(folder: Path) -> Weights:
    """The weights of a folder, ready for use.

    Raises:
        CodecUnavailableError: there are none.
    """
    from safetensors import safe_open

    from .exact import ExactSurface
    from .surface import SurfaceConfig, SurfaceModel

    path = weights_path(folder)
    if not path.exists():
        raise CodecUnavailableError(f"no weights at {path.name}: train them with `bench train sparse`")
    surfaces = []
    with safe_open(path, "pt") as file:
        for number, record in enumerate(json.loads(file.metadata()["surfaces"])):
            model = SurfaceModel(SurfaceConfig.from_dict(record))
            prefix = f"{_SURFACE}.{number}."
            state = {
                key.removeprefix(prefix): file.get_tensor(key).float()
                for key in file.keys()
                if key.startswith(prefix)
            }
            model.load_state_dict(state)
            surfaces.append(ExactSurface(model))
        arrays = {name: file.get_tensor(f"{_OCCUPANCY}.{name}").numpy() for name in TRAINED}
    return Weights(Experience(arrays), tuple(surfaces))
