"""Style: one colour and marker for each codec, the same in every plot and in the page.

Colours are those of Okabe and Ito (2008) and of Tol's muted scheme, which stay apart for colour-blind readers;
markers and the order of the legend say the same again without colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Ink of axes, text and of the G-PCC octree curve; the page replaces it by its own, light or dark.
INK = "#1b1e23"
#: Lines of the grid; replaced likewise.
GRID = "#d9dce1"
#: Published curves: grey, thin and dashed, apart from all that was measured.
PUBLISHED = "#82888f"


@dataclass(frozen=True)
class CodecStyle:
    """How a codec is drawn.

    Attributes:
        color: hexadecimal.
        marker: of matplotlib.
        dashes: of matplotlib's line style; a flagged codec is dotted.
    """

    color: str
    marker: str
    dashes: str = "-"


#: Codecs that ship with the package keep their look in every report.
_SHIPPED = {
    "gpcc-octree": CodecStyle(INK, "s"),
    "gpcc-trisoup": CodecStyle("#d55e00", "^"),
    "octree": CodecStyle("#0072b2", "o"),
    "draco": CodecStyle("#e69f00", "D"),
    "sparse": CodecStyle("#009e73", "o"),
    "deepcompress": CodecStyle("#cc6699", "v"),
    "dpcc": CodecStyle("#56b4e9", "P"),
    "raw": CodecStyle("#8a8f96", "x"),
}
_OTHERS = (
    ("#882255", "X"),
    ("#999933", "<"),
    ("#5a4fcf", ">"),
    ("#117733", "h"),
    ("#aa4499", "p"),
    ("#44aa99", "*"),
)
_PUBLISHED_MARKERS = {
    "PCGCv2": "o",
    "SparsePCGC": "^",
    "pcc_geo_cnn_v2": "s",
    "ADL-PCC": "v",
    "G-PCC octree": "D",
    "G-PCC trisoup": "P",
}


def codec_styles(codecs: Sequence[str], flagged: Sequence[str] = ()) -> dict[str, CodecStyle]:
    """A look for each codec; what ships has its own, others take the next free one by name."""
    styles = {}
    others = [codec for codec in codecs if codec not in _SHIPPED]
    for codec in codecs:
        if codec in _SHIPPED:
            base = _SHIPPED[codec]
        else:
            color, marker = _OTHERS[others.index(codec) % len(_OTHERS)]
            base = CodecStyle(color, marker)
        styles[codec] = CodecStyle(base.color, base.marker, ":" if codec in flagged else "-")
    return styles


def published_marker(codec: str) -> str:
    """Marker of a published curve, the same on every cloud."""
    return _PUBLISHED_MARKERS.get(codec, "*")
