"""The small pieces that every terminal report is set from: headline, section title, bullets, plain table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replay.report.wording import INVALID, Headline

TONES: Mapping[str, str] = {
    "regression": "bold red",
    "improved": "bold green",
    "equivalent": "bold cyan",
    "inconclusive": "bold yellow",
    INVALID: "bold red",
}


def headline_text(headline: Headline) -> Text:
    """The verdict in its colour, then whom it is about."""
    return Text.assemble((headline.word.upper(), TONES[headline.tone]), "  ", (headline.subject, "bold"))


def section(title: str) -> Text:
    """A section's title."""
    return Text(title, style="bold")


def blank() -> Text:
    """An empty line."""
    return Text("")


def heading(title: str) -> Padding:
    """The title of a part of a section."""
    return Padding(Text(title, style="bold"), (0, 0, 0, 2))


def note(text: str) -> Padding:
    """A sentence about what stands above it."""
    return Padding(Text(text, style="dim"), (0, 0, 0, 2))


def verdict_word(tone: str, word: str) -> Text:
    """A verdict in its colour; what is no difference has none."""
    return Text(word, style="" if tone == "equivalent" else TONES[tone])


def bullets(lines: Iterable[str], mark: str = "•") -> list[Padding]:
    """One hanging paragraph per line; the text is taken as it is, markup in it means nothing."""
    found = []
    for line in lines:
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1, no_wrap=True)
        row.add_column()
        row.add_row(mark, Text(line))
        found.append(Padding(row, (0, 0, 0, 2)))
    return found


def plain_table(*, header: bool = False) -> Table:
    """A table without rules, indented by two, that a narrow terminal folds rather than cuts."""
    return Table(
        box=None, show_header=header, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False, expand=False
    )


def indented(table: Table) -> Padding:
    """`table`, two columns to the right."""
    return Padding(table, (0, 0, 0, 2))


def figure_table(name: str, titles: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Padding:
    """Rows of a name and figures; a column without a title holds words. Only names fold."""
    table = plain_table(header=True)
    table.add_column(name, overflow="fold")
    for title in titles:
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return indented(table)
