"""Charts of how latencies are distributed: densities over each other, and percentiles up to p99.99.

Plain data for plotly.js as in `charts`; what is a quantile and how sure it is was found by
`analysis.latency_shapes`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from replay.analysis.distribution_values import Distribution
from replay.analysis.values import RunSummary
from replay.report.figures import format_count, format_number, format_quantile, format_ratio
from replay.report.plot_parts import (
    BETWEEN,
    Figure,
    area,
    band,
    groups_in_order,
    log_ticks,
    rounded,
    unit_of,
    upright,
    words,
)
from replay.report.server_charts import BUILD_COLOURS
from replay.report.wording import METRIC_MEANINGS, metric_name

VIEWS = (("percentiles", "percentiles, p50 to p99.99"), ("density", "density"))
NAMED = (0.5, 0.9, 0.99, 0.999, 0.9999)

_FILLS = ("var(--baseline-fill)", "var(--candidate-fill)")
_BEYOND = 0.06
_WIDE = 8.0
"""Percentiles that span more than so many times are drawn on a log scale."""

type Shown = tuple[int, str, Distribution]
"""(0 for the baseline or 1 for the candidate, its escaped label, its distribution)"""


def distribution_charts(runs: Sequence[RunSummary]) -> dict[str, Figure]:
    """By "group|metric|view", the group's place in `groups_in_order`: what one run or both have of it."""
    order = groups_in_order(one.group for run in runs for one in run.distributions)
    found: dict[tuple[int, str], list[Shown]] = {}
    for index, run in enumerate(runs):
        for one in run.distributions:
            place = (order.index(one.group), one.metric)
            found.setdefault(place, []).append((index, html.escape(run.label), one))
    charts = {}
    for (group, metric), shown in sorted(found.items()):
        key = BETWEEN.join((str(group), metric))
        if any(one.quantiles for _, _, one in shown):
            charts[f"{key}{BETWEEN}percentiles"] = _percentiles(metric, shown)
        charts[f"{key}{BETWEEN}density"] = _density(metric, shown)
    return charts


def _percentiles(metric: str, shown: Sequence[Shown]) -> Figure:
    shown = [(index, label, one) for index, label, one in shown if one.quantiles]
    name, factor = unit_of(one.high_ns for _, _, one in shown)
    values = [value / factor for _, _, one in shown for value in (*one.low_ns, *one.high_ns)]
    bands, lines = [], []
    for index, label, one in shown:
        x = [round(1 / (1 - p), 4) for p in one.quantiles]
        low, high = ([value / factor for value in ends] for ends in (one.low_ns, one.high_ns))
        bands.append(band(label, x, low, high, _FILLS[index]))
        said = [
            f"{format_quantile(p)}: {format_number(value / factor)} {name}<br>"
            f"95 % CI {format_number(a)} … {format_number(b)} {name}"
            for p, value, a, b in zip(one.quantiles, one.value_ns, low, high, strict=True)
        ]
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": x,
                "y": [rounded(value / factor) for value in one.value_ns],
                "text": said,
                "hovertemplate": f"%{{text}}<extra>{_plain(label)}</extra>",
                "name": label,
                "line": {"color": BUILD_COLOURS[index], "width": 2},
            }
        )
    layout = _layout()
    layout["yaxis"] |= {"title": {"text": f"{metric_name(metric)}, {METRIC_MEANINGS[metric]}, {name}"}}
    if min(values) > 0 and max(values) > _WIDE * min(values):
        layout["yaxis"] |= {"type": "log", **log_ticks(values)}
    else:
        layout["yaxis"] |= {"rangemode": "tozero"}
    _percentile_axis(layout, [one for _, _, one in shown])
    return {"data": [*bands, *lines], "layout": layout}


def _percentile_axis(layout: Figure, shown: Sequence[Distribution]) -> None:
    """Up to the named percentile after the last that is known, with what is not known shaded."""
    known = max(one.known_to for one in shown)
    end = next((p for p in NAMED if p >= known), NAMED[-1])
    layout["xaxis"] |= {
        "title": {"text": "percentile (log scale)", "standoff": 8},
        "tickvals": [round(1 / (1 - p), 4) for p in NAMED],
        "ticktext": [format_quantile(p) for p in NAMED],
        "range": [_place(NAMED[0]), _place(end) + _BEYOND],
        "ticklabeloverflow": "allow",
    }
    if known >= NAMED[-1]:
        return
    most = max(one.n for one in shown)
    unknown = f"not known beyond {format_quantile(known)} with {format_count(most)} values"
    last = 10 ** (_place(end) + _BEYOND)
    layout["shapes"] = [area(round(1 / (1 - known), 4), last, "var(--phase-fill)")]
    above: Figure = {"xref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 4}
    layout["annotations"] = [words(unknown, 0, 1, **above)]


def _density(metric: str, shown: Sequence[Shown]) -> Figure:
    name, factor = unit_of(_seen(one)[0] for _, _, one in shown)
    data, medians, at = [], [], []
    for index, label, one in shown:
        at_ns, density, below = _seen(one)
        x = [value / factor for value in at_ns]
        at += x
        said = [
            f"{format_number(place)} {name}<br>{format_ratio(share)} within 10 %<br>"
            f"{format_ratio(upto)} at or below"
            for place, share, upto in zip(x, density, below, strict=True)
        ]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [rounded(place) for place in x],
                "y": [rounded(100 * share) for share in density],
                "text": said,
                "hovertemplate": f"%{{text}}<extra>{_plain(label)}</extra>",
                "fill": "tozeroy",
                "fillcolor": _FILLS[index],
                "name": label,
                "line": {"color": BUILD_COLOURS[index], "width": 2},
            }
        )
        if one.quantiles:
            medians.append(upright(rounded(one.value_ns[0] / factor), BUILD_COLOURS[index]))
    layout = _layout()
    axis = f"{metric_name(metric)}, {METRIC_MEANINGS[metric]}, {name} (log scale)"
    layout["xaxis"] |= {"title": {"text": axis, "standoff": 8}, **log_ticks(at)}
    layout["yaxis"] |= {
        "title": {"text": "share within 10 % of latency"},
        "ticksuffix": " %",
        "rangemode": "tozero",
    }
    layout["shapes"] = medians
    return {"data": data, "layout": layout}


def _seen(one: Distribution) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Latency, density and share below, without what is too thin to see at either end."""
    least = max(one.density) / 1000
    seen = [index for index, share in enumerate(one.density) if share >= least]
    part = slice(max(seen[0] - 1, 0), seen[-1] + 2)
    return one.density_at_ns[part], one.density[part], one.below[part]


def _layout() -> Figure:
    return {
        "height": 380,
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 44, "r": 20, "t": 30, "b": 44},
        "xaxis": {"type": "log", "zeroline": False},
        "yaxis": {"automargin": True, "zeroline": False},
    }


def _place(quantile: float) -> float:
    """Where a quantile stands on the log axis of 1/(1 − p)."""
    return -math.log10(1 - quantile)


def _plain(label: str) -> str:
    """A label in a template of plotly.js, whose braces would be places to fill in."""
    return label.replace("%{", "%&#123;")
