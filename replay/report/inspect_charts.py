"""The charts of an inspection as plain data for plotly.js; see `charts` for those of runs.

Colours are CSS variables that the page resolves, so that a chart follows the reader's theme. Text from users
is escaped, since plotly.js reads a little HTML in its texts. Nothing is computed here but the place of a
point.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from replay.report.plot_parts import Figure, log_ticks
from replay.report.plot_parts import rounded as _rounded
from replay.transform.arrival_facts import ArrivalFacts, Distribution
from replay.transform.burst_target import TOLERANCE, BurstTarget
from replay.transform.content_facts import LENGTHS, MOST_TURNS, SessionFacts
from replay.transform.inspection import Facts

_COLOURS = ("var(--baseline)", "var(--candidate)")
_LEAST_LEVEL = 0.001


def inspection_charts(both: Sequence[Facts], names: Sequence[str], target: BurstTarget | None) -> Figure:
    """The charts by name: rate, bursts, gaps, lengths (by column), turns, think; none without data."""
    arrivals = [facts.arrivals for facts in both]
    contents = [(facts.content, name) for facts, name in zip(both, names, strict=True)]
    lengths = {
        column: _shares(
            [(c.lengths[column], n) for c, n in contents if c is not None and column in c.lengths], what
        )
        for column, what in LENGTHS.items()
    }
    sessions = [(c.sessions, n) for c, n in contents if c is not None]
    think = [(s.think_s, n) for s, n in sessions if s.think_s is not None]
    found = {
        "rate": _rate(arrivals, names),
        "bursts": _bursts(arrivals, names, target),
        "gaps": _gaps(arrivals, names),
        "lengths": {column: chart for column, chart in lengths.items() if chart},
        "turns": _turns(sessions),
        "think": _shares(think, "think time, s"),
    }
    return {name: chart for name, chart in found.items() if chart}


def _rate(arrivals: Sequence[ArrivalFacts], names: Sequence[str]) -> Figure:
    data = []
    for i, (one, name) in enumerate(zip(arrivals, names, strict=True)):
        edges = [*one.rate.start_s.tolist(), float(one.rate.start_s[-1]) + one.rate.width_s]
        per_s = one.rate.per_s.tolist()
        line = _line(name, edges, [*per_s, per_s[-1]], _COLOURS[i])
        line["line"]["shape"] = "hv"
        data.append(line | ({"fill": "tozeroy", "fillcolor": "var(--scheduled-fill)"} if i == 0 else {}))
    layout = _layout("seconds since the first request", "requests per second")
    layout["xaxis"] |= {"rangemode": "tozero"}
    layout["yaxis"] |= {"rangemode": "tozero"}
    return {"data": data, "layout": layout}


def _bursts(arrivals: Sequence[ArrivalFacts], names: Sequence[str], target: BurstTarget | None) -> Figure:
    if not any(one.bursts for one in arrivals):
        return {}
    data = []
    if target is not None and target.points:
        windows = [point.window_s for point in target.points]
        wanted = [point.target for point in target.points]
        low, high = ([value * (1 + sign * TOLERANCE) for value in wanted] for sign in (-1, 1))
        band = _line("within 10 %", [*windows, *windows[::-1]], [*high, *low[::-1]], "var(--quiet)")
        band["line"]["width"] = 0
        data.append(band | {"fill": "toself", "fillcolor": "var(--tolerance-fill)", "hoverinfo": "skip"})
        data.append(_line("target", windows, wanted, "var(--muted)", "dot"))
    else:
        windows = [point.window_s for point in max((one.bursts for one in arrivals), key=len)]
        data.append(_line("chance alone", windows, [1.0] * len(windows), "var(--muted)", "dot"))
    for i, (one, name) in enumerate(zip(arrivals, names, strict=True)):
        line = _line(name, [p.window_s for p in one.bursts], [p.dispersion for p in one.bursts], _COLOURS[i])
        data.append(line | {"mode": "lines+markers", "marker": {"size": 6}})
    layout = _layout("window, s", "index of dispersion")
    layout["xaxis"] |= _log_axis(data, "x")
    layout["yaxis"] |= _log_axis(data, "y")
    return {"data": data, "layout": layout}


def _gaps(arrivals: Sequence[ArrivalFacts], names: Sequence[str]) -> Figure:
    known = [(one.gaps_s, name) for one, name in zip(arrivals, names, strict=True) if one.gaps_s is not None]
    chart = _shares(known, "gap to the request before, s")
    if not chart:
        return {}
    levels = np.linspace(_LEAST_LEVEL, 0.999, 120)
    for (gaps, name), place in zip(known, range(len(known)), strict=True):
        if gaps.mean > 0:
            independent = (-gaps.mean * np.log1p(-levels)).tolist()
            line = _line(
                f"{name}, were its requests independent",
                independent,
                (100 * levels).tolist(),
                _COLOURS[place],
                "dot",
            )
            line["line"]["width"] = 1.5
            chart["data"].append(line)
    chart["layout"]["xaxis"] |= _log_axis(chart["data"], "x")
    return chart


def _shares(found: Sequence[tuple[Distribution, str]], what: str) -> Figure:
    """The share of values at or below each, over a logarithmic axis; values of 0 stand at its left end."""
    data = []
    for i, (one, name) in enumerate(found):
        inside = (one.levels >= _LEAST_LEVEL) & (one.values > 0)
        if inside.any():
            data.append(
                _line(name, one.values[inside].tolist(), (100 * one.levels[inside]).tolist(), _COLOURS[i])
            )
    if not data:
        return {}
    layout = _layout(what, "share at or below")
    layout["xaxis"] |= _log_axis(data, "x")
    layout["yaxis"] |= {"range": [0, 101], "ticksuffix": " %"}
    return {"data": data, "layout": layout}


def _turns(found: Sequence[tuple[SessionFacts, str]]) -> Figure:
    if not any(one.several_turns for one, _ in found):
        return {}
    turns = sorted({turn for one, _ in found for turn in one.by_turns})
    data = [
        {
            "type": "bar",
            "name": html.escape(name),
            "x": [f"{turn}+" if turn == MOST_TURNS else str(turn) for turn in turns],
            "y": [_rounded(100 * one.by_turns.get(turn, 0) / one.sessions) for turn in turns],
            "marker": {"color": _COLOURS[i]},
        }
        for i, (one, name) in enumerate(found)
    ]
    layout = _layout("turns of a session", "share of sessions")
    layout["xaxis"] |= {"type": "category", "showgrid": False}
    layout["yaxis"] |= {"ticksuffix": " %", "rangemode": "tozero"}
    return {"data": data, "layout": layout | {"bargap": 0.35, "height": 300}}


def _line(name: str, x: Sequence[float], y: Sequence[float], colour: str, dash: str = "solid") -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": html.escape(name),
        "x": [_rounded(value) for value in x],
        "y": [_rounded(value) for value in y],
        "line": {"color": colour, "width": 2, "dash": dash},
    }


def _layout(x: str, y: str) -> Figure:
    return {
        "height": 360,
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 60, "r": 12, "t": 16, "b": 48},
        "xaxis": {"title": {"text": x, "standoff": 8}, "zeroline": False, "automargin": True},
        "yaxis": {"title": {"text": y, "standoff": 8}, "zeroline": False, "automargin": True},
    }


def _log_axis(lines: Sequence[Figure], axis: str) -> Figure:
    """A logarithmic axis for what of the lines is above 0."""
    ticks = log_ticks(value for line in lines for value in line[axis])
    return {"type": "log", **ticks} if ticks else {}
