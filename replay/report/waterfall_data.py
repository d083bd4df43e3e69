"""Single requests as the page carries them: the instants that its script draws, and every word it shows.

The script places lanes and writes these words; no figure is made there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from replay.analysis.change_values import RequestTimeline
from replay.analysis.time_values import FAILED, SAMPLED, SLOWEST, ShownRequest, Waterfall, Window
from replay.analysis.values import RunSummary
from replay.report.change_wording import request_title, start_of, timeline_cells
from replay.report.figures import format_count
from replay.report.wording import headline_clock_of


def waterfall_data(waterfall: Waterfall, runs: Sequence[RunSummary]) -> dict[str, Any]:
    """All windows with their requests; instants are whole µs after due, null where unknown.

    Where no due instants are known of the runs, "sent" stands for due in all of it.
    """
    clock = headline_clock_of(runs[0])
    return {
        "clock": clock,
        "builds": [run.label for run in runs],
        "width_s": waterfall.width_s,
        "windows": [
            {
                "words": window_words(waterfall, index, clock),
                "requests": [_request(request) for request in window.shown],
            }
            for index, window in enumerate(waterfall.windows)
        ],
        "layout": {
            "margin": {"l": 30, "r": 8, "t": 30, "b": 40},
            "hovermode": "closest",
            "showlegend": False,
            "barmode": "overlay",
            "bargap": 0,
            "xaxis": {"zeroline": False, "title": {"standoff": 8}},
            "yaxis": {"showgrid": False, "zeroline": False, "fixedrange": True, "ticklen": 0},
        },
    }


def first_window(waterfall: Waterfall) -> int:
    """The window that the page opens with: that of the request that took longest."""
    longest = [
        max((_took_ns(line) for one in window.shown for line in one.lines), default=-1.0)
        for window in waterfall.windows
    ]
    return longest.index(max(longest))


def choice_words(waterfall: Waterfall) -> str:
    """Which requests can be seen, of how many."""
    what = "requests, each in both runs," if waterfall.paired else "requests"
    due = sum(window.due for window in waterfall.windows)
    shown = sum(len(window.shown) for window in waterfall.windows)
    if shown == due:
        return "The one request can be seen." if due == 1 else f"All {format_count(due)} {what} can be seen."
    return (
        f"{format_count(shown)} of {format_count(due)} {what} can be seen: of every "
        f"{waterfall.width_s:g} s those that took longest, some that failed, and a sample of the "
        "others, from the fastest to the slowest. The same run always shows the same ones."
    )


def window_words(waterfall: Waterfall, index: int, clock: str = "due") -> str:
    """A window and what is shown of it: "due 12–14 s: 40 of 503 requests (20 slowest, 20 of the others)"."""
    window: Window = waterfall.windows[index]
    start_s, end_s = index * waterfall.width_s, (index + 1) * waterfall.width_s
    span = f"{clock} {start_s:g}–{end_s:g} s"
    if not window.due:
        return f"{span}: no request"
    if window.due == 1:
        return f"{span}: the one request"
    if len(window.shown) == window.due:
        return f"{span}: all {format_count(window.due)} requests"
    counts = Counter(request.why for request in window.shown)
    names = {SLOWEST: "slowest", FAILED: "failed", SAMPLED: "of the others"}
    parts = ", ".join(f"{counts[why]} {name}" for why, name in names.items() if counts[why])
    return f"{span}: {len(window.shown)} of {format_count(window.due)} requests ({parts})"


def _request(request: ShownRequest) -> dict[str, Any]:
    return {
        "title": request_title(request),
        "why": request.why,
        "lines": [_line(line) for line in request.lines],
    }


def _line(line: RequestTimeline) -> dict[str, Any]:
    start_ns = start_of(line)
    after = [_us(at - start_ns) for at in (line.sent_ns, line.first_byte_ns, line.first_token_ns)]
    reads = [round((at - start_ns) / 1e3) for at in line.read_ns]
    failed = bool(line.error) or not 200 <= line.status < 400
    return {
        "due": round(start_ns / 1e3),
        "at": [*after, _us(line.end_ns - start_ns)],
        # The first one after due, then the gaps: less to carry than instants.
        "reads": [now - before for before, now in zip([0, *reads], reads, strict=False)],
        "failed": failed and line.error != "aborted",
        "cells": timeline_cells(line),
    }


def _took_ns(line: RequestTimeline) -> float:
    known = [at for at in (line.sent_ns, line.first_byte_ns, line.end_ns) if not math.isnan(at)]
    start_ns = start_of(line)
    return max(known, default=start_ns) - start_ns


def _us(after_ns: float) -> int | None:
    return round(after_ns / 1e3) if math.isfinite(after_ns) else None
