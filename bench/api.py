"""What Python code calls: run codecs over data sets, load the rows of a run."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .plan import make_plan
from .provenance import collect
from .runner import Observer, execute
from .spec import RunSpec
from .store import Store

if TYPE_CHECKING:
    import pandas as pd


def run(*, out: str | Path, **settings: Any) -> pd.DataFrame:
    """Run, or continue, what `settings` describe, and return the rows.

    A joblib backend chosen by the caller (`joblib.parallel_config(backend="dask")`) distributes the jobs.

    Args:
        out: run folder.
        settings: fields of `RunSpec`: codecs, datasets, clouds, rates, data_root, repeats, jobs, retry, ...

    Returns:
        One row a job, columns as the fields of `bench.row.Row`.

    Raises:
        PccbenchError: the settings are wrong, data is missing or the folder cannot be used.
    """

    def warn(text: str) -> None:
        warnings.warn(text, stacklevel=3)

    folder = _folder("out", out)
    spec = RunSpec.make(**settings).absolute()
    plan = make_plan(spec, warn)
    store = Store(folder)
    execute(plan, spec, store, session_record(spec, plan.unavailable, plan.missing_clouds), Observer(warn=warn))
    return store.frame()


def _folder(name: str, value: object) -> Path:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise UsageError(f"{name}: expected the path of a run folder, got {type(value).__name__}")
    return Path(value)


def session_record(
    spec: RunSpec, unavailable: dict[str, str], missing_clouds: dict[str, list[str]]
) -> dict[str, Any]:
    """What run.json keeps of a session: provenance, the spec, and what was left out."""
    return {
        **collect(),
        "cwd": str(Path.cwd()),
        "unavailable": unavailable,
        "missing_clouds": missing_clouds,
        "spec": spec.model_dump(mode="json", exclude_defaults=True),
    }


def load_run(folder: str | Path) -> pd.DataFrame:
    """The rows of a run, one a job, also while it is being written.

    Raises:
        StoreError: the folder is no run, or one of another version.
    """
    store = Store.open(_folder("folder", folder))
    if damage := store.damage():
        warnings.warn(f"{folder}: skipped {damage.text}; bench repair drops them", stacklevel=2)
    return store.frame()
