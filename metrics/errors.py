"""Errors of the metrics; they import nothing of the other packages, so they stand on their own."""

from __future__ import annotations


class MetricError(ValueError):
    """A metric cannot be computed from what was given: says what was expected and what came, in one line."""
