"""What several charts share: units and rounding of plotted values, ticks, bands, and choices among charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from replay.analysis.values import Group
from replay.report.figures import duration_unit

Figure = dict[str, Any]

BETWEEN = "|"
"""Stands between the values of the choices in the key of a chart, see `page_frame.select`."""

_KINDS = ("all", "endpoint", "model", "phase")


def unit_of(series: Iterable[Sequence[float]]) -> tuple[str, float]:
    """The unit that suits the largest value, as (name, ns per unit)."""
    return duration_unit(
        max((value for values in series for value in values if math.isfinite(value)), default=0)
    )


def rounded(value: float) -> float | None:
    """`value` with the five digits that a plot can show; None, a gap, for what is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def log_ticks(values: Sequence[float]) -> Figure:
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


def groups_in_order(groups: Iterable[Group]) -> list[Group]:
    """Each group once: all requests first, then endpoints, models and phases as they come."""
    return sorted(dict.fromkeys(groups), key=lambda group: _KINDS.index(group.kind))
