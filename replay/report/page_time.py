"""The page's parts that lie on the axis of time: the timeline, and the single requests of a chosen window.

Each plot has its keys, its choices as plain controls for a keyboard or a finger, and the same facts as words
and tables for who can't see it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from replay.analysis.changed_requests import MOST_READS
from replay.analysis.heat_map import summed
from replay.analysis.time_values import HeatMap, Waterfall
from replay.analysis.values import RunSummary
from replay.report.change_wording import TIMELINE_HEADINGS
from replay.report.figures import format_count, format_ns, format_number
from replay.report.heat_panels import count_keys, largest_count
from replay.report.page_frame import build_keys, chart, frame, legend, section, select, table
from replay.report.page_tables import text
from replay.report.time_axis import mark_window, timeline_chart
from replay.report.waterfall_data import choice_words, first_window, waterfall_data
from replay.report.wording import METRIC_MEANINGS, headline_clock_of, metric_name

SCRIPTS: Final = ("page.js", "page_time.js", "page_waterfall.js")

_SPANS: Final = 8
_QUANTILES: Final = ("p50", "p90", "p99")


def charts(runs: Sequence[RunSummary], waterfall: Waterfall | None) -> dict[str, Any]:
    """The data of the timeline and, where there are any, of single requests, by name."""
    timeline = timeline_chart(runs)
    if waterfall is None or not waterfall.windows:
        return {"timeline": timeline}
    start_s = first_window(waterfall) * waterfall.width_s
    mark_window(timeline, start_s, start_s + waterfall.width_s)
    return {"timeline": timeline, "waterfall": waterfall_data(waterfall, runs)}


def timeline_section(runs: Sequence[RunSummary]) -> str:
    """All that is known over time, on one axis, in words, and as tables."""
    names = build_keys([run.label for run in runs])
    phases = [
        (f"{start_s:.6g},{end_s:.6g}", f"{name}, {start_s:.6g}–{end_s:.6g} s")
        for name, start_s, end_s in runs[0].timeline.phases
    ]
    spans = [("", "the whole run"), *(phases if len(phases) <= 40 else [])]
    clock = headline_clock_of(runs[0])
    body = (
        '<p class="note">All panels share one axis of time, and zoom together: with the buttons'
        '<span class="mouse">, or by a drag over any panel (a double click resets)</span>. '
        f"Latencies count from {clock}, at the time a request was {clock}.</p>"
        f'<div class="choices">{select("time-span", "Show", spans)}{_buttons(_ZOOM)}</div>'
        + legend([*names, ("area", "scheduled"), ("dashed", "p90"), ("dotted", "p50")])
        + _heat_legend(runs)
        + chart("timeline", _spoken(runs))
        + "".join(f'<p class="note course">{text(course_words(run))}</p>' for run in runs)
        + f"<details><summary>As figures</summary>{''.join(map(_figures, runs))}</details>"
    )
    return section("Over time", body)


def waterfall_section(waterfall: Waterfall | None, runs: Sequence[RunSummary]) -> str:
    """Single requests of a window: the controls that choose it, the drawing, and the same as figures."""
    if waterfall is None or not waterfall.windows:
        return ""
    first, last = first_window(waterfall), len(waterfall.windows) - 1
    builds = zip(("baseline", "candidate"), runs, strict=False)
    keys = [(f"lane {colour}", run.label) for colour, run in builds] if len(runs) > 1 else []
    tone = "plain" if len(runs) > 1 else "baseline"
    clock = headline_clock_of(runs[0])
    keys += [
        *([("lane late", "due to sent")] if clock == "due" else []),
        (f"lane waiting {tone}", "sent to first byte"),
        (f"lane starting {tone}", "first byte to first token"),
        (f"lane answering {tone}", "to end"),
        ("cross", "failed"),
    ]
    body = (
        f'<p class="note">{choice_words(waterfall)} A line in a lane is a read, or several that '
        f"lie close; of a request with more than {MOST_READS} reads so many are kept. Choose a window "
        "here, or click into a panel above, where a frame marks it.</p>"
        '<div class="choices"><label class="choice wide"><span>Window</span> '
        f'<input type="range" id="waterfall-window" min="0" max="{last}" value="{first}"></label>'
        f"{_buttons(_STEPS)}"
        f"{select('waterfall-order', 'Place', [('clock', 'by the clock'), ('due', f'from {clock}')])}</div>"
        '<p class="note" id="waterfall-words" aria-live="polite"></p>'
        + legend(keys)
        + chart("waterfall", "Single requests, a lane each; the table below holds the same as figures")
        + f"<details><summary>As figures</summary>{_request_table(clock)}</details>"
    )
    return section("Single requests", body)


def course_words(run: RunSummary) -> str:
    """Where a run's lines have their peaks, in one sentence."""
    line = run.timeline
    found = [
        _peak("sent", line.sent_per_s, line.width_s, lambda value: f"{format_number(value)}/s"),
        _peak("in flight", line.in_flight, line.width_s, format_number),
    ]
    for metric in ("e2e", "ttft"):
        values = getattr(line, f"{metric}_p99_ns")
        found.append(_peak(f"{metric_name(metric)} p99", values, line.width_s, format_ns))
    if any(line.errors_per_s):
        found.append(_peak("errors", line.errors_per_s, line.width_s, lambda value: f"{value:.3g}/s"))
    told = [one for one in found if one]
    return f"{run.label}, highest in any {line.width_s:g} s: {'; '.join(told) or 'nothing'}."


