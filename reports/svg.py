"""SVG: a matplotlib figure as markup that belongs to a page.

The page's own ink and grid replace the figure's, so that it reads on light and on dark; ids are made unique over all
figures; each point that carries a row's anchor becomes a link with a tooltip.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .style import GRID, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Salt of matplotlib's generated ids, which makes its files the same in every run.
HASH_SALT = "pccbench"
#: No date and no creator: the same figure gives the same file.
METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def to_svg(figure: Figure) -> str:
    """The figure as an SVG file: text as text, and the same figure the same file."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": HASH_SALT}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=METADATA)
    return buffer.getvalue()


def inline_svg(text: str, prefix: str, tips: Mapping[str, str], label: str) -> str:
    """An SVG file as an `<svg>` element of a page.

    Args:
        text: what `to_svg` gave.
        prefix: what every id begins with; another one for each figure of a page.
        tips: row anchor -> tooltip.
        label: what the figure shows, for those who cannot see it.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<style type="text/css">.*?</style>', "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = _prefixed(text, prefix)
    text = text.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    text = re.sub(r"\s*font-family: [^;\"]*;?", "", text)  # the page's own
    text = text.replace(' target="_blank"', "")
    for row_id, tip in tips.items():
        link = f'<a href="#{row_id}">'
        text = text.replace(link, f"{link}<title>{html.escape(tip)}</title>")
    head = re.match(r"<svg[^>]*>", text)
    view = re.search(r'viewBox="([^"]*)"', head.group(0)) if head else None
    if head is None or view is None:
        raise ValueError("matplotlib wrote an SVG without a view box")
    opening = f'<svg viewBox="{view.group(1)}" role="img" aria-label="{html.escape(label)}">'
    return opening + text[head.end() :].strip()


def _prefixed(text: str, prefix: str) -> str:
    """The markup with every id, and every reference to one, prefixed; references to the page's anchors stay."""
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', lambda m: f'href="#{prefix}-{m[1]}"' if m[1] in ids else m[0], text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
