"""The page's parts beside effects: where an effect is, what answers say, the requests that changed most.

Each request is drawn as two lanes over one time axis, and stands as figures in a table beside: the drawing is
SVG, complete in itself, coloured by the page's classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from replay.analysis.change_values import (
    AnswerChange,
    BodyChange,
    ChangedRequest,
    Location,
    RequestTimeline,
    TailChange,
)
from replay.report.change_wording import (
    ANSWER_HEADINGS,
    TAIL_HEADINGS,
    TAIL_TITLE,
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
    start_of,
    tail_row,
    timeline_cells,
)
from replay.report.figures import format_ns, format_p_value
from replay.report.page_frame import table
from replay.report.page_tables import badge, grouped_table, text

_WIDTH, _LANE, _GAP = 1000.0, 12.0, 4.0


def where_tables(locations: Sequence[Location]) -> str:
    """Per located effect every band that was looked at, the dimensions that tell first."""
    parts = []
    for place in places(locations):
        rows = []
        for band in place.bands:
            pairs, change, interval, elsewhere, mark = band_cells(band)
            badged = badge("regression" if band.change_ratio > 0 else "improved", mark) if mark else ""
            cells = (f"{band.dimension}: {band.band}", pairs, change, interval, elsewhere)
            rows.append([*map(text, cells), text(format_p_value(band.p_value)), badged])
        headings = ["", "Pairs", "Change", "95 % CI", "Elsewhere", "p", ""]
        if rows:
            parts.append(table(text(place.title), headings, rows, "numbers"))
        else:
            parts.append(f'<p class="note"><strong>{text(place.title)}</strong></p>')
        note = alike_note(place)
        parts.append(f'<p class="note">{text(note)}</p>' if note else "")
    return "".join(parts)


def tail_table(changes: Sequence[TailChange]) -> str:
    """Of every group how many requests take half as long again, and how many are as much faster."""
    return _change_table(TAIL_TITLE, "", TAIL_HEADINGS, map(tail_row, changes))


def answer_tables(changes: Sequence[AnswerChange], bodies: Sequence[BodyChange]) -> str:
    """Tokens, throughput and finish reasons; then the fields of bodies that differ."""
    found = (
        _change_table("What was answered", "", ANSWER_HEADINGS, map(answer_row, changes)) if changes else ""
    )
    if not bodies:
        return found
    headings = ("differs", "in the same build", "of")
    fields = _change_table("Bodies, by JSON path", "Field", headings, map(body_row, bodies), code=True)
    return f'{found}{fields}<p class="note">{text(body_note(bodies))}</p>'


def _change_table(
    title: str, name: str, headings: Sequence[str], rows: Iterable[ChangeRow], *, code: bool = False
) -> str:
    cells = [
        [
            f"<code>{text(row.name)}</code>" if code else text(row.name),
            badge(row.tone, row.word),
            *map(text, (*row.cells, row.p_value)),
        ]
        for row in rows
    ]
    titles = [name, "Verdict", *(heading[0].upper() + heading[1:] for heading in headings), "p"]
    return table(title, titles, cells, "outcomes")


def request_section(changed: Sequence[ChangedRequest]) -> str:
    """The requests that changed most: both runs of each drawn over one time axis, then all as a table."""
    longest = max((_last(line) for one in changed for line in (one.baseline, one.candidate)), default=0.0)
    drawn = "".join(_figure(index, request, longest) for index, request in enumerate(changed, 1))
    groups = [
        (
            f"{index}. {request_change(one)} · {request_title(one)}",
            [
                [text(name), *map(text, timeline_cells(line))]
                for name, line in (("baseline", one.baseline), ("candidate", one.candidate))
            ],
        )
        for index, one in enumerate(changed, 1)
    ]
    headings = ["", *(heading.capitalize() for heading in TIMELINE_HEADINGS)]
    clock = "sent" if any(math.isnan(one.baseline.due_ns) for one in changed) else "due"
    figures = grouped_table(f"Each instant after its {clock} one", headings, groups, "figures")
    return f"{drawn}<details><summary>As figures</summary>{figures}</details>"


def _figure(index: int, request: ChangedRequest, longest_ns: float) -> str:
    """Two lanes from due: waiting to be sent, waiting for the first byte, then the answer with its reads."""
    lanes = ((0.0, "baseline", request.baseline), (_LANE + _GAP, "candidate", request.candidate))
    height = 2 * _LANE + _GAP
    said = "; ".join(f"{name}: {', '.join(_spoken(line))}" for _, name, line in lanes)
    body = "".join(_lane(top, name, line, longest_ns) for top, name, line in lanes)
    return (
        f'<figure class="request"><figcaption>{index}. <strong>{text(request_change(request))}</strong> '
        f"{text(request_title(request))}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{text(said)}">{body}</svg></figure>'
    )


def _spoken(line: RequestTimeline) -> list[str]:
    return [f"{name} {cell}" for name, cell in zip(TIMELINE_HEADINGS, timeline_cells(line), strict=True)]


def _lane(top: float, name: str, line: RequestTimeline, longest_ns: float) -> str:
    def place(instant_ns: float) -> float:
        return _WIDTH * (instant_ns - start_of(line)) / longest_ns if longest_ns > 0 else 0.0

    end_ns = start_of(line) + _last(line)
    first_ns = line.first_byte_ns if not math.isnan(line.first_byte_ns) else end_ns
    sent_ns = line.sent_ns if not math.isnan(line.sent_ns) else end_ns
    spans = [
        ("late", start_of(line), sent_ns, "due to sent"),
        ("waiting", sent_ns, first_ns, "sent to first byte"),
        ("answering" if not line.error else "answering failed", first_ns, end_ns, "first byte to end"),
    ]
    bars = "".join(
        f'<rect class="{kind} {name}" x="{place(begin):.2f}" y="{top:g}" '
        f'width="{max(place(finish) - place(begin), 0.0):.2f}" height="{_LANE:g}">'
        f"<title>{text(f'{name}, {words}: {format_ns(finish - begin)}')}</title></rect>"
        for kind, begin, finish, words in spans
        if finish > begin
    )
    ticks = "".join(f'<path class="read" d="M{place(at):.2f} {top:g}v{_LANE:g}"/>' for at in line.read_ns)
    return bars + ticks


def _last(line: RequestTimeline) -> float:
    """From due to the last instant that is known, in ns."""
    known = [at for at in (line.sent_ns, line.first_byte_ns, line.end_ns) if not math.isnan(at)]
    return max((at - start_of(line) for at in known), default=0.0)
