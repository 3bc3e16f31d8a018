"""Ledger: the figures of a training run as CSV, and their plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..weights import write_whole

#: Points of a curve that would hardly be seen as a line.
_FEW = 20


class Ledger:
    """A CSV file that grows with the run; on resumption, rows after the checkpoint's step are dropped.

    Args:
        path: of the file.
        columns: their names, `step` among them.
        from_step: of the checkpoint.
        last: step at which the run ends.
        every: steps from one row of means to the next.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], *, from_step: int = 0, last: int = 0, every: int = 50
    ) -> None:
        self.path = path
        self.columns = list(columns)
        self._last, self._every = last, every
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row in self._rows() if int(row["step"]) <= from_step)
        write_whole(path, text.getvalue())

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", errors="replace") as file:
            # A row that a killed process left half written is dropped with those after the checkpoint.
            rows = [row for row in csv.DictReader(file) if None not in row and None not in row.values()]
        return [row for row in rows if row.get("step", "").isdecimal()]

    def is_due(self, step: int) -> bool:
        """Whether a row of means is written at a step: the first, each so many, and the last."""
        return step in (1, self._last) or step % self._every == 0

    def add(self, row: Mapping[str, float | int | str]) -> None:
        """Append one row; columns that it lacks stay empty.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns, restval="").writerow(row)
        except OSError as error:
            raise OSError(error.errno, f"cannot be written: {error.strerror}", str(self.path)) from error

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
                axis.plot(*zip(*points, strict=True), linewidth=1, marker="." if len(points) < _FEW else "")
            axis.set_ylabel(name.replace("_", " "))
            axis.grid(visible=True, alpha=0.3)
        axes[-1, 0].set_xlabel("step")
        figure.tight_layout()
        figure.savefig(target)
        plt.close(figure)


class Means:
    """Sums of figures from one row of a ledger to the next."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    def add(self, figures: Mapping[str, float]) -> None:
        """Take in the figures of a step."""
        for key, value in figures.items():
            self._found.setdefault(key, []).append(value)

    def take(self) -> dict[str, float]:
        """Mean of each figure since the last time."""
        found, self._found = self._found, {}
        return {key: sum(values) / len(values) for key, values in found.items()}
