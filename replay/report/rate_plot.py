"""A small terminal plot of the request rate over time, for `inspect` and `transform`.

plotext draws it; text and size are decided by the caller. Nothing is printed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, SupportsFloat

from replay.report.figures import format_number
from replay.report.line_plot import on_canvas

_COLOUR = "cyan"
_TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


def rate_plot(
    edges_s: Sequence[SupportsFloat],
    rate_per_s: Sequence[SupportsFloat],
    width: int = 80,
    height: int = 12,
    title: str = "requests/s",
    colour: bool = False,
) -> str:
    """A filled curve of `width` × `height` characters, without a newline at its end.

    `edges_s` holds the start of each bucket of `rate_per_s` in seconds (a last edge more is welcome);
    `colour` allows ANSI colour. A line of text instead when there is no rate at all to draw.
    """
    starts = [float(edge) for edge in edges_s][: len(rate_per_s)]
    rates = [rate if math.isfinite(rate) else 0.0 for rate in map(float, rate_per_s)]
    if not rates or max(rates) <= 0:
        return f"{title}: no requests"
    starts, rates = _folded(starts, rates, 2 * width)  # two points a character: the marker's resolution

    def draw(plotext: Any, figure: Any) -> None:
        signal = figure.signal(starts, rates, marker=plotext.marker("hd", _COLOUR if colour else "default"))
        signal.lines()
        signal.fillx()
        figure.draw(signal)
        top = max(rates)
        vertical = figure.ruler("y")
        vertical.lim(0, top)
        levels = [top * step / 2 for step in range(3)]
        vertical.ticks(levels, [format_number(level) for level in levels])
        times = _round_times(starts[0], starts[-1])
        figure.ruler("x").ticks(times, [f"{time:,.6g} s" for time in times])

    return on_canvas(draw, width, height, title, colour=colour)


def _folded(starts: list[float], rates: list[float], limit: int) -> tuple[list[float], list[float]]:
    """At most `limit` buckets, each the highest of those it stands for: a peak is never averaged away."""
    step = math.ceil(len(rates) / limit)
    chunks = range(0, len(rates), step)
    return [starts[i] for i in chunks], [max(rates[i : i + step]) for i in chunks]


def _round_times(first_s: float, last_s: float) -> list[float]:
    """At most six round instants from `first_s` to `last_s`."""
    span = last_s - first_s
    step = next((step for step in _TICK_STEPS_S if span <= 5 * step), math.ceil(span / 5 / 86400) * 86400)
    count = math.floor(last_s / step + 1e-9) - math.ceil(first_s / step - 1e-9) + 1
    return [(math.ceil(first_s / step - 1e-9) + i) * step for i in range(count)] or [first_s]
