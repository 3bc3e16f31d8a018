"""Tables, plots, the HTML page and comparisons: pure functions over data frames of rows."""

from .errors import MixedPassportsError, ReportError
from .report import write_report

__all__ = ["MixedPassportsError", "ReportError", "write_report"]
