"""Published curves: figures from other groups' result files, drawn beside ours, never mixed with them.

`published/curves.csv` holds the figures, each with the paper that it belongs to and the repository and licence of the
file that it was read from.  They were not measured here: other machines, other builds, and rates as their authors
count them.  All use the factor 3 and the peak that their row states (their G-PCC octree points agree with tmc3's to
the fourth decimal); beside curves of another peak they are not drawn.  Left out: clouds for which a source gives two
clouds the same figures.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CURVES = Path(__file__).parent / "published" / "curves.csv"

#: What tells a published curve in a legend.
PUBLISHED_MARK = "published"

#: Published curves of codecs that a run may have measured itself; then ours is drawn alone.
_MEASURED_AS = {"G-PCC octree": "gpcc-octree", "G-PCC trisoup": "gpcc-trisoup"}


@dataclass(frozen=True)
class PublishedCurve:
    """Figures of one codec on one cloud, as published.

    Attributes:
        codec: name as its authors give it.
        cloud: name of the cloud.
        peak: peak of its PSNR; the factor is 3.
        rate_bpp: bits a point of the input, low to high.
        d1_psnr_db, d2_psnr_db: PSNR, None where the source has none or it was lossless.
        paper: what to cite.
        source: repository and file.
        licence: of that file.
    """

    codec: str
    cloud: str
    peak: float
    rate_bpp: tuple[float, ...]
    d1_psnr_db: tuple[float | None, ...]
    d2_psnr_db: tuple[float | None, ...]
    paper: str
    source: str
    licence: str

    @property
    def label(self) -> str:
        """Name for legends, with the venue and year of the paper: `PCGCv2, published (DCC 2021)`."""
        venue = self.paper.rsplit(", ", 1)[-1]
        return f"{self.codec}, {PUBLISHED_MARK}" + (f" ({venue})" if venue[-4:].isdigit() else "")

    @property
    def citation(self) -> str:
        """What a caption says of it."""
        venue = self.paper.rsplit(", ", 1)[-1]
        cited = venue if venue[-4:].isdigit() else self.paper
        return f"{self.codec} ({cited}; figures from {self.source}, {self.licence})"

    @property
    def reference(self) -> str:
        """The full citation."""
        return f"{self.codec}. {self.paper}. Figures from {self.source} ({self.licence})."

    def quality(self, metric: str) -> tuple[float | None, ...]:
        """PSNR in dB of `d1` or `d2`."""
        return self.d1_psnr_db if metric == "d1" else self.d2_psnr_db


def published_curves(cloud: str, measured: frozenset[str] = frozenset()) -> list[PublishedCurve]:
    """Curves of a cloud of exactly this name, without those of codecs that were measured."""
    return [
        curve for curve in _all_curves() if curve.cloud == cloud and _MEASURED_AS.get(curve.codec) not in measured
    ]


@cache
def _all_curves() -> tuple[PublishedCurve, ...]:
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    with _CURVES.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            groups.setdefault((row["codec"], row["cloud"], row["source"]), []).append(row)
    return tuple(_curve(rows) for rows in groups.values())


def _curve(rows: list[dict[str, str]]) -> PublishedCurve:
    rows = sorted(rows, key=lambda row: float(row["rate_bpp"]))
    first = rows[0]
    return PublishedCurve(
        codec=first["codec"],
        cloud=first["cloud"],
        peak=float(first["peak"]),
        rate_bpp=tuple(float(row["rate_bpp"]) for row in rows),
        d1_psnr_db=tuple(_optional(row["d1_psnr_db"]) for row in rows),
        d2_psnr_db=tuple(_optional(row["d2_psnr_db"]) for row in rows),
        paper=first["paper"],
        source=first["source"],
        licence=first["licence"],
    )


def _optional(text: str) -> float | None:
    return float(text) if text else None
