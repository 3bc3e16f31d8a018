"""Counts: how many jobs are ok, in the one way that terminal, status, report and exit code share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """Jobs by how they ended.

    Attributes:
        by_status: status -> jobs.  Those of an unavailable codec are no jobs of this machine and are left out.
    """

    by_status: dict[str, int]

    @classmethod
    def of(cls, statuses: Iterable[str]) -> Counts:
        """The counts of rows, given the status of each."""
        counted = Counter(str(status) for status in statuses)
        counted.pop("unavailable", None)
        return cls(dict(counted.most_common()))

    @property
    def ok(self) -> int:
        """Jobs that are ok."""
        return self.by_status.get("ok", 0)

    @property
    def not_applicable(self) -> int:
        """Jobs of a codec on a kind of cloud that it does not code: nobody's failure."""
        return self.by_status.get("not_applicable", 0)

    @property
    def total(self) -> int:
        """Jobs that could be ok: all but the not applicable."""
        return sum(self.by_status.values()) - self.not_applicable

    @property
    def failed(self) -> int:
        """Jobs that could be ok and are not."""
        return self.total - self.ok

    @property
    def text(self) -> str:
        """`22 of 24 jobs ok, 2 not applicable`."""
        jobs = "job" if self.total == 1 else "jobs"
        apart = f", {self.not_applicable} not applicable" if self.not_applicable else ""
        return f"{self.ok} of {self.total} {jobs} ok{apart}"
