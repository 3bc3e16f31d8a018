"""Errors of the reports; they import nothing of the other packages, so they stand on their own."""

from __future__ import annotations


class ReportError(ValueError):
    """A report cannot be made from what was given: says what was expected and what came, in one line."""


class MixedPassportsError(ReportError):
    """Rows whose metrics were made by different rules would have come into one table."""