_ZOOM: Final = (
    ("time-in", "+", "Zoom in"),
    ("time-out", "−", "Zoom out"),
    ("time-left", "←", "Earlier"),
    ("time-right", "→", "Later"),
)
_STEPS: Final = (("waterfall-before", "←", "Window before"), ("waterfall-next", "→", "Next window"))


def _buttons(buttons: Sequence[tuple[str, str, str]]) -> str:
    made = "".join(
        f'<button type="button" id="{name}" aria-label="{label}" title="{label}">{sign}</button>'
        for name, sign, label in buttons
    )
    return f'<span class="buttons">{made}</span>'


def _heat_legend(runs: Sequence[RunSummary]) -> str:
    keys = count_keys(largest_count(runs))
    return legend([*keys, ("frame-mark", "the window of the single requests")]) if keys else ""


def _spoken(runs: Sequence[RunSummary]) -> str:
    return " ".join(
        [
            "Rate, latency percentiles and counts, requests in flight, errors and server metrics over time.",
            *map(course_words, runs),
            "The tables below hold the same as figures.",
        ]
    )


def _peak(name: str, values: Sequence[float], width_s: float, form: Callable[[float], str]) -> str:
    """A series' largest value and when it was, "" where it has none."""
    known = [(value, index) for index, value in enumerate(values) if math.isfinite(value)]
    if not known:
        return ""
    value, index = max(known, key=lambda one: (one[0], -one[1]))
    return f"{name} {form(value)} at {index * width_s:g}\u00a0s"


def _figures(run: RunSummary) -> str:
    line = run.timeline
    metrics = [metric for metric in ("ttft", "e2e") if metric == "e2e" or _has(run, metric)]
    headings = [f"{metric_name(metric)} {name}" for metric in metrics for name in _QUANTILES]
    latencies = [getattr(line, f"{metric}_{name}_ns") for metric in metrics for name in _QUANTILES]
    rows = [
        [
            f"{index * line.width_s:g} s",
            format_number(line.scheduled_per_s[index]),
            format_number(line.sent_per_s[index]),
            *(format_ns(values[index]) for values in latencies),
            format_number(line.in_flight[index]),
            format_number(line.errors_per_s[index]),
        ]
        for index in range(len(line.sent_per_s))
    ]
    caption = f"{text(run.label)}, in steps of {line.width_s:g} s"
    all_headings = ["From", "Scheduled/s", "Sent/s", *headings, "In flight", "Errors/s"]
    counts = "".join(_heat_table(run.label, heat, headline_clock_of(run)) for heat in run.heat)
    return table(caption, all_headings, rows, "figures") + counts


def _has(run: RunSummary, metric: str) -> bool:
    return any(heat.metric == metric for heat in run.heat)


def _heat_table(label: str, heat: HeatMap, clock: str) -> str:
    """A heat map's counts in bands and spans wide enough to read, the slowest first."""
    bands_ns, spans_s, counts = summed(heat, _SPANS)
    headings = [
        "",
        *(f"{a:g}–{b:g} s" for a, b in itertools.pairwise(spans_s)),
    ]
    rows = [
        [f"{format_ns(low)} – {format_ns(high)}", *(format_count(int(count)) for count in row)]
        for low, high, row in zip(bands_ns, bands_ns[1:], counts, strict=False)
    ]
    caption = f"{label}: requests by {METRIC_MEANINGS[heat.metric]} (from {clock}) and {clock} instant"
    return table(text(caption), headings, rows[::-1], "figures")


def _request_table(clock: str) -> str:
    """The head of the table that the page's script fills with the requests of the window."""
    headings = ["", *(heading.capitalize() for heading in TIMELINE_HEADINGS)]
    filled = frame(f"Each instant after its {clock} one", headings, "<tbody></tbody>", "figures")
    return f'<div id="waterfall-figures">{filled}</div>'
