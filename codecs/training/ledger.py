"""Ledger: the figures of a training run as CSV, and their plot."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


class Ledger:
    """A CSV file that grows with the run; on resumption, rows after the checkpoint's step are dropped."""

    def __init__(self, path: Path, columns: Sequence[str], *, from_step: int = 0) -> None:
        self.path = path
        self.columns = list(columns)
        kept = [row for row in self._rows() if int(row["step"]) <= from_step]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if row.get("step")]

    def add(self, row: Mapping[str, float | int | str]) -> None:
        """Append one row; columns that it lacks stay empty."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def plot(self, target: Path, columns: Sequence[str]) -> None:
        """Draw columns over steps, one panel each, to an image file."""
        import matplotlib as mpl

        mpl.use("Agg", force=False)
        import matplotlib.pyplot as plt

        rows = self._rows()
        figure, axes = plt.subplots(len(columns), 1, figsize=(7, 2.2 * len(columns)), sharex=True, squeeze=False)
        for axis, name in zip(axes[:, 0], columns, strict=True):
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                axis.plot(*zip(*points, strict=True), linewidth=1)
            axis.set_ylabel(name.replace("_", " "))
            axis.grid(visible=True, alpha=0.3)
        axes[-1, 0].set_xlabel("step")
        figure.tight_layout()
        figure.savefig(target)
        plt.close(figure)
