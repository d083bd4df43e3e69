"""Charts as plain data for plotly.js: the timeline and the effects; see `distribution_charts` for the others.

Colours are CSS variables ("var(--baseline)") that the page resolves, so that a chart follows the reader's
theme. Text from users is escaped, since plotly.js reads a little HTML in its texts. Nothing is computed
here but the place of a point.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from replay.analysis.values import DiffResult, Effect, RunSummary, Timeline, Verdict
from replay.report.figures import (
    format_change_ns,
    format_change_ratio,
    format_ns,
    relative,
)
from replay.report.plot_parts import rounded as _rounded
from replay.report.plot_parts import unit_of as _unit
from replay.report.server_charts import BUILD_COLOURS, panel_traces, server_panels
from replay.report.telling import by_group
from replay.report.wording import effect_name, group_name, verdict_text

Figure = dict[str, Any]

_PANEL_PX = 150
_GAP_PX = 46
_MARGIN: Figure = {"l": 44, "r": 8, "t": 34, "b": 40}
_STEPPED = ("sent", "errors/s")  # counts per bucket, not samples
_MARKERS = {
    Verdict.REGRESSION: ("var(--regression)", "diamond"),
    Verdict.IMPROVED: ("var(--improved)", "square"),
    Verdict.EQUIVALENT: ("var(--quiet)", "circle"),
    Verdict.INCONCLUSIVE: ("var(--quiet)", "circle-open"),
}


def timeline_chart(runs: Sequence[RunSummary]) -> Figure:
    """Rate, E2E, TTFT, in flight, errors and server metrics over one shared time axis, for one run or two."""
    e2e_unit = _unit([run.timeline.e2e_p99_ns for run in runs])
    ttft_unit = _unit([run.timeline.ttft_p99_ns for run in runs])
    server = server_panels(runs)
    titles = (
        "Requests per second",
        f"End to end, {e2e_unit[0]}: p99 solid, p50 dotted",
        f"Time to first token, {ttft_unit[0]}: p99 solid, p50 dotted",
        "Requests in flight",
        "Errors per second",
        *(panel.title for panel in server),
    )
    traces = [_scheduled_trace(runs[0].timeline)]
    for index, run in enumerate(runs):
        traces += _run_traces(run, index, e2e_unit[1], ttft_unit[1])
    traces += [
        trace for place, panel in enumerate(server, start=6) for trace in panel_traces(panel, place, runs)
    ]
    span_s = max(run.timeline.width_s * len(run.timeline.sent_per_s) for run in runs)
    layout = _timeline_layout(titles, span_s)
    _shade_phases(layout, runs[0].timeline)
    return {"data": traces, "layout": layout}


def effect_charts(diff: DiffResult) -> dict[str, Figure]:
    """Per group (keyed "0", "1", … in reading order) its effects with CIs against the tolerance."""
    return {
        str(index): _effect_chart(members, group_name(group))
        for index, (group, members) in enumerate(by_group(diff.effects))
    }


def _timeline_layout(titles: Sequence[str], span_s: float) -> Figure:
    inner = len(titles) * (_PANEL_PX + _GAP_PX) - _GAP_PX
    layout: Figure = {
        "height": inner + _MARGIN["t"] + _MARGIN["b"],
        "margin": _MARGIN,
        "hovermode": "x unified",
        "showlegend": False,
        "annotations": [],
    }
    for panel, title in enumerate(titles):
        top = 1 - panel * (_PANEL_PX + _GAP_PX) / inner
        layout[f"yaxis{panel + 1}"] = {
            "domain": [max(0.0, top - _PANEL_PX / inner), top],
            "rangemode": "tozero",
            "anchor": "x",
            "nticks": 5,
            "zeroline": False,
            "fixedrange": True,  # a drag zooms the time, of all panels
        }
        layout["annotations"].append(_panel_title(title, top))
    layout["xaxis"] = {
        "title": {"text": "seconds since the start of the replay", "standoff": 8},
        "anchor": f"y{len(titles)}",
        "range": [0, span_s],
        "showspikes": True,
        "spikemode": "across",
        "spikethickness": 1,
        "spikedash": "dot",
        "spikecolor": "var(--quiet)",
        "zeroline": False,
    }
    return layout


def _run_traces(run: RunSummary, index: int, e2e_factor: float, ttft_factor: float) -> list[Figure]:
    line = run.timeline
    panels = (
        (1, "sent", line.sent_per_s, 1.0, "solid"),
        (2, "E2E p50", line.e2e_p50_ns, e2e_factor, "dot"),
        (2, "E2E p99", line.e2e_p99_ns, e2e_factor, "solid"),
        (3, "TTFT p50", line.ttft_p50_ns, ttft_factor, "dot"),
        (3, "TTFT p99", line.ttft_p99_ns, ttft_factor, "solid"),
        (4, "in flight", line.in_flight, 1.0, "solid"),
        (5, "errors/s", line.errors_per_s, 1.0, "solid"),
    )
    return [
        {
            "type": "scatter",
            **_points_over_time(line, values, factor, stepped=what in _STEPPED),
            "yaxis": f"y{panel}",
            "name": f"{html.escape(run.label)} {what}",
            "line": {
                "color": BUILD_COLOURS[index],
                "width": 2 if dash == "solid" else 1.5,
                "dash": dash,
                "shape": "hv" if what in _STEPPED else "linear",
            },
        }
        for panel, what, values, factor, dash in panels
    ]


def _scheduled_trace(line: Timeline) -> Figure:
    return {
        "type": "scatter",
        **_points_over_time(line, line.scheduled_per_s, 1.0, stepped=True),
        "yaxis": "y1",
        "name": "scheduled",
        "line": {"color": "var(--quiet)", "width": 0, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": "var(--scheduled-fill)",
    }


def _panel_title(title: str, top: float) -> Figure:
    return {
        "text": title,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": top,
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 4,
        "showarrow": False,
        "font": {"size": 12.5, "color": "var(--text)"},
    }


def _shade_phases(layout: Figure, line: Timeline) -> None:
    layout["shapes"] = []
    for name, start_s, end_s in line.phases:
        fill = "var(--phase-fill)" if name.endswith("recover") else "var(--spike-fill)"
        layout["shapes"].append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": start_s,
                "x1": end_s,
                "y0": 0,
                "y1": 1,
                "fillcolor": fill,
                "line": {"width": 0},
                "layer": "below",
            }
        )
        layout["annotations"].append(
            {
                "text": html.escape(name),
                "xref": "x",
                "yref": "paper",
                "x": (start_s + end_s) / 2,
                "y": 1,
                "yanchor": "top",
                "yshift": -2,
                "showarrow": False,
                "font": {"size": 11, "color": "var(--muted)"},
            }
        )


def _effect_chart(members: tuple[Effect, ...], name: str) -> Figure:
    shown = [effect for effect in members if math.isfinite(relative(effect.effect_ns, effect.baseline_ns))]
    names = [effect_name(effect) for effect in shown]
    tolerance = [100 * relative(effect.tolerance_ns, effect.baseline_ns) for effect in shown]
    floor = [100 * relative(effect.noise_floor_ns, effect.baseline_ns) for effect in shown]
    bands = [
        _band("tolerance", names, tolerance, "var(--tolerance-fill)"),
        _band("noise floor", names, floor, "var(--noise-fill)"),
    ]
    layout = {
        "height": 72 + 24 * len(shown),
        "barmode": "overlay",
        "bargap": 0,
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 96, "r": 12, "t": 28, "b": 44},
        "yaxis": {"type": "category", "range": [len(shown) - 0.5, -0.5], "showgrid": False, "ticklen": 0},
        "xaxis": {
            "title": {"text": "change against the baseline", "standoff": 8},
            "zeroline": True,
            "zerolinecolor": "var(--muted)",
            "ticksuffix": " %",
        },
        "meta": html.escape(name),
    }
    points = [_points(shown, names, verdict) for verdict in Verdict]
    return {"data": [*bands, *(trace for trace in points if trace["y"])], "layout": layout}


def _band(name: str, rows: list[str], half: list[float], colour: str) -> Figure:
    return {
        "type": "bar",
        "orientation": "h",
        "y": rows,
        "base": [_rounded(-value) for value in half],
        "x": [_rounded(2 * value) for value in half],
        "width": 1,
        "marker": {"color": colour, "line": {"width": 0}},
        "hoverinfo": "skip",
        "name": name,
    }


def _points(shown: list[Effect], names: list[str], verdict: Verdict) -> Figure:
    chosen = [(name, e) for name, e in zip(names, shown, strict=True) if e.verdict is verdict]
    colour, symbol = _MARKERS[verdict]
    size = [100 * relative(e.effect_ns, e.baseline_ns) for _, e in chosen]
    return {
        "type": "scatter",
        "mode": "markers",
        "y": [name for name, _ in chosen],
        "x": [_rounded(value) for value in size],
        "marker": {"color": colour, "symbol": symbol, "size": 9},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [_rounded(100 * relative(e.high_ns - e.effect_ns, e.baseline_ns)) for _, e in chosen],
            "arrayminus": [
                _rounded(100 * relative(e.effect_ns - e.low_ns, e.baseline_ns)) for _, e in chosen
            ],
            "color": colour,
            "thickness": 1.6,
            "width": 0,
        },
        "text": [_hover(e) for _, e in chosen],
        "hovertemplate": "%{text}<extra></extra>",
        "name": verdict.value,
    }


def _hover(effect: Effect) -> str:
    change = format_change_ratio(relative(effect.effect_ns, effect.baseline_ns))
    return (
        f"{effect_name(effect)}: {change} ({format_change_ns(effect.effect_ns)})<br>"
        f"95 % CI {format_change_ns(effect.low_ns)} … {format_change_ns(effect.high_ns)}<br>"
        f"smallest change it could see {format_ns(effect.minimum_detectable_ns)}<br>{verdict_text(effect)}"
    )


def _points_over_time(line: Timeline, values: Sequence[float], factor: float, *, stepped: bool) -> Figure:
    """Each value in the middle of its bucket; a stepped one over its whole width.

    A value between two missing ones is on no line, so it gets a dot.
    """
    shown = [_rounded(value / factor) for value in values]
    if stepped:
        edges = [round(i * line.width_s, 6) for i in range(len(shown) + 1)]
        return {"mode": "lines", "x": edges, "y": [*shown, *shown[-1:]]}
    padded = [None, *shown, None]
    alone = [5 * (padded[i] is None and padded[i + 2] is None) for i in range(len(shown))]
    middles = [round((i + 0.5) * line.width_s, 6) for i in range(len(shown))]
    dots = {"mode": "lines+markers", "marker": {"size": alone, "line": {"width": 0}}} if any(alone) else {}
    return {"mode": "lines", "x": middles, "y": shown, **dots}
