"""The parts of a comparison's terminal report beside effects: where, what answers say, which requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replay.analysis.change_values import AnswerChange, BodyChange, ChangedRequest, Location, TailChange
from replay.report.change_wording import (
    FIELDS_SHOWN,
    TAIL_HEADINGS,
    TIMELINE_HEADINGS,
    alike_note,
    answer_cells,
    answer_name,
    answer_word,
    band_cells,
    body_cells,
    body_note,
    body_word,
    places,
    request_change,
    request_title,
    tail_cells,
    tail_name,
    tail_word,
    telling_answers,
    telling_tails,
    timeline_cells,
)
from replay.report.terminal_parts import TONES, indented, plain_table


def where(locations: Sequence[Location]) -> list[RenderableType]:
    """Per located effect the bands of every dimension in which one stands out."""
    parts: list[RenderableType] = []
    for place in places(locations):
        parts.append(Padding(Text(place.title, style="bold"), (0, 0, 0, 2)))
        if place.bands:
            table = plain_table(header=True)
            table.add_column("", overflow="fold")
            for title in ("pairs", "change", "95 % CI", "elsewhere", ""):
                table.add_column(title, justify="right" if title else "left", no_wrap=True)
            for band in place.bands:
                cells = band_cells(band)
                style = "bold" if band.stands_out else ""
                table.add_row(Text(f" {band.dimension}: {band.band}", style=style), *cells)
            parts.append(indented(table))
        note = alike_note(place)
        if note:
            parts.append(_note(f" {note}"))
    return parts


def tails(changes: Sequence[TailChange]) -> RenderableType:
    """How many requests of each endpoint take half as long again, and how many are as much faster."""
    table = plain_table(header=True)
    table.add_column("", overflow="fold")
    for title in (*TAIL_HEADINGS, ""):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for change in telling_tails(changes):
        tone, word = tail_word(change)
        table.add_row(Text(tail_name(change)), *tail_cells(change), Text(word, style=_style(tone)))
    return indented(table)


def answers(changes: Sequence[AnswerChange], bodies: Sequence[BodyChange]) -> list[RenderableType]:
    """Tokens, throughput, finish reasons; then the fields of bodies that differ."""
    parts: list[RenderableType] = []
    shown = telling_answers(changes)
    if shown:
        table = plain_table(header=True)
        table.add_column("", overflow="fold")
        for title in ("base → candidate", "change", "95 % CI", ""):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        for change in shown:
            tone, word = answer_word(change)
            table.add_row(Text(answer_name(change)), *answer_cells(change), Text(word, style=_style(tone)))
        parts.append(indented(table))
    if bodies:
        table = plain_table(header=True)
        table.add_column("bodies", overflow="fold")
        for title in ("differ", "same build", "of", ""):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        for field in bodies[:FIELDS_SHOWN]:
            tone, word = body_word(field)
            table.add_row(Text(field.path), *body_cells(field), Text(word, style=_style(tone)))
        parts += [indented(table), _note(body_note(bodies))]
    return parts


_WIDTHS = (5, 9, 8, 10, 11, 8)


def requests(changed: Sequence[ChangedRequest]) -> list[RenderableType]:
    """The requests that changed most, each with its instants in both runs, from due."""
    parts: list[RenderableType] = [indented(_timelines(None))]
    for index, request in enumerate(changed, 1):
        title = f"{index}. {request_change(request)}  {request_title(request)}"
        parts.append(Padding(Text(title, style="bold"), (0, 0, 0, 2)))
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


def _note(text: str) -> RenderableType:
    return Padding(Text(text, style="dim"), (0, 0, 0, 2))


def _style(tone: str) -> str:
    return "" if tone == "equivalent" else TONES[tone]
