"""The charts of a history: one panel a figure over the runs of a schedule, level by level.

Plain data for plotly.js as in `charts`. A run's place is its turn: builds are compared, not days.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from replay.analysis.run_history import BaselineChoice, Point, Series
from replay.report.figures import format_change_ratio
from replay.report.history_wording import day, is_better, metric_words, value_text
from replay.report.plot_parts import Figure, area, panel_title, rounded, stacked, unit_of, upright, words

_PANEL_PX = 130
_GAP_PX = 44
_MARGIN: Figure = {"l": 44, "r": 12, "t": 34, "b": 64}
_MOST_NAMED = 8
_LABEL_LETTERS = 14
_LEAST_SPAN = 0.1
"""A panel spans this part of its middle to either side at least: noise is not made to look large."""


def history_chart(
    members: Sequence[Series], runs: Sequence[Point], asked: str | None, baseline: BaselineChoice | None
) -> Figure:
    """The figures of one group and schedule, a panel each, over `runs` (oldest first, INVALID ones too).

    Level lines change at change points; the run that was `asked` for and its `baseline` are marked.
    """
    place = {(run.run, run.started_ns): at for at, run in enumerate(runs)}
    layout, domains = stacked([_PANEL_PX] * len(members), _GAP_PX, _MARGIN)
    layout |= {"hovermode": "closest", "xaxis": _run_axis(runs, len(members))}
    data: list[Figure] = []
    for panel, (one, (bottom, top)) in enumerate(zip(members, domains, strict=True), 1):
        name, factor = unit_of([[p.value for p in one.points]]) if one.unit == "ns" else _plain_unit(one)
        layout[f"yaxis{panel}"]["range"] = _range(one, factor)
        title = metric_words(one) + (f", {name}" if name else "")
        layout["annotations"].append(panel_title(html.escape(title), top))
        data += _panel(one, place, factor, f"y{panel}")
        _mark_changes(layout, one, place, top, bottom)
    _mark_baseline(layout, runs, asked, baseline)
    return {"data": data, "layout": layout}


def _panel(one: Series, place: dict[tuple[str, int], int], factor: float, axis: str) -> list[Figure]:
    x, beside = ([place[p.run, p.started_ns] for p in points] for points in (one.points, one.left_out))
    return [
        *_levels(one, x, factor, axis),
        {
            **_marks(one, one.points, x, factor, axis),
            "mode": "lines+markers",
            "name": "valid runs",
            "line": {"color": "var(--baseline)", "width": 1},
            "marker": {"color": "var(--baseline)", "size": 7},
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [rounded(_part(p.high - p.value) / factor) for p in one.points],
                "arrayminus": [rounded(_part(p.value - p.low) / factor) for p in one.points],
                "color": "var(--baseline)",
                "thickness": 1,
                "width": 0,
            },
        },
        {
            **_marks(one, one.left_out, beside, factor, axis),
            "mode": "markers",
            "name": "INVALID or partial",
            "marker": {"color": "var(--regression)", "symbol": "x-thin", "size": 9, "line": _CROSS},
        },
    ]


_CROSS: Figure = {"width": 2, "color": "var(--regression)"}


def _marks(one: Series, points: Sequence[Point], x: Sequence[int], factor: float, axis: str) -> Figure:
    """Where points stand: what lies outside the panel, or has no value, at its edge."""
    low, high = _range(one, factor)
    y = [min(max(p.value / factor, low), high) if math.isfinite(p.value) else low for p in points]
    return {
        "type": "scatter",
        "x": list(x),
        "y": [rounded(value) for value in y],
        "yaxis": axis,
        "text": [_said(one, point) for point in points],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _said(one: Series, point: Point) -> str:
    lines = [
        f"{html.escape(metric_words(one))}: {value_text(point.value, one)}",
        f"{html.escape(point.run)}, build {html.escape(point.label)}",
        day(point.started_ns),
    ]
    if math.isfinite(point.low):
        lines.insert(1, f"95 % CI {value_text(point.low, one)} … {value_text(point.high, one)}")
    if point.left_out:
        lines.append(f"{point.left_out}: in no level, and no baseline")
    return "<br>".join(lines)


def _levels(one: Series, x: Sequence[int], factor: float, axis: str) -> list[Figure]:
    """The median of each stretch between two change points, from its first run to its last."""
    if not one.changes:
        return []
    starts = [0, *(change.at for change in one.changes), len(x)]
    medians = [one.changes[0].before, *(change.after for change in one.changes)]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x[begin] - 0.4, x[end - 1] + 0.4],
            "y": [rounded(median / factor)] * 2,
            "yaxis": axis,
            "name": "level",
            "hoverinfo": "skip",
            "line": {"color": "var(--quiet)", "width": 4},
            "opacity": 0.5,
        }
        for begin, end, median in zip(starts[:-1], starts[1:], medians, strict=True)
    ]


def _mark_changes(
    layout: Figure, one: Series, place: dict[tuple[str, int], int], top: float, bottom: float
) -> None:
    for change in one.changes:
        point = one.points[change.at]
        at = place[point.run, point.started_ns] - 0.5
        colour = "var(--improved)" if is_better(one, change) else "var(--regression)"
        layout["shapes"].append(upright(at, colour, (bottom, top)))
        place_of: Figure = {"xanchor": "left", "yanchor": "top", "xshift": 3, "bgcolor": "var(--ground)"}
        layout["annotations"].append(words(format_change_ratio(change.change), at, top, colour, **place_of))


def _mark_baseline(
    layout: Figure, runs: Sequence[Point], asked: str | None, baseline: BaselineChoice | None
) -> None:
    marked = [(asked, "compared", "var(--candidate-fill)")] if asked else []
    if baseline is not None:
        marked.append((baseline.run, "baseline", "var(--baseline-fill)"))
    for row, (name, word, fill) in enumerate(marked):
        at = max((at for at, run in enumerate(runs) if run.run == name), default=None)
        if at is None:
            continue
        layout["shapes"].append(area(at - 0.5, at + 0.5, fill))
        side = "right" if at > len(runs) / 2 else "left"
        layout["annotations"].append(words(word, at, 0, xanchor=side, yanchor="bottom", yshift=13 * row))


def _run_axis(runs: Sequence[Point], panels: int) -> Figure:
    """Some of the builds' names along the bottom, the latest always."""
    step = max(1, math.ceil(len(runs) / _MOST_NAMED))
    named = list(range(len(runs) - 1, -1, -step))[::-1]
    return {
        "title": {"text": "builds, oldest first", "standoff": 8},
        "anchor": f"y{panels}",
        "range": [-0.7, len(runs) - 0.3],
        "tickvals": named,
        "ticktext": [html.escape(_short(runs[at].label)) for at in named],
        "zeroline": False,
    }


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_LETTERS else f"{label[: _LABEL_LETTERS - 1]}…"


def _range(one: Series, factor: float) -> list[float]:
    """Of the valid runs and their intervals; an interval that reaches far beyond them is cut."""
    values = sorted(point.value for point in one.points)
    middle, spread = values[len(values) // 2], values[-1] - values[0]
    reach = max(spread, _LEAST_SPAN * abs(middle)) or 1.0
    ends = [*values, *(p.low for p in one.points), *(p.high for p in one.points)]
    low = max(min(e for e in ends if math.isfinite(e)), values[0] - reach)
    high = min(max(e for e in ends if math.isfinite(e)), values[-1] + reach)
    if low == high == 0.0:
        return [-0.05, 1.0]
    low, high = min(low, middle - _LEAST_SPAN * abs(middle)), max(high, middle + _LEAST_SPAN * abs(middle))
    pad = 0.08 * (high - low) or 1.0
    least = -pad if values[0] >= 0 else -math.inf
    return [max(low - pad, least) / factor, (high + pad) / factor]


def _plain_unit(one: Series) -> tuple[str, float]:
    if one.metric == "error_rate":
        return "%", 0.01
    return ("per second", 1.0) if one.unit == "1/s" else ("", 1.0)


def _part(length: float) -> float:
    return max(length, 0.0) if math.isfinite(length) else math.nan
