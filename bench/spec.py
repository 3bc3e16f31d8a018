"""RunSpec: what a run is, as the command line or a YAML file describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import UsageError

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
        weights: folder of weights in place of a learned codec's own, by codec.
        allow_untrained: run learned codecs with random weights (flagged everywhere).
        keep_streams: keep the bitstreams in the run folder, named by their hash.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    codecs: tuple[str, ...] = ("all",)
    datasets: tuple[str, ...] = ("synthetic",)
    clouds: tuple[str, ...] | None = None
    rates: tuple[str, ...] | None = None
    data_root: Path | None = None
    codec_modules: tuple[Path, ...] = ()
    tmc3: Path | None = None
    jobs: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1)
    share_cores: bool = False
    timeout_s: float = Field(default=DEFAULT_TIMEOUT_S, gt=0)
    memory_limit_gb: float | None = Field(default=None, gt=0)
    repeats: int = Field(default=1, ge=1)
    peak: float | None = Field(default=None, gt=0)
    secondary: bool = False
    weights: dict[str, Path] = Field(default_factory=dict)
    allow_untrained: bool = False
    keep_streams: bool = False

    @field_validator("version")
    @classmethod
    def _known_version(cls, value: int) -> int:
        if value != 1:
            raise ValueError(f"run description version {value}, this pccbench reads 1")
        return value

    @field_validator("codecs", "datasets", "clouds", "rates", "codec_modules", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

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
        """The settings in a YAML file, validated, with paths relative to the file made absolute.

        Raises:
            UsageError: the file is missing, not YAML, or describes no run.
        """
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read: {error}") from None
        except yaml.YAMLError as error:
            raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(settings, dict):
            raise UsageError(f"{path}: expected keys and values, got {type(settings).__name__}")
        try:
            spec = cls.make(**settings)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        given = spec.model_dump(include=set(settings))
        base = path.resolve().parent
        for key in ("data_root", "tmc3"):
            if given.get(key) is not None:
                given[key] = base / given[key]
        if given.get("weights"):
            given["weights"] = {name: base / folder for name, folder in given["weights"].items()}
        if given.get("codec_modules"):
            given["codec_modules"] = tuple(base / module for module in given["codec_modules"])
        return given

    def to_yaml(self) -> str:
        """The YAML that describes this run again; only what differs from the defaults."""
        settings = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump({"version": self.version, **settings}, sort_keys=False)


def _one_line(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "run"
        what = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
        parts.append(f"{where}: {what}")
    return "; ".join(parts)
