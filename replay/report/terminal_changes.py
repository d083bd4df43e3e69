"""The parts of a comparison's terminal report beside effects: where, what answers say, which requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from replay.analysis.change_values import AnswerChange, BodyChange, ChangedRequest, Location, TailChange
from replay.report.change_wording import (
    ANSWER_HEADINGS,
    FIELDS_SHOWN,
    TAIL_HEADINGS,
    TIMELINE_HEADINGS,
    ChangeRow,
    alike_note,
    answer_row,
    band_cells,
    body_note,
    body_row,
    places,
    request_change,
    request_title,
    tail_row,
    telling_answers,
    telling_tails,
    timeline_cells,
)
from replay.report.terminal_parts import figure_table, heading, indented, note, plain_table, verdict_word


def where(locations: Sequence[Location]) -> list[RenderableType]:
    """Per located effect the bands of every dimension in which one stands out."""
    parts: list[RenderableType] = []
    for place in places(locations):
        parts.append(heading(place.title))
        if place.bands:
            rows = [
                (
                    Text(f" {band.dimension}: {band.band}", style="bold" if band.stands_out else ""),
                    *band_cells(band),
                )
                for band in place.bands
            ]
            parts.append(figure_table("", ("pairs", "change", "95 % CI", "elsewhere", ""), rows))
        alike = alike_note(place)
        if alike:
            parts.append(note(f" {alike}"))
    return parts


def tails(changes: Sequence[TailChange]) -> RenderableType:
    """How many requests of each endpoint take half as long again, and how many are as much faster."""
    return _changes("", TAIL_HEADINGS, map(tail_row, telling_tails(changes)))


def answers(changes: Sequence[AnswerChange], bodies: Sequence[BodyChange]) -> list[RenderableType]:
    """Tokens, throughput, finish reasons; then the fields of bodies that differ."""
    parts: list[RenderableType] = []
    shown = telling_answers(changes)
    if shown:
        parts.append(_changes("", ANSWER_HEADINGS, map(answer_row, shown)))
    if bodies:
        found = map(body_row, bodies[:FIELDS_SHOWN])
        parts += [_changes("bodies", ("differ", "same build", "of"), found), note(body_note(bodies))]
    return parts


def _changes(name: str, titles: Sequence[str], rows: Iterable[ChangeRow]) -> RenderableType:
    cells: list[list[str | Text]] = [
        [Text(row.name), *row.cells, verdict_word(row.tone, row.word)] for row in rows
    ]
    return figure_table(name, (*titles, ""), cells)


_WIDTHS = (5, 9, 8, 10, 11, 8)


def requests(changed: Sequence[ChangedRequest]) -> list[RenderableType]:
    """The requests that changed most, each with its instants in both runs, from due."""
    parts: list[RenderableType] = [indented(_timelines(None))]
    for index, request in enumerate(changed, 1):
        title = f"{index}. {request_change(request)}  {request_title(request)}"
        parts.append(heading(title))
        parts.append(indented(_timelines(request)))
    return parts


def _timelines(request: ChangedRequest | None) -> Table:
    """Both runs of a request in columns of one width; without a request, what heads them."""
    table = plain_table(header=request is None)
    titles = ("", *TIMELINE_HEADINGS)
    for title, width in zip(titles, (*_WIDTHS, None), strict=True):
        side: Literal["left", "right"] = "left" if title in ("", "answer") else "right"
        table.add_column(
            title if request is None else "", justify=side, width=width, no_wrap=width is not None
        )
    if request is not None:
        table.add_row(" base", *timeline_cells(request.baseline))
        table.add_row(" cand", *timeline_cells(request.candidate))
    return table
