"""What several charts share: units and rounding of plotted values, ticks, bands, and choices among charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from replay.analysis.vocabulary import GROUP_KINDS, Group
from replay.report.figures import duration_unit

Figure = dict[str, Any]

BETWEEN = "|"
"""Stands between the values of the choices in the key of a chart, see `page_frame.select`."""


def unit_of(series: Iterable[Sequence[float]]) -> tuple[str, float]:
    """The unit that suits the largest value, as (name, ns per unit)."""
    return duration_unit(
        max((value for values in series for value in values if math.isfinite(value)), default=0)
    )


def rounded(value: float) -> float | None:
    """`value` with the five digits that a plot can show; None, a gap, for what is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def log_ticks(values: Iterable[float | None]) -> Figure:
    """Ticks at 1, 2, 5 of each decade that the values span, or at its 1 only where that would be many."""
    positive = [value for value in values if value is not None and value > 0 and math.isfinite(value)]
    if not positive:
        return {}
    low, high = math.log10(min(positive)), math.log10(max(positive))
    digits = (1, 2, 5) if high - low < 2.5 else (1,)
    decades = range(math.floor(low), math.floor(high) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    pad = 0.03 * (high - low) + 0.01
    return {
        "tickvals": ticks,
        "ticktext": [f"{tick:,.9f}".rstrip("0").rstrip(".") for tick in ticks],
        "range": [low - pad, high + pad],
    }


def band(name: str, x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str) -> Figure:
    """A filled stretch between two curves over `x`, without lines of its own and silent under the mouse."""
    return {
        "type": "scatter",
        "mode": "none",
        "x": [*x, *reversed(x)],
        "y": [rounded(value) for value in (*high, *reversed(low))],
        "fill": "toself",
        "fillcolor": colour,
        "hoverinfo": "skip",
        "name": name,
    }


def area(x0: float, x1: float, fill: str) -> Figure:
    """A stretch of the x axis, shaded below the lines."""
    place = {"type": "rect", "xref": "x", "yref": "paper", "x0": x0, "x1": x1, "y0": 0, "y1": 1}
    return {**place, "fillcolor": fill, "line": {"width": 0}, "layer": "below"}


def upright(x: float | None, colour: str, y: tuple[float, float] = (0, 1)) -> Figure:
    """A dotted line at `x`, from and to these parts of the figure's height."""
    place = {"xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": y[0], "y1": y[1]}
    return {"type": "line", **place, "line": {"color": colour, "width": 1.5, "dash": "dot"}}


def words(
    text: str, x: float, y: float, colour: str = "var(--muted)", size: float = 11, **more: Any
) -> Figure:
    """Text at `x` of the x axis (or of the width, with `xref` paper) and at this part of the height.

    `text` is escaped already; `more` are further settings of plotly.js's annotations.
    """
    place = {"text": text, "xref": "x", "yref": "paper", "x": x, "y": y}
    return {**place, "showarrow": False, "font": {"size": size, "color": colour}, **more}


def panel_title(text: str, top: float, up_px: int = 4) -> Figure:
    """The title of a panel, so many pixels above its top."""
    above: Figure = {"xref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": up_px}
    return words(text, 0, top, "var(--text)", 12.5, **above)


def stacked(heights_px: Sequence[int], gap_px: int, margin: Figure) -> tuple[Figure, list[list[float]]]:
    """The layout of panels one below the other over one x axis, and [bottom, top] of each.

    Their axes of values are y1, y2, …; what each needs beside the common settings is the caller's to add.
    """
    inner = sum(height + gap_px for height in heights_px) - gap_px
    layout: Figure = {
        "height": inner + margin["t"] + margin["b"],
        "margin": margin,
        "showlegend": False,
        "annotations": [],
        "shapes": [],
    }
    domains, from_top = [], 0
    for number, height in enumerate(heights_px, 1):
        top = 1 - from_top / inner
        domains.append([max(0.0, top - height / inner), top])
        layout[f"yaxis{number}"] = {
            "domain": domains[-1],
            "anchor": "x",
            "nticks": 5,
            "zeroline": False,
            "fixedrange": True,  # a drag zooms the x axis, of all panels
        }
        from_top += height + gap_px
    return layout, domains


def groups_in_order(groups: Iterable[Group]) -> list[Group]:
    """Each group once: all requests first, then endpoints, models and phases as they come."""
    return sorted(dict.fromkeys(groups), key=lambda group: GROUP_KINDS.index(group.kind))
