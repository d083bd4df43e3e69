"""The shift function as a chart: how each quantile moved, its band, the zero line and the tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from replay.analysis.distribution_values import ShiftFunction
from replay.analysis.values import DiffResult
from replay.report.figures import (
    format_change_ns,
    format_change_ratio,
    format_interval_ns,
    format_ns,
    format_quantile,
    relative,
)
from replay.report.plot_parts import BETWEEN, Figure, band, groups_in_order, rounded, unit_of
from replay.report.wording import METRIC_MEANINGS, metric_name

VIEWS = (("share", "in percent"), ("time", "in time"))
_TICKS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.99)


def shift_charts(diff: DiffResult) -> dict[str, Figure]:
    """By "group|metric|view", the group's place in `groups_in_order`: the change in percent, or in time."""
    order = groups_in_order(shift.group for shift in diff.shifts)
    charts = {}
    for shift in sorted(diff.shifts, key=lambda one: order.index(one.group)):
        key = BETWEEN.join((str(order.index(shift.group)), shift.metric))
        charts[f"{key}{BETWEEN}share"] = _in_percent(shift, diff.tolerance)
        charts[f"{key}{BETWEEN}time"] = _in_time(shift, diff.tolerance)
    return charts


def _in_percent(shift: ShiftFunction, tolerance: float) -> Figure:
    base = shift.baseline_ns
    effect, low, high = (
        [100 * relative(value, before) for value, before in zip(values, base, strict=True)]
        for values in (shift.effect_ns, shift.low_ns, shift.high_ns)
    )
    axis = {"title": {"text": f"change of {metric_name(shift.metric)}"}, "ticksuffix": " %"}
    bounds = [100 * tolerance] * len(base)
    return _chart(shift, (effect, low, high), bounds, axis)


def _in_time(shift: ShiftFunction, tolerance: float) -> Figure:
    name, factor = unit_of((shift.effect_ns, shift.low_ns, shift.high_ns))
    effect, low, high = (
        [value / factor for value in values] for values in (shift.effect_ns, shift.low_ns, shift.high_ns)
    )
    axis = {"title": {"text": f"change of {metric_name(shift.metric)}"}, "ticksuffix": f" {name}"}
    bounds = [tolerance * before / factor for before in shift.baseline_ns]
    return _chart(shift, (effect, low, high), bounds, axis)


def _chart(
    shift: ShiftFunction,
    curves: tuple[Sequence[float], Sequence[float], Sequence[float]],
    bounds: Sequence[float],
    axis: Figure,
) -> Figure:
    effect, low, high = curves
    x = [round(100 * p, 4) for p in shift.quantiles]
    judged = [i for i in range(len(x)) if math.isfinite(low[i]) and math.isfinite(high[i])]
    certain = [low[i] > 0 or high[i] < 0 for i in range(len(x))]
    data = [band("tolerance", x, [-bound for bound in bounds], bounds, "var(--tolerance-fill)")]
    if judged:
        at, bottom, top = ([values[i] for i in judged] for values in (x, low, high))
        data.append(band("95 % band", at, bottom, top, "var(--candidate-fill)"))
    data.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": x,
            "y": [rounded(value) for value in effect],
            "text": [_said(shift, index) for index in range(len(x))],
            "hovertemplate": "%{text}<extra></extra>",
            "name": "change",
            "line": {"color": "var(--candidate)", "width": 2},
            "marker": {
                "size": 8,
                "symbol": ["circle" if sure else "circle-open" for sure in certain],
                "color": "var(--candidate)",
                "line": {"width": 2, "color": "var(--candidate)"},
            },
        }
    )
    return {"data": data, "layout": _layout(shift, axis)}


def _layout(shift: ShiftFunction, axis: Figure) -> Figure:
    return {
        "height": 360,
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 44, "r": 12, "t": 30, "b": 44},
        "xaxis": {
            "title": {"text": f"quantile of {METRIC_MEANINGS[shift.metric]}", "standoff": 8},
            "tickvals": [100 * p for p in _TICKS],
            "ticktext": [format_quantile(p) for p in _TICKS],
            "range": [1, 103],
            "zeroline": False,
        },
        "yaxis": {
            **axis,
            "automargin": True,
            "zeroline": True,
            "zerolinecolor": "var(--muted)",
            "zerolinewidth": 1.5,
        },
    }


def _said(shift: ShiftFunction, index: int) -> str:
    before, change = shift.baseline_ns[index], shift.effect_ns[index]
    share = format_change_ratio(relative(change, before))
    first = f"{format_quantile(shift.quantiles[index])}: {share} ({format_change_ns(change)})"
    if math.isnan(shift.low_ns[index]):
        return f"{first}<br>baseline {format_ns(before)}<br>too few requests for an interval"
    interval = format_interval_ns(shift.low_ns[index], shift.high_ns[index])
    return f"{first}<br>95 % band {interval}<br>baseline {format_ns(before)}"
