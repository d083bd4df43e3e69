"""Charts as plain data for plotly.js: the latency distributions, the effects. The timeline is in `time_axis`.

Colours are CSS variables ("var(--baseline)") that the page resolves, so that a chart follows the reader's
theme. Text from users is escaped, since plotly.js reads a little HTML in its texts. Nothing is computed
here but the place of a point.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from replay.analysis.values import METRICS, DiffResult, Effect, RunSummary, Verdict
from replay.report.figures import (
    duration_unit,
    format_change_ns,
    format_change_ratio,
    format_ns,
    relative,
)
from replay.report.server_charts import BUILD_COLOURS
from replay.report.telling import by_group
from replay.report.wording import METRIC_MEANINGS, effect_name, group_name, metric_name, verdict_text

Figure = dict[str, Any]

_MARKERS = {
    Verdict.REGRESSION: ("var(--regression)", "diamond"),
    Verdict.IMPROVED: ("var(--improved)", "square"),
    Verdict.EQUIVALENT: ("var(--quiet)", "circle"),
    Verdict.INCONCLUSIVE: ("var(--quiet)", "circle-open"),
}


def distribution_charts(runs: Sequence[RunSummary]) -> dict[str, Figure]:
    """Per metric that has values ("ttft") two views: the ECDF, and the tail (share slower than x)."""
    charts = {}
    for metric in METRICS:
        samples = [run.distributions.get(metric, ()) for run in runs]
        if not any(samples):
            continue
        name, factor = _unit(samples)
        axis = f"{metric_name(metric)}, {METRIC_MEANINGS[metric]}, {name} (log scale)"
        for view in ("ecdf", "tail"):
            traces = [
                _distribution_trace(run.label, sample, factor, index, view)
                for index, (run, sample) in enumerate(zip(runs, samples, strict=True))
                if sample
            ]
            layout = _distribution_layout(axis, view)
            layout["xaxis"] |= _log_ticks([value / factor for sample in samples for value in sample])
            charts[f"{metric}-{view}"] = {"data": traces, "layout": layout}
    return charts


def effect_charts(diff: DiffResult) -> dict[str, Figure]:
    """Per group (keyed "0", "1", … in reading order) its effects with CIs against the tolerance."""
    return {
        str(index): _effect_chart(members, group_name(group))
        for index, (group, members) in enumerate(by_group(diff.effects))
    }


def _distribution_trace(
    label: str, sample: tuple[float, ...], factor: float, index: int, view: str
) -> Figure:
    n = len(sample)
    share = [(i + 1) / n for i in range(n)] if view == "ecdf" else [(n - i) / n for i in range(n)]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [_rounded(value / factor) for value in sample],
        "y": [round(100 * value, 3) for value in share],
        "name": html.escape(label),
        "line": {"color": BUILD_COLOURS[index], "width": 2, "shape": "hv"},
    }


def _log_ticks(values: list[float]) -> Figure:
    """Ticks at 1, 2, 5 of each decade that the values span, or at its 1 only where that would be many."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    if not positive:
        return {}
    low, high = math.log10(min(positive)), math.log10(max(positive))
    digits = (1, 2, 5) if high - low < 2.5 else (1,)
    decades = range(math.floor(low), math.floor(high) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    pad = 0.03 * (high - low) + 0.01
    return {
        "tickvals": ticks,
        "ticktext": [f"{tick:,.10g}" for tick in ticks],
        "range": [low - pad, high + pad],
    }


def _distribution_layout(axis: str, view: str) -> Figure:
    percent: Figure = {"ticksuffix": " %", "automargin": True}
    if view == "ecdf":
        percent |= {"range": [0, 101], "title": {"text": "requests at or below"}, "nticks": 6}
    else:
        ticks = [100, 50, 10, 5, 1, 0.5, 0.1]
        percent |= {"type": "log", "title": {"text": "requests slower than"}, "tickvals": ticks}
        percent |= {"ticktext": [str(tick) for tick in ticks]}
    return {
        "height": 380,
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 44, "r": 8, "t": 30, "b": 44},
        "xaxis": {"type": "log", "title": {"text": axis, "standoff": 8}},
        "yaxis": percent,
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


def _unit(series: Sequence[Sequence[float]]) -> tuple[str, float]:
    return duration_unit(
        max((value for values in series for value in values if math.isfinite(value)), default=0)
    )


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
