"""The panels of the timeline that show the server's own metrics, a quantity each, as data for plotly.js."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Sequence
from typing import Any, Final

from replay.analysis.values import RunSummary, ServerSeries
from replay.report.server_wording import QUANTITY_NAMES, quantity_name

BUILD_COLOURS: Final = ("var(--baseline)", "var(--candidate)")
MOST_PANELS: Final = 14
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


def panel_traces(panel: Panel, place: int, runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """The lines of a panel on the axis y`place`: a colour per run, a dash per source."""
    sources = list(dict.fromkeys(series.source for _, series in panel.series))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [round(at_s, 3) for at_s in series.at_s],
            "y": [_rounded(value * panel.factor) for value in series.values],
            "yaxis": f"y{place}",
            "name": html.escape(f"{runs[index].label} {series.source} {quantity_name(series.quantity)}"),
            "line": {
                "color": BUILD_COLOURS[index],
                "width": 2 if series.source == sources[0] else 1.5,
                "dash": _DASHES[sources.index(series.source) % len(_DASHES)],
                "shape": "linear",
            },
        }
        for index, series in panel.series
    ]


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


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
