"""Table: one model of a table, rendered as HTML, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .text import MINUS, MISSING, slug


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: heading, with the unit.
        group: heading over several columns; empty for none.
        numeric: aligned to the right and sorted by value.
        note: what it means, shown as a tooltip.
    """

    title: str
    group: str = ""
    numeric: bool = True
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: what is shown.
        sort: what it is sorted by; None sorts last.
        note: why the figure is missing or doubtful; becomes a tooltip and a footnote.
        badge: a verdict or status shown beside the text.
        href: anchor in the page.
        tip: a tooltip that is no footnote.
    """

    text: str
    sort: float | str | None = None
    note: str = ""
    badge: str = ""
    href: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        title: short heading.
        caption: what it holds, over what, and how many of the jobs succeeded.
        columns: the columns.
        rows: cells, as many a row as there are columns.
        emphasis: positions of rows that are set apart (means).
        name: label in files; from the title unless given.
    """

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    emphasis: frozenset[int] = frozenset()
    name: str = ""

    @property
    def slug(self) -> str:
        """Name safe as an HTML id and a LaTeX label."""
        return slug(self.name or self.title).lower()

    @property
    def footnotes(self) -> list[str]:
        """Distinct notes of the cells, in the order of reading."""
        return list(dict.fromkeys(cell.note for row in self.rows for cell in row if cell.note))

    @property
    def has_blocks(self) -> bool:
        """Whether rows that begin alike stand together, so that a line between blocks helps the eye."""
        return any(a[0].text == b[0].text for a, b in zip(self.rows, self.rows[1:], strict=False))

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings over the columns as (text, columns spanned); empty when no column has one."""
        if not any(column.group for column in self.columns):
            return []
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and column.group and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans


def text_cell(text: str, **options: str) -> Cell:
    """A cell of words."""
    return Cell(text, sort=text, **options)


def missing_cell(note: str = "") -> Cell:
    """A cell without a figure, and why."""
    return Cell(MISSING, note=note)


def to_markdown(table: Table, level: int = 3) -> str:
    """The table for GitHub-flavoured Markdown; notes are numbered under it."""
    notes = {note: number for number, note in enumerate(table.footnotes, start=1)}
    headings = [f"{column.group}: {column.title}" if column.group else column.title for column in table.columns]
    lines = [f"{'#' * level} {_markdown(table.title)}", "", _markdown(table.caption), ""]
    lines.append(_markdown_row([_markdown(heading) for heading in headings]))
    lines.append(_markdown_row(["---:" if column.numeric else ":---" for column in table.columns]))
    for row in table.rows:
        cells = []
        for cell in row:
            badge = f"({_markdown(cell.badge)})" if cell.badge else ""
            words = [_markdown(cell.text), badge, f"[{notes[cell.note]}]" if cell.note else ""]
            cells.append(" ".join(filter(None, words)))
        lines.append(_markdown_row(cells))
    lines += ["", *(f"[{number}] {_markdown(note)}  " for note, number in notes.items())]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    """ASCII minus, so that figures can be pasted; no character that ends a cell or starts markup."""
    text = text.replace(MINUS, "-").replace("\n", " ")
    for character in "\\|*_`<[]":
        text = text.replace(character, f"\\{character}")
    return text


def to_latex(table: Table) -> str:
    """The table for LaTeX with the booktabs package; notes are numbered under it."""
    notes = {note: number for number, note in enumerate(table.footnotes, start=1)}
    alignment = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [
        r"\begin{table*}[tb]",
        r"\centering\small",
        rf"\caption{{{_latex(table.caption)}}}",
        rf"\label{{tab:{table.slug}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
    ]
    if table.groups:
        lines += _latex_groups(table.groups)
    lines.append(_latex_row([_latex(column.title) for column in table.columns]))
    lines.append(r"\midrule")
    for number, row in enumerate(table.rows):
        if number in table.emphasis and number and number - 1 not in table.emphasis:
            lines.append(r"\addlinespace")
        cells = []
        for cell in row:
            mark = rf"\textsuperscript{{{notes[cell.note]}}}" if cell.note else ""
            badge = rf" {{\scriptsize {_latex(cell.badge)}}}" if cell.badge else ""
            cells.append(f"{_latex(cell.text)}{badge}{mark}")
        lines.append(_latex_row(cells))
    lines += [r"\bottomrule", r"\end{tabular}"]
    if notes:
        lines.append(r"\par\smallskip\raggedright\footnotesize")
        lines += [rf"\textsuperscript{{{number}}}~{_latex(note)}\\" for note, number in notes.items()]
    return "\n".join([*lines, r"\end{table*}", ""])


def _latex_groups(groups: Sequence[tuple[str, int]]) -> list[str]:
    cells, rules, position = [], [], 1
    for text, span in groups:
        cells.append(rf"\multicolumn{{{span}}}{{c}}{{{_latex(text)}}}")
        if text:
            rules.append(rf"\cmidrule(lr){{{position}-{position + span - 1}}}")
        position += span
    return [_latex_row(cells), "".join(rules)]


def _latex_row(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def to_text(table: Table) -> str:
    """The table for a terminal, in aligned columns; notes are numbered under it."""
    notes = {note: number for number, note in enumerate(table.footnotes, start=1)}
    headings = [" ".join(filter(None, [column.group, column.title])) for column in table.columns]
    lines = [headings]
    for row in table.rows:
        texts = []
        for cell in row:
            words = [cell.text, cell.badge, f"[{notes[cell.note]}]" if cell.note else ""]
            texts.append(" ".join(filter(None, words)).replace(MINUS, "-"))
        lines.append(texts)
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    aligned = [
        "  ".join(
            text.rjust(width) if column.numeric else text.ljust(width)
            for text, width, column in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in lines
    ]
    aligned.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*aligned, *(f"[{number}] {note}" for note, number in notes.items())])


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # after the end of a row a bracket would begin an argument
    "]": "{]}",
    MINUS: r"$-$",
    MISSING: "--",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{RIGHTWARDS ARROW}": r"$\to$",
    "\N{SUPERSCRIPT TWO}": r"\textsuperscript{2}",
    "±": r"$\pm$",
    "µ": r"\textmu{}",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "·": r"$\cdot$",
    "\n": " ",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
