"""The panels of the timeline that show the server's own metrics, a quantity each, as data for plotly.js."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from replay.analysis.values import RunSummary, ServerSeries
from replay.report.plot_parts import rounded as _rounded
from replay.report.server_wording import QUANTITY_NAMES, quantity_name

BUILD_COLOURS: Final = ("var(--baseline)", "var(--candidate)")
HOVER_FORMAT: Final = ",.4~r"
"""Of a value under the pointer, as d3-format: four digits."""

MOST_PANELS: Final = 14
MOST_POINTS: Final = 1000
"""Of a line: more can't be told apart on a screen, and hours of samples would be most of the page."""
_DASHES: Final = ("solid", "dot", "dash", "dashdot")


@dataclasses.dataclass(frozen=True)
class Panel:
    """One quantity, and its series with the number of the run that each is of."""

    title: str
    factor: float
    series: tuple[tuple[int, ServerSeries], ...]


def server_panels(runs: Sequence[RunSummary]) -> tuple[Panel, ...]:
    """A panel per quantity that any of the runs has: the known ones first, then those asked for by name."""
    found: dict[str, list[tuple[int, ServerSeries]]] = {}
    for index, run in enumerate(runs):
        for series in run.server.series if run.server is not None else ():
            found.setdefault(series.quantity, []).append((index, series))
    known = list(QUANTITY_NAMES)
    order = sorted(found, key=lambda name: (known.index(name) if name in known else len(known), name))
    return tuple(_panel(name, found[name]) for name in order[:MOST_PANELS])


def panel_traces(panel: Panel, runs: Sequence[RunSummary], span_s: float) -> list[dict[str, Any]]:
    """The lines of a panel: a colour per run, a dash per source, over a timeline of `span_s`."""
    sources = list(dict.fromkeys(series.source for _, series in panel.series))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            **_points(series, panel.factor, span_s),
            "name": html.escape(f"{runs[index].label} {series.source} {quantity_name(series.quantity)}"),
            "yhoverformat": HOVER_FORMAT,
            "line": {
                "color": BUILD_COLOURS[index],
                "width": 2 if series.source == sources[0] else 1.5,
                "dash": _DASHES[sources.index(series.source) % len(_DASHES)],
                "shape": "linear",
            },
        }
        for index, series in panel.series
    ]


def extremes(at_s: Sequence[float], values: Sequence[float], span_s: float) -> list[int]:
    """The samples that a line over `span_s` needs, as indices in their order: at most some 1,000.

    Few are all kept. Of many, each of 500 stretches keeps its least and its largest value.
    """
    if len(at_s) <= MOST_POINTS:
        return list(range(len(at_s)))
    width_s = max(span_s, at_s[-1]) * 2 / MOST_POINTS
    stretch = (np.asarray(at_s) // width_s).astype(np.int64)
    order = np.lexsort((np.asarray(values), stretch))
    first = np.flatnonzero(np.diff(stretch[order], prepend=stretch.min() - 1))
    last = np.append(first[1:] - 1, len(order) - 1)
    return list(map(int, np.unique(np.concatenate([order[first], order[last]]))))


def _points(series: ServerSeries, factor: float, span_s: float) -> dict[str, list[float | None]]:
    shown = extremes(series.at_s, series.values, span_s)
    return {
        "x": [round(series.at_s[index], 3) for index in shown],
        "y": [_rounded(series.values[index] * factor) for index in shown],
    }


def _panel(quantity: str, series: list[tuple[int, ServerSeries]]) -> Panel:
    unit = series[0][1].unit
    sources = list(dict.fromkeys(one.source for _, one in series))
    units = {"share": ", %", "per_s": " per second"}
    who = (
        sources[0]
        if len(sources) == 1
        else ", ".join(f"{source} {_DASHES[index % len(_DASHES)]}" for index, source in enumerate(sources))
    )
    name = quantity_name(quantity)
    title = f"Server: {name}{units.get(unit, '')} ({who})"
    return Panel(html.escape(title), 100.0 if unit == "share" else 1.0, tuple(series))
