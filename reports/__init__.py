"""Tables, plots, the HTML page and comparisons: pure functions over data frames of rows."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import MixedPassportsError, ReportError

if TYPE_CHECKING:
    from .changes import compare
    from .comparison import Comparison, Limits
    from .report import write_report

__all__ = ["Comparison", "Limits", "MixedPassportsError", "ReportError", "compare", "write_report"]

#: Loaded when first asked for, so that the errors cost no import of pandas.
_LAZY = {"compare": "changes", "Comparison": "comparison", "Limits": "comparison", "write_report": "report"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
