"""Sweep: laser scans as float32 rows without any header, as KITTI (4 columns) and nuScenes (5) publish them.

Nothing in such a file says how many columns its rows have, and a length that divides says little: 4,000 rows of five
are 5,000 rows of four.  So the number is taken from the user or the data set, or else from the name, and must not be
contradicted by the values: columns differ (a height is no distance, a ring number is an integer), so that the right
number of columns explains the values better than a wrong one does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..errors import CloudError
from .table import Table

#: The columns that are known by name; further ones are numbered.
_NAMES = ("x", "y", "z", "intensity")
_FIFTH_OF_NUSCENES = "ring"
_KITTI, _NUSCENES = 4, 5
#: Numbers of columns that values are tried with.
_TRIED = range(3, 13)
MIN_COLUMNS, MAX_COLUMNS = 3, 256
#: Beyond these no coordinate lies, in metres or millimetres; most other data, taken for float32, do.
_LARGEST, _SMALLEST = 1e9, 1e-20
#: Share of the values' spread that another number of columns must explain in addition, to be believed.
_CLEARLY_MORE = 0.05
#: Values that are looked at, from the start.
_SAMPLE = 400_000


def read_sweep(data: bytes, columns: int | None = None, name: str = "") -> Table:
    """The points of a sweep, with what else each row holds: the fourth column is the intensity.

    Args:
        data: the file.
        columns: values of each row; None for what the name says (`.pcd.bin` is nuScenes' with 5, else KITTI's 4).
        name: of the file.

    Raises:
        CloudError: not a whole number of rows, values that are no coordinates, or values that speak for another
            number of columns; the text names the option that settles it.
    """
    given = columns
    if given is not None and not MIN_COLUMNS <= given <= MAX_COLUMNS:
        raise CloudError(f"expected {MIN_COLUMNS} to {MAX_COLUMNS} columns, got {given}")
    is_nuscenes = name.lower().endswith(".pcd.bin")
    columns = given or (_NUSCENES if is_nuscenes else _KITTI)
    what = f"rows of {columns} columns" if given else ("a nuScenes sweep" if is_nuscenes else "a KITTI sweep")
    excess = len(data) % (4 * columns)
    if excess:
        raise CloudError(
            f"not {what}: expected float32 rows, {4 * columns} bytes a point, got {len(data):,} bytes "
            f"({excess} too many){_remedy(_columns_by_values(data, 0), given)}"
        )
    values = np.frombuffer(data, "<f4")
    if given is None:
        _refuse_other_data(values, what)
        likely = _columns_by_values(data, columns)
        if likely != columns:
            raise CloudError(f"not {what} of {columns} columns by its values{_remedy(likely, given)}")
    rows = values.reshape(-1, columns)
    names = [*_NAMES, *(f"column {number + 1}" for number in range(len(_NAMES), columns))][:columns]
    if is_nuscenes and columns == _NUSCENES:
        names[4] = _FIFTH_OF_NUSCENES
    return Table({name: rows[:, index] for index, name in enumerate(names)})


def _remedy(likely: int, given: int | None) -> str:
    if given is not None and not likely:
        return ""
    return (
        f"; the values look like rows of {likely}: --columns {likely} reads them so"
        if likely
        else "; --columns N says how many values a row has"
    )


def _refuse_other_data(values: npt.NDArray[np.float32], what: str) -> None:
    """Raise CloudError where the bytes are something else than coordinates in float32."""
    sample = values[:_SAMPLE]
    size = np.abs(sample)
    with np.errstate(invalid="ignore"):
        odd = ~(size <= _LARGEST) | ((size < _SMALLEST) & (size > 0))
    # A missing return may be NaN, which the cloud's own check refuses with a count.
    odd &= ~np.isnan(sample)
    if int(odd.sum()) > 0.01 * len(odd):
        raise CloudError(
            f"not {what}: of the first {len(sample):,} float32 values {int(odd.sum()):,} are beyond {_LARGEST:g} or "
            "next to zero; --columns N reads them all the same"
        )


def _columns_by_values(data: bytes, assumed: int) -> int:
    """How many columns explain the values best; `assumed` unless another number does clearly better.

    Args:
        data: the file.
        assumed: number that is believed while nothing speaks against it; 0 for none.

    Returns:
        The number, `assumed` where nothing is clear.
    """
    whole = len(data) // 4
    values = np.frombuffer(data, "<f4", min(whole, _SAMPLE))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        finite = np.nan_to_num(np.abs(values.astype(np.float64)), posinf=0.0)
        features = [
            np.log2(finite + 1e-3),
            (values < 0).astype(np.float64),
            (np.rint(values) == values).astype(np.float64),
        ]
    scores = {
        n: _explained(features, n) for n in _TRIED if n == assumed or (len(data) % (4 * n) == 0 and whole >= 8 * n)
    }
    if not scores:
        return assumed
    best = max(scores.values())
    # Twice the columns explain as much: the smallest number that does.
    likely = min(n for n, score in scores.items() if score >= best - _CLEARLY_MORE / 2)
    noise = 3 * likely / max(len(values), 1)
    if best - scores.get(assumed, 0.0) <= _CLEARLY_MORE + noise:
        return assumed
    return likely


def _explained(features: list[npt.NDArray[np.float64]], columns: int) -> float:
    """Share of the features' variance that lies between columns, corrected for their number; mean over features."""
    shares = []
    for feature in features:
        rows = feature[: len(feature) // columns * columns].reshape(-1, columns)
        total = rows.var() if len(rows) > 1 else 0.0
        if total < 1e-12:
            continue
        share = rows.mean(axis=0).var() / total
        shares.append(1 - (1 - share) * (rows.size - 1) / (rows.size - columns))
    return float(np.mean(shares)) if shares else 0.0


def format_kitti(cloud: PointCloud) -> bytes:
    """A sweep of the cloud in KITTI's four columns; intensity 0 where it has none.

    Raises:
        CloudError: coordinates that float32 cannot hold.
    """
    rows = np.zeros((len(cloud), _KITTI), "<f4")
    rows[:, :3] = cloud.points
    if not np.array_equal(rows[:, :3], cloud.points):
        raise CloudError("KITTI sweeps are float32, which does not hold these coordinates exactly")
    if "intensity" in cloud.attributes:
        rows[:, 3] = cloud.attributes["intensity"]
    return rows.tobytes()
