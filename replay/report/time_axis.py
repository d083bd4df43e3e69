"""The timeline as plain data for plotly.js: panels one below the other over one axis of time.

Rate, latency percentiles and counts, requests in flight, errors, and what the server says of itself. Colours
are CSS variables, and nothing is computed but the place of a point; see `charts`.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterator, Sequence
from typing import Final

from replay.analysis.values import RunSummary, Timeline
from replay.report.figures import duration_unit
from replay.report.heat_panels import heat_axis, heat_trace, largest_count
from replay.report.plot_parts import Figure, area, panel_title, stacked, words
from replay.report.plot_parts import rounded as _rounded
from replay.report.server_charts import BUILD_COLOURS, HOVER_FORMAT, panel_traces, server_panels
from replay.report.wording import METRIC_MEANINGS, metric_name

WINDOW: Final = "window"
"""The name of the shape that marks which single requests are shown."""

_PANEL_PX, _HEAT_PX = 150, 170
_GAP_PX = 46
_MARGIN: Final[Figure] = {"l": 44, "r": 8, "t": 68, "b": 40}
_STEPPED: Final = ("sent", "errors/s")  # counts per bucket, not samples
_QUANTILES: Final = (("p50", "dot"), ("p90", "dash"), ("p99", "solid"))


@dataclasses.dataclass(frozen=True)
class _Panel:
    """One strip of the figure: its lines, and what its axis of values needs beside the common settings."""

    title: str
    traces: list[Figure]
    axis: Figure = dataclasses.field(default_factory=dict)
    height_px: int = _PANEL_PX


def timeline_chart(runs: Sequence[RunSummary]) -> Figure:
    """All panels of one run or two; those of a metric that neither has are left out."""
    panels = [_rate_panel(runs)]
    for metric in ("e2e", "ttft"):
        if metric == "e2e" or any(heat.metric == metric for run in runs for heat in run.heat):
            panels += [_latency_panel(runs, metric), *_heat_panels(runs, metric)]
    panels.append(_lines_panel(runs, "Requests in flight", "in flight", "in_flight"))
    panels.append(_lines_panel(runs, "Errors per second", "errors/s", "errors_per_s"))
    span_s = max(run.timeline.width_s * len(run.timeline.sent_per_s) for run in runs)
    panels += [
        _Panel(panel.title, panel_traces(panel, runs, span_s), {"rangemode": "tozero"})
        for panel in server_panels(runs)
    ]
    layout = _layout(panels, span_s)
    _shade_phases(layout, runs[0].timeline)
    traces = [trace | {"yaxis": f"y{at}"} for at, panel in enumerate(panels, 1) for trace in panel.traces]
    # An axis is drawn only where it has a trace: this one carries the scale above the first panel.
    traces.append(
        {"type": "scatter", "name": "scale", "x": [0], "y": [None], "xaxis": "x2", "hoverinfo": "skip"}
    )
    return {"data": traces, "layout": layout}


def _rate_panel(runs: Sequence[RunSummary]) -> _Panel:
    traces = [_scheduled_trace(runs[0].timeline)]
    traces += [_line(run, index, "sent", run.timeline.sent_per_s) for index, run in enumerate(runs)]
    return _Panel("Requests per second", traces, {"rangemode": "tozero"})


def _latency_panel(runs: Sequence[RunSummary], metric: str) -> _Panel:
    unit, factor = _unit_of(runs, metric)
    name = METRIC_MEANINGS[metric].capitalize()
    traces = [
        _line(
            run,
            index,
            f"{metric_name(metric)} {quantile}",
            _percentile(run.timeline, metric, quantile),
            factor,
            dash,
        )
        for index, run in enumerate(runs)
        for quantile, dash in _QUANTILES
    ]
    return _Panel(f"{name}, {unit}: p50, p90, p99", traces, {"rangemode": "tozero"})


def _heat_panels(runs: Sequence[RunSummary], metric: str) -> Iterator[_Panel]:
    """One panel a run, all with one range of latencies and one scale of colours."""
    found = [(run, heat) for run in runs for heat in run.heat if heat.metric == metric]
    maps = [heat for _, heat in found]
    if not maps:
        return
    unit, factor = _unit_of(runs, metric)
    axis = heat_axis(maps, factor)
    for run, heat in found:
        whose = f", {html.escape(run.label)}" if len(runs) > 1 else ""
        trace = heat_trace(heat, run.label, (unit, factor), largest_count(runs))
        yield _Panel(f"{metric_name(metric)}, {unit}: requests by latency{whose}", [trace], axis, _HEAT_PX)


def _lines_panel(runs: Sequence[RunSummary], title: str, what: str, field: str) -> _Panel:
    traces = [_line(run, index, what, getattr(run.timeline, field)) for index, run in enumerate(runs)]
    return _Panel(title, traces, {"rangemode": "tozero"})


def _percentile(line: Timeline, metric: str, name: str) -> tuple[float, ...]:
    return tuple(getattr(line, f"{metric}_{name}_ns"))


def _layout(panels: Sequence[_Panel], span_s: float) -> Figure:
    layout, domains = stacked([panel.height_px for panel in panels], _GAP_PX, _MARGIN)
    layout["hovermode"] = "x unified"
    for number, (panel, (_, top)) in enumerate(zip(panels, domains, strict=True), 1):
        layout[f"yaxis{number}"] |= panel.axis
        layout["annotations"].append(panel_title(panel.title, top, 36 if number == 1 else 4))
    layout["xaxis"] = {
        "title": {"text": "seconds since the start of the replay", "standoff": 8},
        "anchor": f"y{len(panels)}",
        "range": [0, span_s],
        "showspikes": True,
        "spikemode": "across",
        "spikethickness": 1,
        "spikedash": "dot",
        "spikecolor": "var(--quiet)",
        "zeroline": False,
    }
    layout["xaxis2"] = {"matches": "x", "side": "top", "anchor": "y1", "overlaying": "x"}
    layout["xaxis2"] |= {"showgrid": False, "zeroline": False, "range": [0, span_s]}
    return layout


def _line(
    run: RunSummary,
    index: int,
    what: str,
    values: Sequence[float],
    factor: float = 1.0,
    dash: str = "solid",
) -> Figure:
    return {
        "type": "scatter",
        **_points_over_time(run.timeline, values, factor, stepped=what in _STEPPED),
        "name": f"{html.escape(run.label)} {what}",
        "yhoverformat": HOVER_FORMAT,
        "line": {
            "color": BUILD_COLOURS[index],
            "width": 2 if dash == "solid" else 1.5,
            "dash": dash,
            "shape": "hv" if what in _STEPPED else "linear",
        },
    }


def _scheduled_trace(line: Timeline) -> Figure:
    return {
        "type": "scatter",
        **_points_over_time(line, line.scheduled_per_s, 1.0, stepped=True),
        "name": "scheduled",
        "yhoverformat": HOVER_FORMAT,
        "line": {"color": "var(--quiet)", "width": 0, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": "var(--scheduled-fill)",
    }


def _shade_phases(layout: Figure, line: Timeline) -> None:
    """Shades every phase but base and names it; the page leaves out the names that have no room."""
    for name, start_s, end_s in line.phases:
        fill = "var(--phase-fill)" if name.endswith("recover") else "var(--spike-fill)"
        layout["shapes"].append(area(start_s, end_s, fill))
        # Above the scale, where no line crosses it.
        place: Figure = {"name": "phase", "yanchor": "bottom", "yshift": 17}
        layout["annotations"].append(words(html.escape(name), (start_s + end_s) / 2, 1, **place))


def mark_window(chart: Figure, start_s: float, end_s: float) -> None:
    """Marks in a timeline which stretch the single requests are of; the page moves the mark."""
    line = {"color": "var(--text)", "width": 1}
    mark = area(start_s, end_s, "rgba(0,0,0,0)") | {"name": WINDOW, "line": line, "layer": "above"}
    chart["layout"]["shapes"].append(mark)


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


def _unit_of(runs: Sequence[RunSummary], metric: str) -> tuple[str, float]:
    """The unit of all panels of a metric, as (name, ns per unit): the one that suits its p99."""
    values = [value for run in runs for value in _percentile(run.timeline, metric, "p99")]
    return duration_unit(max((value for value in values if math.isfinite(value)), default=0))
