"""RunSpec: what a run is, as the command line or a YAML file describes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .datasets import FOLDER_PREFIX, data_root, needs_root
from .errors import UsageError
from .row import FAILED

#: Seconds that one call of encode or decode may take unless the run says otherwise.
DEFAULT_TIMEOUT_S = 3600.0


class RunSpec(BaseModel):
    """Everything that `bench run` was asked for; unknown keys are errors.

    Attributes:
        codecs: names, or `["all"]` for every codec there is.
        datasets: names of data sets, or `folder:PATH`.
        clouds: patterns that choose clouds; None for the data set's default.
        rates: names of rates; None for all of each codec.
        data_root: folder of the data sets; None for PCCBENCH_DATA or the configuration file.
        columns: float32 values of a row of headerless `.bin` files in folders; None for what these say.
        codec_modules: Python files with further codecs.
        tmc3: G-PCC executable; None for PCCBENCH_TMC3 or PATH.
        jobs: jobs that run at the same time, each on cores of its own.
        threads: threads of each job; None for all cores divided by `jobs`.
        share_cores: allow more threads than cores; the rows say so.
        timeout_s: limit of one call of encode or decode, in seconds.
        memory_limit_gb: limit of one worker with its children, in GiB; None for no limit.
        repeats: how often each call is timed.
        peak: peak of the PSNR in place of the data set's.
        secondary: measure the secondary metrics, too (see `metrics.secondary`).
        allow_untrained: run learned codecs with random weights (flagged everywhere).
        keep_streams: keep the bitstreams in the run folder, named by their hash.
        retry: statuses of stored rows that are run again, `failed` for every failure; what was disrupted is run
            again anyway.  It belongs to one call, so no run.yaml holds it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: int = 1
    codecs: tuple[str, ...] = ("all",)
    datasets: tuple[str, ...] = ("synthetic",)
    clouds: tuple[str, ...] | None = None
    rates: tuple[str, ...] | None = None
    data_root: Path | None = None
    columns: int | None = Field(default=None, ge=3, le=256)
    codec_modules: tuple[Path, ...] = ()
    tmc3: Path | None = None
    jobs: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1)
    share_cores: bool = False
    timeout_s: float = Field(default=DEFAULT_TIMEOUT_S, gt=0)
    memory_limit_gb: float | None = Field(default=None, gt=0, le=2**20)
    repeats: int = Field(default=1, ge=1, le=10_000)
    peak: float | None = Field(default=None, gt=0)
    secondary: bool = False
    allow_untrained: bool = False
    keep_streams: bool = False
    retry: tuple[str, ...] = Field(default=(), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, settings: Any) -> Any:
        """Scalars of numpy are numbers to whoever calls from Python."""
        if not isinstance(settings, dict):
            return settings
        return {key: value.item() if isinstance(value, np.generic) else value for key, value in settings.items()}

    @field_validator("version")
    @classmethod
    def _known_version(cls, value: int) -> int:
        if value != 1:
            raise ValueError(f"run description version {value}, this pccbench reads 1")
        return value

    @field_validator("codecs", "datasets", "clouds", "rates", "codec_modules", "retry", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        return (value,) if isinstance(value, str | Path) else value

    @field_validator("datasets", mode="before")
    @classmethod
    def _folders_are_named(cls, value: Any) -> Any:
        for name in value if isinstance(value, list | tuple) else (value,):
            if isinstance(name, os.PathLike):
                raise ValueError(f"expected a name, got a path; a folder of clouds is named '{FOLDER_PREFIX}{name}'")
        return value

    @field_validator("retry")
    @classmethod
    def _statuses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        choices = ("failed", *FAILED, "not_applicable")
        for name in value:
            if name not in choices:
                near = get_close_matches(name, choices, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ValueError(f"no status {name!r}; {hint}choices are {', '.join(choices)}")
        return tuple(dict.fromkeys(value))

    @field_validator("codecs", "datasets")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("names at least one")
        return tuple(dict.fromkeys(value))

    @classmethod
    def make(cls, **settings: Any) -> RunSpec:
        """A validated spec.

        Raises:
            UsageError: a key is unknown or a value is out of range, all named in one line.
        """
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise UsageError(_one_line(error)) from None

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """The settings in a YAML file, validated, with paths relative to the file's folder made absolute.

        Raises:
            UsageError: the file is missing, not YAML, or describes no run.
        """
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            raise UsageError(f"{path}: not a text in UTF-8, expected YAML") from None
        except OSError as error:
            why = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            raise UsageError(f"{path}: {why}; expected a YAML file that describes a run") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(settings, dict):
            raise UsageError(f"{path}: expected keys and values, got {type(settings).__name__}")
        if strange := [key for key in settings if not isinstance(key, str)]:
            raise UsageError(f"{path}: {strange[0]!r}: unknown key")
        try:
            spec = cls.make(**settings)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        return _absolute({key: getattr(spec, key) for key in settings}, path.resolve().parent)

    def absolute(self) -> RunSpec:
        """The same run, told so that it is the same from every folder: all paths absolute, the data root named.

        Raises:
            UsageError: the data root does not exist.
        """
        settings = _absolute({key: getattr(self, key) for key in type(self).model_fields}, Path.cwd())
        if settings["data_root"] is None and any(needs_root(name) for name in self.datasets):
            root = data_root(None)
            settings["data_root"] = None if root is None else root.resolve()
        return type(self).make(**settings)

    def to_yaml(self) -> str:
        """The YAML that describes this run again; only what differs from the defaults."""
        settings = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump({"version": self.version, **settings}, sort_keys=False)


def _absolute(settings: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Settings whose relative paths count from a folder."""
    made = dict(settings)
    for key in ("data_root", "tmc3"):
        if made.get(key) is not None:
            made[key] = base / made[key].expanduser()
    if made.get("codec_modules"):
        made["codec_modules"] = tuple(base / module.expanduser() for module in made["codec_modules"])
    if made.get("datasets"):
        made["datasets"] = tuple(dict.fromkeys(_absolute_folder(name, base) for name in made["datasets"]))
    return made


def _absolute_folder(name: str, base: Path) -> str:
    """A data set's name; a folder's with its whole path."""
    if not name.startswith(FOLDER_PREFIX):
        return name
    path = base / Path(name.removeprefix(FOLDER_PREFIX)).expanduser()
    return f"{FOLDER_PREFIX}{path.resolve() if '..' in path.parts else path}"  # `..` after a link is not its parent


def _one_line(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "run"
        what = "unknown key" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {' '.join(what.split())}")
    return "; ".join(parts)
