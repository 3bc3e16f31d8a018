"""What Python code calls: run codecs over data sets, load the rows of a run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .plan import make_plan
from .provenance import collect
from .runner import execute
from .spec import RunSpec
from .store import Store
from .system import require_supported

if TYPE_CHECKING:
    import pandas as pd


def run(*, out: str | Path, **settings: Any) -> pd.DataFrame:
    """Run, or continue, what `settings` describe, and return the rows.

    A joblib backend chosen by the caller (`joblib.parallel_config(backend="dask")`) distributes the jobs.

    Args:
        out: run folder.
        settings: fields of `RunSpec`: codecs, datasets, clouds, rates, data_root, repeats, jobs, ...

    Returns:
        One row a job, columns as the fields of `bench.row.Row`.

    Raises:
        PccbenchError: the settings are wrong, data is missing, the folder cannot be used or the system (Windows) is
            not supported.
    """
    require_supported()
    spec = RunSpec.make(**settings)
    plan = make_plan(spec, lambda text: warnings.warn(text, stacklevel=3))
    store = Store(Path(out))
    execute(plan, spec, store, session_record(spec, plan.unavailable, plan.missing_clouds))
    return store.frame()


def session_record(
    spec: RunSpec, unavailable: dict[str, str], missing_clouds: dict[str, list[str]]
) -> dict[str, Any]:
    """What run.json keeps of a session: provenance, the spec, and what was left out."""
    return {
        **collect(),
        "unavailable": unavailable,
        "missing_clouds": missing_clouds,
        "spec": spec.model_dump(mode="json", exclude_defaults=True),
    }


def load_run(folder: str | Path) -> pd.DataFrame:
    """The rows of a run, one a job, also while it is being written.

    Raises:
        StoreError: the folder is no run, or one of another version.
    """
    return Store.open(Path(folder)).frame()
