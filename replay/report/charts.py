"""The effects' charts as plain data for plotly.js; see `time_axis` and `distribution_charts` for the others.

Colours are CSS variables ("var(--baseline)") that the page resolves, so that a chart follows the reader's
theme. Text from users is escaped, since plotly.js reads a little HTML in its texts. Nothing is computed
here but the place of a point.
"""

from __future__ import annotations

import html
import math

from replay.analysis.values import DiffResult, Effect, Verdict
from replay.report.figures import (
    format_change_ns,
    format_change_ratio,
    format_ns,
    relative,
)
from replay.report.plot_parts import Figure
from replay.report.plot_parts import rounded as _rounded
from replay.report.telling import by_group
from replay.report.wording import effect_name, group_name, verdict_text

_MARKERS = {
    Verdict.REGRESSION: ("var(--regression)", "diamond"),
    Verdict.IMPROVED: ("var(--improved)", "square"),
    Verdict.EQUIVALENT: ("var(--quiet)", "circle"),
    Verdict.INCONCLUSIVE: ("var(--quiet)", "circle-open"),
}


def effect_charts(diff: DiffResult) -> dict[str, Figure]:
    """Per group (keyed "0", "1", … in reading order) its effects with CIs against the tolerance."""
    return {
        str(index): _effect_chart(members, group_name(group))
        for index, (group, members) in enumerate(by_group(diff.effects))
    }


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
