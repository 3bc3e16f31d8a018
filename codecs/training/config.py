"""Config: what the files that describe trainings have in common; an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import PccbenchError


class ConfigError(PccbenchError, ValueError):
    """A training configuration is not what it should be: names the key, what was expected and what came."""


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value


_Number = BeforeValidator(_number)
Real = Annotated[float, _Number]
Whole = Annotated[int, _Number]
Positive = Annotated[float, _Number, Field(gt=0)]
NotNegative = Annotated[float, _Number, Field(ge=0)]
Share = Annotated[float, _Number, Field(ge=0, lt=1)]
Count = Annotated[int, _Number, Field(ge=1, le=2**31)]
Threads = Annotated[int, _Number, Field(ge=1, le=1024)]
#: Multiplied with a million and more, it must fit into 64 bits.
Seed = Annotated[int, _Number, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """Part of a configuration; no number in it is infinite or none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound="ConfigFile")


class ConfigFile(Section):
    """The whole file."""

    @classmethod
    def read(cls: type[C], path: Path, changes: Mapping[str, Any] | None = None) -> C:
        """The config of a YAML file; its relative paths start where the command was given.

        Args:
            path: of the file.
            changes: keys of its section `training` that replace those of the file.

        Raises:
            ConfigError: not YAML, an unknown key, or a value out of range; one line that names the key.
        """
        try:
            record = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(f"{path}: expected YAML: {' '.join(str(error).split())}") from error
        except RecursionError:
            raise ConfigError(f"{path}: expected YAML of a few levels, got hundreds") from None
        if changes and isinstance(record, dict) and isinstance(record.get("training"), dict):
            record["training"].update(changes)
        return cls.parse(record, str(path))

    @classmethod
    def parse(cls: type[C], record: Any, name: str = "configuration") -> C:
        """The config of plain values.

        Raises:
            ConfigError: as `read`.
        """
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the file"
            what = "is no key of this file" if first["type"] == "extra_forbidden" else " ".join(first["msg"].split())
            raise ConfigError(f"{name}: {key}: {what}") from error
